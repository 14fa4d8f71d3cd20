// Pictures with maps over them, and pointer and keyboard over their patches.

/** @import { Comparison, Grid, Pictures, Spot } from "./payloads" */
import { clamp } from "./arrays.js";
import { contextOf, make } from "./elements.js";
import { decodeColormaps } from "./painting.js";

async function loadPicture(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

/** What both payloads have in common, decoded; resolves once every picture can be drawn without a flicker. @type {<P extends { id: string, who?: string, picture: string, title?: string, reference?: boolean }>(payload: Pictures<P>) => Promise<Comparison<P>>} */
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
  const networks = [...new Set(panes.map((pane) => pane.who ?? "student"))];
  const students = networks.filter((who) => who !== "teacher");
  return {
    rows,
    cols,
    height,
    width,
    panes,
    networks,
    students,
    named: students.some((who) => who !== "student"), // several students, under names of somebody's own
    byId: Object.fromEntries(panes.map((pane) => [pane.id, pane])),
    reference: panes.find((pane) => pane.reference) ?? panes[0],
    tables: decodeColormaps(payload.colormaps),
    untouched: Boolean(payload.untouched_student),
    damage: payload.damage ?? "",
    moved: payload.moved ?? "",
    message: payload.message ?? null,
    link: payload.link ?? null,
    payload,
  };
}

/** One picture with a map over it. The map's canvas has the resolution of the grid; the browser scales it. */
export function createPane(id) {
  const title = make("span", { class: "vx-title" });
  const damaged = make("span", { class: "vx-damage", hidden: true });
  const badge = make("span", { class: "vx-badge", text: "reference", hidden: true });
  const note = make("span", { class: "vx-note" });
  const picture = make("canvas", { class: "vx-picture" });
  const heat = make("canvas", { class: "vx-heat" });
  const casing = make("svg:path", { class: "vx-casing" });
  const line = make("svg:path", { class: "vx-line" });
  const paths = make("svg:g", { class: "vx-trails" });
  const outline = make("svg:svg", { class: "vx-outline", preserveAspectRatio: "none", "aria-hidden": "true" }, casing, line, paths);
  const spots = make("div", { class: "vx-spots" });
  const marks = make("div", { class: "vx-marks", "aria-hidden": "true" }, spots);
  // Arrow keys must reach the pane, so that a screen reader may not keep them for itself.
  const keys = { tabindex: 0, role: "application", "aria-roledescription": "picture made of patches" };
  const box = make("div", { class: "vx-box", "data-pane": id, ...keys }, picture, heat, outline, marks);
  const node = make("figure", { class: "vx-pane" }, make("figcaption", { class: "vx-caption" }, title, badge, damaged, note), box);
  const markers = {};
  let rows = 1;
  let cols = 1;
  let segments = [];
  let strokes = [];

  /** Titles, picture (in greys where a coloured map needs to be read exactly), what damaged it, grid: once for each payload. */
  const dress = (text, isReference, image, data, { grey = false, damage = "" } = {}) => {
    ({ rows, cols } = data);
    title.textContent = text;
    title.title = text;
    damaged.textContent = damage;
    damaged.title = damage;
    damaged.hidden = !damage;
    badge.hidden = !isReference;
    box.style.aspectRatio = `${data.width} / ${data.height}`;
    outline.setAttribute("viewBox", `0 0 ${cols} ${rows}`);
    picture.width = image ? image.naturalWidth : data.width;
    picture.height = image ? image.naturalHeight : data.height;
    if (!image) return;
    const context = contextOf(picture);
    context.drawImage(image, 0, 0);
    if (!grey) return;
    context.globalCompositeOperation = "saturation"; // so that all colour that is seen is the map's
    context.fillStyle = "#808080";
    context.fillRect(0, 0, picture.width, picture.height);
  };
  const put = (marker, row, col) => {
    marker.style.left = `${(100 * col) / cols}%`;
    marker.style.top = `${(100 * row) / rows}%`;
    marker.style.width = `${100 / cols}%`;
    marker.style.height = `${100 / rows}%`;
    return marker;
  };
  const mark = (kind, row, col) => {
    const marker = (markers[kind] ??= marks.appendChild(make("div", { class: `vx-mark vx-mark-${kind}` })));
    marker.hidden = row === null;
    if (row !== null) put(marker, row, col);
  };
  const unmark = (kind) => markers[kind] && mark(kind, null);
  const setOutline = (inside) => {
    segments = inside ? edgesOf(inside, rows, cols) : [];
    const path = segments.map(([x0, y0, x1, y1]) => `M${x0} ${y0}L${x1} ${y1}`).join("");
    casing.setAttribute("d", path);
    line.setAttribute("d", path);
  };
  /** Lines from the middle of one patch to that of another, where a dot is: [{colour, trails: [[spot, spot], ...]}, ...]. */
  const setTrails = (kinds) => {
    strokes = strokesOf(kinds);
    paths.replaceChildren(...strokes.map(({ d, colour, thickness }) => make("svg:path", { d, stroke: colour, "stroke-width": thickness })));
  };
  /** Patches in a colour of their own with a text: [{row, col, text, colour}, ...]. */
  const setSpots = (list) => {
    spots.replaceChildren(...list.map(({ row, col, text, colour }) => {
      const spot = put(make("div", { class: "vx-spot", text }), row, col);
      spot.style.setProperty("--vx-spot", colour);
      return spot;
    }));
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
    context.translate(x, y);
    for (const { d, colour, thickness } of strokes) {
      const path = new Path2D();
      path.addPath(new Path2D(d), new DOMMatrix().scale(width / cols, height / rows));
      Object.assign(context, { strokeStyle: colour, lineWidth: thickness });
      context.stroke(path);
    }
    context.restore();
  };
  return { id, node, box, heat, note, badge, title, dress, mark, unmark, setOutline, setTrails, setSpots, setLook, drawOn };
}

