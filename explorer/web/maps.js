// Attention maps as numbers: over heads, against each other, where their mass lies. No page is needed.

/** @import { Decoded, Head } from "./payloads" */
import { scaledSlice, scaleEnd } from "./arrays.js";

/** Jensen-Shannon divergence in nats of two maps, each made to sum to one. @type {(first: Float32Array, second: Float32Array) => number} */
export function jensenShannon(first, second) {
  const sum = (values) => values.reduce((total, value) => total + value, 0) || 1;
  const [a, b] = [sum(first), sum(second)];
  let out = 0;
  for (let i = 0; i < first.length; i++) {
    const [p, q] = [first[i] / a, second[i] / b];
    const middle = (p + q) / 2;
    if (p > 0) out += (p * Math.log(p / middle)) / 2;
    if (q > 0) out += (q * Math.log(q / middle)) / 2;
  }
  return Math.max(0, out);
}

/** 1 for each patch of the smallest set that holds `share` of the map's mass. @type {(map: Float32Array, share: number) => Uint8Array} */
export function topMass(map, share) {
  const order = Array.from(map.keys()).sort((i, j) => map[j] - map[i]);
  const total = map.reduce((sum, value) => sum + value, 0);
  const inside = new Uint8Array(map.length);
  let held = 0;
  for (const i of order) {
    if (held >= share * total) break;
    inside[i] = 1;
    held += map[i];
  }
  return inside;
}

/** One head's map, or all of them joined by "mean" or "max"; attention is [layer, head, patch] or [head, patch]. @type {(attention: Decoded, head: Head, layer?: number) => Float32Array} */
export function mapOfHeads(attention, head, layer = 0) {
  const { values, scale, shape } = attention;
  const [heads, patches] = shape.slice(-2);
  const start = layer * heads * patches;
  if (typeof head === "number") return scaledSlice(attention, start + Math.min(head, heads - 1) * patches, patches);
  const joined = new Float64Array(patches);
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < patches; i++) {
      const value = values[start + h * patches + i];
      joined[i] = head === "max" ? Math.max(joined[i], value) : joined[i] + value / heads;
    }
  }
  return Float32Array.from(joined, (value) => value * scale);
}

/** top(head, layer): where a scale for several attentions ends there. Each is sought once. @type {(attentions: Decoded[]) => (head: Head, layer: number) => number} */
export function topsOf(attentions) {
  const known = new Map();
  return (head, layer) => {
    const key = `${head},${layer}`;
    if (!known.has(key)) known.set(key, scaleEnd(attentions.map((each) => mapOfHeads(each, head, layer))));
    return known.get(key);
  };
}

/** "closer", "farther" or "same" (nearer than `least`) in the direction of a measure; "" where a number is missing. @type {(direction: number, before: number | null, after: number | null, least: number) => "" | "same" | "closer" | "farther"} */
export function judged(direction, before, after, least) {
  if (before == null || after == null || !Number.isFinite(after - before)) return "";
  const gain = direction * (after - before);
  if (Math.abs(gain) < least) return "same";
  return gain > 0 ? "closer" : "farther";
}
