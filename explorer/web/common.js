// What the attention view and the patch view share: decoding, colour, painting, panes, controls, files.
//
// Nothing here knows what a map means. Every string from outside enters the page through textContent.
// The views import from this file with one line, which the bundler in __init__.py replaces by the file itself;
// so every name in here must differ from every name at the top level of a view.

export const MINUS = "\u2212";

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const ARRAY_TYPES = { int8: Int8Array, uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
const SMOOTH_PIXELS = 256; // longest side of a smoothed map: enough for any grid, cheap to repaint

// ---------------------------------------------------------------- decoding

function decodeBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** {dtype, shape, data, scale} -> {values, shape, scale}; values stay as stored. Throws if the lengths disagree. */
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

/** A stretch of a decoded array as real values. */
export function scaledSlice(array, start, count) {
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = array.values[start + i] * array.scale;
  return out;
}

/** 256 x 3 bytes -> 256 pixels in the byte order of ImageData. */
function lookupTable(rgb) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) table[i] = (255 << 24) | (rgb[3 * i + 2] << 16) | (rgb[3 * i + 1] << 8) | rgb[3 * i];
  return table;
}

function plainTable(colour) {
  const rgb = new Uint8Array(768);
  for (let i = 0; i < 256; i++) rgb.set(colour(i / 255), 3 * i);
  return lookupTable(rgb);
}

function decodeColormaps(specs = {}) {
  const tables = {};
  for (const [name, data] of Object.entries(specs)) {
    const bytes = decodeBytes(data);
    if (bytes.length !== 768) throw new Error(`colour map "${name}" has ${bytes.length} bytes instead of 768`);
    tables[name] = lookupTable(bytes);
  }
  if (!tables.difference) tables.difference = plainTable((t) => [510 * t, 255 - 510 * Math.abs(t - 0.5), 510 * (1 - t)]);
  if (Object.keys(tables).length === 1) tables.grey = plainTable((t) => [255 * t, 255 * t, 255 * t]);
  return tables;
}

