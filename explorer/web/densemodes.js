// What patches know, over the panes of the patch view: foreground, clusters, matches, what a probe says of them, labels
// that somebody sets.
//
// Enters: a payload that was read, settings, clicks, the patch that is pointed at. Leaves: maps, outlines, lines, and for
// each pane how much of it is as in the reference. The patch view says when; which mode there is stands in `DENSE`.

import { extentOf } from "./arrays.js";
import { clustersOf, createCarrier, foregroundOf, matchesOf, overlapAbove, patchCosine, sameShare, soughtPatches } from "./dense.js";
import { columnName, createRow, createSelect, createTable, make } from "./elements.js";
import { formatFixed, percent } from "./format.js";
import { paintColours, paintMap } from "./painting.js";
import { readSpot, spotAt, spotOn } from "./panes.js";
import { tellShared } from "./sayings.js";
import { readChoice } from "./settings.js";

/** Those of explorer/plots/segmentation.py. */
export const COLOURS = [
  "#0072B2", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#DDCC77", "#332288", "#882255", "#117733",
];
const BYTES = COLOURS.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const [RIGHT, WRONG] = ["#56B4E9", "#E69F00"];
const COUNTS = [2, 3, 4, 5, 6, 8, 10, 12];
const LABELS = [1, 2, 3, 4, 5, 6];
const MOST_LABELS = 100; // more from a link are left out
const MOST_TRAILS = 100; // matches that are drawn; all are counted

/** What each mode is called, what its share of a pane is, and how it is told. */
const TOLD = {
  foreground: {
    name: "foreground", heading: "Foreground of the patches", column: "overlap (IoU)", share: (value) => formatFixed(value, 2), note: (value) => `IoU ${formatFixed(value, 2)}`,
    bar: "one scale for all panes: first principal component of all panes together, in standard deviations; outlined is what lies above 0, the foreground",
  },
  clusters: {
    name: "clusters", heading: "Clusters of the patches", column: "in their cluster", share: percent, note: (value) => `${percent(value)} stay`,
    bar: "k-means of the reference's patches; the same colour is the same cluster in every pane",
  },
  matches: {
    name: "matches", heading: "Matches of the patches", column: "right matches", share: percent, note: (value) => `${percent(value)} right`,
    bar: "where some patches of the reference are found: a blue dot within one patch of their place; an orange line leads from there to where else",
  },
  classes: {
    name: "classes", heading: "Classes of the patches", column: "keep their class", share: percent, note: (value) => `${percent(value)} alike`,
    bar: ({ pictures }) => `what a linear probe says of each patch, fitted on what the clean teacher sees in ${pictures} pictures with masks`,
  },
  labels: {
    name: "labels", heading: "Labels, carried to the nearest patches", column: "keep their label", share: percent, note: (value) => `${percent(value)} alike`,
    bar: "each patch takes the label of the most similar patch that was labelled in the reference",
  },
};
export const DENSE = Object.keys(TOLD);
export const DENSE_DEFAULTS = { clusters: 6, label: 1, labels: [] };

/** The modes by name, as a select takes them. has: mode -> whether there is what it shows. */
export const denseChoices = (has) => DENSE.map((mode) => [mode, has[mode] ? TOLD[mode].name : `${TOLD[mode].name} (no probe of this block)`, !has[mode]]);

