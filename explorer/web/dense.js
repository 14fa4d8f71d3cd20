// What patches know, by the rules of explorer/analysis/dense.py: foreground, clusters, matches, labels. No page is needed.

/** @import { Features } from "./features.js" */
/** @import { Grid } from "./payloads" */
import { largestAt } from "./arrays.js";
import { cosinesTo } from "./features.js";

export const NEAR = 1; // patches: so far away, along rows and columns, a match is still right
const CANDIDATES = 512; // among which k-means seeks its first centres
const MOST_SOUGHT = 600; // patches that are matched
const MOST_TURNS = 300;
const KEPT_CLICKS = 64;

/** The features of one view as rows that are one long, less a centre. @type {(features: Features, centre?: ArrayLike<number>) => Float64Array} */
function rowsOf({ values, inverse, dim }, centre) {
  const rows = new Float64Array(values.length);
  for (let i = 0, at = 0; i < inverse.length; i++) {
    for (let d = 0; d < dim; d++, at++) rows[at] = values[at] * inverse[i] - (centre ? centre[d] : 0);
  }
  return rows;
}

/** @type {(features: Features) => Float64Array} */
function meanOf({ values, inverse, dim }) {
  const mean = new Float64Array(dim);
  for (let i = 0, at = 0; i < inverse.length; i++) {
    for (let d = 0; d < dim; d++, at++) mean[d] += (values[at] * inverse[i]) / inverse.length;
  }
  return mean;
}

/** @type {(rows: ArrayLike<number>, i: number, other: ArrayLike<number>, j: number, dim: number) => number} */
function dot(rows, i, other, j, dim) {
  let sum = 0;
  for (let d = 0, a = i * dim, b = j * dim; d < dim; d++) sum += rows[a + d] * other[b + d];
  return sum;
}

// ---------------------------------------------------------------- foreground

/** Scores of each view; above 0 is foreground. The first view settles the sign. @type {(all: Features[], grid: Grid) => Float32Array[]} */
export function foregroundOf(all, { rows, cols }) {
  const { dim } = all[0];
  const centred = all.map((features) => rowsOf(features, meanOf(features)));
  const axis = firstComponent(centred, dim);
  const scores = centred.map((values) => Float64Array.from({ length: values.length / dim }, (_, i) => dot(values, i, axis, 0, dim)));
  const count = scores.reduce((sum, each) => sum + each.length, 0);
  const spread = Math.sqrt(scores.reduce((sum, each) => sum + each.reduce((squares, value) => squares + value * value, 0), 0) / count);
  const onBorder = (_, i) => i < cols || i >= (rows - 1) * cols || i % cols === 0 || i % cols === cols - 1;
  const border = scores[0].filter(onBorder).reduce((sum, value) => sum + value, 0);
  const scale = (border > 0 ? -1 : 1) / Math.max(spread, 1e-12);
  return scores.map((each) => Float32Array.from(each, (value) => value * scale));
}

/** The direction in which all rows differ most, by power iteration from the row that is longest. @type {(views: Float64Array[], dim: number) => Float64Array} */
function firstComponent(views, dim) {
  const count = views[0].length / dim;
  const start = largestAt(Float64Array.from({ length: count }, (_, i) => dot(views[0], i, views[0], i, dim)));
  let axis = views[0].slice(start * dim, (start + 1) * dim);
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    const next = new Float64Array(dim);
    for (const rows of views) {
      for (let i = 0; i < rows.length / dim; i++) {
        const weight = dot(rows, i, axis, 0, dim);
        for (let d = 0, at = i * dim; d < dim; d++, at++) next[d] += weight * rows[at];
      }
    }
    const length = Math.sqrt(dot(next, 0, next, 0, dim)) || 1;
    for (let d = 0; d < dim; d++) next[d] /= length;
    const turned = 1 - Math.abs(dot(next, 0, axis, 0, dim));
    axis = next;
    if (turned < 1e-11) break;
  }
  return axis;
}

// ---------------------------------------------------------------- clusters

/** The cluster of each patch of each view. They are fitted on the first view, and numbered by their size there. @type {(all: Features[], count: number) => Uint8Array[]} */
export function clustersOf(all, count) {
  const { dim } = all[0];
  const rows = rowsOf(all[0]);
  let centres = firstCentres(rows, dim, count);
  let found = nearestCentres(rows, centres, dim);
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    centres = meansOf(rows, found, centres, dim);
    const next = nearestCentres(rows, centres, dim);
    const settled = next.every((each, i) => each === found[i]);
    found = next;
    if (settled) break;
  }
  const size = (cluster) => found.reduce((sum, each) => sum + (each === cluster ? 1 : 0), 0);
  const order = [...Array(count).keys()].sort((a, b) => size(b) - size(a) || found.indexOf(a) - found.indexOf(b));
  return all.map((features) => nearestCentres(rowsOf(features), centres, dim).map((each) => order.indexOf(each)));
}

/** Each is the row that brings the others nearest to their centre. @type {(rows: Float64Array, dim: number, count: number) => Float64Array} */
function firstCentres(rows, dim, count) {
  const total = rows.length / dim;
  const step = Math.ceil(total / CANDIDATES);
  const places = Array.from({ length: Math.ceil(total / step) }, (_, i) => i * step);
  const distances = places.map((a) => Float64Array.from(places, (b) => Math.max(0, 2 - 2 * dot(rows, a, rows, b, dim))));
  const nearest = new Float64Array(places.length).fill(Infinity);
  const centres = new Float64Array(count * dim);
  for (let chosen = 0; chosen < count; chosen++) {
    const costs = distances.map((each) => each.reduce((sum, distance, i) => sum + Math.min(distance, nearest[i]), 0));
    const best = largestAt(costs.map((cost) => -cost));
    distances[best].forEach((distance, i) => (nearest[i] = Math.min(nearest[i], distance)));
    centres.set(rows.subarray(places[best] * dim, (places[best] + 1) * dim), chosen * dim);
  }
  return centres;
}