async function loadPicture(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

/** What both payloads have in common, decoded; resolves once every picture can be drawn without a flicker. */
export async function readPayload(payload) {
  const waiting = new Map();
  for (const { picture } of payload.panes) {
    if (picture && !waiting.has(picture)) waiting.set(picture, loadPicture(picture).catch(() => null));
  }
  const [rows, cols] = payload.grid;
  const [height, width] = payload.size;
  const panes = [];
  for (const pane of payload.panes) {
    panes.push({ ...pane, title: String(pane.title ?? pane.id), image: (await waiting.get(pane.picture)) ?? null });
  }
  return {
    rows,
    cols,
    height,
    width,
    panes,
    reference: panes.find((pane) => pane.reference) ?? panes[0],
    tables: decodeColormaps(payload.colormaps),
    untouched: Boolean(payload.untouched_student),
    message: payload.message ?? null,
    link: payload.link ?? null,
    payload,
  };
}

// ---------------------------------------------------------------- elements

/** An element with attributes, listeners (onclick: f), text and children. Strings never become markup. */
export function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS(SVG_NAMESPACE, tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

let controlCount = 0;

function labelled(label, control, extra) {
  control.id = `vx-control-${++controlCount}-${Math.random().toString(36).slice(2, 7)}`;
  const caption = make("label", { class: "vx-label", for: control.id, text: label });
  const head = extra ? make("div", { class: "vx-labelrow" }, caption, extra) : caption;
  return make("div", { class: "vx-control" }, head, control);
}

/** A labelled native slider. `show` turns the number into the text beside the label and for screen readers. */
export function createSlider({ name, label, min, max, step, show, change }) {
  const input = make("input", { type: "range", class: "vx-range", name, min, max, step });
  const output = make("output", { class: "vx-output" });
  const tell = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    input.style.setProperty("--vx-fill", `${(100 * (input.value - input.min)) / (input.max - input.min || 1)}%`);
  };
  input.addEventListener("input", () => {
    tell();
    change(Number(input.value));
  });
  const set = (value, high = max) => {
    input.max = high;
    input.disabled = Number(high) <= Number(min);
    input.value = value;
    tell();
  };
  return { node: labelled(label, input, output), input, set };
}

/** A labelled native select; `fill([[value, text, disabled?], ...])` rebuilds the choices only when they changed. */
export function createSelect({ name, label, change }) {
  const input = make("select", { class: "vx-select", name });
  input.addEventListener("change", () => change(input.value));
  let known = "";
  const fill = (choices) => {
    const signature = JSON.stringify(choices);
    if (signature === known) return;
    known = signature;
    input.replaceChildren(...choices.map(([value, text, disabled]) => make("option", { value, text, disabled })));
  };
  const set = (value) => {
    input.value = String(value);
  };
  return { node: labelled(label, input), input, fill, set };
}

export function createCheckbox({ name, label, change }) {
  const input = make("input", { type: "checkbox", class: "vx-checkbox", name });
  input.addEventListener("change", () => change(input.checked));
  const node = make("label", { class: "vx-check" }, input, make("span", { text: label }));
  return { node, input, set: (value) => (input.checked = value) };
}

/** The frame of a view: notice, empty state, body, tooltip and live region. */
export function createShell(root, kind, emptyText) {
  const notice = make("p", { class: "vx-notice", role: "status", hidden: true });
  const empty = make("p", { class: "vx-empty", text: emptyText });
  const body = make("div", { class: `vx-body vx-${kind}`, hidden: true });
  const tip = make("div", { class: "vx-tip", role: "tooltip", hidden: true });
  const live = make("p", { class: "vx-sr", "aria-live": "polite" });
  const host = make("div", { class: "vx" }, make("div", { class: "vx-frame" }, notice, empty, body, tip, live));
  root.append(host);

  const say = (...lines) => {
    const texts = lines.filter(Boolean);
    notice.hidden = texts.length === 0;
    if (notice.textContent !== texts.join("\n")) notice.replaceChildren(...texts.map((text) => make("span", { text })));
  };
  const show = (filled) => {
    body.hidden = !filled;
    empty.hidden = filled;
    if (!filled) hideTip();
  };
  const showTip = (nodes, x, y) => {
    tip.replaceChildren(...nodes);
    tip.hidden = false;
    const box = host.firstChild.getBoundingClientRect();
    const left = x - box.left + 16 + tip.offsetWidth > box.width ? x - box.left - 16 - tip.offsetWidth : x - box.left + 16;
    const top = y - box.top + 16 + tip.offsetHeight > box.height ? y - box.top - 16 - tip.offsetHeight : y - box.top + 16;
    const right = box.width - tip.offsetWidth;
    tip.style.transform = `translate(${Math.round(Math.min(Math.max(0, left), right))}px, ${Math.round(Math.max(0, top))}px)`;
  };
  const hideTip = () => {
    tip.hidden = true;
  };
  const announce = (text) => {
    live.textContent = text;
  };
  return { host, body, say, show, showTip, hideTip, announce, destroy: () => host.remove() };
}

/** A term with a plain-language explanation that appears on hover, focus and tap. */
export function createHelp(shell, term, explanation) {
  const show = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    shell.showTip([make("div", { class: "vx-tiptext", text: explanation })], box.left - 12, box.bottom - 8);
  };
  return make("abbr", {
    class: "vx-help",
    tabindex: "0",
    text: term,
    "aria-description": explanation,
    onpointerenter: show,
    onfocus: show,
    onpointerleave: shell.hideTip,
    onblur: shell.hideTip,
  });
}

/** Buttons below a view: figure, numbers, page, link. Each action returns what it needs, null where it cannot.
 *
 * options: the view's own. `options.page` is what a page of its own is made of, see `composePage`, or `load` of it, which
 * brings that; without it, there is no such button. `options.saved` says that this is such a page, which no link leads to.
 */
