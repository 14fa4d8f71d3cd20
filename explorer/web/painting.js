// Maps as colours on canvases, and the bar that says what a colour means. Nothing here knows what a map means.

import { decodeBytes } from "./arrays.js";
import { contextOf, make } from "./elements.js";
import { formatValue } from "./format.js";

const SMOOTH_PIXELS = 256; // longest side of a smoothed map: enough for any grid, cheap to repaint

/** 256 x 3 bytes -> 256 pixels in the byte order of ImageData. */
function lookupTable(rgb) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) table[i] = (255 << 24) | (rgb[3 * i + 2] << 16) | (rgb[3 * i + 1] << 8) | rgb[3 * i];
  return table;
}

/** @type {(specs: Record<string, string>) => Record<string, Uint32Array>} */
export function decodeColormaps(specs) {
  /** @type {Record<string, Uint32Array>} */
  const tables = {};
  for (const [name, data] of Object.entries(specs)) {
    const bytes = decodeBytes(data);
    if (bytes.length !== 768) throw new Error(`colour map "${name}" has ${bytes.length} bytes instead of 768`);
    tables[name] = lookupTable(bytes);
  }
  return tables;
}

/** A map in the colours of `table` between `low` and `high`. Smoothing interpolates values, never colours. */
export function paintMap(canvas, values, rows, cols, low, high, table, smooth) {
  const factor = smooth ? Math.max(1, Math.floor(SMOOTH_PIXELS / Math.max(rows, cols))) : 1;
  const surface = surfaceOf(canvas, cols * factor, rows * factor);
  const { pixels } = surface;
  const gain = high > low ? 255 / (high - low) : 0;
  if (factor === 1) {
    for (let i = 0; i < pixels.length; i++) {
      const level = (values[i] - low) * gain;
      pixels[i] = table[level <= 0 ? 0 : level >= 255 ? 255 : (level + 0.5) | 0];
    }
  } else paintSmooth(surface, values, rows, cols, factor, low, gain, table);
  surface.context.putImageData(surface.image, 0, 0);
}

function paintSmooth({ pixels, taps }, values, rows, cols, factor, low, gain, table) {
  const width = cols * factor;
  const across = (taps.x ??= tapsOf(cols, factor));
  const down = (taps.y ??= tapsOf(rows, factor));
  const wide = (taps.wide ??= new Float32Array(rows * width));
  for (let row = 0; row < rows; row++) {
    const from = row * cols;
    for (let x = 0; x < width; x++) {
      const left = values[from + across.first[x]];
      wide[row * width + x] = left + (values[from + across.second[x]] - left) * across.weight[x];
    }
  }
  for (let y = 0; y < rows * factor; y++) {
    const upper = down.first[y] * width;
    const lower = down.second[y] * width;
    const weight = down.weight[y];
    for (let x = 0; x < width; x++) {
      const level = (wide[upper + x] + (wide[lower + x] - wide[upper + x]) * weight - low) * gain;
      pixels[y * width + x] = table[level <= 0 ? 0 : level >= 255 ? 255 : (level + 0.5) | 0];
    }
  }
}

function tapsOf(count, factor) {
  const length = count * factor;
  const taps = { first: new Uint16Array(length), second: new Uint16Array(length), weight: new Float32Array(length) };
  for (let i = 0; i < length; i++) {
    const place = Math.min(count - 1, Math.max(0, (i + 0.5) / factor - 0.5));
    taps.first[i] = Math.floor(place);
    taps.second[i] = Math.min(count - 1, taps.first[i] + 1);
    taps.weight[i] = place - taps.first[i];
  }
  return taps;
}

/** RGB bytes, one triple a patch. */
export function paintColours(canvas, rgb, rows, cols) {
  const { pixels, image, context } = surfaceOf(canvas, cols, rows);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = (255 << 24) | (rgb[3 * i + 2] << 16) | (rgb[3 * i + 1] << 8) | rgb[3 * i];
  }
  context.putImageData(image, 0, 0);
}

const surfaces = new WeakMap();

function surfaceOf(canvas, width, height) {
  let surface = surfaces.get(canvas);
  if (!surface || canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    const context = contextOf(canvas);
    const image = context.createImageData(width, height);
    surface = { context, image, pixels: new Uint32Array(image.data.buffer), taps: {} };
    surfaces.set(canvas, surface);
  }
  return surface;
}

/** A colour bar with the two ends and the middle written out. */
export function createColourBar() {
  const label = make("span", { class: "vx-barlabel" });
  const strip = make("canvas", { class: "vx-strip", width: 256, height: 1 });
  const ticks = [0, 1, 2].map(() => make("span", { class: "vx-tick" }));
  const scale = make("div", { class: "vx-ticks" }, ...ticks);
  const node = make("div", { class: "vx-bar", role: "img" }, label, strip, scale);
  const ramp = Float32Array.from({ length: 256 }, (_, i) => i);
  let shown = {};
  const set = (text, table, low, high, signed = false) => {
    shown = { text, table, low, high, signed };
    label.textContent = text;
    strip.hidden = scale.hidden = !table;
    if (!table) return node.setAttribute("aria-label", text);
    paintMap(strip, ramp, 1, 256, 0, 255, table, false);
    [low, (low + high) / 2, high].forEach((value, i) => {
      ticks[i].textContent = formatValue(value, signed);
    });
    node.setAttribute("aria-label", `${text}: from ${formatValue(low, signed)} to ${formatValue(high, signed)}`);
  };
  return { node, set, shown: () => ({ ...shown, strip }) };
}
