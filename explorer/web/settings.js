// Settings as people, links and other programs write them.

/** Settings come from people, links and other programs: take what is sensible, leave the rest as it was. @type {(value: any, fallback: number | null, low: number, high: number) => number | null} */
export function readNumber(value, fallback, low, high) {
  const number = typeof value === "string" && value.trim() === "" ? NaN : Number(value ?? NaN);
  return Number.isFinite(number) ? Math.min(high, Math.max(low, number)) : fallback;
}

/** @type {(value: unknown, fallback: boolean) => boolean} */
export function readFlag(value, fallback) {
  if (value === true || value === "1" || value === 1 || value === "true") return true;
  if (value === false || value === "0" || value === 0 || value === "false") return false;
  return fallback;
}

/** @type {<T>(value: unknown, choices: readonly T[], fallback: T) => T} */
export function readChoice(value, choices, fallback) {
  return choices.find((choice) => String(choice) === String(value)) ?? fallback;
}

/** Names with commas between them, as `readNames` reads them. @type {(names: Iterable<string>) => string} */
export const writeNames = (names) => [...names].map((name) => name.replace(/[%,]/g, encodeURIComponent)).join(",");

const readName = (written) => written.replace(/%(25|2C)/g, decodeURIComponent);

export function readNames(value, fallback) {
  if (value === undefined || value === null) return fallback;
  const names = typeof value === "string" ? value.split(",").filter(Boolean).map(readName) : [...value];
  return new Set(names.map(String));
}