export function createActions({ figure, numbers, page, link, options }) {
  const status = make("span", { class: "vx-status", role: "status" });
  const address = make("input", { class: "vx-address", readonly: true, hidden: true, "aria-label": "Link to this view" });
  const report = (text) => {
    status.textContent = text;
    address.hidden = true;
  };
  const saveFigure = async () => {
    const { name, canvas } = figure();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    if (!blob) return report("The figure could not be made.");
    downloadBlob(`${name}.png`, blob);
    report("figure saved");
  };
  const saveNumbers = () => {
    const { name, content } = numbers();
    downloadBlob(`${name}.json`, new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    report("numbers saved");
  };
  const savePage = async () => {
    report("making the page \u2026");
    const { name, ...content } = page();
    const text = options.page.again ? options.page.again() : await composePage((await options.page.load?.()) ?? options.page, content);
    const blob = new Blob([text], { type: "text/html" });
    downloadBlob(`${name}.html`, blob);
    report(`page saved (${(blob.size / 1e6).toFixed(1)} MB); it needs no network`);
  };
  const copyLink = async () => {
    const text = link();
    if (await copyText(text)) return report("link copied");
    report("copy it from here:");
    address.value = text;
    address.hidden = false;
    address.select();
  };
  const button = (text, action) => make("button", { class: "vx-button", type: "button", text, onclick: action });
  const linkButton = button("Copy link", copyLink);
  const node = make(
    "div",
    { class: "vx-actions" },
    button("Save figure (PNG)", saveFigure),
    button("Save numbers (JSON)", saveNumbers),
    ...(options.page ? [button("Save page (HTML)", savePage)] : []),
    linkButton,
    status,
    address,
  );
  const refresh = () => {
    linkButton.hidden = Boolean(options.saved) || link() === null;
    report("");
  };
  return { node, refresh };
}

/** One picture with a map over it. The map's canvas has the resolution of the grid; the browser scales it. */
export function createPane(id, { interactive = true } = {}) {
  const title = make("span", { class: "vx-title" });
  const badge = make("span", { class: "vx-badge", text: "reference", hidden: true });
  const note = make("span", { class: "vx-note" });
  const picture = make("canvas", { class: "vx-picture" });
  const heat = make("canvas", { class: "vx-heat" });
  const casing = make("svg:path", { class: "vx-casing" });
  const line = make("svg:path", { class: "vx-line" });
  const outline = make("svg:svg", { class: "vx-outline", preserveAspectRatio: "none", "aria-hidden": "true" }, casing, line);
  const marks = make("div", { class: "vx-marks", "aria-hidden": "true" });
  const box = make("div", { class: "vx-box", "data-pane": id, role: "img" }, picture, heat, outline, marks);
  if (interactive) {
    // Arrow keys must reach the pane, so that a screen reader may not keep them for itself.
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-roledescription", "picture made of patches");
  }
  const node = make("figure", { class: "vx-pane" }, make("figcaption", { class: "vx-caption" }, title, badge, note), box);
  const markers = {};
  let rows = 1;
  let cols = 1;
  let segments = [];

  /** Titles, picture (in greys where a coloured map needs to be read exactly), grid: once for each payload. */
  const dress = (text, isReference, image, data, grey = false) => {
    ({ rows, cols } = data);
    title.textContent = text;
    title.title = text;
    badge.hidden = !isReference;
    box.style.aspectRatio = `${data.width} / ${data.height}`;
    outline.setAttribute("viewBox", `0 0 ${cols} ${rows}`);
    picture.width = image ? image.naturalWidth : data.width;
    picture.height = image ? image.naturalHeight : data.height;
    if (!image) return;
    const context = picture.getContext("2d");
    context.drawImage(image, 0, 0);
    if (!grey) return;
    context.globalCompositeOperation = "saturation"; // so that all colour that is seen is the map's
    context.fillStyle = "#808080";
    context.fillRect(0, 0, picture.width, picture.height);
  };
  const mark = (kind, row, col) => {
    const marker = (markers[kind] ??= marks.appendChild(make("div", { class: `vx-mark vx-mark-${kind}` })));
    marker.hidden = row === null;
    if (row === null) return;
    marker.style.left = `${(100 * col) / cols}%`;
    marker.style.top = `${(100 * row) / rows}%`;
    marker.style.width = `${100 / cols}%`;
    marker.style.height = `${100 / rows}%`;
  };
  const unmark = (kind) => markers[kind] && mark(kind, null);
  const setOutline = (inside) => {
    segments = inside ? edgesOf(inside, rows, cols) : [];
    const path = segments.map(([x0, y0, x1, y1]) => `M${x0} ${y0}L${x1} ${y1}`).join("");
    casing.setAttribute("d", path);
    line.setAttribute("d", path);
  };
  const setLook = (opacity, smooth) => {
    heat.style.opacity = opacity;
    heat.classList.toggle("vx-crisp", !smooth);
  };
  /** The pane as it looks now, on another canvas (for figures). */
  const drawOn = (context, x, y, width, height) => {
    context.save();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#8884";
    context.fillRect(x, y, width, height);
    context.drawImage(picture, x, y, width, height);
    if (heat.width && !heat.hidden) {
      context.globalAlpha = Number(heat.style.opacity || 1);
      context.imageSmoothingEnabled = !heat.classList.contains("vx-crisp");
      context.drawImage(heat, x, y, width, height);
    }
    context.globalAlpha = 1;
    for (const [colour, thickness] of [["#000", 3], ["#fff", 1.4]]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.lineCap = "round";
      context.beginPath();
      for (const [x0, y0, x1, y1] of segments) {
        context.moveTo(x + (x0 / cols) * width, y + (y0 / rows) * height);
        context.lineTo(x + (x1 / cols) * width, y + (y1 / rows) * height);
      }
      context.stroke();
    }
    context.restore();
  };
  return { id, node, box, heat, note, badge, title, dress, mark, unmark, setOutline, setLook, drawOn };
}

function edgesOf(inside, rows, cols) {
  const at = (row, col) => row >= 0 && row < rows && col >= 0 && col < cols && inside[row * cols + col] === 1;
  const edges = [];
  for (let row = 0; row <= rows; row++) {
    for (let col = 0; col <= cols; col++) {
      if (col < cols && at(row, col) !== at(row - 1, col)) edges.push([col, row, col + 1, row]);
      if (row < rows && at(row, col) !== at(row, col - 1)) edges.push([col, row, col, row + 1]);
    }
  }
  return edges;
}

/** Pointer and keyboard over the panes of a stage, as patches.
 *
 * move(id, row, col, {x, y, key}) follows the pointer, a finger or the arrow keys; press on click, Enter and Space;
 * leave when the pointer or the focus goes; escape on Escape. `grid()` gives {rows, cols}, null while empty.
 */
export function trackPatches(stage, { grid, move, press, leave, escape }) {
  const cursor = { id: null, row: 0, col: 0 };
  const boxOf = (event) => (event.target instanceof Element ? event.target.closest(".vx-box[data-pane]") : null);
  const patchAt = (box, event) => {
    const { rows, cols } = grid();
    const area = box.getBoundingClientRect();
    const within = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value * count)));
    const row = within((event.clientY - area.top - box.clientTop) / box.clientHeight, rows);
    const col = within((event.clientX - area.left - box.clientLeft) / box.clientWidth, cols);
    return Object.assign(cursor, { id: box.dataset.pane, row, col });
  };
  const follow = (event) => {
    const box = boxOf(event);
    if (!grid()) return;
    if (!box) return leave();
    // A finger captures its pointer where it came down; let it wander into the next pane.
    if (event.type === "pointerdown" && event.target.hasPointerCapture?.(event.pointerId)) {
      event.target.releasePointerCapture(event.pointerId);
    }
    const { id, row, col } = patchAt(box, event);
    move(id, row, col, { x: event.clientX, y: event.clientY, key: false });
  };
  const centre = (box, row, col) => {
    const { rows, cols } = grid();
    const area = box.getBoundingClientRect();
    return { x: area.left + ((col + 0.5) / cols) * area.width, y: area.top + ((row + 0.5) / rows) * area.height, key: true };
  };
  const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const onKey = (event) => {
    const box = boxOf(event);
    if (!box || !grid() || event.ctrlKey || event.metaKey || event.altKey) return;
    const { rows, cols } = grid();
    cursor.id = box.dataset.pane;
    if (keys[event.key]) {
      const [down, right] = keys[event.key];
      cursor.row = Math.min(rows - 1, Math.max(0, cursor.row + down));
      cursor.col = Math.min(cols - 1, Math.max(0, cursor.col + right));
      move(cursor.id, cursor.row, cursor.col, centre(box, cursor.row, cursor.col));
    } else if ((event.key === "Enter" || event.key === " ") && press) press(cursor.id, cursor.row, cursor.col);
    else if (event.key === "Escape") escape?.();
    else return;
    event.preventDefault();
  };
  const onFocus = (event) => {
    const box = boxOf(event);
    if (!box || !grid() || !box.matches(":focus-visible")) return;
    const { rows, cols } = grid();
    cursor.row = Math.min(rows - 1, cursor.row);
    cursor.col = Math.min(cols - 1, cursor.col);
    move(box.dataset.pane, cursor.row, cursor.col, centre(box, cursor.row, cursor.col));
  };
  const onClick = (event) => {
    const box = boxOf(event);
    if (!box || !grid() || !press) return;
    const { id, row, col } = patchAt(box, event);
    press(id, row, col);
  };
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);
  // A finger that goes up leaves as well; what it pointed at stays until something else is touched.
  stage.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && leave());
  stage.addEventListener("focusin", onFocus);
  stage.addEventListener("focusout", () => leave());
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("click", onClick);
  return cursor;
}

