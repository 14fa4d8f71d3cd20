// Curves over the steps of a training: losses, and agreement with the teacher.

/** @import { Measured, TrainingRecord } from "./payloads" */
import { extentOf } from "./arrays.js";
import { make, setText } from "./elements.js";
import { formatFixed } from "./format.js";
import { ticksAround, tickText } from "./scales.js";

const LOSS_NAMES = { loss: "total", cls: "class token", patch: "patches" };
const PLOT = { height: 178, left: 40, right: 12, top: 12, bottom: 24 };
const SMOOTHED_FROM = 31; // records; fewer are drawn as they are
const DRAWN_POINTS = 400; // of one curve: no screen shows more
const MARKERS = ["circle", "square", "diamond", "triangle"]; // of runs beside each other
const finiteOrNaN = (value) => (Number.isFinite(value) ? value : NaN);

/** One curve for each loss: {name, label, look, points: [[step, value], ...], smoothed}; NaN where there is no number. @param {{ records: TrainingRecord[] }} run */
export function lossSeries({ records }) {
  const names = new Set(["loss", ...records.flatMap((record) => Object.keys(record.losses ?? {}))]);
  return [...names].map((name, i) => ({
    name,
    label: LOSS_NAMES[name] ?? name.replaceAll("_", " "),
    look: ["loss", "cls", "patch", "attention"].includes(name) ? name : `other${i % 2}`,
    points: records.map((record) => [record.step, finiteOrNaN(record.losses?.[name])]),
    smoothed: records.length >= SMOOTHED_FROM,
    low: 0,
  }));
}

/** Held-out pictures where they were evaluated, and this picture at each moment. */
export function agreementSeries({ records, before, moments }) {
  const heldOut = heldOutOf({ records, before });
  const seen = moments.map((moment) => [moment.step, moment.agreement]);
  const curve = (key, short, points, who) => ({
    name: `${who} ${key}`,
    label: `${short}, ${who}`,
    look: short === "CLS" ? "cls" : "patch",
    points: points.map(([step, values]) => [step, finiteOrNaN(values[key])]),
    high: 1,
    ...(who === "held-out" ? { marker: short === "CLS" ? "circle" : "square" } : { dashed: true }),
  });
  return ["held-out", "this picture"].flatMap((who, i) => [
    curve("cls_cosine", "CLS", [heldOut, seen][i], who),
    curve("patch_cosine", "patch", [heldOut, seen][i], who),
  ]);
}

/** One measure of the held-out pictures, a curve for each run. @param {{ name: string, records: TrainingRecord[], before: Measured | null }[]} runs @param {string} measure */
export function besideSeries(runs, measure) {
  return runs.map((run, i) => ({
    name: `${i} ${run.name}`,
    label: run.name,
    look: `run${i}`,
    points: heldOutOf(run).map(([step, values]) => [step, finiteOrNaN(values[measure])]),
    high: 1,
    marker: MARKERS[i],
  }));
}

function heldOutOf({ records, before }) {
  const evaluated = records.filter((record) => record.alignment).map((record) => [record.step, record.alignment]);
  return before ? [[0, before], ...evaluated] : evaluated;
}

