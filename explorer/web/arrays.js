// Arrays as payloads bring them, {dtype, shape, data, scale}, and what is asked of plain lists of numbers.

/** @import { Decoded, Encoded, Numbers } from "./payloads" */

const ARRAY_TYPES = { int8: Int8Array, uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

/** @type {(base64: string) => Uint8Array<ArrayBuffer>} */
export function decodeBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** @type {(bytes: Uint8Array) => string} */
export function encodeBytes(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

/** {dtype, shape, data, scale} -> {values, shape, scale}; values stay as stored. Throws if the lengths disagree. @type {(spec: Encoded) => Decoded} */
export function decodeArray(spec) {
  const Type = ARRAY_TYPES[spec.dtype];
  if (!Type) throw new Error(`unknown array type "${spec.dtype}"`);
  const bytes = decodeBytes(spec.data);
  const count = spec.shape.reduce((product, n) => product * n, 1);
  if (bytes.byteLength !== count * Type.BYTES_PER_ELEMENT) {
    throw new Error(`array of shape [${spec.shape}] and type ${spec.dtype} has ${bytes.byteLength} bytes`);
  }
  // JSON has no NaN: what was not finite arrives as null, and would be drawn as an even map of zeros
  if ("scale" in spec && !Number.isFinite(spec.scale)) throw new Error("it holds values that are not finite");
  return { values: new Type(bytes.buffer), shape: spec.shape, scale: spec.scale ?? 1 };
}

/** A stretch of a decoded array as real values. @type {(array: Decoded, start: number, count: number) => Float32Array} */
export function scaledSlice(array, start, count) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = array.values[start + i] * array.scale;
  return out;
}

/** Values of a map as rows, rounded for a file. @type {(values: Numbers, rows: number, cols: number, digits?: number) => number[][]} */
export function tableOf(values, rows, cols, digits = 6) {
  const out = [];
  for (let row = 0; row < rows; row++) {
    out.push(Array.from(values.subarray(row * cols, (row + 1) * cols), (value) => Number(value.toPrecision(digits))));
  }
  return out;
}

/** Where the value is that lies nearest to one; of two the first. @type {(values: number[], wanted: number) => number} */
export function nearestAt(values, wanted) {
  return values.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
}

/** The value that lies nearest to one. @type {(list: number[], value: number) => number} */
export const listNearest = (list, value) => list[nearestAt(list, value)];

/** [lowest, highest] of all values and of the two that are given. @type {(arrays: Iterable<number>[], low?: number, high?: number) => [number, number]} */
export function extentOf(arrays, low = Infinity, high = -Infinity) {
  for (const values of arrays) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [low, high];
}

/** The largest of all values, 0 where all are negative. @type {(arrays: Iterable<number>[]) => number} */
export const largest = (arrays) => extentOf(arrays, 0, 0)[1];

/** Where one scale for maps of attention ends: at the highest value, but no farther than three times the 95th percentile.
 * Else a few patches that draw nearly all attention, as CLIP's do, would leave everything else dark.
 * @type {(maps: ArrayLike<number>[]) => number} */
export function scaleEnd(maps) {
  const sorted = Float64Array.from(maps.flatMap((map) => Array.from(map))).sort();
  const at = 0.95 * (sorted.length - 1);
  const below = Math.floor(at);
  const percentile = sorted[below] + (at - below) * (sorted[Math.ceil(at)] - sorted[below]);
  const top = sorted[sorted.length - 1];
  return Math.min(top, 3 * percentile) || top; // where the percentile is 0, those few patches are all there is
}

/** @type {(values: ArrayLike<number>) => number} */
export function largestAt(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** @type {(value: number, low: number, high: number) => number} */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
