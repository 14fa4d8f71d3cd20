// Round numbers along an axis, and how they are written. No page is needed.

import { formatFixed } from "./format.js";

/** 1, 2 or 5 times a power of ten, about `rough` and not below `finest`. @type {(rough: number, finest: number) => number} */
function roundGap(rough, finest) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5].map((each) => each * power).find((each) => each >= 0.75 * rough && each >= finest) ?? 10 * power;
}

const multiples = (gap, first, last) => Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * gap).toPrecision(9)));

/** About `count` round numbers that hold the range, `finest` apart at least. @type {(low: number, high: number, count: number, finest?: number) => number[]} */
export function ticksAround(low, high, count, finest = 1e-6) {
  const gap = roundGap(Math.max((high - low) / count, finest), finest);
  const first = Math.floor(low / gap + 1e-6);
  return multiples(gap, first, Math.max(first + 1, Math.ceil(high / gap - 1e-6)));
}

/** About `count` round numbers inside of the range. @type {(low: number, high: number, count: number) => number[]} */
export function ticksWithin(low, high, count) {
  const gap = roundGap((high - low) / count, 0);
  return multiples(gap, Math.ceil(low / gap - 1e-6), Math.floor(high / gap + 1e-6));
}

/** With as many digits as tell the ticks apart. @type {(tick: number, ticks: number[]) => string} */
export function tickText(tick, ticks) {
  const gap = ticks.length > 1 ? ticks[1] - ticks[0] : 0.1;
  return formatFixed(tick, Math.max(0, Math.ceil(-Math.log10(gap) - 1e-6)));
}