/** state, change: the view's settings. panes: id -> pane. data(): the payload that is shown, null while there is none. */
export function createDense({ state, change, shell, bar, panes, data }) {
  const caches = new WeakMap();
  let shown = {}; // pane -> what is painted there
  let shares = {}; // pane -> how much is as in the reference; without the reference
  const active = () => DENSE.includes(state.mode);
  const barText = () => (state.mode === "classes" ? TOLD.classes.bar(data().classes) : TOLD[state.mode].bar);

  // ------------------------------------------------------------ elements
  const clusters = createSelect({ name: "clusters", label: "Clusters", change: (count) => change({ clusters: Number(count) }) });
  clusters.fill(COUNTS.map((count) => [count, `${count}`]));
  const createDot = (number) => {
    const dot = make("span", { class: "vx-labeldot", "aria-hidden": "true" });
    dot.style.background = COLOURS[number % COLOURS.length];
    return dot;
  };
  const swatches = LABELS.map((label) =>
    make("button", { class: "vx-button vx-labelled", type: "button", "aria-label": `label ${label}`, onclick: () => change({ label }) }, createDot(label - 1), `${label}`));
  const undo = make("button", { class: "vx-button", type: "button", text: "Undo", onclick: () => setLabels(state.labels.slice(0, -1), "Last label taken away") });
  const clear = make("button", { class: "vx-button", type: "button", text: "Clear", onclick: () => setLabels([], "All labels taken away") });
  const palette = make("div", { class: "vx-palette", role: "group", "aria-label": "Label to set" }, ...swatches, undo, clear);

  // ------------------------------------------------------------ values
  /** What takes its time, once for each payload. */
  function once(what, work) {
    const cache = caches.get(data()) ?? new Map();
    caches.set(data(), cache);
    if (!cache.has(what)) cache.set(what, work());
    return cache.get(what);
  }
  const ordered = () => [data().reference, ...data().panes.filter((pane) => pane !== data().reference)];
  const others = () => ordered().slice(1);
  const features = () => ordered().map((pane) => pane.features);
  const byPane = (values) => Object.fromEntries(ordered().map((pane, i) => [pane.id, values[i]]));

  const find = {
    foreground: () => once("foreground", () => byPane(foregroundOf(features(), data()))),
    clusters: () => once(`clusters ${state.clusters}`, () => byPane(clustersOf(features(), state.clusters))),
    matches: () => once("matches", () => {
      const sought = soughtPatches(data());
      const [reference, ...rest] = features();
      const own = sought.map((at) => ({ sought: at, found: at, right: true }));
      return byPane([own, ...rest.map((each) => matchesOf(reference, each, sought, data().cols))]);
    }),
    classes: () => byPane(ordered().map((pane) => pane.classes)),
    labels: (here) => byPane(once("carrier", () => createCarrier(features()))(clicksWith(here))),
  };
  const atOf = ({ row, col }) => row * data().cols + col;
  const isAt = (place) => (spot) => spot.row === place.row && spot.col === place.col;

  /** The labels that are set, and the one that a click here would set. */
  function clicksWith(here) {
    const spots = here && state.labels.length ? [...state.labels.filter((spot) => !isAt(here)(spot)), { ...here, label: state.label }] : state.labels;
    return spots.map((spot) => ({ at: atOf(spot), label: spot.label }));
  }

  function shareOf(values, reference) {
    if (state.mode === "foreground") return overlapAbove(values, reference);
    if (state.mode === "matches") return values.filter(({ right }) => right).length / values.length;
    return sameShare(values, reference);
  }

  const cosineOf = (pane) => once(`cosine ${pane.id}`, () => patchCosine(data().reference.features, pane.features));
  const isEmpty = () => state.mode === "labels" && !state.labels.length;

  // ------------------------------------------------------------ painting
  /** here: the patch that is pointed at, or nothing. fresh: more has changed than that. */
  function paint(here, fresh) {
    if (!fresh && state.mode !== "labels") return; // nothing else follows the pointer
    const found = find[state.mode](here);
    shown = isEmpty() ? {} : found;
    shares = isEmpty() ? {} : Object.fromEntries(others().map(({ id }) => [id, shareOf(found[id], found[data().reference.id])]));
    for (const [id, pane] of panes) {
      pane.heat.hidden = state.mode === "matches" || isEmpty();
      pane.note.textContent = id in shares ? TOLD[state.mode].note(shares[id]) : "";
    }
    PAINT[state.mode](found);
    if (fresh) panes.get(data().reference.id).setSpots(state.mode === "labels" ? state.labels.map((spot) => ({ ...spot, text: `${spot.label}`, colour: COLOURS[spot.label - 1] })) : []);
  }

  function paintForeground(found) {
    const top = Math.max(...extentOf(Object.values(found)).map(Math.abs));
    const table = data().tables[state.colours];
    for (const [id, pane] of panes) {
      paintMap(pane.heat, found[id], data().rows, data().cols, -top, top, table, state.smooth);
      pane.setOutline(found[id].map((score) => (score > 0 ? 1 : 0)));
    }
    bar.set(barText(), table, -top, top, true);
  }

  /** first: the number that has the first colour. */
  const paintNumbers = (first) => (found) => {
    for (const [id, pane] of panes) {
      const rgb = Uint8Array.from(Array.from(found[id]).flatMap((number) => BYTES[Math.max(0, number - first) % BYTES.length]));
      paintColours(pane.heat, rgb, data().rows, data().cols);
    }
    bar.set(barText(), null);
  };

  function paintMatches(found) {
    const lineOf = ({ sought, found: at }) => [spotAt(sought, data().cols), spotAt(at, data().cols)];
    const { [data().reference.id]: own } = found;
    const across = new Set(own.map(({ sought }) => sought % data().cols)).size;
    const some = soughtPatches({ rows: own.length / across, cols: across }, MOST_TRAILS); // of those that are matched
    for (const [id, pane] of panes) {
      const drawn = some.map((place) => found[id][place]);
      const [right, wrong] = [true, false].map((each) => drawn.filter((match) => match.right === each).map(lineOf));
      pane.setTrails([{ colour: WRONG, trails: wrong }, { colour: RIGHT, trails: right }]);
    }
    bar.set(barText(), null);
  }
  const PAINT = { foreground: paintForeground, clusters: paintNumbers(0), matches: paintMatches, classes: paintNumbers(0), labels: paintNumbers(1) };

  /** Away with what only these modes draw. */
  function wipe() {
    for (const pane of panes.values()) {
      pane.heat.hidden = false;
      pane.setOutline(null);
      pane.setTrails([]);
      pane.setSpots([]);
    }
  }

  function refresh() {
    clusters.node.hidden = state.mode !== "clusters";
    clusters.set(state.clusters);
    palette.hidden = state.mode !== "labels";
    swatches.forEach((swatch, i) => swatch.setAttribute("aria-pressed", String(state.label === LABELS[i])));
    undo.disabled = clear.disabled = !state.labels.length;
    wipe();
  }

  // ------------------------------------------------------------ words
  /** The value of a patch, in words; "" where there is none. */
  function value(id, at) {
    const values = shown[id];
    if (!values) return "";
    if (state.mode === "foreground") return `${formatFixed(values[at], 2)}, ${values[at] > 0 ? "foreground" : "background"}`;
    if (state.mode === "clusters") return `cluster ${values[at] + 1}`;
    if (state.mode === "labels") return `label ${values[at]}`;
    if (state.mode === "classes") return `${data().classes.names[values[at]]} ${percent(data().byId[id].chances[at])}`;
    const match = values.find(({ sought }) => sought === at);
    if (!match) return "";
    const { row, col } = spotAt(match.found, data().cols);
    return `found at row ${row}, col ${col}, ${match.right ? "right" : "wrong"}`;
  }

  /** What stands below the bar. */
  function result() {
    if (isEmpty()) {
      return [make("p", { class: "vx-hint", text: "Click on patches, or use the arrow keys and Enter: each gets the label that is chosen here or by the keys 1 to 6, and every other patch of all panes takes that of the most similar one. Set two labels at least to see where they part." })];
    }
    const { column, share } = TOLD[state.mode];
    const students = data().students.map((who) => [who, shares[`${who}_distorted`]]);
    const told = data().reference.view === "clean" ? tellShared(state.mode, shares.teacher_distorted, data().named ? students : shares.student_distorted, data().untouched) : "";
    const heads = [column, "patch cosine"].map((name) => columnName(name));
    const rows = others().map((pane) => createRow([pane.title], [share(shares[pane.id]), formatFixed(cosineOf(pane), 3)]));
    const caption = [make("span", { text: `Against ${data().reference.title}` })];
    const legend = state.mode === "classes" ? [legendOf()] : [];
    return [...legend, make("p", { class: "vx-saying", text: told }), createTable("vx-matches", caption, heads, rows)];
  }

  const classesShown = () => [...new Set(Object.values(shown).flatMap((values) => [...values]))].sort((a, b) => a - b);

  /** The classes that are shown, each with its colour. */
  function legendOf() {
    const items = classesShown().map((number) => make("li", {}, createDot(number), data().classes.names[number]));
    return make("ul", { class: "vx-classes", "aria-label": "Classes" }, ...items);
  }

  function figure() {
    const { heading, column, share } = TOLD[state.mode];
    const lines = others().filter(({ id }) => id in shares).map((pane) => `${pane.title}: ${column} ${share(shares[pane.id])}, patch cosine ${formatFixed(cosineOf(pane), 3)}`);
    const set = state.labels.map(({ row, col, label }) => `${label} at row ${row}, col ${col}`);
    const more = { labels: () => [`labels: ${set.join("; ")}`], classes: () => [`classes: ${classesShown().map((number) => data().classes.names[number]).join(", ")}`] };
    return { heading, lines: [barText(), ...lines, ...(more[state.mode]?.() ?? [])] };
  }

  function numbers() {
    const cosines = Object.fromEntries(others().map((pane) => [pane.id, cosineOf(pane)]));
    const plain = (values) => (state.mode === "matches" ? values : Array.from(values));
    const values = Object.fromEntries(Object.entries(shown).map(([id, each]) => [id, plain(each)]));
    return { shares: { ...shares }, patch_cosine: cosines, values };
  }

  // ------------------------------------------------------------ labels
  function setLabels(labels, said) {
    change({ labels });
    const told = others().filter(({ id }) => id in shares).map((pane) => `${pane.title} ${percent(shares[pane.id])} alike`);
    shell.announce([said, ...told].join(". "));
  }

  /** A click sets the label that is chosen; where it is already set, it goes away. */
  function press({ row, col }) {
    if (state.mode !== "labels") return;
    const before = state.labels.find(isAt({ row, col }));
    const rest = state.labels.filter((spot) => spot !== before);
    if (before?.label === state.label) return setLabels(rest, `Label ${state.label} taken from row ${row}, column ${col}`);
    setLabels([...rest, { row, col, label: state.label }], `Label ${state.label} at row ${row}, column ${col}`);
  }

  /** Digits choose a label. */
  function key(event) {
    const label = Number(event.key);
    if (state.mode !== "labels" || !LABELS.includes(label) || event.ctrlKey || event.metaKey || event.altKey) return;
    change({ label });
    shell.announce(`Label ${label}`);
  }

  // ------------------------------------------------------------ settings
  /** Labels keep their places in the picture on another grid. */
  function settle(before) {
    state.labels = state.labels.map((spot) => spotOn(spot, before, data())).filter(Boolean);
  }

  function read(partial) {
    state.clusters = readChoice(partial.clusters, COUNTS, state.clusters);
    state.label = readChoice(partial.label, LABELS, state.label);
    if (partial.labels !== undefined && partial.labels !== null) state.labels = readLabels(partial.labels);
    if (data()) settle(null);
  }

  return {
    active, controls: [clusters, { node: palette }], paint, refresh, result, value, figure, numbers, press, key, settle, read,
    /** The labels as a query parameter. */
    link: () => state.labels.map(({ row, col, label }) => `${row}.${col}.${label}`).join("_"),
  };
}

/** From "row.col.label_row.col.label", as links have it, or from a list of them; nonsense is left out. */
function readLabels(value) {
  const parts = typeof value === "string" ? value.split("_").map((each) => each.split(".")) : [...value].map(({ row, col, label }) => [row, col, label]);
  const spots = parts.map(([row, col, label]) => ({ spot: readSpot(row, col), label: Number(label) }));
  return spots.filter(({ spot, label }) => spot && LABELS.includes(label)).slice(0, MOST_LABELS).map(({ spot, label }) => ({ ...spot, label }));
}
