// How large tokens are: how their norms grow from block to block, and how those of one block are spread.
//
// Enters: the norms of each view's patches and the limits above which they stand out. Leaves: two charts. No server is
// asked.

import { make, setText } from "./elements.js";
import { formatValue, percent } from "./format.js";
import { ticksWithin, tickText } from "./scales.js";

const PLOT = { height: 150, left: 44, right: 10, top: 10, bottom: 24 };
const BINS = 32;
const DECADES = [0.01, 0.1, 1, 10, 100, 1000, 10000].flatMap((power) => [1, 3].map((each) => Number((each * power).toPrecision(1))));

/** Of one view and block: the share that stands out, and that of those which stand out in either that do in both. @type {(map: Float32Array, reference: Float32Array, limit: number) => { share: number, overlap: number }} */
export function outliersOf(map, reference, limit) {
  let [ours, both, either] = [0, 0, 0];
  map.forEach((value, i) => {
    const [here, there] = [value > limit, reference[i] > limit];
    ours += Number(here);
    both += Number(here && there);
    either += Number(here || there);
  });
  return { share: ours / map.length, overlap: either ? both / either : NaN };
}

/** How many values lie in each of `BINS` equal parts between the ends. @type {(values: Float32Array, low: number, high: number) => number[]} */
export function histogram(values, low, high) {
  const counts = Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(((value - low) / (high - low || 1)) * BINS))] += 1;
  return counts;
}

const medianOf = (values) => {
  const sorted = Float32Array.from(values).sort();
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/** dress(views, limits, layers): of a payload, views are [{title, look, maps: one Float32Array for each block}], the
 * reference first. draw(at): when another block is shown. */
export function createNormCharts(perFrame, observe) {
  const legend = make("ul", { class: "vx-legend", "aria-hidden": "true" });
  const growth = createPlot("Median norm of the patches after each block");
  const spread = createPlot("Patches by their norm");
  const node = make("section", { class: "vx-norms", "aria-label": "How large tokens are", hidden: true }, legend, make("div", { class: "vx-normcharts" }, growth.node, spread.node));
  let shown = null;
  let block = 0;

  const dress = (views, limits, layers) => {
    shown = { views, limits, layers, medians: views.map(({ maps }) => maps.map(medianOf)) };
    legend.replaceChildren(...views.map(({ title, look }) => make("li", {}, sample(look), make("span", { text: title }))));
  };
  const draw = (at) => {
    block = at;
    paint();
  };
  const paint = () => {
    if (!shown || node.hidden) return;
    drawGrowth(growth, shown, block);
    drawSpread(spread, shown.views, shown.limits[block], shown.layers[block], block);
  };
  observe(new ResizeObserver(perFrame(paint))).observe(node);
  return { node, dress, draw };
}

function drawGrowth(plot, { views, limits, layers, medians }, at) {
  const known = [...limits, ...medians.flat()].filter((norm) => norm > 0);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const lines = views.map(({ look }, i) => ({ look, points: layers.map((layer, k) => [layer, medians[i][k]]) }));
  lines.push({ look: "limit", points: layers.map((layer, k) => [layer, limits[k]]) });
  plot.draw({ x: [layers[0], Math.max(layers.at(-1), layers[0] + 1)], y: [low, high], lines, marked: layers[at], log: true });
  setText(plot.title, "Median norm of the patches after each block (logarithmic); dotted: above it one stands out");
  plot.tell(views.map(({ title }, i) => `${title} ${formatValue(medians[i][0])} to ${formatValue(medians[i].at(-1))}`).join(", "));
}

function drawSpread(plot, views, limit, layer, at) {
  const now = views.map(({ maps }) => maps[at]);
  const [low, high] = [Math.min(...now.map((map) => Math.min(...map))), Math.max(limit, ...now.map((map) => Math.max(...map)))];
  const counts = now.map((map) => histogram(map, low, high));
  const gap = (high - low) / BINS;
  const lines = views.map(({ look }, i) => ({ look, points: counts[i].map((count, k) => [low + (k + 0.5) * gap, count]) }));
  plot.draw({ x: [low, high], y: [0, Math.max(...counts.flat())], lines, marked: limit });
  setText(plot.title, `Patches by their norm after block ${layer}; the line: above it one stands out`);
  plot.tell(views.map(({ title }, i) => `${title}: ${percent(outliersOf(now[i], now[0], limit).share)} stand out`).join(", "));
}

const sample = (look) => make("svg:svg", { class: `vx-sample vx-norm-${look}`, viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" }, make("svg:path", { d: "M0 6H26" }));

function createPlot(name) {
  const title = make("figcaption", { class: "vx-charttitle", text: name });
  const grid = make("svg:g", { class: "vx-plotgrid" });
  const curves = make("svg:g");
  const marked = make("svg:path", { class: "vx-plothere" });
  const svg = make("svg:svg", { class: "vx-plot", role: "img", height: PLOT.height }, grid, marked, curves);
  const node = make("figure", { class: "vx-chart" }, title, svg);

  const draw = ({ x, y, lines, marked: at, log = false }) => {
    const width = svg.clientWidth;
    if (!width) return; // not on screen; the observer calls when it is
    svg.setAttribute("viewBox", `0 0 ${width} ${PLOT.height}`);
    const [right, bottom] = [width - PLOT.right, PLOT.height - PLOT.bottom];
    const across = (value) => PLOT.left + ((value - x[0]) / (x[1] - x[0] || 1)) * (right - PLOT.left);
    const height = (value) => (log ? Math.log(Math.max(value, y[0]) / y[0]) / Math.log(y[1] / y[0] || 1) : (value - y[0]) / (y[1] - y[0] || 1));
    const down = (value) => bottom - height(value) * (bottom - PLOT.top);
    const [rows, columns] = [log ? DECADES.filter((tick) => tick >= y[0] && tick <= y[1]) : ticksWithin(y[0], y[1], 3), ticksWithin(x[0], x[1], 4)];
    const text = (where, words, anchor) => make("svg:text", { x: where[0], y: where[1], "text-anchor": anchor, text: words });
    grid.replaceChildren(
      ...rows.flatMap((tick) => [make("svg:path", { d: `M${PLOT.left} ${down(tick)}H${right}` }), text([PLOT.left - 6, down(tick) + 4], log ? String(tick) : tickText(tick, rows), "end")]),
      ...columns.map((tick) => text([across(tick), PLOT.height - 8], tickText(tick, columns), "middle")),
    );
    marked.setAttribute("d", `M${across(at)} ${PLOT.top}V${bottom}`);
    curves.replaceChildren(...lines.map(({ look, points }) => make("svg:path", { class: `vx-norm-${look}`, d: points.map(([px, py], i) => `${i ? "L" : "M"}${across(px).toFixed(1)} ${down(py).toFixed(1)}`).join("") })));
  };
  const tell = (words) => svg.setAttribute("aria-label", `${title.textContent}. ${words}`);
  return { node, title, draw, tell };
}