/** @type {(rows: Float64Array, centres: Float64Array, dim: number) => Uint8Array} */
function nearestCentres(rows, centres, dim) {
  const halves = Float64Array.from({ length: centres.length / dim }, (_, k) => dot(centres, k, centres, k, dim) / 2);
  return Uint8Array.from({ length: rows.length / dim }, (_, i) => largestAt(halves.map((half, k) => dot(rows, i, centres, k, dim) - half)));
}

/** A centre that nothing is near stays where it is. @type {(rows: Float64Array, found: Uint8Array, before: Float64Array, dim: number) => Float64Array} */
function meansOf(rows, found, before, dim) {
  const sums = new Float64Array(before.length);
  const counts = new Float64Array(before.length / dim);
  found.forEach((k, i) => {
    counts[k] += 1;
    for (let d = 0; d < dim; d++) sums[k * dim + d] += rows[i * dim + d];
  });
  return sums.map((sum, at) => (counts[Math.floor(at / dim)] ? sum / counts[Math.floor(at / dim)] : before[at]));
}

// ---------------------------------------------------------------- matches

/** The patches that are matched: all, or of a fine grid every second, third ... along rows and columns. @type {(grid: Grid, most?: number) => number[]} */
export function soughtPatches({ rows, cols }, most = MOST_SOUGHT) {
  const step = Math.ceil(Math.sqrt((rows * cols) / most));
  const along = (count) => Array.from({ length: count }, (_, i) => i).filter((i) => i % step === Math.floor(step / 2));
  return along(rows).flatMap((row) => along(cols).map((col) => row * cols + col));
}

/** Where each of some patches of the reference is found in another view, and whether that is right. @type {(reference: Features, other: Features, sought: number[], cols: number) => { sought: number, found: number, right: boolean }[]} */
export function matchesOf(reference, other, sought, cols) {
  const apart = (a, b) => Math.max(Math.abs(Math.floor(a / cols) - Math.floor(b / cols)), Math.abs((a % cols) - (b % cols)));
  return sought.map((at) => {
    const found = largestAt(cosinesTo(other, reference, at));
    return { sought: at, found, right: apart(at, found) <= NEAR };
  });
}

/** Mean cosine of each patch with the one at its place in another view. @type {(reference: Features, other: Features) => number} */
export function patchCosine(reference, other) {
  const { dim, inverse } = reference;
  let sum = 0;
  inverse.forEach((scale, i) => (sum += dot(reference.values, i, other.values, i, dim) * scale * other.inverse[i]));
  return sum / inverse.length;
}

// ---------------------------------------------------------------- labels

/** @typedef {{ at: number, label: number }} Click a patch of the reference, row by row, and its label, from 1 */

/** carry(clicks): the label of each patch of each view, that of the click that is nearest to it; 0 without clicks. The
 * first view is the one that is clicked on. @type {(all: Features[]) => (clicks: Click[]) => Uint8Array[]} */
export function createCarrier(all) {
  const centre = meanOf(all[0]);
  const views = all.map((features) => centredOf(features, centre));
  const known = new Map(); // patch of the reference -> its cosine with each patch of each view
  const cosinesOf = (at) => {
    if (known.size > KEPT_CLICKS) known.clear();
    if (!known.has(at)) known.set(at, views.map((view) => cosinesTo(view, views[0], at)));
    return known.get(at);
  };
  return (clicks) => {
    const near = clicks.map(({ at }) => cosinesOf(at));
    return views.map(({ inverse }, view) => {
      const labels = new Uint8Array(inverse.length);
      const best = new Float32Array(inverse.length).fill(-Infinity);
      clicks.forEach(({ label }, click) => {
        const cosines = near[click][view];
        for (let i = 0; i < best.length; i++) {
          if (cosines[i] <= best[i]) continue;
          best[i] = cosines[i];
          labels[i] = label;
        }
      });
      return labels;
    });
  };
}

/** Directions after a centre was subtracted. @type {(features: Features, centre: Float64Array) => Features} */
function centredOf(features, centre) {
  const { dim } = features;
  const values = Float32Array.from(rowsOf(features, centre));
  const inverse = Float64Array.from({ length: values.length / dim }, (_, i) => 1 / (Math.sqrt(dot(values, i, values, i, dim)) || Infinity));
  return { values, inverse, dim };
}

// ---------------------------------------------------------------- how much is as in the reference

/** @type {(values: ArrayLike<number>, reference: ArrayLike<number>) => number} */
export function sameShare(values, reference) {
  let same = 0;
  for (let i = 0; i < values.length; i++) same += values[i] === reference[i] ? 1 : 0;
  return same / values.length;
}

/** Intersection over union of what is above 0; NaN where nothing is. @type {(values: ArrayLike<number>, reference: ArrayLike<number>) => number} */
export function overlapAbove(values, reference) {
  let [both, either] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    both += values[i] > 0 && reference[i] > 0 ? 1 : 0;
    either += values[i] > 0 || reference[i] > 0 ? 1 : 0;
  }
  return both / either;
}
