// Where everything of one chart of the sweep view lies, in px: the page's elements and the saved figure both read it
// from here. No page is needed.

import { ticksWithin, tickText } from "./scales.js";
import { formatStrength, isBeyond, wasTrainedHere } from "./sweepdata.js";

export const PLOT = { height: 204, left: 40, right: 16, top: 16, bottom: 44, inset: 8 };
const CLOSEST = 14; // px; strengths closer together than this could not be told apart, nor hit with a finger
const LETTER = 6.8; // px; the width of a digit at 12 px, near enough to keep labels apart

/** Where everything of one chart lies, in px: the page's elements and the saved figure both read it from here. */
export function geometryOf(data, series, { width, height, chosen = null, cursor = null }) {
  const bottom = height - PLOT.bottom;
  const places = placesOf(data, width);
  const { low, high, ticks } = rangeOf(series);
  const y = (value) => round(PLOT.top + ((high - value) / (high - low)) * (bottom - PLOT.top));
  const pointer = cursor === chosen ? null : cursor;
  const marked = [chosen, pointer].filter((index) => index !== null);
  const pillOf = (index) => (index === null ? null : { x: places.xs[index], y: bottom + 13, text: formatStrength(data.values[index]), half: halfOf(data.values[index]) });
  const missing = series.missing;
  return {
    width, height, bottom, places, missing,
    yTicks: missing ? [] : ticks.map((tick) => ({ y: y(tick), text: tickText(tick, ticks) })),
    xTicks: labelsOf(data, places, marked),
    axis: { x: (PLOT.left + width - PLOT.right) / 2, y: height - 6, text: axisText(data, places, width) },
    ...(missing ? { band: "", trained: "" } : bandOf(data, places, bottom)),
    reference: missing || series.reference === null ? "" : `M${PLOT.left} ${y(series.reference)}H${width - PLOT.right}`,
    curves: Object.fromEntries(data.who.map((who) => [who, curveOf(data, series.curves[who], data.looks[who], places, y)])),
    rings: ringsOf(series, cursor ?? chosen, places, y),
    chosenLine: chosen === null || missing ? "" : `M${places.xs[chosen]} ${PLOT.top - 6}V${bottom}`,
    cursorLine: pointer === null || missing ? "" : `M${places.xs[pointer]} ${PLOT.top - 6}V${bottom}`,
    chosen: pillOf(chosen),
    cursor: pillOf(pointer),
    middle: { x: (PLOT.left + width - PLOT.right) / 2, y: (PLOT.top + bottom) / 2 + 4 },
  };
}

const round = (value) => Number(value.toFixed(2));
const halfOf = (value) => (formatStrength(value).length * LETTER) / 2 + 5;

/** {xs, even, at(value)}: true to scale, unless some strengths would come too close; then evenly spaced. */
export function placesOf({ values, order }, width) {
  const [left, right] = [PLOT.left + PLOT.inset, width - PLOT.right - PLOT.inset];
  const [least, most] = [values[order[0]], values[order.at(-1)]];
  const share = (value) => (most > least ? (value - least) / (most - least) : 0.5);
  const last = order.length - 1;
  const gaps = order.slice(1).map((at, i) => (share(values[at]) - share(values[order[i]])) * (right - left));
  const closest = Math.min(...gaps, Infinity);
  const even = closest < CLOSEST && closest < 0.99 * ((right - left) / last); // strengths that are evenly spaced anyway stay true to scale
  const rank = new Map(order.map((at, i) => [at, i]));
  const xs = values.map((value, at) => round(left + (right - left) * (even ? rank.get(at) / last : share(value))));
  return { xs, even, at: (value) => betweenPlaces(value, values, order, xs) };
}

/** Where any strength lies, also between those that were measured; null outside of them. */
function betweenPlaces(value, values, order, xs) {
  const after = order.findIndex((at) => values[at] >= value);
  if (after < 0 || (after === 0 && values[order[0]] > value)) return null;
  const [first, second] = [order[Math.max(0, after - 1)], order[after]];
  const gap = values[second] - values[first];
  return gap > 0 ? xs[first] + ((value - values[first]) / gap) * (xs[second] - xs[first]) : xs[second];
}

/** The measure's own range, widened to what was measured, and round numbers inside of it. */
function rangeOf({ low, high }) {
  if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  return { low, high, ticks: ticksWithin(low, high, 4) };
}

/** The strengths that have room for their number: the two ends first, none under a pill. */
function labelsOf({ values, order }, { xs }, marked) {
  const spanOf = (at, room) => [xs[at] - halfOf(values[at]) + room, xs[at] + halfOf(values[at]) - room];
  const taken = marked.map((at) => spanOf(at, 0));
  const free = (span) => taken.every(([from, to]) => span[1] <= from || span[0] >= to);
  const kept = [...new Set([order[0], order.at(-1), ...order])].filter((at) => {
    const span = spanOf(at, 4);
    if (!free(span)) return false;
    taken.push(span);
    return true;
  });
  return kept.sort((a, b) => xs[a] - xs[b]).map((at) => ({ x: xs[at], text: formatStrength(values[at]) }));
}

function axisText({ parameter }, { even }, width) {
  const text = even ? `${parameter.name}, evenly spaced (not to scale)` : `${parameter.name}${parameter.unit && ` (${parameter.unit})`}`;
  const room = Math.floor((width - 12) / 6.2);
  return text.length > room ? `${text.slice(0, room - 1)}\u2026` : text;
}

/** Where the student was trained: shaded, and thick on the axis. One strength alone gets a width that is seen. */
function bandOf(data, places, bottom) {
  const none = { band: "", trained: "" };
  if (!wasTrainedHere(data) || isBeyond(data)) return none;
  const { values, order, trained } = data;
  const from = places.at(Math.max(trained.low, values[order[0]]));
  const to = places.at(Math.min(trained.high, values[order.at(-1)]));
  const [left, right] = to - from < 10 ? [(from + to) / 2 - 5, (from + to) / 2 + 5] : [from, to];
  return { band: `M${round(left)} ${PLOT.top}H${round(right)}V${bottom}H${round(left)}z`, trained: `M${round(left)} ${bottom}H${round(right)}` };
}

/** A line through neighbours that are both known, and a dot for each number. */
function curveOf({ order }, curve, look, { xs }, y) {
  let line = "";
  let dots = "";
  let joined = false;
  for (const at of curve ? order : []) {
    const known = Number.isFinite(curve[at]);
    if (known) {
      line += `${joined ? "L" : "M"}${xs[at]} ${y(curve[at])}`;
      dots += dotPath(look, xs[at], y(curve[at]));
    }
    joined = known;
  }
  return { line, dots };
}

export function dotPath(look, x, y) {
  if (look === "student") return `M${round(x - 3.25)} ${round(y - 3.25)}h6.5v6.5h-6.5z`;
  if (look === "student2") return `M${x} ${round(y - 4.75)}l4.75 4.75l-4.75 4.75l-4.75 -4.75z`;
  if (look === "student3") return `M${x} ${round(y - 4.5)}l4.25 7.5h-8.5z`;
  if (look === "student4") return `M${x} ${round(y + 4.5)}l4.25 -7.5h-8.5z`;
  return `M${round(x - 4.5)} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0`; // wider than the square: both are seen where they meet
}

function ringsOf(series, index, { xs }, y) {
  if (index === null) return "";
  const known = Object.values(series.curves).filter((curve) => Number.isFinite(curve?.[index]));
  return known.map((curve) => `M${round(xs[index] - 7)} ${y(curve[index])}a7 7 0 1 0 14 0a7 7 0 1 0 -14 0`).join("");
}
