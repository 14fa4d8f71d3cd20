// How numbers are written: three significant digits or a fixed number of them, with a real minus sign.

export const MINUS = "\u2212";

/** Three significant digits with a real minus sign; `signed` adds a plus. @type {(value: number | null | undefined, signed?: boolean) => string} */
export function formatValue(value, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = size < 1e-4 ? size.toExponential(1) : size >= 1 ? size.toFixed(2) : size.toPrecision(3);
  return (value < 0 ? MINUS : signed ? "+" : "") + digits;
}

/** @type {(value: number | null | undefined, digits: number) => string} */
export function formatFixed(value, digits) {
  if (value == null || !Number.isFinite(value)) return "\u2013";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

export const withCommas = (count) => count.toLocaleString("en");
export const counted = (count, noun) => `${withCommas(count)} ${noun}${count === 1 ? "" : "s"}`;
export const percent = (share) => (Number.isFinite(share) ? `${Math.round(100 * share)} %` : "\u2013");

export function ordinal(place) {
  const ending = place % 100 >= 11 && place % 100 <= 13 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[place % 10] ?? "th";
  return `${withCommas(place)}${ending}`;
}