/** Black below, the colour above; lines first, then the dots at their ends. */
function strokesOf(kinds) {
  const middle = ({ row, col }) => `${col + 0.5} ${row + 0.5}`;
  return kinds.filter(({ trails }) => trails.length).flatMap(({ colour, trails }) => {
    const lines = trails.map(([from, to]) => `M${middle(from)}L${middle(to)}`).join("");
    const dots = trails.map(([, to]) => `M${middle(to)}h0.001`).join("");
    return [[lines, "#000", 2.6], [dots, "#000", 6.5], [lines, colour, 1.3], [dots, colour, 4.5]].map(([d, stroke, thickness]) => ({ d, colour: stroke, thickness }));
  });
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

/** What a pane of a view says of its damage; nothing where the payload does not say it. @type {(data: { damage: string }, view: string) => string} */
export const damageOf = ({ damage }, view) => (damage && view === "clean" ? "undamaged" : damage);

/** Pointer and keyboard over the panes of a stage, as patches.
 *
 * What it gives has as `here` the patch under the pointer, a finger or the arrow keys, {pane, row, col, x, y, key}, and null
 * when pointer or focus have gone; moved() follows. press(pane, row, col) on click, Enter and Space; escape on Escape, which
 * goes away otherwise. `grid()` gives {rows, cols}, null while empty. @param {HTMLElement} stage @param {{ grid: Function, moved: Function, press?: Function, escape?: Function }} heard @returns {{ here: any }} */
export function trackPatches(stage, { grid, moved, press, escape }) {
  const cursor = { pane: "", row: 0, col: 0 };
  /** @type {{ here: any }} */
  const pointing = { here: null };
  const move = (where) => {
    pointing.here = where;
    moved();
  };
  const leave = () => pointing.here && move(null);
  const boxOf = (event) => (event.target instanceof Element ? event.target.closest(".vx-box[data-pane]") : null);
  const patchAt = (box, event) => {
    const { rows, cols } = grid();
    const area = box.getBoundingClientRect();
    const within = (value, count) => clamp(Math.floor(value * count), 0, count - 1);
    const row = within((event.clientY - area.top - box.clientTop) / box.clientHeight, rows);
    const col = within((event.clientX - area.left - box.clientLeft) / box.clientWidth, cols);
    return Object.assign(cursor, { pane: box.dataset.pane, row, col });
  };
  const follow = (event) => {
    const box = boxOf(event);
    if (!grid()) return;
    if (!box) return leave();
    // A finger captures its pointer where it came down; let it wander into the next pane.
    if (event.type === "pointerdown" && event.target.hasPointerCapture?.(event.pointerId)) {
      event.target.releasePointerCapture(event.pointerId);
    }
    move({ ...patchAt(box, event), x: event.clientX, y: event.clientY, key: false });
  };
  const moveBy = (box, down, right) => {
    const { rows, cols } = grid();
    const area = box.getBoundingClientRect();
    const row = clamp(cursor.row + down, 0, rows - 1);
    const col = clamp(cursor.col + right, 0, cols - 1);
    Object.assign(cursor, { pane: box.dataset.pane, row, col });
    move({ ...cursor, x: area.left + ((col + 0.5) / cols) * area.width, y: area.top + ((row + 0.5) / rows) * area.height, key: true });
  };
  /** Where the cursor is, on a grid that may be smaller than when it came there. */
  const pressHere = (pane) => {
    const { rows, cols } = grid();
    press?.(pane, clamp(cursor.row, 0, rows - 1), clamp(cursor.col, 0, cols - 1));
  };
  const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const onKey = (event) => {
    const box = boxOf(event);
    if (!box || !grid() || event.ctrlKey || event.metaKey || event.altKey) return;
    const [down, right] = keys[event.key] ?? [];
    if (pointing.here) pointing.here.key = false; // what this key does is told, not where the last one led
    if (keys[event.key]) moveBy(box, down, right);
    else if ((event.key === "Enter" || event.key === " ") && press) pressHere(box.dataset.pane);
    else if (event.key === "Escape") (escape ?? leave)();
    else return;
    event.preventDefault();
  };
  const onFocus = (event) => {
    const box = boxOf(event);
    if (box && grid() && box.matches(":focus-visible")) moveBy(box, 0, 0);
  };
  const onClick = (event) => {
    const box = boxOf(event);
    if (!box || !grid() || !press) return;
    const { pane, row, col } = patchAt(box, event);
    press(pane, row, col);
  };
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);
  // A finger that goes up leaves as well; what it pointed at stays until something else is touched.
  stage.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && leave());
  stage.addEventListener("focusin", onFocus);
  stage.addEventListener("focusout", leave);
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("click", onClick);
  return pointing;
}

