// A flat map on a canvas for pages that hold no plotly.js, which is larger than such a page may be.
//
// Enters and leaves: what the embedding view asks of plotly and reads from it (react, purge, toImage, Plots.resize;
// plot.on, plot._fullLayout), under plotly's names and no more of it: marks, lines with gaps, arrows, two axes of one
// scale, words, moving and magnifying. No three dimensions, no lasso.

import { contextOf, make } from "./elements.js";

const MARGIN = { left: 34, right: 10, top: 36, bottom: 34 };
const CLOSER = 1.5; // what one press on + magnifies
const LEGEND_WIDTH = 190;

const plots = new WeakMap(); // element -> its plot

export const flatplot = {
  onlyFlat: true,
  async react(element, traces, layout) {
    if (!plots.has(element)) plots.set(element, createFlatPlot(element));
    plots.get(element).show(traces, layout);
  },
  purge(element) {
    plots.get(element)?.destroy();
    plots.delete(element);
  },
  async toImage(figure, { width, height, scale }) {
    const canvas = make("canvas", { width: width * scale, height: height * scale });
    const context = contextOf(canvas);
    context.scale(scale, scale);
    context.fillStyle = figure.layout.paper_bgcolor;
    context.fillRect(0, 0, width, height);
    const frame = frameOf(width - LEGEND_WIDTH, height, [figure.layout.xaxis.range, figure.layout.yaxis.range]);
    paintFigure(context, frame, figure.data, figure.layout);
    paintLegend(context, width - LEGEND_WIDTH + 8, figure.data.filter((trace) => trace.showlegend), figure.layout);
    return canvas.toDataURL("image/png");
  },
  Plots: {
    async resize(element) {
      plots.get(element)?.resize();
    },
  },
};

function createFlatPlot(element) {
  const listeners = {};
  const ends = new AbortController();
  const canvas = make("canvas", { style: "position: absolute; inset: 0; width: 100%; height: 100%; touch-action: pan-y" });
  const tool = (text, title, onclick) => make("button", { class: "vx-button", type: "button", text, title, "aria-label": title, onclick });
  let shown = null; // {traces, layout}
  let asked = null; // the ranges that the view wants
  let ranges = null; // those that are seen
  let moved = false;
  let drag = null;

  const tools = make(
    "div",
    { class: "modebar-container vx-flattools" },
    tool("+", "Magnify", () => magnify(1 / CLOSER)),
    tool("\u2212", "Make smaller", () => magnify(CLOSER)),
    tool("\u2302", "Show all", () => home()),
  );
  element.replaceChildren(canvas, tools);
  element.on = (name, listener) => (listeners[name] ??= []).push(listener);
  const tell = (name, data) => (listeners[name] ?? []).forEach((listener) => listener(data));

  /** Both axes get one scale: the range of one of them is widened. */
  function fitted(wanted) {
    const [width, height] = areaOf(element.clientWidth, element.clientHeight);
    const perPixel = Math.max((wanted[0][1] - wanted[0][0]) / width, (wanted[1][1] - wanted[1][0]) / height);
    return [width, height].map((length, axis) => around((wanted[axis][0] + wanted[axis][1]) / 2, (length * perPixel) / 2));
  }

  function show(traces, layout) {
    const wanted = [layout.xaxis.range, layout.yaxis.range];
    const same = shown?.layout.uirevision === layout.uirevision && asked && alike(fitted(wanted), fitted(asked));
    if (!same) moved = false;
    asked = wanted.map((range) => [...range]);
    if (!moved) ranges = fitted(asked);
    shown = { traces, layout };
    paint();
    tell("plotly_afterplot");
  }

  function resize() {
    if (!shown) return;
    ranges = fitted(moved ? ranges : asked);
    paint();
    tell("plotly_afterplot");
  }

  function paint() {
    const [width, height] = [element.clientWidth, element.clientHeight];
    const sharpness = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * sharpness), Math.round(height * sharpness)];
    const context = contextOf(canvas);
    context.scale(sharpness, sharpness);
    const frame = frameOf(width, height, ranges);
    element._fullLayout = { width, height, xaxis: frame.xaxis, yaxis: frame.yaxis };
    paintFigure(context, frame, shown.traces, shown.layout);
  }

  function move(next, ended = true) {
    ranges = next;
    moved = !alike(ranges, fitted(asked));
    paint();
    const edits = { "xaxis.range[0]": ranges[0][0], "yaxis.range[0]": ranges[1][0] };
    tell(ended ? "plotly_relayout" : "plotly_relayouting", edits);
  }

  const magnify = (factor) => move(ranges.map(([low, high]) => around((low + high) / 2, (factor * (high - low)) / 2)));
  const home = () => move(fitted(asked));

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") drag = { x: event.clientX, y: event.clientY, from: ranges, far: false };
  });
  const follow = (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.far ||= Math.hypot(dx, dy) > 5;
    if (!drag.far) return;
    const { xaxis, yaxis } = element._fullLayout;
    const by = [(-dx * span(drag.from[0])) / xaxis._length, (dy * span(drag.from[1])) / yaxis._length];
    move(drag.from.map((range, axis) => range.map((value) => value + by[axis])), false);
  };
  const release = () => {
    const far = drag?.far;
    drag = null;
    if (far) move(ranges);
  };
  canvas.addEventListener("dblclick", () => {
    home();
    tell("plotly_doubleclick");
  });
  window.addEventListener("pointermove", follow, { signal: ends.signal });
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, release, { signal: ends.signal });

  function destroy() {
    ends.abort();
    element.replaceChildren();
    delete element._fullLayout;
  }
  return { show, resize, destroy };
}

