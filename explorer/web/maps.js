// Attention maps as numbers: over heads, against each other, where their mass lies. No page is needed.

import { scaledSlice } from "./arrays.js";

/** Jensen-Shannon divergence in nats of two maps, each made to sum to one. */
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

/** 1 for each patch of the smallest set that holds `share` of the map's mass. */
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

export function headOf(attention, head) {
  const [heads, patches] = attention.shape;
  return scaledSlice(attention, Math.min(head, heads - 1) * patches, patches);
}

export function meanOfHeads({ values, scale, shape: [heads, patches] }) {
  const sums = new Float64Array(patches);
  for (let i = 0; i < values.length; i++) sums[i % patches] += values[i];
  return Float32Array.from(sums, (sum) => (sum * scale) / heads);
}