/** {row, col} of the patch at a place in a list of them. @type {(index: number, cols: number) => Spot} */
export const spotAt = (index, cols) => ({ row: Math.floor(index / cols), col: index % cols });

/** A patch of one grid, if there was one, at its place on another; null where that does not reach so far. @type {<S extends Spot>(spot: S, from: Grid | null | undefined, to: Grid) => S | null} */
export function spotOn(spot, from, to) {
  const along = (place, before, after) => (from ? Math.floor(((place + 0.5) / before) * after) : place);
  const moved = { ...spot, row: along(spot.row, from?.rows, to.rows), col: along(spot.col, from?.cols, to.cols) };
  return moved.row < to.rows && moved.col < to.cols ? moved : null;
}

/** {row, col} from what people, links and programs write; null where it makes no sense. @type {(row: unknown, col: unknown) => Spot | null} */
export function readSpot(row, col) {
  const spot = { row: Number(row), col: Number(col) };
  return Object.values(spot).every((each) => Number.isInteger(each) && each >= 0) ? spot : null;
}

/** Frames a patch of a figure, in the pane whose place is given, and strokes `more` in the same two colours. */
export function framePatch(context, { x, y, width, height }, { row, col }, { rows, cols }, more) {
  const [w, h] = [width / cols, height / rows];
  for (const [colour, thickness] of [["#000", 4], ["#fff", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: thickness });
    context.strokeRect(x + col * w, y + row * h, w, h);
    more?.();
  }
}