/** Runs `work` once in the next frame, however often it is asked for. */
export function oncePerFrame(work) {
  let handle = 0;
  const run = () => {
    handle = 0;
    work();
  };
  const ask = () => {
    if (!handle) handle = requestAnimationFrame(run);
  };
  ask.cancel = () => {
    cancelAnimationFrame(handle);
    handle = 0;
  };
  return ask;
}

// ---------------------------------------------------------------- painting

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
    const context = canvas.getContext("2d");
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

/** Three significant digits with a real minus sign; `signed` adds a plus. */
export function formatValue(value, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = size < 1e-4 ? size.toExponential(1) : size >= 1 ? size.toFixed(2) : size.toPrecision(3);
  return (value < 0 ? MINUS : signed ? "+" : "") + digits;
}

export function formatFixed(value, digits) {
  if (!Number.isFinite(value)) return "\u2013";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

// ---------------------------------------------------------------- figures, files, links

const FIGURE = { cell: 260, gap: 16, margin: 28, caption: 22, bar: 54, line: 18, scale: 2 };

/** A figure on white, at twice the pixels: heading, rows of cells, colour bars, lines of text.
 *
 * cells: rows of {title, reference, draw(context, x, y, width, height)} | {table: [[text, ...], ...]} | null.
 * bars: {text, table, low, high, signed, strip, from, span}: columns that a bar covers.
 */
export function composeFigure({ font, heading, cells, aspect, bars, lines, over }) {
  const { cell, gap, margin, caption, bar, line, scale } = FIGURE;
  const columns = Math.max(...cells.map((row) => row.length));
  const height = Math.round(cell * aspect);
  const width = 2 * margin + columns * cell + (columns - 1) * gap;
  const drawn = bars.filter((each) => each.table).length ? bar : 0;
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const fontOf = (size, weight = 400) => `${weight} ${size}px ${font || "system-ui, sans-serif"}`;
  context.font = fontOf(12);
  const wrapped = lines.flatMap((text) => wrapText(context, text, width - 2 * margin));
  const total = margin + 30 + cells.length * (caption + height + gap) + drawn + wrapped.length * line + margin;
  canvas.width = width * scale;
  canvas.height = total * scale;
  context.scale(scale, scale);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, total);
  context.textBaseline = "alphabetic";

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

const LONG_TEXT = 400; // characters: longer texts are kept once, apart from where they are used

/** A view as one HTML file that needs nothing else; the same as `page` in explorer/pages.py makes.
 *
 * template, style, modules: of `page_template`, `stylesheet` and `page_modules` in explorer.web. view: its name there.
 * payload, state: what it shows, and its settings. facts: more lines for the foot of the page, [[term, text], ...].
 */
async function composePage({ template, style, modules, view }, { title, payload, state, facts = [] }) {
  const shared = new Map(); // text -> its place
  const packed = (node) => {
    if (Array.isArray(node)) return node.map(packed);
    if (typeof node === "string" && node.length > LONG_TEXT) {
      if (!shared.has(node)) shared.set(node, shared.size);
      return { $: shared.get(node) };
    }
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([name, each]) => [name, packed(each)]));
  };
  const sections = [{ view, scenes: [packed(payload)], state }];
  const texts = await Promise.all([...shared.keys()].map(compressed));
  const parts = {
    TITLE: title.replaceAll("&", "&amp;").replaceAll("<", "&lt;"),
    STYLE: style,
    DATA: JSON.stringify({ title, note: "", facts, sections, texts }).replaceAll("<", "\\u003c"),
    MODULES: modules.map((source) => `<script type="module">\n${source}</` + "script>").join("\n"),
  };
  return template.replace(/%%VX_([A-Z]+)%%/g, (_, name) => parts[name]); // in one pass: what is filled in is not read again
}

