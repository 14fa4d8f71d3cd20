"""On a narrow screen the left column is a sheet at the foot of it, so that what it changes is seen above."""

import gradio as gr

_BAR = """<button type="button" aria-expanded="false" aria-controls="sidebar">Picture, damage, student</button>"""
_SCRIPT = """
const button = element.querySelector("button");
const sheet = () => document.getElementById("sidebar");
const isOpen = () => sheet().hasAttribute("data-open");
const open = (wanted) => {
  sheet().toggleAttribute("data-open", wanted);
  button.setAttribute("aria-expanded", String(wanted));
  button.textContent = wanted ? "Close" : "Picture, damage, student";
  if (!wanted) return button.focus({ preventScroll: true });
  // The sheet itself, not its first control: that one takes the picture away.
  Object.assign(sheet(), { tabIndex: -1, role: "region", ariaLabel: "Picture, damage, student" });
  sheet().focus({ preventScroll: true });
  const views = [...document.querySelectorAll(".vx-stage, .vx-patchstage, .vx-recovery, .vx-body")];
  views.find((view) => view.offsetParent)?.scrollIntoView({ block: "start" });
};
button.onclick = () => open(!isOpen());
// A click closes it, and not a touch: who scrolls what is above the sheet wants to see it. Where it began counts, since
// a list that closes has gone when it ends.
let inside = true;
document.addEventListener("pointerdown", ({ target }) => {
  inside = [sheet(), element, document.getElementById("tour")].some((part) => part?.contains(target));
}, true);
document.addEventListener("click", () => isOpen() && !inside && open(false));
document.addEventListener("keydown", (event) => {
  const list = event.target instanceof Element && event.target.matches("[role='combobox'][aria-expanded='true']");
  if (event.key === "Escape" && isOpen() && !list) open(false);
});
"""


def build_sheet_bar() -> None:
    """The bar that opens and closes the sheet, as Escape and a tap outside do; it is there on a narrow screen alone."""
    gr.HTML(html_template=_BAR, js_on_load=_SCRIPT, elem_id="sheet-bar", padding=False)
