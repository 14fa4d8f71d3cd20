// What the class token looks at: clean and distorted, teacher and student, under one colour scale.
//
// Enters: the attention payload (pictures, attention of every layer and head, numbers). Leaves: settings through
// onState, "pick" through onEvent. Everything is computed here; no server is asked.

/** @import { AttentionPayload, Measure } from "./payloads" */
import { decodeArray, largest, listNearest, scaleEnd, scaledSlice, tableOf } from "./arrays.js";
import { columnName, createArrow, createCheckbox, createHelp, createRow, createSelect, createSlider, createTable, make, setText } from "./elements.js";
import { formatFixed, formatValue, MINUS, percent } from "./format.js";
import { createLife } from "./life.js";
import { createLook, headChoices, LOOK_DEFAULTS, nameOfHead, readHead } from "./look.js";
import { jensenShannon, judged, mapOfHeads, topMass, topsOf } from "./maps.js";
import { createNormCharts, outliersOf } from "./normscharts.js";
import { changedSettings, createActions, factsOf, titleOf } from "./page.js";
import { createColourBar, paintMap } from "./painting.js";
import { createPane, damageOf, readPayload, trackPatches } from "./panes.js";
import { tellKept } from "./sayings.js";
import { readChoice, readFlag, readNumber } from "./settings.js";

const KINDS = ["clean", "distorted"];
const WAYS = ["mean", "max"]; // to join heads
const OUTLINED_MASS = 0.6;
/** @type {Record<string, any>} */
const ATTENTION_DEFAULTS = {
  layer: null,
  head: "mean",
  map: "attention",
  ...LOOK_DEFAULTS,
  outline: false,
  overview: "student_distorted",
};
const WITH_REFERENCE = "Agreement with the reference under the damage";
const SIGNS = { "": "", same: "=", closer: "\u2713", farther: "\u2717" };
/** @type {Measure} */
const SHOWN_JS = { id: "shown_js", title: "JS, map shown", better: -1, help: "Jensen-Shannon divergence, in nats, between the distorted map that you see now and the reference map (both made to sum to one). Follows layer, head and map." };

