// A figure for a paper: cells, colour bars and lines of text on a canvas of white.

import { contextOf } from "./elements.js";
import { formatValue } from "./format.js";

const FIGURE = { cell: 260, gap: 16, margin: 28, caption: 22, bar: 54, line: 18, scale: 2 };

/** A figure on white, at twice the pixels: heading, rows of cells, colour bars, lines of text.
 *
 * cells: rows of {title, reference, draw(context, x, y, width, height)} | {table: [[text, ...], ...]} | null.
 * bars: {text, table, low, high, signed, strip, from, span}: columns that a bar covers. host: whose font it takes. @param {{ host: Element, heading: string, cells: any[][], aspect: number, bars: any[], lines: string[], over?: Function }} figure */
export function composeFigure({ host, heading, cells, aspect, bars, lines, over }) {
  const { cell, gap, margin, caption, bar, line, scale } = FIGURE;
  const columns = Math.max(...cells.map((row) => row.length));
  const height = Math.round(cell * aspect);
  const width = 2 * margin + columns * cell + (columns - 1) * gap;
  const drawn = bars.filter((each) => each.table).length ? bar : 0;
  const canvas = document.createElement("canvas");
  const context = contextOf(canvas);
  const font = getComputedStyle(host).fontFamily;
  const fontOf = (size, weight = 400) => `${weight} ${size}px ${font || "system-ui, sans-serif"}`;
  context.font = fontOf(12);
  const wrapped = [...lines, "made with vit-explorer"].flatMap((text) => wrapText(context, text, width - 2 * margin));
  const total = margin + 30 + cells.length * (caption + height + gap) + drawn + wrapped.length * line + margin;
  canvas.width = width * scale;
  canvas.height = total * scale;
  context.scale(scale, scale);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, total);
  context.textBaseline = "alphabetic";

  /** @type {(text: string, x: number, y: number, size?: number, weight?: number, colour?: string, align?: CanvasTextAlign, limit?: number) => number} */
  const write = (text, x, y, size = 12, weight = 400, colour = "#1f2328", align = "left", limit = undefined) => {
    context.font = fontOf(size, weight);
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y, limit);
    return context.measureText(text).width;
  };
  const places = [];
  write(heading, margin, margin + 12, 17, 600, "#1f2328", "left", width - 2 * margin);
  let y = margin + 30;
  for (const row of cells) {
    row.forEach((each, i) => {
      if (!each) return;
      const x = margin + i * (cell + gap);
      if (each.table) return writeTable(write, each.table, x, y + caption, cell);
      const used = write(each.title, x, y + 14, 13, 600, "#1f2328", "left", each.reference ? cell - 74 : cell);
      if (each.reference) write("reference", x + Math.min(used, cell - 74) + 8, y + 14, 12, 400, "#57606a");
      each.draw(context, x, y + caption, cell, height);
      places.push({ x, y: y + caption, width: cell, height });
    });
    y += caption + height + gap;
  }
  over?.(context, places);
  for (const each of bars) {
    if (!each.table) continue;
    const x = margin + each.from * (cell + gap);
    const length = each.span * cell + (each.span - 1) * gap;
    write(each.text, x, y + 8, 12);
    context.drawImage(each.strip, x, y + 14, length, 10);
    write(formatValue(each.low, each.signed), x, y + 38, 12);
    write(formatValue((each.low + each.high) / 2, each.signed), x + length / 2, y + 38, 12, 400, "#1f2328", "center");
    write(formatValue(each.high, each.signed), x + length, y + 38, 12, 400, "#1f2328", "right");
  }
  y += drawn;
  wrapped.forEach((text, i) => write(text, margin, y + 12 + i * line, 12, 400, "#57606a"));
  return canvas;
}

function writeTable(write, table, x, y, width) {
  table.forEach((cells, i) => {
    const [name, ...rest] = cells;
    const weight = i === 0 ? 600 : 400;
    write(name, x, y + 14 + 20 * i, 12, weight);
    rest.forEach((text, j) => {
      write(text, x + width - (rest.length - 1 - j) * 56, y + 14 + 20 * i, 12, weight, "#1f2328", "right");
    });
  });
}

function wrapText(context, text, limit) {
  const out = [];
  let current = "";
  for (const word of String(text).split(" ")) {
    const longer = current ? `${current} ${word}` : word;
    if (current && context.measureText(longer).width > limit) {
      out.push(current);
      current = word;
    } else current = longer;
  }
  return current ? [...out, current] : out;
}