/** Curves over steps, with a line at the step that is shown. `choose(step)` is called on a click. */
export function createChart({ shell, perFrame, observe }, name, choose) {
  const legend = make("ul", { class: "vx-legend", "aria-hidden": "true" });
  const grid = make("svg:g", { class: "vx-plotgrid" });
  const curves = make("svg:g");
  const here = make("svg:path", { class: "vx-plothere" });
  const pointer = make("svg:path", { class: "vx-plotpointer" });
  const svg = make("svg:svg", { class: "vx-plot", role: "img", height: PLOT.height }, grid, pointer, here, curves);
  const title = make("figcaption", { class: "vx-charttitle", text: name });
  const node = make("figure", { class: "vx-chart" }, title, legend, svg);
  const drawn = new Map(); // name of a series -> its elements
  let model = { series: /** @type {any[]} */ ([]), steps: 1 };
  let scale = null;
  let step = 0;
  let gridKey = "";

  function draw(series, steps) {
    const last = Math.max(...series.map(({ points }) => points.at(-1)?.[0] ?? 0));
    model = { series, steps: Math.max(1, steps, last) };
    for (const [key, parts] of drawn) if (!series.some((each) => each.name === key)) remove(key, parts);
    for (const each of series) if (!drawn.has(each.name)) drawn.set(each.name, addSeries(each));
    render();
  }

  function addSeries({ label, look, marker, dashed }) {
    const classes = `vx-curve vx-curve-${look}${dashed ? " vx-dashed" : ""}`;
    const value = make("span", { class: "vx-legendvalue" });
    const sample = make("svg:svg", { viewBox: "0 0 24 12", width: 24, height: 12, class: classes }, make("svg:path", { class: "vx-stroke", d: "M1 6H23" }), make("svg:path", { class: "vx-dots", d: marker ? dot(marker, 12, 6) : "" }));
    const item = make("li", {}, sample, make("span", { text: label }), value);
    const faint = make("svg:path", { class: "vx-faint" });
    const line = make("svg:path", { class: "vx-stroke" });
    const dots = make("svg:path", { class: "vx-dots" });
    const group = make("svg:g", { class: classes }, faint, line, dots);
    curves.prepend(group); // the first named, which matters most, lies on top
    legend.append(item);
    return { faint, line, dots, value, group, item };
  }

  function remove(key, { group, item }) {
    group.remove();
    item.remove();
    drawn.delete(key);
  }

  function render() {
    const width = svg.clientWidth;
    if (!width) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${PLOT.height}`);
    scale = scalesOf(model, width);
    renderGrid(width);
    for (const { name: key, points, smoothed, marker } of model.series) {
      const { faint, line, dots } = drawn.get(key);
      const few = thinned(points);
      faint.setAttribute("d", smoothed ? pathOf(few, scale) : "");
      line.setAttribute("d", pathOf(smoothed ? thinned(movingMean(points)) : few, scale));
      dots.setAttribute("d", marker ? points.filter(isNumber).map(([x, y]) => dot(marker, scale.x(x), scale.y(y))).join("") : "");
    }
    svg.setAttribute("aria-label", `${title.textContent}. ${model.series.map(describeSeries).filter(Boolean).join("; ") || "Nothing yet."}`);
    mark(step);
  }

  function renderGrid(width) {
    const { x, y, xTicks, yTicks } = scale;
    const key = JSON.stringify([width, xTicks, yTicks, model.steps]);
    if (key === gridKey) return;
    gridKey = key;
    const bottom = PLOT.height - PLOT.bottom;
    const text = (content, left, top, anchor) => make("svg:text", { x: left, y: top, "text-anchor": anchor, text: content });
    grid.replaceChildren(
      ...yTicks.map((tick) => make("svg:path", { d: `M${PLOT.left} ${y(tick)}H${width - PLOT.right}` })),
      ...yTicks.map((tick) => text(tickText(tick, yTicks), PLOT.left - 6, y(tick) + 4, "end")),
      ...xTicks.map((tick) => make("svg:path", { d: `M${x(tick)} ${bottom}v4` })),
      ...xTicks.map((tick) => text(String(tick), x(tick), bottom + 17, "middle")),
      text("step", PLOT.left - 14, bottom + 17, "end"),
    );
  }

  function mark(at) {
    step = at;
    const bottom = PLOT.height - PLOT.bottom;
    if (scale) {
      const x = scale.x(Math.min(at, model.steps));
      here.setAttribute("d", `M${x} ${PLOT.top}V${bottom}M${x - 4} ${PLOT.top - 7}h8l-4 7z`);
    }
    for (const { name: key, points } of model.series) setText(drawn.get(key).value, formatFixed(lastUpTo(points, at)?.[1] ?? NaN, 3));
  }

  const stepAt = (event) => {
    const { left, width } = svg.getBoundingClientRect();
    const share = (event.clientX - left - PLOT.left) / (width - PLOT.left - PLOT.right);
    return Math.round(Math.min(1, Math.max(0, share)) * model.steps);
  };
  const hideValues = () => {
    pointer.removeAttribute("d");
    shell.hideTip();
  };
  const showValues = (event) => {
    if (!scale) return;
    const at = stepAt(event);
    pointer.setAttribute("d", `M${scale.x(at)} ${PLOT.top}V${PLOT.height - PLOT.bottom}`);
    const lines = model.series.flatMap(({ label, points }) => {
      const found = lastUpTo(points, at);
      if (!found) return [];
      const when = found[0] === at ? "" : ` (step ${found[0]})`;
      return [make("dt", { text: label + when }), make("dd", { text: formatFixed(found[1], 3) })];
    });
    shell.showTip([make("div", { class: "vx-tiphead", text: `step ${at}` }), make("dl", {}, ...lines)], event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", showValues);
  svg.addEventListener("pointerleave", hideValues);
  svg.addEventListener("click", (event) => choose(stepAt(event)));
  observe(new ResizeObserver(perFrame(render))).observe(svg);
  return { node, draw, mark, entitle: (text) => setText(title, text) };
}

function scalesOf({ series, steps }, width) {
  const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  const [least, most] = extentOf([values]);
  const yTicks = values.length ? ticksAround(series[0].low ?? least, series[0].high ?? most, 4) : [0, 0.5, 1];
  const [low, high] = [yTicks[0], yTicks[yTicks.length - 1]];
  const [wide, tall] = [width - PLOT.left - PLOT.right, PLOT.height - PLOT.top - PLOT.bottom];
  return {
    yTicks,
    xTicks: ticksAround(0, steps, Math.max(2, Math.floor(wide / 70)), 1).filter((tick) => tick <= steps),
    x: (step) => PLOT.left + (step / steps) * wide,
    y: (value) => PLOT.top + ((high - value) / (high - low)) * tall,
  };
}

const isNumber = ([, value]) => Number.isFinite(value);

export function pathOf(points, { x, y }) {
  let path = "";
  let joined = false;
  for (const point of points) {
    if (isNumber(point)) path += `${joined ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`;
    joined = isNumber(point);
  }
  return path;
}

function dot(kind, x, y) {
  if (kind === "square") return `M${x - 3} ${y - 3}h6v6h-6z`;
  if (kind === "diamond") return `M${x} ${y - 4.5}l4.5 4.5l-4.5 4.5l-4.5 -4.5z`;
  if (kind === "triangle") return `M${x} ${y - 4}l4 7h-8z`;
  return `M${x - 3.5} ${y}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0`;
}

export function thinned(points) {
  const stride = Math.ceil(points.length / DRAWN_POINTS);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

/** The mean of the records around each, of fewer toward the ends. */
export function movingMean(points) {
  const half = Math.max(2, Math.round(points.length / 24));
  const sums = [[0, 0]]; // of the numbers so far, and how many they are
  for (const point of points) {
    const [sum, count] = sums[sums.length - 1];
    sums.push(isNumber(point) ? [sum + point[1], count + 1] : [sum, count]);
  }
  return points.map((point, i) => {
    const [first, last] = [sums[Math.max(0, i - half)], sums[Math.min(points.length, i + half + 1)]];
    return [point[0], isNumber(point) ? (last[0] - first[0]) / (last[1] - first[1]) : NaN];
  });
}

/** The last [step, value] that is known at a step. */
export function lastUpTo(points, step) {
  return points.findLast((point) => point[0] <= step && isNumber(point)) ?? null;
}

function describeSeries({ label, points }) {
  const numbers = points.filter(isNumber);
  if (!numbers.length) return "";
  const tell = ([step, value]) => `${formatFixed(value, 3)} at step ${step}`;
  return numbers.length === 1 ? `${label}: ${tell(numbers[0])}` : `${label}: from ${tell(numbers[0])} to ${tell(numbers.at(-1))}`;
}