/** Builds the view inside `root`; see the methods at the end. */
export function createAttentionView(root, options = {}) {
  const state = { ...ATTENTION_DEFAULTS };
  let data = null;
  let maps = {};
  let differences = {};
  let charted = null; // the data whose norms are in the charts
  let shownJs = {};
  let networks = []; // the teacher and each student: those whose panes are there
  let panes = {}; // one for each view
  let deltas = {}; // one for each network
  let placed = []; // the cells that hold them

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "attention", empty: "Nothing to show yet. Choose a picture, and the attention appears here.", what: "result",
    isEmpty: (payload) => !payload?.panes?.length, prepare: readPayload, read: readAttention, adopt,
    forget: () => (data = null), state, refresh,
  });
  const { shell, change } = life;
  const inputs = { clean: createPane("picture_clean"), distorted: createPane("picture_distorted") };
  const everyPane = () => [...Object.values(inputs), ...Object.values(panes), ...Object.values(deltas)];
  const numbers = make("div", { class: "vx-numbers" });
  const saying = make("p", { class: "vx-saying", role: "status" }); // what a change came to, also for those who hear it
  const bar = createColourBar();
  const deltaBar = createColourBar();
  const cell = (area, child) => make("div", { class: "vx-cell", style: `grid-area: ${area}` }, child);
  const barCell = cell("bar", bar.node);
  const stage = make(
    "div",
    { class: "vx-stage" },
    cell("say", saying),
    cell("pc", inputs.clean.node),
    cell("pd", inputs.distorted.node),
    cell("nums", numbers),
    barCell,
    cell("dbar", deltaBar.node),
  );

  const layer = createSlider({
    name: "layer", label: "Layer", min: 0, max: 0, step: 1,
    show: (i) => (data ? `${data.layers[i]}${i === data.layers.length - 1 ? ", the last" : ""}` : ""),
    change: (i) => change({ layer: data.layers[i] }),
  });
  const head = createSelect({ name: "head", label: "Head", change: (value) => change({ head: readHead(value, WAYS, data.heads, state.head) }) });
  const source = createSelect({ name: "map", label: "Map", change: (map) => change({ map }) });
  const look = createLook(state, change);
  const outline = createCheckbox({ name: "outline", label: "outline the top 60 % of the mass", change: (value) => change({ outline: value }) });
  const controls = look.controls([layer, head, source], [outline]);

  const overviewPane = createSelect({ name: "overview", label: "Model and picture", change: (value) => change({ overview: value }) });
  const tiles = make("div", { class: "vx-tiles", role: "grid", "aria-label": "Layers and heads" });
  const hint = make("p", { class: "vx-hint", text: "Each small map is on the scale of its layer and head, one for all panes. Pick one to enlarge it." });
  const details = make(
    "details",
    { class: "vx-overview", ontoggle: () => details.open && paintOverview() },
    make("summary", { text: "All layers and heads" }),
    make("div", { class: "vx-overviewparts" }, make("div", {}, overviewPane.node, hint), make("div", { class: "vx-scroll" }, tiles)),
  );
  const normCharts = createNormCharts(life.perFrame, life.observe);
  stage.append(cell("over", make("div", { class: "vx-part" }, normCharts.node, details)));
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(controls, stage, actions.node);

  // ------------------------------------------------------------ reading the payload
  function adopt(next) {
    data = next;
    pointing.here = null;
    settle();
    dress();
    refresh();
    paintHover();
  }

  /** @param {AttentionPayload} payload @param {any} next */
  function readAttention(payload, next) {
    next.layers = payload.layers;
    next.heads = payload.heads;
    next.queryKind = payload.query_kind ?? "class token";
    next.numbers = payload.numbers ?? {};
    next.measures = payload.measures ?? [];
    const patches = next.rows * next.cols;
    for (const pane of next.panes) {
      pane.attention = decodeArray(pane.attention);
      pane.rollout = pane.rollout ? decodeArray(pane.rollout) : null;
      pane.norms = pane.norms ? decodeArray(pane.norms) : null;
      const [layers, heads, count] = pane.attention.shape;
      if (layers !== next.layers.length || heads !== next.heads || count !== patches) {
        throw new Error(`attention of "${pane.id}" has the shape [${pane.attention.shape}], which does not fit the grid`);
      }
    }
    next.hasClean = next.panes.some((pane) => pane.view === "clean");
    next.hasRollout = next.panes.every((pane) => pane.rollout);
    next.limits = next.panes.every((pane) => pane.norms) ? payload.norm_limits ?? null : null;
    return next;
  }

  /** Settings that the new payload cannot honour move to the nearest that it can. */
  function settle() {
    state.layer = state.layer === null ? data.layers.at(-1) : listNearest(data.layers, state.layer);
    if (typeof state.head === "number" && state.head >= data.heads) state.head = "mean";
    if (!mapsOf(data).includes(state.map)) state.map = "attention";
    if (!data.byId[state.overview]) state.overview = data.panes.at(-1).id;
  }

  /** A row or column of panes for each network. */
  function build() {
    if (String(networks) === String(data.networks)) return;
    for (const each of placed) each.remove();
    ({ networks } = data);
    panes = Object.fromEntries(networks.flatMap((who) => KINDS.map((kind) => [`${who}_${kind}`, createPane(`${who}_${kind}`)])));
    deltas = Object.fromEntries(networks.map((who) => [who, createPane(`difference_${who}`)]));
    placed = networks.flatMap((who, i) => [
      ...KINDS.map((kind) => cell(`${areaOf(i)}${kind[0]}`, panes[`${who}_${kind}`].node)),
      cell(`${areaOf(i)}x`, deltas[who].node),
    ]);
    barCell.before(...placed);
  }

  /** What changes with the payload alone: pictures, titles, choices, the table of numbers. */
  function dress() {
    build();
    stage.classList.toggle("vx-several", data.named);
    stage.style.setProperty("--vx-across", String(networks.length + 1));
    for (const [width, areas] of Object.entries(areasOf(networks.length, data.hasClean))) stage.style.setProperty(`--vx-${width}`, areas);
    for (const id of Object.keys(panes)) {
      const pane = data.byId[id];
      panes[id].node.parentNode.hidden = !pane;
      if (pane) panes[id].dress(pane.title, pane.reference, pane.image, data, { grey: true, damage: damageOf(data, pane.view) });
    }
    stage.classList.toggle("vx-alone", !data.hasClean);
    inputs.clean.node.parentNode.hidden = !data.hasClean;
    for (const [view, pane] of Object.entries(inputs)) {
      pane.dress(`Picture · ${view}`, false, data.panes.find((each) => each.view === view)?.image ?? null, data, { damage: damageOf(data, view) });
      pane.heat.hidden = true;
      pane.box.setAttribute("aria-label", `The ${view} picture`);
    }
    for (const who of networks) {
      const distorted = data.byId[`${who}_distorted`];
      deltas[who].node.parentNode.hidden = !distorted || distorted === data.reference;
      deltas[who].dress(`${data.named && who !== "teacher" ? who : who[0].toUpperCase() + who.slice(1)} · difference`, false, distorted?.image ?? null, data, { grey: true, damage: data.damage });
    }
    head.fill(headChoices(WAYS, data.heads));
    source.fill([
      ["attention", "attention"],
      ["rollout", data.hasRollout ? "rollout" : "rollout (not computed)", !data.hasRollout],
      ["norms", data.limits ? "norms of tokens" : "norms of tokens (not computed)", !data.limits],
    ]);
    look.dress(data.tables);
    overviewPane.fill(data.panes.map((pane) => [pane.id, pane.title]));
    buildNumbers();
    buildTiles();
    if (details.dataset.settled !== "yes") {
      details.dataset.settled = "yes";
      details.open = (shell.host.clientWidth || window.innerWidth) >= 700;
    }
  }

  // ------------------------------------------------------------ maps
  function mapOf(pane) {
    const patches = data.rows * data.cols;
    if (state.map === "rollout") return scaledSlice(pane.rollout, 0, patches);
    if (state.map === "norms") return scaledSlice(pane.norms, data.layers.indexOf(state.layer) * patches, patches);
    return mapOfHeads(pane.attention, state.head, data.layers.indexOf(state.layer));
  }

  function refresh() {
    if (!data) return;
    life.timed(repaint);
  }

  function repaint() {
    const { rows, cols } = data;
    maps = Object.fromEntries(data.panes.map((pane) => [pane.id, mapOf(pane)]));
    const reference = maps[data.reference.id] ?? Object.values(maps)[0];
    const top = scaleEnd(Object.values(maps));
    const normed = state.map === "norms"; // no token is near 0
    const low = normed ? Math.min(...Object.values(maps).map((map) => Math.min(...map))) : 0;
    const table = data.tables[state.colours];
    for (const [id, map] of Object.entries(maps)) {
      const beyond = normed ? map.map((value) => Number(value > limitNow())) : null;
      paintMap(panes[id].heat, map, rows, cols, low, top, table, state.smooth);
      panes[id].setLook(state.opacity, state.smooth);
      panes[id].setOutline(state.outline ? beyond ?? topMass(map, OUTLINED_MASS) : null);
      setText(panes[id].note, beyond ? `${percent(outliersOf(map, reference, limitNow()).share)} stand out` : "");
    }
    refreshNorms(normed);
    paintDifferences(reference);
    const highest = largest(Object.values(maps));
    const beyond = highest > top ? `; a few patches lie beyond its end, up to ${formatValue(highest)}` : "";
    bar.set(`one scale for all ${data.hasClean && !data.named ? "four " : ""}maps: ${describeMap()}${beyond}`, table, low, top);
    refreshControls();
    refreshNumbers();
    refreshTiles();
  }

  function refreshNorms(normed) {
    normCharts.node.hidden = !normed;
    if (!normed) return;
    if (charted !== data) {
      const lookOf = ({ who, view }) => `${who === "teacher" ? "teacher" : `student${data.students.indexOf(who)}`}-${view}`;
      normCharts.dress(data.panes.map((pane) => ({ title: pane.title, look: lookOf(pane), maps: normMaps(pane.norms) })), data.limits, data.layers);
      charted = data;
    }
    normCharts.draw(data.layers.indexOf(state.layer));
  }

  /** The norms of each block. */
  function normMaps(norms) {
    const patches = data.rows * data.cols;
    return data.layers.map((_, i) => scaledSlice(norms, i * patches, patches));
  }

  /** Of each view and block, the share of patches that stand out, and how many of them do in the reference, too. */
  function outliersByView() {
    if (!data.limits) return null;
    const expected = normMaps(data.reference.norms);
    return Object.fromEntries(data.panes.map(({ id, norms }) => {
      const found = normMaps(norms).map((map, i) => outliersOf(map, expected[i], data.limits[i]));
      return [id, { share: found.map(({ share }) => share), overlap: found.map(({ overlap }) => (Number.isFinite(overlap) ? overlap : null)) }];
    }));
  }

  function paintDifferences(reference) {
    differences = {};
    shownJs = {};
    for (const who of networks) {
      const map = maps[`${who}_distorted`];
      if (!map || map === reference) continue;
      differences[who] = map.map((value, i) => value - reference[i]);
      shownJs[who] = divergence(map, reference);
    }
    const span = largest(Object.values(differences).map((each) => each.map(Math.abs))) || 1;
    for (const [who, difference] of Object.entries(differences)) {
      paintMap(deltas[who].heat, difference, data.rows, data.cols, -span, span, data.tables.difference, state.smooth);
      deltas[who].setLook(state.opacity, state.smooth);
      deltas[who].note.textContent = state.map === "norms" ? "" : `JS ${formatFixed(shownJs[who], 3)}`;
    }
    deltaBar.set(`difference: ${data.hasClean ? "distorted" : "student"} ${MINUS} ${data.hasClean ? "reference" : "teacher"}`, data.tables.difference, -span, span, true);
    for (const pane of Object.values(panes)) pane.box.setAttribute("aria-label", `${pane.title.textContent}: ${describeMap()}`);
    for (const [who, pane] of Object.entries(deltas)) {
      const told = state.map === "norms" ? "of norms" : `divergence ${formatFixed(shownJs[who], 3)} nats`;
      pane.box.setAttribute("aria-label", `${pane.title.textContent}: ${told}`);
    }
  }

  const divergence = (map, reference) => (state.map === "norms" ? NaN : jensenShannon(map, reference)); // norms are no distribution

  /** Above which the norm of a patch stands out, in the block that is shown. */
  const limitNow = () => data.limits[data.layers.indexOf(state.layer)];

  function describeMap() {
    if (state.map === "rollout") return "rollout over all layers";
    if (state.map === "norms") {
      return `norm of each patch's token after block ${state.layer}; above ${formatValue(limitNow())} it stands out (upper quartile of the reference + 3 interquartile ranges)`;
    }
    return `attention of the ${data.queryKind}, block ${state.layer}, ${nameOfHead(state.head)}`;
  }

  function refreshControls() {
    layer.set(data.layers.indexOf(state.layer), data.layers.length - 1);
    head.set(state.head);
    source.set(state.map);
    look.refresh();
    outline.set(state.outline);
    outline.call(state.map === "norms" ? "outline patches that stand out" : "outline the top 60 % of the mass");
    overviewPane.set(state.overview);
    layer.input.disabled = state.map === "rollout" || data.layers.length < 2; // it runs through all layers
    head.input.disabled = state.map !== "attention";
    actions.refresh();
  }

  // ------------------------------------------------------------ numbers
  let rowsOfNumbers = {};

  function buildNumbers() {
    setText(saying, `${tellKept(data.damage, data.numbers, data.untouched, data.students)} ${data.moved}`.trim());
    if (data.named) return buildColumns();
    const { teacher = {}, student = {}, student_clean: clean } = data.numbers;
    const known = data.measures.filter(({ id }) => Number.isFinite(teacher[id]) || Number.isFinite(student[id]));
    const kinds = data.hasClean ? ["teacher", "student", "verdict", "clean"] : ["student"];
    rowsOfNumbers = {};
    const rowOf = ({ id, title, better, help }) => {
      const cells = kinds.map((kind) => make("td", { class: `vx-n-${kind}` }));
      rowsOfNumbers[id] = (before, after, third) =>
        data.hasClean ? fillRow(cells, better, before, after, third) : setText(cells[0], formatFixed(after, 2));
      return createRow([createHelp(shell, title, help), createArrow(better)], cells.slice(0, clean ? 4 : 3));
    };
    const heads = data.hasClean ? [columnName("teacher"), columnName("student"), make("td")] : [columnName("student")];
    if (clean) heads.push(make("th", { scope: "col", class: "vx-n-clean", text: "student, clean" }));
    const caption = data.hasClean ? WITH_REFERENCE : "Agreement of the student with the teacher; no truth is known";
    numbers.replaceChildren(createTable("", [caption], heads, [...known, SHOWN_JS].map(rowOf)));
    for (const { id } of known) rowsOfNumbers[id](teacher[id], student[id], clean?.[id]);
  }

  /** A column for each of several students, with a sign for whether it is closer than the teacher. */
  function buildColumns() {
    const shown = data.hasClean ? networks : data.students;
    const known = data.measures.filter(({ id }) => shown.some((who) => Number.isFinite(data.numbers[who]?.[id])));
    rowsOfNumbers = {};
    const rowOf = ({ id, title, better, help }) => {
      const row = shown.map(() => make("td", { class: "vx-n-named" }));
      rowsOfNumbers[id] = (values) => shown.forEach((who, i) => fillCell(row[i], better, who === "teacher" ? undefined : values.teacher, values[who]));
      return createRow([createHelp(shell, title, help), createArrow(better)], row);
    };
    const caption = data.hasClean ? WITH_REFERENCE : "Agreement of each student with the teacher; no truth is known";
    numbers.replaceChildren(createTable("vx-columns", [caption], shown.map((who) => make("th", { scope: "col", class: who === "teacher" && "vx-whole", text: who })), [...known, SHOWN_JS].map(rowOf)));
    for (const { id } of known) rowsOfNumbers[id](Object.fromEntries(shown.map((who) => [who, data.numbers[who]?.[id]])));
  }

  function fillCell(node, direction, before, after) {
    const word = judged(direction, before, after, 0.005);
    node.replaceChildren(formatFixed(after, 2), make("span", { class: `vx-n-sign vx-${word}`, title: word }, SIGNS[word], make("span", { class: "vx-word", text: ` ${word}` })));
  }

  /** @param {any[]} cells */
  function fillRow([teacher, student, verdict, clean], direction, before, after, third) {
    teacher.textContent = formatFixed(before, 2);
    student.textContent = formatFixed(after, 2);
    clean.textContent = formatFixed(third, 2);
    const word = judged(direction, before, after, 0.005);
    verdict.className = `vx-n-verdict vx-${word}`;
    verdict.title = word;
    verdict.replaceChildren(SIGNS[word], make("span", { class: "vx-word", text: ` ${word}` }));
  }

  function refreshNumbers() {
    if (data.named) return rowsOfNumbers.shown_js(shownJs);
    rowsOfNumbers.shown_js?.(shownJs.teacher, shownJs.student, maps.student_clean && divergence(maps.student_clean, maps[data.reference.id]));
  }

  // ------------------------------------------------------------ overview
  let tileOf = new Map();
  let overviewKey = "";

  /** @type {() => ("mean" | number)[]} */
  const columnsOfTiles = () => ["mean", ...Array(data.heads).keys()];

  function buildTiles() {
    const signature = JSON.stringify([data.layers, data.heads, data.rows, data.cols]);
    overviewKey = "";
    if (tiles.dataset.signature === signature) return;
    tiles.dataset.signature = signature;
    tileOf = new Map();
    const columns = columnsOfTiles();
    tiles.style.setProperty("--vx-columns", columns.length);
    const heading = make("div", { role: "row", class: "vx-tilerow" }, make("span", { class: "vx-tilename", role: "columnheader", text: "" }));
    for (const column of columns) heading.append(make("span", { class: "vx-tilename", role: "columnheader", text: column, "aria-label": nameOfHead(column) }));
    const built = [heading];
    for (const block of data.layers) {
      const row = make("div", { role: "row", class: "vx-tilerow" }, make("span", { class: "vx-tilename", role: "rowheader", text: block, "aria-label": `block ${block}` }));
      for (const column of columns) {
        const canvas = make("canvas", { class: "vx-crisp" });
        const name = nameOfHead(column);
        const tile = make("button", { type: "button", class: "vx-tile", role: "gridcell", tabindex: "-1", "data-layer": block, "data-head": column, "aria-label": `block ${block}, ${name}`, title: `block ${block}, ${name}` }, canvas);
        tile.style.aspectRatio = `${data.width} / ${data.height}`;
        tileOf.set(`${block},${column}`, { tile, canvas });
        row.append(tile);
      }
      built.push(row);
    }
    tiles.replaceChildren(...built);
  }

  tiles.addEventListener("click", (event) => {
    const tile = event.target.closest(".vx-tile");
    if (tile) pick(tile);
  });
  tiles.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1000], End: [0, 1000] };
    const tile = event.target.closest(".vx-tile");
    if (!tile || !moves[event.key]) return;
    event.preventDefault();
    const heads = columnsOfTiles().map(String);
    const [down, right] = moves[event.key];
    const at = (list, value, step) => list[Math.min(list.length - 1, Math.max(0, list.indexOf(value) + step))];
    const next = tileOf.get(`${at(data.layers, Number(tile.dataset.layer), down)},${at(heads, tile.dataset.head, right)}`).tile;
    rove(next);
    next.focus();
  });

  function pick(tile) {
    const chosen = { layer: Number(tile.dataset.layer), head: readHead(tile.dataset.head, WAYS, data.heads, "mean") };
    change({ ...chosen, map: "attention" });
    rove(tile);
    options.onEvent?.("pick", chosen);
  }

  function rove(tile) {
    for (const other of tileOf.values()) other.tile.tabIndex = other.tile === tile ? 0 : -1;
  }

  function refreshTiles() {
    const current = tileOf.get(`${state.layer},${state.head}`) ?? tileOf.get(`${state.layer},mean`);
    for (const { tile } of tileOf.values()) {
      const chosen = state.map === "attention" && tile === tileOf.get(`${state.layer},${state.head}`)?.tile;
      tile.setAttribute("aria-selected", String(chosen));
    }
    if (!tiles.contains(document.activeElement)) rove(current.tile);
    if (details.open) paintOverview();
  }

  function paintOverview() {
    const key = JSON.stringify([state.overview, state.colours]);
    if (!data || key === overviewKey) return;
    overviewKey = key;
    const { attention } = data.byId[state.overview];
    data.topOf ??= topsOf(data.panes.map((pane) => pane.attention));
    data.layers.forEach((block, l) => {
      for (const which of columnsOfTiles()) {
        const { canvas } = tileOf.get(`${block},${which}`);
        paintMap(canvas, mapOfHeads(attention, which, l), data.rows, data.cols, 0, data.topOf(which, l), data.tables[state.colours], false);
      }
    });
  }

  // ------------------------------------------------------------ pointing
  const paintHover = life.perFrame(() => {
    if (!data) return;
    const { here } = pointing;
    for (const pane of everyPane()) here ? pane.mark("cursor", here.row, here.col) : pane.unmark("cursor");
    if (!here) return shell.hideTip();
    const { row, col, x, y } = here;
    const at = row * data.cols + col;
    const lines = Object.entries(maps).map(([key, map]) => [data.byId[key].title, formatValue(map[at]), key === here.pane]);
    for (const [who, difference] of Object.entries(differences)) {
      lines.push([deltas[who].title.textContent, formatValue(difference[at], true), here.pane === `difference_${who}`]);
    }
    const rows = lines.flatMap(([name, value, pointed]) => [
      make("dt", { text: name, class: pointed && "vx-here" }),
      make("dd", { text: value, class: pointed && "vx-here" }),
    ]);
    shell.showTip([make("div", { class: "vx-tiphead", text: `row ${row}, col ${col}` }), make("dl", {}, ...rows)], x, y);
    if (here.key) shell.announce(`row ${row}, column ${col}: ${lines.map(([name, value]) => `${name} ${value}`).join(", ")}`);
  });
  const pointing = trackPatches(stage, { grid: () => data, moved: paintHover });

  // ------------------------------------------------------------ files and links
  function fileName() {
    const what = { rollout: "rollout", norms: `norms-layer${state.layer}` }[state.map] ?? `layer${state.layer}-head-${state.head}`;
    return `vit-explorer-attention-${what}`;
  }

  function makeFigure() {
    const cellOf = (pane, reference = false) => ({ title: pane.title.textContent, reference, draw: pane.drawOn });
    const shown = (pane) => (pane.node.parentNode.hidden ? null : cellOf(pane, !pane.badge.hidden));
    const models = data.hasClean ? networks : data.students;
    const known = data.measures.filter(({ id }) => models.some((each) => Number.isFinite(data.numbers[each]?.[id])));
    const table = [
      [data.hasClean ? "to the reference:" : "to the teacher:", ...models],
      ...known.map(({ id, title, better }) => [`${title} ${better > 0 ? "\u2191" : "\u2193"}`, ...models.map((each) => formatFixed(data.numbers[each]?.[id], 2))]),
      [`${SHOWN_JS.title} \u2193`, ...models.map((each) => formatFixed(shownJs[each], 2))],
    ];
    return {
      heading: { rollout: "Attention rollout", norms: "Norms of tokens" }[state.map] ?? `Attention of the ${data.queryKind}`,
      cells: [
        [shown(inputs.clean), cellOf(inputs.distorted), data.named ? null : { table }],
        ...networks.map((who) => [shown(panes[`${who}_clean`]), shown(panes[`${who}_distorted`]), shown(deltas[who])]),
      ],
      aspect: data.height / data.width,
      bars: [{ ...bar.shown(), from: 0, span: 2 }, { ...deltaBar.shown(), from: 2, span: 1 }],
      lines: [...(data.named ? linesOf(table) : []), settingsLine()],
    };
  }

  /** The table in words, where it is too wide for a cell. @param {string[][]} table */
  function linesOf([heading, ...rows]) {
    return heading.slice(1).map((who, i) => `${who} ${heading[0]} ${rows.map((each) => `${each[0]} ${each[i + 1]}`).join(", ")}`);
  }

  function settingsLine() {
    const parts = [describeMap(), `maps at ${Math.round(100 * state.opacity)} % over the picture`];
    if (state.outline) parts.push(`outlined: ${state.map === "norms" ? "the patches that stand out" : "the smallest set of patches with 60 % of the mass"}`);
    return [...parts, ...factsOf(data.link)].join(" · ");
  }

  function makeNumbers() {
    const grids = (each) => Object.fromEntries(Object.entries(each).map(([id, map]) => [id, tableOf(map, data.rows, data.cols)]));
    return {
      grid: [data.rows, data.cols],
      query_kind: data.queryKind,
      reference: data.hasClean ? data.reference.id : null,
      numbers: data.numbers,
      shown_js_nats: shownJs,
      outliers: outliersByView(),
      maps: grids(maps),
      differences: grids(differences),
    };
  }

  function makePage() {
    return { title: titleOf(`Attention of the ${data.queryKind}`, data.link) };
  }

  function makeLink() {
    const { layer: block, head: which, map, ...rest } = state;
    return { layer: block, head: which, map, ...changedSettings(rest, ATTENTION_DEFAULTS) };
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: makeLink,
    /** Changes some settings; text from a query string is fine, nonsense is ignored. */
    set(partial = {}) {
      const layers = data?.layers;
      const block = readNumber(partial.layer, state.layer, 0, 1e6);
      state.layer = layers && block !== null ? listNearest(layers, block) : block;
      state.head = readHead(partial.head ?? state.head, WAYS, data?.heads ?? Infinity, state.head);
      state.map = readChoice(partial.map, mapsOf(data), state.map);
      look.read(partial, data?.tables);
      state.outline = readFlag(partial.outline, state.outline);
      state.overview = readChoice(partial.overview, data ? data.panes.map((pane) => pane.id) : [String(partial.overview ?? state.overview)], state.overview);
      refresh();
    },
    /** The maps on screen, row by row: one Float32Array for each pane, and `difference_teacher`, `difference_student`. */
    maps: () => ({ ...maps, ...Object.fromEntries(networks.map((who) => [`difference_${who}`, differences[who]])) }),
  };
}

