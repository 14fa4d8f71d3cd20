// What plotly is asked for: traces, arrows, contours, names of clusters, axes, and what a figure on paper has besides.

import { densityContours } from "./contours.js";
import { NETWORKS } from "./networks.js";

export const MANY_PICTURES = 300; // from here on, arrows are all but see-through
// Twelve labels as the networks' colours were sought (networks.js); the most distinct come first.
export const LIGHT = {
  networks: NETWORKS.light,
  labels: ["#4b78ff", "#e17800", "#00a578", "#691e3c", "#b478a5", "#0f3c69", "#ff3c69", "#875a00", "#3c1e87", "#4b693c", "#780000", "#5a96e1"],
};
export const DARK = {
  networks: NETWORKS.dark,
  labels: ["#6969f0", "#f0e13c", "#e11e69", "#78e1ff", "#c34b2d", "#78ffd2", "#c3b478", "#d28700", "#e187b4", "#b4ff87", "#c32da5", "#6996e1"],
};
export const PAPER = { ...LIGHT, dark: false, text: "#1f2328", muted: "#57606a", border: "#d1d9e0", surface: "#ffffff", accent: "#0b63ce" };
export const markSize = (count) => (count <= 60 ? 12 : count <= 400 ? 9.5 : count <= 1500 ? 7 : 5);

