// How maps look: their colours, how much of the picture they cover, and whether they are smoothed; and of which head.

import { createCheckbox, createSelect, createSlider, make } from "./elements.js";
import { readChoice, readFlag, readNumber } from "./settings.js";

export const LOOK_DEFAULTS = { colours: "viridis", opacity: 0.75, smooth: false };

const namesOf = (tables) => Object.keys(tables).filter((name) => name !== "difference");

/** The controls that all views of maps have, and the settings that they change, which are part of `state`. */
export function createLook(state, change) {
  const colours = createSelect({ name: "colours", label: "Colours", change: (value) => change({ colours: value }) });
  const opacity = createSlider({
    name: "opacity", label: "Map over picture", min: 0, max: 1, step: 0.05,
    show: (value) => `${Math.round(100 * value)} %`,
    change: (value) => change({ opacity: value }),
  });
  const smooth = createCheckbox({ name: "smooth", label: "smooth", change: (value) => change({ smooth: value }) });
  /** All controls of a view: its own, then these; boxes to tick come last. */
  const controls = (own, checks = []) => make(
    "div",
    { class: "vx-controls", role: "group", "aria-label": "What the maps show" },
    ...own.map(({ node }) => node), colours.node, opacity.node,
    make("div", { class: "vx-checks" }, smooth.node, ...checks.map(({ node }) => node)),
  );
  /** Colours that a payload does not bring give way to the first that it does. */
  const dress = (tables) => {
    const names = namesOf(tables);
    if (!names.includes(state.colours)) state.colours = names[0];
    colours.fill(names.map((name) => [name, name]));
  };
  const refresh = () => {
    colours.set(state.colours);
    opacity.set(state.opacity);
    smooth.set(state.smooth);
  };
  /** tables: of the payload, nothing while there is none. */
  const read = (partial, tables) => {
    state.colours = tables ? readChoice(partial.colours, namesOf(tables), state.colours) : String(partial.colours ?? state.colours);
    state.opacity = readNumber(partial.opacity, state.opacity, 0, 1);
    state.smooth = readFlag(partial.smooth, state.smooth);
  };
  return { colours, controls, dress, refresh, read };
}

export const nameOfHead = (head) => (typeof head === "number" ? `head ${head}` : `${head} of heads`);

/** What a select of heads offers: ways to join them, then each. */
export function headChoices(ways, heads) {
  return [...ways, ...Array(heads).keys()].map((head) => [head, nameOfHead(head)]);
}

export function readHead(value, ways, heads, fallback) {
  if (ways.includes(value)) return value;
  const index = value === "" || value === null ? NaN : Number(value);
  return Number.isInteger(index) && index >= 0 && index < heads ? index : fallback;
}