/** The name of a network's part of the grid; what the style sheet calls t and s are the teacher and a single student. */
const areaOf = (i) => ["t", "s"][i] ?? `s${i}`;

/** The kinds of maps that can be shown; all, before it is known. */
function mapsOf(data) {
  return ["attention", ...(data && !data.hasRollout ? [] : ["rollout"]), ...(data && !data.limits ? [] : ["norms"])];
}

/** Where the panes of several students lie, by width: rows of models below each other, or columns. @type {(count: number, hasClean: boolean) => Record<string, string>} */
function areasOf(count, hasClean) {
  const all = [...Array(count).keys()].map(areaOf);
  const line = (/** @type {string[]} */ names) => `"${names.join(" ")}"`;
  const wholeRow = (name, columns) => line(Array(columns).fill(name));
  const foot = (columns) => ["nums", "over"].map((name) => wholeRow(name, columns));
  const students = all.slice(1);
  const across = count + 1;
  if (!hasClean) {
    const below = [line(["say", "say"]), line(["pd", "td"]), ...students.map((each) => line([`${each}d`, `${each}x`])), line(["bar", "dbar"]), ...foot(2)].join(" ");
    const beside = [wholeRow("say", across), line(["pd", ...all.map((each) => `${each}d`)]), line(["dbar", ".", ...students.map((each) => `${each}x`)]), wholeRow("bar", across), ...foot(across)];
    return { narrow: below, middle: below, wide: beside.join(" ") };
  }
  const pairs = all.filter((_, i) => i % 2 === 0).map((each, i) => line([`${each}x`, all[2 * i + 1] ? `${all[2 * i + 1]}x` : "."]));
  const narrow = [line(["say", "say"]), line(["pc", "pd"]), ...all.map((each) => line([`${each}c`, `${each}d`])), line(["bar", "bar"]), ...pairs, line(["dbar", "dbar"]), ...foot(2)];
  const middle = [wholeRow("say", 3), line(["pc", "pd", "."]), ...all.map((each) => line([`${each}c`, `${each}d`, `${each}x`])), line(["bar", "bar", "dbar"]), ...foot(3)];
  const wide = [wholeRow("say", across), ...["c", "d"].map((kind) => line([`p${kind}`, ...all.map((each) => each + kind)])), line(["dbar", ...all.map((each) => `${each}x`)]), wholeRow("bar", across), ...foot(across)];
  return { narrow: narrow.join(" "), middle: middle.join(" "), wide: wide.join(" ") };
}
