// Features of patches: which of them resemble one. No page is needed.

/** @import { Decoded, Numbers } from "./payloads" */
/** @typedef {{ values: Numbers, inverse: Float64Array, dim: number }} Features */

/** Stored integers [patch, dim], whose scale may differ from row to row, with what makes each row one long. @type {(array: Decoded) => Features} */
export function featuresOf({ values, shape: [count, dim] }) {
  const inverse = new Float64Array(count); // a row of zeros keeps 0: it resembles nothing
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (let d = i * dim; d < (i + 1) * dim; d++) square += values[d] * values[d];
    if (square > 0) inverse[i] = 1 / Math.sqrt(square);
  }
  return { values, inverse, dim };
}

/** Cosine of one patch of `from` with each patch of `features`. @type {(features: Features, from: Features, at: number) => Float32Array} */
export function cosinesTo({ values, inverse, dim }, from, at) {
  const wanted = Float64Array.from(from.values.subarray(at * dim, (at + 1) * dim), (value) => value * from.inverse[at]);
  const out = new Float32Array(inverse.length);
  for (let i = 0, start = 0; i < out.length; i++, start += dim) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += values[start + d] * wanted[d];
    out[i] = sum * inverse[i];
  }
  return out;
}

/** From 1: how many values are larger than the one at a place, but for rounding. @type {(values: Float32Array, at: number) => number} */
export function rankOf(values, at) {
  return values.reduce((rank, value) => rank + (value > values[at] + 1e-6 ? 1 : 0), 1);
}
