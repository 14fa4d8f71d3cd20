// One patch, four panes: where do teacher and student find it again, in the clean and in the distorted picture? Or all
// patches at once: what `densemodes.js` paints.
//
// Enters: the patch payload (pictures, patch features of one layer, what each patch attends to, joint PCA colours).
// Leaves: settings through onState; "layer", "pin" and "unpin" through onEvent. Only another layer needs a server.

/** @import { PatchPayload } from "./payloads" */
import { decodeArray, extentOf, largestAt, listNearest, scaledSlice, tableOf } from "./arrays.js";
import { createDense, DENSE, DENSE_DEFAULTS, denseChoices } from "./densemodes.js";
import { columnName, createRow, createSelect, createTable, make } from "./elements.js";
import { cosinesTo, featuresOf, rankOf } from "./features.js";
import { formatFixed, formatValue } from "./format.js";
import { createLife } from "./life.js";
import { createLook, LOOK_DEFAULTS } from "./look.js";
import { changedSettings, createActions, factsOf, titleOf } from "./page.js";
import { createColourBar, paintColours, paintMap } from "./painting.js";
import { createPane, damageOf, framePatch, readPayload, readSpot, spotAt, spotOn, trackPatches } from "./panes.js";
import { tellFound } from "./sayings.js";
import { readChoice, readNumber } from "./settings.js";

const MODES = ["similarity", "attention", "pca", ...DENSE];
const RANGES = { auto: "auto", "0..1": "0 .. 1", "-1..1": "\u22121 .. 1" };
/** @type {Record<string, any>} */
const PATCH_DEFAULTS = {
  layer: null,
  mode: "similarity",
  range: "auto",
  ...LOOK_DEFAULTS,
  ...DENSE_DEFAULTS,
  pin: null,
};
const LAYER_PATIENCE_MS = 60000;