/** Arrays are compressed where that pays, and where the browser can; pictures are already. */
async function compressed(text) {
  if (!globalThis.CompressionStream || text.length % 4 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return text;
  const packed = new Response(new Blob([decodeBytes(text)]).stream().pipeThrough(new CompressionStream("gzip")));
  const bytes = new Uint8Array(await packed.arrayBuffer());
  if (bytes.length * 1.34 > text.length) return text;
  let out = "";
  for (let i = 0; i < bytes.length; i += 0x8000) out += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return { gzip: btoa(out) };
}

function downloadBlob(name, blob) {
  const url = URL.createObjectURL(blob);
  const anchor = make("a", { href: url, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 30000);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard on plain http, or not allowed: the old way, then the address on the page.
  }
  const area = make("textarea", { class: "vx-sr", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  let copied = false;
  try {
    copied = document.execCommand("copy");
  } catch {
    copied = false;
  }
  area.remove();
  return copied;
}

/** The title of a page of its own: what it shows, and of which photo under what. */
export function titleOf(what, link) {
  return [what, link?.photo, link?.distortion].filter(Boolean).join(" \u00b7 ");
}

/** This page's address with the payload's and the view's query parameters, and no others (those may be private). */
export function viewLink(link, parameters) {
  if (!link) return null;
  const url = new URL(location.href);
  url.hash = "";
  url.search = "";
  for (const [name, value] of Object.entries({ ...link, ...parameters })) {
    if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.href;
}

// ---------------------------------------------------------------- settings

/** Settings come from people, links and other programs: take what is sensible, leave the rest as it was. */
export function readNumber(value, fallback, low, high) {
  const number = typeof value === "string" && value.trim() === "" ? NaN : Number(value ?? NaN);
  return Number.isFinite(number) ? Math.min(high, Math.max(low, number)) : fallback;
}

export function readFlag(value, fallback) {
  if (value === true || value === "1" || value === 1 || value === "true") return true;
  if (value === false || value === "0" || value === 0 || value === "false") return false;
  return fallback;
}

export function readChoice(value, choices, fallback) {
  return choices.find((choice) => String(choice) === String(value)) ?? fallback;
}

/** Values of a map as rows, rounded for a file. */
export function tableOf(values, rows, cols, digits = 6) {
  const out = [];
  for (let row = 0; row < rows; row++) {
    out.push(Array.from(values.subarray(row * cols, (row + 1) * cols), (value) => Number(value.toPrecision(digits))));
  }
  return out;
}

export function listNearest(list, value) {
  return list.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best), list[list.length - 1]);
}