function translucent(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

/** WebGL adds translucent lines up to something bright; so they are made pale instead. */
function mixed(hex, ground, share) {
  const at = (colour, start) => parseInt(colour.slice(start, start + 2), 16);
  return `rgb(${[1, 3, 5].map((start) => Math.round(share * at(hex, start) + (1 - share) * at(ground, start)))})`;
}

// In three dimensions plotly has no open crosses: there the clean ones are smaller. Diamonds come out larger.
const symbolOf = ({ shape, clean }, flat) => (shape === "dot" ? "circle" : shape) + (clean || (shape === "cross" && !flat) ? "" : "-open");
const IN_DEPTH = { circle: 0.62, diamond: 0.52, square: 0.52, cross: 0.52, dot: 0.32 };
const sizeOf = ({ shape, clean }, size, flat) => size * (flat ? (shape === "dot" ? 0.5 : 1) : IN_DEPTH[shape] * (shape === "cross" && clean ? 0.6 : 1));

/** Contours and arrows below, then one trace for each view, hidden ones too: toggling changes no trace's place. */
export function tracesOf(data, now) {
  const points = data.views.map((view) => pointTrace(data, now, view));
  return [...(now.flat ? [contourTrace(data, now)] : []), ...data.legs.map((leg) => arrowTrace(data, now, leg)), ...points];
}

/** How densely the pictures of one view lie: lines in pieces with gaps, which plotly and its stand-in both draw. */
function contourTrace(data, now) {
  const pieces = now.density ? contoursOf(data, now.density, now.kept) : [];
  return {
    type: now.many ? "scattergl" : "scatter",
    mode: "lines",
    name: "density",
    visible: Boolean(now.density),
    x: pieces.flatMap(([x0, , x1]) => [x0, x1, null]),
    y: pieces.flatMap(([, y0, , y1]) => [y0, y1, null]),
    connectgaps: false,
    hoverinfo: "skip",
    showlegend: false,
    line: { width: 1.3, color: now.many ? mixed(now.ink.muted, now.ink.surface, 0.75) : translucent(now.ink.muted, 0.75), simplify: false },
  };
}

const contoured = new WeakMap(); // view -> {key, pieces}: each repaint asks again

function contoursOf(data, view, kept) {
  const key = kept.join();
  if (contoured.get(view)?.key !== key) {
    const { x, y } = columnsOf(data, { flat: true }, view, kept);
    contoured.set(view, { key, pieces: densityContours(x, y) });
  }
  return contoured.get(view).pieces;
}

const NAME_LENGTH = 28; // letters of a cluster's name on the map

/** Names of the clusters at the median place of their clean pictures. */
function clusterNotes(data, now) {
  if (!now.clusterNames) return [];
  const kept = new Set(now.kept);
  return data.clusters.members.flatMap((members, place) => {
    const among = members.filter((index) => kept.has(index));
    if (!among.length) return [];
    const at = Object.fromEntries(Object.entries(columnsOf(data, now, data.reference, among)).map(([axis, values]) => [axis, medianOf(values)]));
    const name = data.clusters.names[place];
    const short = name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}\u2026` : name;
    return [{ ...at, text: now.written(`${place + 1}: ${short}`), showarrow: false, bgcolor: translucent(now.ink.surface, 0.8), borderpad: 2, font: { size: 12.5, color: now.ink.text } }];
  });
}

function medianOf(values) {
  const ordered = [...values].sort((a, b) => a - b);
  const [low, high] = [ordered[(ordered.length - 1) >> 1], ordered[ordered.length >> 1]];
  return (low + high) / 2;
}

function columnsOf(data, now, view, indices) {
  const names = now.flat ? ["x", "y"] : ["x", "y", "z"];
  return Object.fromEntries(names.map((name, axis) => [name, indices.map((index) => view.points[index * data.components + axis])]));
}

function pointTrace(data, now, view) {
  const { kept, selected, flat, many } = now;
  const faint = (index) => !flat && selected && !selected.has(index) && index !== data.chosen;
  const ink = kept.map((index) => (faint(index) ? translucent(now.colourOf(view, index), 0.12) : now.colourOf(view, index)));
  const size = markSize(data.count);
  const trace = {
    type: flat ? (many ? "scattergl" : "scatter") : "scatter3d",
    mode: "markers",
    name: view.title,
    meta: view.id,
    visible: now.views.includes(view),
    ...columnsOf(data, now, view, kept),
    customdata: kept,
    hoverinfo: "skip",
    showlegend: false,
    marker: {
      symbol: symbolOf(view, flat),
      size: sizeOf(view, size, flat),
      color: ink,
      opacity: flat ? 0.92 : 1,
      line: view.clean ? { width: size < 7 ? 0.4 : 0.75, color: now.ink.surface } : { width: size < 7 ? 1.2 : 1.9, ...(flat ? {} : { color: ink }) },
    },
  };
  if (!flat) return trace;
  const positions = selected && [...kept.keys()].filter((position) => selected.has(kept[position]) || kept[position] === data.chosen);
  return { ...trace, selectedpoints: positions, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.1 } } };
}

const bothShown = (now, [from, to]) => [from, to].every((id) => now.views.some((view) => view.id === id));

/** What the strong arrows of a picture lead along. */
export const legsOf = (now) => (now.arrows === "none" ? [] : now.legs.filter((leg) => bothShown(now, leg)));

/** All arrows of one leg as one line with gaps. In WebGL and in three dimensions they have no heads. */
function arrowTrace(data, now, leg) {
  const [from, to, network] = leg;
  const ink = now.ink.networks[network];
  const drawn = now.arrows === "all" && bothShown(now, leg);
  const indices = drawn ? now.kept.filter((index) => !now.selected || now.selected.has(index)) : [];
  const ends = drawn && [from, to].map((id) => columnsOf(data, now, data.byId[id], indices));
  const line = (name) => (drawn ? indices.flatMap((_, i) => [ends[0][name][i], ends[1][name][i], null]) : []);
  const names = now.flat ? ["x", "y"] : ["x", "y", "z"];
  const alpha = indices.length <= 60 ? 0.5 : indices.length <= MANY_PICTURES ? 0.3 : 0.16;
  const trace = {
    type: now.flat ? (now.many ? "scattergl" : "scatter") : "scatter3d",
    mode: "lines",
    name: `arrows to ${to}`,
    meta: `arrows_${to}`,
    visible: drawn,
    ...Object.fromEntries(names.map((name) => [name, line(name)])),
    connectgaps: false,
    hoverinfo: "skip",
    showlegend: false,
    line: now.flat ? { width: 1.2, color: translucent(ink, alpha) } : { width: 2, color: mixed(ink, now.ink.surface, alpha) },
  };
  if (!now.flat || now.many) return trace;
  const radius = markSize(data.count) / 2;
  return {
    ...trace,
    mode: "lines+markers",
    line: { ...trace.line, simplify: false },
    marker: {
      symbol: "arrow",
      angleref: "previous",
      standoff: radius,
      size: indices.flatMap(() => [0, radius + 2, 0]),
      color: translucent(ink, Math.min(1, alpha + 0.15)),
      opacity: 1,
      line: { width: 0 },
    },
    selectedpoints: null,
    selected: { marker: { opacity: 1 } },
    unselected: { marker: { opacity: 1 } }, // a lasso is about pictures, not about their arrows
  };
}

/** In three dimensions the strong arrows and rings on paper are traces. */
export function focusTraces(data, now, index) {
  const base = { type: "scatter3d", hoverinfo: "skip", showlegend: false };
  const lines = legsOf(now).map(([from, to, network]) => {
    const ends = [from, to].map((id) => columnsOf(data, now, data.byId[id], [index]));
    const joined = Object.fromEntries(["x", "y", "z"].map((name) => [name, ends.flatMap((end) => end[name])]));
    return { ...base, mode: "lines", ...joined, line: { width: 6, color: now.ink.networks[network] } };
  });
  const places = now.views.map((view) => columnsOf(data, now, view, [index]));
  const rings = Object.fromEntries(["x", "y", "z"].map((name) => [name, places.flatMap((place) => place[name])]));
  const marker = { symbol: "circle-open", size: markSize(data.count) * 1.2, color: now.ink.text, line: { width: 3 } };
  return [...lines, { ...base, mode: "markers", ...rings, marker }];
}

function axisTitle(data, axis) {
  if (data.method === "umap") return `UMAP ${axis + 1}`;
  const share = data.explained?.[axis];
  return Number.isFinite(share) ? `PC ${axis + 1} (${Math.round(100 * share)} %)` : `PC ${axis + 1}`;
}

/** Where this changes, the numbers of the axes mean something else. */
export const scaleOf = (data, flat) => `${data.method} ${data.components} ${flat}`;

export function layoutOf(data, now, family) {
  const { ink, flat } = now;
  const axis = (i) => ({
    range: [...(flat ? now.ranges : data.ruler)[i]],
    title: { text: axisTitle(data, i), font: { size: 12.5, color: ink.muted }, ...(flat ? { standoff: 6 } : {}) },
    showticklabels: false,
    ticks: "",
    zeroline: false,
    showline: false,
    gridcolor: translucent(ink.border, ink.dark ? 0.55 : 0.65),
  });
  const common = {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family, size: 12.5, color: ink.text },
    showlegend: false,
    hovermode: false,
    uirevision: scaleOf(data, flat),
    selectionrevision: now.revision,
    selections: [],
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink.muted, activecolor: ink.accent, orientation: "h" },
    newselection: { line: { color: ink.accent, width: 1.5, dash: "dot" } },
  };
  if (flat) return { ...common, dragmode: "pan", annotations: clusterNotes(data, now), margin: { l: 34, r: 10, t: 36, b: 34 }, xaxis: axis(0), yaxis: { ...axis(1), scaleanchor: "x", scaleratio: 1 } };
  const deep = (i) => ({ ...axis(i), showspikes: false, showbackground: false, gridcolor: ink.border });
  const scene = { annotations: clusterNotes(data, now), xaxis: deep(0), yaxis: deep(1), zaxis: deep(2), aspectmode: "data", hovermode: false, bgcolor: "rgba(0,0,0,0)", camera: { eye: { x: 1.15, y: 1.15, z: 0.72 }, center: { x: 0, y: 0, z: -0.08 } } };
  return { ...common, margin: { l: 0, r: 0, t: 30, b: 0 }, scene };
}

export function configOf(kind) {
  const unwanted = kind === "flat" ? ["toImage", "autoScale2d"] : ["toImage", "resetCameraLastSave3d", "hoverClosest3d"];
  return { displayModeBar: true, displaylogo: false, showTips: false, responsive: false, doubleClick: "reset", modeBarButtonsToRemove: unwanted };
}

/** On paper the chosen and the pointed picture are marked by plotly itself. */
export function paperFocus(data, now) {
  const at = ({ points }, index) => [points[index * data.components], points[index * data.components + 1]];
  const radius = markSize(data.count) / 2 + 4;
  const shapes = now.focused.flatMap((index) => now.views.map((view) => {
    const [xanchor, yanchor] = at(view, index);
    return { type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor, yanchor, x0: -radius, x1: radius, y0: -radius, y1: radius, line: { color: now.ink.text, width: 2 } };
  }));
  const annotations = now.focused.flatMap((index) => legsOf(now).map(([from, to, network]) => {
    const [ax, ay] = at(data.byId[from], index);
    const [x, y] = at(data.byId[to], index);
    return { x, y, ax, ay, xref: "x", yref: "y", axref: "x", ayref: "y", text: "", showarrow: true, arrowhead: 2, arrowwidth: 2.5, arrowcolor: now.ink.networks[network], standoff: radius, startstandoff: radius };
  }));
  return { shapes, annotations };
}

/** Plotly reads tags in names, and mathematics between dollars: a name is neither. */
export const unmarked = (name) => String(name).replace(/[&<>$]/g, (letter) => `&#${letter.charCodeAt(0)};`);

/** A legend on paper: what the chips say on the page. */
export function legendTraces(data, now) {
  const empty = now.flat ? { type: "scatter", x: [null], y: [null] } : { type: "scatter3d", x: [null], y: [null], z: [null] };
  const entry = (name, marker) => ({ ...empty, mode: "markers", name, marker: { size: 10, ...marker }, showlegend: true });
  const views = now.views.map((view) => entry(view.title, { symbol: symbolOf(view, now.flat), size: 10 * (view.shape === "dot" ? 0.5 : 1), color: now.byView ? now.ink.networks[view.network] : now.ink.text, line: { width: view.clean ? 0 : 2 } }));
  const groups = now.byCluster ? data.clusters.members.map((indices, place) => [`${place + 1}: ${data.clusters.names[place]}`, indices]) : data.members.map((indices, label) => [data.classes[label], indices]);
  const some = groups.map(([name, indices]) => [name, indices.find((index) => now.kept.includes(index))]).filter(([, index]) => index !== undefined);
  return [...views, ...(now.byView ? [] : some.map(([name, index]) => entry(name, { symbol: "square", color: now.groupInk(index) })))];
}

/** Where a mark of three dimensions lies on the page: plotly's own camera, applied here. */
export function deepProjection({ glplot, dataScale }, { left, top, width, height }, at) {
  if (!glplot?.cameraParams) return null;
  const { model, view, projection } = glplot.cameraParams;
  const rows = [0, 1, 2, 3];
  const times = (matrix, vector) => rows.map((row) => vector.reduce((sum, value, col) => sum + matrix[4 * col + row] * value, 0));
  return ({ points }, index) => {
    const place = [0, 1, 2].map((axis) => at(points, index, axis) * dataScale[axis]);
    const [x, y, , w] = times(projection, times(view, times(model, [...place, 1])));
    return { x: left + (0.5 + x / w / 2) * width, y: top + (0.5 - y / w / 2) * height };
  };
}