/** Builds the view inside `root`; see the methods at the end. */
export function createPatchView(root, options = {}) {
  const state = { ...PATCH_DEFAULTS };
  let data = null;
  let query = null; // {pane, row, col}: the patch whose feature is compared
  let opening = true; // nobody has pinned or let go anything yet: the pin is on the picture's subject
  let shown = {}; // one Float32Array for each pane
  let patience = 0;

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "patches", empty: "Nothing to show yet. Choose a picture, and its patches appear here.", what: "result",
    isEmpty: (payload) => !payload?.panes?.length, prepare: readPayload, read: readPatches, adopt, forget, state, refresh, snapshot,
  });
  const { shell, change } = life;
  const panes = new Map();
  const casing = make("svg:g", { class: "vx-casing" });
  const lines = make("svg:g", { class: "vx-line" });
  const threads = make("svg:svg", { class: "vx-threads", "aria-hidden": "true" }, casing, lines);
  const row = make("div", { class: "vx-panes" });
  const loading = make("p", { class: "vx-loading", role: "status", hidden: true });
  const stage = make("div", { class: "vx-patchstage" }, row, threads, loading);
  const bar = createColourBar();
  const result = make("div", { class: "vx-result" });

  const mode = createSelect({ name: "mode", label: "Show", change: (value) => change({ mode: value }) });
  const layer = createSelect({ name: "layer", label: "Layer", change: (value) => askLayer(Number(value), true) });
  const range = createSelect({ name: "range", label: "Scale of cosines", change: (value) => change({ range: value }) });
  const look = createLook(state, change);
  const dense = createDense({ state, change, shell, bar, panes, data: () => data });
  const controls = look.controls([mode, layer, range, ...dense.controls]);
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(controls, stage, bar.node, result, actions.node);

  // ------------------------------------------------------------ reading the payload
  function forget() {
    data = null;
    endLoading();
  }

  function adopt(next) {
    const before = data;
    const wish = before ? null : state.layer; // from a link or an earlier picture; asked for once, never in a circle
    data = next;
    endLoading();
    state.layer = data.layer;
    settle(before);
    dress();
    refresh();
    if (wish !== null && wish !== data.layer && data.layers.includes(wish)) askLayer(wish, false);
  }

  /** @param {PatchPayload} payload @param {any} next */
  function readPatches(payload, next) {
    next.layer = payload.layer;
    next.layers = payload.layers ?? [payload.layer];
    next.subject = payload.subject ? { row: payload.subject[0], col: payload.subject[1] } : null;
    const patches = next.rows * next.cols;
    for (const pane of next.panes) {
      const features = decodeArray(pane.patches);
      if (features.shape[0] !== patches) {
        throw new Error(`features of "${pane.id}" have the shape [${features.shape}], which does not fit the grid`);
      }
      pane.features = featuresOf(features);
      pane.rows = pane.rows ? decodeArray(pane.rows) : null;
      pane.pca = pane.pca ? decodeArray(pane.pca) : null;
      pane.classes = pane.classes ? decodeArray(pane.classes).values : null;
      pane.chances = pane.chances ? scaledSlice(decodeArray(pane.chances), 0, patches) : null;
    }
    next.classes = payload.classes ?? null;
    next.has = {
      similarity: true,
      attention: next.panes.every((pane) => pane.rows),
      pca: next.panes.every((pane) => pane.pca),
      ...Object.fromEntries(DENSE.map((each) => [each, each !== "classes" || Boolean(next.classes)])),
    };
    return next;
  }

  /** Settings that the new payload cannot honour move to the nearest that it can; a pin stays at its place. */
  function settle(before) {
    if (!data.has[state.mode]) state.mode = "similarity";
    state.pin = opening && data.subject ? { pane: data.reference.id, ...data.subject } : fit(state.pin, before);
    query = state.pin ?? fit(query, before) ?? {
      pane: data.reference.id,
      row: Math.floor(data.rows / 2),
      col: Math.floor(data.cols / 2),
    };
    dense.settle(before);
    pointing.here = null;
  }

  const fit = (place, before) => (place && data.byId[place.pane] ? spotOn(place, before, data) : null);

  function dress() {
    const wanted = data.panes.map((pane) => pane.id);
    if (String([...panes.keys()]) !== String(wanted)) {
      for (const id of wanted) if (!panes.has(id)) panes.set(id, createPane(id));
      for (const id of [...panes.keys()]) if (!wanted.includes(id)) panes.delete(id);
      row.replaceChildren(...wanted.map((id) => panes.get(id).node));
    }
    row.classList.toggle("vx-several", data.named);
    row.style.setProperty("--vx-networks", data.networks.length);
    row.style.setProperty("--vx-views", new Set(data.panes.map((pane) => pane.view)).size);
    for (const pane of data.panes) panes.get(pane.id).dress(pane.title, pane.reference, pane.image, data, { damage: damageOf(data, pane.view) });
    mode.fill([
      ["similarity", "similarity to this patch"],
      ["attention", data.has.attention ? "attention of this patch" : "attention (not computed)", !data.has.attention],
      ["pca", data.has.pca ? "PCA colours" : "PCA colours (not computed)", !data.has.pca],
      ...denseChoices(data.has),
    ]);
    layer.fill(data.layers.map((block) => [block, `block ${block}`]));
    layer.input.disabled = data.layers.length < 2;
    range.fill(Object.entries(RANGES));
    look.dress(data.tables);
  }

  // ------------------------------------------------------------ values
  /** Cosine of every patch of every pane with one patch of one pane. */
  function similarity(paneId, atRow, atCol) {
    const from = data.byId[paneId].features;
    return Object.fromEntries(data.panes.map((pane) => [pane.id, cosinesTo(pane.features, from, atRow * data.cols + atCol)]));
  }

  function attentionAt(atRow, atCol) {
    const patches = data.rows * data.cols;
    const start = (atRow * data.cols + atCol) * patches;
    return Object.fromEntries(data.panes.map((pane) => [pane.id, scaledSlice(pane.rows, start, patches)]));
  }

  function limits() {
    if (state.mode === "similarity" && state.range === "0..1") return [0, 1];
    if (state.mode === "similarity" && state.range === "-1..1") return [-1, 1];
    return state.mode === "attention" ? extentOf(Object.values(shown), 0, 0) : extentOf(Object.values(shown));
  }

  // ------------------------------------------------------------ painting
  /** All that follows the pointer, and nothing else: called once a frame at most. */
  const repaintSoon = life.perFrame(() => data && life.timed(() => paintMaps(false)));

  /** fresh: more has changed than where the pointer is. */
  function paintMaps(fresh) {
    const { rows, cols } = data;
    if (dense.active()) {
      dense.paint(pointing.here, fresh);
      if (!fresh && state.mode === "matches") joinMatches();
    } else if (state.mode === "pca") {
      shown = {};
      for (const pane of data.panes) paintColours(panes.get(pane.id).heat, pane.pca.values, rows, cols);
      bar.set("PCA colours: the first three principal components of all panes together; like colours, like features", null);
    } else {
      shown = state.mode === "attention" ? attentionAt(query.row, query.col) : similarity(query.pane, query.row, query.col);
      const [low, high] = limits();
      const table = data.tables[state.colours];
      for (const [id, values] of Object.entries(shown)) {
        paintMap(panes.get(id).heat, values, rows, cols, low, high, table, state.smooth);
      }
      bar.set(barText(), table, low, high);
    }
    paintMarks();
  }

  function barText() {
    const place = `row ${query.row}, col ${query.col}`;
    if (state.mode === "attention") return `one scale for all panes: what the patch at ${place} attends to (mean of heads)`;
    return `one scale for all panes: cosine similarity to ${place} of ${data.byId[query.pane].title}`;
  }

  /** The value of a patch of a pane, in words; "" where there is none. */
  function valueOf(id, at) {
    if (dense.active()) return dense.value(id, at);
    if (!shown[id]) return "";
    return state.mode === "attention" ? formatValue(shown[id][at]) : formatFixed(shown[id][at], 3);
  }

  function paintMarks() {
    const { here: hovered } = pointing;
    const here = hovered ?? query;
    const at = here.row * data.cols + here.col;
    for (const [id, pane] of panes) {
      if (!dense.active()) markQuery(id, pane, hovered);
      else {
        for (const kind of ["pin", "same", "cursor"]) pane.unmark(kind);
        if (hovered) pane.mark("cursor", hovered.row, hovered.col);
      }
      const value = valueOf(id, at);
      pane.box.setAttribute("aria-label", `${data.byId[id].title}: row ${here.row}, column ${here.col}${value && `, value ${value}`}`);
      if (!dense.active()) pane.note.textContent = value;
    }
    if (hovered) showValues(hovered, at);
    else shell.hideTip();
  }

  /** The pin or, without one, the patch that is compared; and the one that is pointed at. */
  function markQuery(id, pane, hovered) {
    const pinned = state.pin?.pane === id;
    if (state.pin) pane.mark(pinned ? "pin" : "same", state.pin.row, state.pin.col);
    pane.unmark(state.pin ? (pinned ? "same" : "pin") : "pin");
    if (!state.pin) pane.mark("same", query.row, query.col);
    if (!state.pin && id === query.pane) pane.unmark("same");
    if (!state.pin && id === query.pane) pane.mark("cursor", query.row, query.col);
    else if (state.pin && hovered) pane.mark("cursor", hovered.row, hovered.col);
    else pane.unmark("cursor");
  }

  function showValues({ pane: over, row: atRow, col: atCol, x, y, key }, at) {
    const value = valueOf(over, at); // the captions have the other panes'
    shell.showTip([make("div", { text: `row ${atRow}, col ${atCol}${value && `: ${value}`}` })], x, y);
    if (!key) return;
    const spoken = data.panes.filter((pane) => valueOf(pane.id, at)).map((pane) => `${pane.title} ${valueOf(pane.id, at)}`);
    shell.announce(`row ${atRow}, column ${atCol}. ${spoken.join(", ")}`);
  }

  /** What changes with settings, payload or pin, but not with the pointer. */
  function refresh() {
    if (!data) return;
    mode.set(state.mode);
    layer.set(state.layer);
    range.set(state.range);
    range.input.disabled = state.mode !== "similarity";
    range.node.hidden = dense.active();
    look.refresh();
    look.colours.input.disabled = !["similarity", "attention", "foreground"].includes(state.mode);
    for (const pane of panes.values()) pane.setLook(state.opacity, state.smooth);
    dense.refresh();
    life.timed(() => paintMaps(true));
    refreshResult();
    joinMatches();
    actions.refresh();
  }

  // ------------------------------------------------------------ the pin
  function matchesOf({ pane: pinned, row: pinRow, col: pinCol }) {
    const same = pinRow * data.cols + pinCol;
    return Object.entries(similarity(pinned, pinRow, pinCol)).map(([id, values]) => {
      const at = id === pinned ? same : largestAt(values);
      const found = spotAt(at, data.cols);
      const distance = Math.hypot(found.row - pinRow, found.col - pinCol);
      return { pane: id, ...found, cosine: values[at], distance, rank: rankOf(values, same), same_place: values[same] };
    });
  }

  function refreshResult() {
    if (dense.active()) return result.replaceChildren(...dense.result());
    if (!state.pin) {
      return result.replaceChildren(
        make("p", { class: "vx-hint", text: "Point at a patch, or focus a pane and use the arrow keys. Click, Enter or Space pins the patch and finds its best match in the other panes." }),
      );
    }
    const matches = matchesOf(state.pin);
    const far = Object.fromEntries(matches.map(({ pane, distance }) => [pane, distance]));
    const students = data.named ? data.students.map((who) => [who, far[`${who}_distorted`]]) : far.student_distorted;
    const told = data.byId[state.pin.pane].view === "clean" ? tellFound(far.teacher_distorted, students, data.untouched) : "";
    result.replaceChildren(make("p", { class: "vx-saying", text: told }), tableOfMatches(matches));
  }

  function tableOfMatches(matches) {
    const total = data.rows * data.cols;
    const rowOf = (match) => {
      const pinned = match.pane === state.pin.pane;
      const texts = pinned
        ? ["pinned here", "", "", ""]
        : [`row ${match.row}, col ${match.col}`, formatFixed(match.cosine, 3), match.distance.toFixed(1), `${match.rank} of ${total}`];
      return createRow([data.byId[match.pane].title], texts);
    };
    const caption = [
      make("span", { text: `Pinned: row ${state.pin.row}, col ${state.pin.col} of ${data.byId[state.pin.pane].title}` }),
      make("button", { class: "vx-button vx-unpin", type: "button", text: "Unpin", onclick: unpinByButton }),
    ];
    const heads = ["best match", "cosine", "distance (patches)", "rank of the same place"].map((name) => columnName(name));
    return createTable("vx-matches", caption, heads, matches.map(rowOf));
  }

  /** Rings and threads from the pin to its matches; where matches of all patches are shown, from the one of the reference
   * that is pointed at. */
  function joinMatches() {
    const { here } = pointing;
    const pointed = state.mode === "matches" && here ? { ...patchOf(here), pane: data.reference.id } : null;
    const start = dense.active() ? pointed : state.pin;
    const matches = start ? matchesOf(start).filter((match) => match.pane !== start.pane) : [];
    for (const pane of panes.values()) pane.unmark("match");
    for (const match of matches) panes.get(match.pane).mark("match", match.row, match.col);
    drawThreads(start, matches);
  }

  function drawThreads(from, matches) {
    casing.replaceChildren();
    lines.replaceChildren();
    if (!matches.length || !stage.clientWidth) return;
    threads.setAttribute("viewBox", `0 0 ${stage.clientWidth} ${stage.clientHeight}`);
    const area = stage.getBoundingClientRect();
    const middle = ({ pane, row: atRow, col: atCol }) => {
      const box = panes.get(pane).box.getBoundingClientRect();
      return [
        box.left - area.left + ((atCol + 0.5) / data.cols) * box.width,
        box.top - area.top + ((atRow + 0.5) / data.rows) * box.height,
      ];
    };
    const start = middle(from);
    const edge = panes.get(from.pane).box.clientWidth / data.cols;
    matches.forEach((match, i) => {
      const [x1, y1, bendX, bendY, x2, y2] = thread(start, middle(match), i, edge);
      const d = `M${x1} ${y1}Q${bendX} ${bendY} ${x2} ${y2}`;
      for (const group of [casing, lines]) group.append(make("svg:path", { d }));
    });
  }
  const redraw = life.perFrame(() => data && joinMatches());
  life.observe(new ResizeObserver(redraw)).observe(stage);

  function press(paneId, atRow, atCol) {
    if (dense.active()) dense.press({ row: atRow, col: atCol });
    else pin(paneId, atRow, atCol);
  }

  function pin(paneId, atRow, atCol) {
    const { pin: old } = state;
    opening = false;
    if (old && old.pane === paneId && old.row === atRow && old.col === atCol) return unpin();
    query = { pane: paneId, row: atRow, col: atCol };
    change({ pin: { ...query } });
    const matches = matchesOf(state.pin);
    const found = matches.filter((match) => match.pane !== paneId);
    const spoken = found.map((match) => `${data.byId[match.pane].title}: row ${match.row}, column ${match.col}, cosine ${formatFixed(match.cosine, 2)}, same place ranks ${match.rank}`);
    shell.announce(`Pinned row ${atRow}, column ${atCol} of ${data.byId[paneId].title}. Best matches. ${spoken.join(". ")}`);
    options.onEvent?.("pin", { ...state.pin, matches });
  }

  function unpin() {
    if (!state.pin) return;
    opening = false;
    if (pointing.here) query = patchOf(pointing.here);
    change({ pin: null });
    shell.announce("Unpinned");
    options.onEvent?.("unpin", {});
  }

  function unpinByButton() {
    const { box } = panes.get(state.pin.pane);
    unpin();
    box.focus({ preventScroll: true }); // the button is gone
  }

  const pointing = trackPatches(stage, {
    grid: () => data,
    moved: () => {
      if (pointing.here && (opening || !state.pin)) query = patchOf(pointing.here);
      else if (state.pin) query = { ...state.pin };
      repaintSoon();
    },
    press,
    escape: () => !dense.active() && unpin(),
  });
  life.listen(stage, ["keydown"], dense.key);
  const patchOf = ({ pane, row: atRow, col: atCol }) => ({ pane, row: atRow, col: atCol });

  // ------------------------------------------------------------ another layer
  function askLayer(block, byHand) {
    state.layer = block;
    layer.set(block);
    if (byHand) life.tell();
    if (!data || block === data.layer) return endLoading();
    loading.textContent = `Loading block ${block} \u2026`;
    loading.hidden = false;
    stage.setAttribute("aria-busy", "true");
    clearTimeout(patience);
    patience = setTimeout(() => {
      endLoading();
      state.layer = data.layer;
      layer.set(data.layer);
      shell.say(`Block ${block} has not arrived. Choose it again to ask once more.`);
    }, LAYER_PATIENCE_MS);
    options.onEvent?.("layer", { layer: block });
  }

  function endLoading() {
    clearTimeout(patience);
    loading.hidden = true;
    stage.removeAttribute("aria-busy");
  }
  life.atEnd(() => clearTimeout(patience));

  // ------------------------------------------------------------ files and links
  function snapshot() {
    return { ...state, pin: state.pin ? { ...state.pin } : null, labels: state.labels.map((each) => ({ ...each })) };
  }

  function fileName() {
    if (dense.active()) return `vit-explorer-patches-layer${data.layer}-${state.mode}`;
    return `vit-explorer-patches-layer${data.layer}-${state.mode}-row${query.row}-col${query.col}`;
  }

  /** The parts of a figure that are the same for all modes. */
  const figureOf = ({ heading, lines: told, over }) => ({
    heading,
    cells: rowsOfFigure().map((each) => each.map((pane) => ({ title: pane.title, reference: pane.reference, draw: panes.get(pane.id).drawOn }))),
    aspect: data.height / data.width,
    bars: [{ ...bar.shown(), from: 0, span: rowsOfFigure()[0].length }],
    lines: told,
    over,
  });

  function makeDenseFigure() {
    const { heading, lines: told } = dense.figure();
    const settings = [`block ${data.layer}`, ...factsOf(data.link)];
    const spots = state.mode === "labels" ? state.labels : [];
    const over = (context, places) => spots.forEach((spot) => framePatch(context, places[rowsOfFigure().flat().indexOf(data.reference)], spot, data));
    return figureOf({ heading, lines: [...told, settings.join(" \u00b7 ")], over });
  }

  function makeFigure() {
    if (dense.active()) return makeDenseFigure();
    const matches = state.pin ? matchesOf(state.pin) : [];
    const table = matches.filter((match) => match.pane !== state.pin.pane).map((match) => {
      const where = `best match row ${match.row}, col ${match.col}`;
      return `${data.byId[match.pane].title}: ${where}, cosine ${formatFixed(match.cosine, 3)}, ${match.distance.toFixed(1)} patches away; the same place ranks ${match.rank} of ${data.rows * data.cols}`;
    });
    const settings = [`block ${data.layer}`, `patch row ${query.row}, col ${query.col} of ${data.byId[query.pane].title}`, ...factsOf(data.link)];
    const headings = { similarity: "Cosine similarity to one patch", attention: "What one patch attends to", pca: "PCA colours of the patches" };
    return figureOf({
      heading: headings[state.mode],
      lines: [...table, settings.join(" · ")],
      over: (context, places) => markFigure(context, places, matches),
    });
  }

  /** All panes beside each other; of several students a row for each picture. */
  function rowsOfFigure() {
    if (!data.named) return [data.panes];
    return [...new Set(data.panes.map((pane) => pane.view))].map((view) => data.panes.filter((pane) => pane.view === view));
  }

  function markFigure(context, places, matches) {
    const drawn = rowsOfFigure().flat();
    const placeOf = (id) => places[drawn.findIndex((pane) => pane.id === id)];
    const middle = ({ pane, row: atRow, col: atCol }) => {
      const { x, y, width, height } = placeOf(pane);
      return [x + ((atCol + 0.5) / data.cols) * width, y + ((atRow + 0.5) / data.rows) * height];
    };
    const [x1, y1] = middle(query);
    const w = placeOf(query.pane).width / data.cols;
    framePatch(context, placeOf(query.pane), query, data, () => {
      matches.filter((each) => each.pane !== query.pane).forEach((match, i) => {
        const [x2, y2] = middle(match);
        const [fromX, fromY, bendX, bendY, toX, toY] = thread([x1, y1], [x2, y2], i, w);
        context.beginPath();
        context.moveTo(fromX, fromY);
        context.quadraticCurveTo(bendX, bendY, toX, toY);
        context.moveTo(x2 + 0.8 * w, y2);
        context.arc(x2, y2, 0.8 * w, 0, 2 * Math.PI);
        context.stroke();
      });
    });
  }

  function makeNumbers() {
    const common = { layer: data.layer, grid: [data.rows, data.cols], reference: data.reference.reference ? data.reference.id : null };
    if (dense.active()) return { ...common, ...dense.numbers() };
    const values = Object.entries(shown).map(([id, map]) => [id, tableOf(map, data.rows, data.cols)]);
    return {
      ...common,
      query: { ...query },
      matches: state.pin ? matchesOf(state.pin) : [],
      values: Object.fromEntries(values),
    };
  }

  /** Only the layer that is here can be shown where there is no server. */
  function makePage() {
    return { title: titleOf(`Patches, block ${data.layer}`, data.link), payload: { ...data.payload, layers: [data.layer] } };
  }

  function makeLink() {
    const { layer: block, mode: what, pin: place, label, labels, ...rest } = state; // which label comes next is nobody else's
    const pinned = place ? `${place.pane},${place.row},${place.col}` : "";
    const set = labels.length ? { labels: dense.link() } : {};
    return { layer: block, mode: what, pin: pinned, ...set, ...changedSettings(rest, PATCH_DEFAULTS) };
  }

  function readPin(value) {
    if (value === null || value === "") return null;
    const [pane, atRow, atCol] = typeof value === "string" ? partsOf(value) : [value.pane, value.row, value.col];
    const spot = readSpot(atRow, atCol);
    const place = spot && { pane: String(pane), ...spot };
    return (data ? fit(place, null) : place) ?? state.pin;
  }

  /** "pane,row,col"; names of students may have commas, too. */
  function partsOf(text) {
    const parts = text.split(",");
    return [parts.slice(0, -2).join(","), ...parts.slice(-2)];
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: makeLink,
    /** Changes some settings; text from a query string is fine, nonsense is ignored. Another layer asks for it. */
    set(partial = {}) {
      state.mode = readChoice(partial.mode, MODES.filter((each) => !data || data.has[each]), state.mode);
      state.range = readChoice(partial.range, Object.keys(RANGES), state.range);
      look.read(partial, data?.tables);
      dense.read(partial);
      if ("pin" in partial) {
        opening = false;
        state.pin = readPin(partial.pin);
        if (state.pin) query = { ...state.pin };
      }
      const block = readNumber(partial.layer, null, 0, 1e6);
      if (block !== null && block !== state.layer) {
        if (!data) state.layer = block;
        else askLayer(listNearest(data.layers, block), false);
      }
      refresh();
    },
    /** Cosine with the patch at (row, col) of a pane: {pane id: Float32Array}, row by row. */
    similarity,
  };
}

/** A curve from the edge of the pinned patch to the ring around a match; each bends a little more than the last,
 * so that threads to matches in one line stay apart. Start, bend and end as six numbers. @type {(from: number[], to: number[], i: number, edge: number) => number[]} */
function thread([x1, y1], [x2, y2], i, edge) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const lift = (0.1 + 0.03 * i) * length;
  const bend = [(x1 + x2) / 2 + (lift * (y2 - y1)) / length, (y1 + y2) / 2 - (lift * (x2 - x1)) / length];
  const toward = (x, y, distance) => {
    const far = Math.hypot(bend[0] - x, bend[1] - y) || 1;
    return [x + ((bend[0] - x) / far) * distance, y + ((bend[1] - y) / far) * distance];
  };
  return [...toward(x1, y1, 0.7 * edge), ...bend, ...toward(x2, y2, Math.max(0.8 * edge, 9))];
}