// ---------------------------------------------------------------- places

const span = ([low, high]) => high - low;
const around = (middle, half) => [middle - half, middle + half];
const areaOf = (width, height) => [Math.max(1, width - MARGIN.left - MARGIN.right), Math.max(1, height - MARGIN.top - MARGIN.bottom)];

function alike(first, second) {
  const tolerance = 1e-6 * Math.max(span(first[0]), span(first[1]));
  return first.every((range, axis) => range.every((value, i) => Math.abs(value - second[axis][i]) <= tolerance));
}

/** Where values lie in pixels, in the words of plotly's axes. */
function frameOf(width, height, [across, up]) {
  const [length, rise] = areaOf(width, height);
  const xaxis = { _offset: MARGIN.left, _length: length, range: across, l2p: (value) => ((value - across[0]) / span(across)) * length };
  const yaxis = { _offset: MARGIN.top, _length: rise, range: up, l2p: (value) => (1 - (value - up[0]) / span(up)) * rise };
  return { width, height, xaxis, yaxis, place: (x, y) => [xaxis._offset + xaxis.l2p(x), yaxis._offset + yaxis.l2p(y)] };
}

// ---------------------------------------------------------------- painting

function paintFigure(context, frame, traces, layout) {
  const { xaxis, yaxis } = frame;
  paintGrid(context, frame, layout);
  context.save();
  context.beginPath();
  context.rect(xaxis._offset, yaxis._offset, xaxis._length, yaxis._length);
  context.clip();
  for (const trace of traces) {
    if (trace.visible === false) continue;
    if (trace.mode.startsWith("lines")) paintArrows(context, frame, trace);
    else paintMarks(context, frame, trace);
  }
  for (const shape of layout.shapes ?? []) paintRing(context, frame, shape);
  for (const note of layout.annotations ?? []) {
    if (!note.showarrow) {
      paintNote(context, frame, note, layout.font.family);
      continue;
    }
    const ends = [frame.place(note.ax, note.ay), frame.place(note.x, note.y)];
    paintArrow(context, ends, note.standoff, note.arrowwidth, 9, note.arrowcolor, note.arrowcolor);
  }
  context.restore();
}

function paintGrid(context, { xaxis, yaxis }, layout) {
  const step = niceStep(Math.max(span(xaxis.range), span(yaxis.range)) / 8);
  context.lineWidth = 1;
  context.strokeStyle = layout.xaxis.gridcolor;
  context.beginPath();
  for (let value = Math.ceil(xaxis.range[0] / step) * step; value <= xaxis.range[1]; value += step) {
    const x = Math.round(xaxis._offset + xaxis.l2p(value)) + 0.5;
    context.moveTo(x, yaxis._offset);
    context.lineTo(x, yaxis._offset + yaxis._length);
  }
  for (let value = Math.ceil(yaxis.range[0] / step) * step; value <= yaxis.range[1]; value += step) {
    const y = Math.round(yaxis._offset + yaxis.l2p(value)) + 0.5;
    context.moveTo(xaxis._offset, y);
    context.lineTo(xaxis._offset + xaxis._length, y);
  }
  context.stroke();
  context.font = `${layout.xaxis.title.font.size}px ${layout.font.family}`;
  context.fillStyle = layout.xaxis.title.font.color;
  context.textAlign = "center";
  context.fillText(layout.xaxis.title.text, xaxis._offset + xaxis._length / 2, yaxis._offset + yaxis._length + 22);
  context.save();
  context.translate(xaxis._offset - 14, yaxis._offset + yaxis._length / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(layout.yaxis.title.text, 0, 0);
  context.restore();
}

function niceStep(rough) {
  const size = 10 ** Math.floor(Math.log10(rough || 1));
  return size * ([1, 2, 5].find((each) => each * size >= rough) ?? 10);
}

/** Lines whose points come as from, to, null. */
function paintArrows(context, frame, trace) {
  const { x, y, line, marker } = trace;
  for (let i = 0; i + 1 < x.length; i += 3) {
    const ends = [frame.place(x[i], y[i]), frame.place(x[i + 1], y[i + 1])];
    paintArrow(context, ends, marker?.standoff ?? 0, line.width, marker?.size?.[i + 1] ?? 0, line.color, marker?.color ?? line.color);
  }
}

/** @param {any} context @param {number[][]} ends @param {number} standoff @param {number} width @param {number} size */
function paintArrow(context, [[x0, y0], [x1, y1]], standoff, width, size, lineColour, headColour) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (!(length > standoff)) return;
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
  const [tx, ty] = [x1 - standoff * ux, y1 - standoff * uy];
  context.lineWidth = width;
  context.strokeStyle = lineColour;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(tx - size * ux, ty - size * uy);
  context.stroke();
  context.fillStyle = headColour;
  context.beginPath();
  context.moveTo(tx, ty);
  for (const side of [1, -1]) context.lineTo(tx - size * ux + side * 0.5 * size * uy, ty - size * uy - side * 0.5 * size * ux);
  context.fill();
}

