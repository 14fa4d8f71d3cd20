// The colours of teacher and students, the same in every view; views.css and explorer/plots/style.py have them, too.

/** The teacher, then up to four students, on light and on dark ground. The first two are blue and vermilion of Okabe and
 * Ito; further ones were sought for the largest least distance in CIELAB, seen as they are and with protanopia and
 * deuteranopia (Machado et al. 2009), at a contrast of at least 3 with the surface. */
export const NETWORKS = {
  light: ["#0072b2", "#d55e00", "#18a884", "#780048", "#6c2400"],
  dark: ["#56b4e9", "#ff8c42", "#78fcd8", "#c000fc", "#fcfc00"],
};