function paintMarks(context, frame, trace) {
  const { x, y, marker, selectedpoints: chosen } = trace;
  const kept = chosen && new Set(chosen);
  x.forEach((value, i) => {
    const colour = Array.isArray(marker.color) ? marker.color[i] : marker.color;
    context.globalAlpha = kept && !kept.has(i) ? trace.unselected.marker.opacity : marker.opacity ?? 1;
    paintMark(context, frame.place(value, y[i]), marker, colour);
  });
  context.globalAlpha = 1;
}

function paintMark(context, [x, y], { symbol, size, line }, colour) {
  const half = size / 2;
  context.beginPath();
  if (symbol.startsWith("diamond")) {
    const far = 1.3 * half; // of equal area
    [[0, -far], [far, 0], [0, far], [-far, 0]].forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx, y + dy));
    context.closePath();
  } else if (symbol.startsWith("square")) context.rect(x - half, y - half, size, size);
  else if (/^(cross|x)/.test(symbol)) tracePlus(context, x, y, half, symbol.startsWith("x") ? Math.PI / 4 : 0);
  else context.arc(x, y, half, 0, 2 * Math.PI);
  const open = symbol.endsWith("-open");
  context.fillStyle = colour;
  if (!open) context.fill();
  context.lineWidth = line?.width ?? 0;
  context.strokeStyle = open ? colour : line?.color ?? colour;
  if (context.lineWidth && (open || line?.width)) context.stroke();
}

/** A plus with arms of a third of its width, turned. */
function tracePlus(context, x, y, half, turn) {
  const [far, near, cos, sin] = [1.1 * half, 0.4 * half, Math.cos(turn), Math.sin(turn)];
  for (let arm = 0; arm < 4; arm++) {
    for (const [dx, dy] of [[near, -near], [far, -near], [far, near]]) {
      const [across, down] = [[dx, dy], [-dy, dx], [-dx, -dy], [dy, -dx]][arm];
      context[arm || dx !== near ? "lineTo" : "moveTo"](x + cos * across - sin * down, y + sin * across + cos * down);
    }
  }
  context.closePath();
}

function paintRing(context, frame, { xanchor, yanchor, x1, line }) {
  const [x, y] = frame.place(xanchor, yanchor);
  context.lineWidth = line.width;
  context.strokeStyle = line.color;
  context.beginPath();
  context.arc(x, y, x1, 0, 2 * Math.PI);
  context.stroke();
}

function paintNote(context, frame, { x, y, text, bgcolor, borderpad, font }, family) {
  const [left, top] = frame.place(x, y);
  context.font = `${font.size}px ${family}`;
  context.textAlign = "center";
  const [width, height] = [context.measureText(text).width + 2 * borderpad, font.size + 2 * borderpad];
  context.fillStyle = bgcolor;
  context.fillRect(left - width / 2, top - height / 2, width, height);
  context.fillStyle = font.color;
  context.fillText(text, left, top + 0.35 * font.size);
}

function paintLegend(context, left, traces, layout) {
  context.textAlign = "left";
  traces.forEach(({ name, marker }, i) => {
    const y = MARGIN.top + 10 + 20 * i;
    paintMark(context, [left + 6, y], marker, marker.color);
    context.font = `12px ${layout.font.family}`;
    context.fillStyle = layout.font.color;
    context.fillText(name, left + 18, y + 4, LEGEND_WIDTH - 30);
  });
}
