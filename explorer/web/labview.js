// What becomes of what a network sees when a part of it is replaced, and which part of the clean view repairs it.
//
// Enters: the lab payload (pictures, attention of every block before and after, numbers, shares of every part). Leaves:
// settings through onState; "choose" through onEvent, with what is to be replaced. Only another choice needs a server.

/** @import { LabPayload } from "./payloads" */
import { decodeArray, largest, scaledSlice, scaleEnd, tableOf } from "./arrays.js";
import { columnName, createArrow, createHelp, createRow, createSelect, createSlider, createTable, make, setText } from "./elements.js";
import { formatFixed, formatValue, MINUS } from "./format.js";
import { createLife } from "./life.js";
import { createLook, LOOK_DEFAULTS } from "./look.js";
import { changedSettings, createActions, factsOf, titleOf } from "./page.js";
import { createColourBar, paintMap } from "./painting.js";
import { createPane, damageOf, readPayload, trackPatches } from "./panes.js";
import { readChoice, readNumber } from "./settings.js";
import { createShares } from "./sharegrid.js";

/** What is asked for: `Asked` in apps/explorer_app/service/lab.py. */
const ASKED = ["kind", "layer", "head", "by", "rule", "count", "picked"];
/** @type {Record<string, any>} */
const LAB_DEFAULTS = { block: null, ...LOOK_DEFAULTS };
const PATIENCE_MS = 350; // after the last patch that is picked

/** Builds the view inside `root`; see the methods at the end. options.answers: whether somebody answers what is chosen. */
export function createLabView(root, options = {}) {
  const state = { ...LAB_DEFAULTS };
  /** @type {any} */
  let asked = {};
  /** @type {Record<string, any> | null} */
  let wish = null; // of a link, until the first payload is there
  let data = null;
  let waiting = 0;
  let sent = false; // and not answered yet

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "lab", empty: "Nothing to show yet. Choose a picture, and a part to replace appears here.", what: "result",
    isEmpty: (payload) => !payload?.panes?.length, prepare: readPayload, read: readLab, adopt,
    forget: () => (data = null), state, refresh,
  });
  const { shell, change } = life;
  const select = (name, label) => createSelect({ name, label, change: (value) => choose({ [name]: value }) });
  const kind = select("kind", "Replace");
  const by = select("by", "By");
  const rule = select("rule", "Which patches");
  const slider = (name, label, min, max) => createSlider({ name, label, min, max, step: 1, show: String, change: (value) => choose({ [name]: value }) });
  const layer = slider("layer", "Of block", 0, 1);
  const head = slider("head", "Head", 0, 1);
  const count = slider("count", "How many", 1, 64);
  const block = createSelect({ name: "block", label: "Maps of block", change: (value) => change({ block: Number(value) }) });
  const form = make("div", { class: "vx-controls vx-labform", role: "group", "aria-label": "What is replaced" }, ...[kind, layer, head, rule, count, by].map(({ node }) => node));
  form.hidden = !options.answers;
  const saying = make("p", { class: "vx-saying", role: "status" });
  const look = createLook(state, change);
  const stage = make("div", { class: "vx-labstage" });
  const bar = createColourBar();
  const deltaBar = createColourBar();
  const bars = make("div", { class: "vx-labbars" }, bar.node, deltaBar.node);
  const numbers = make("div");
  const shares = createShares(shell, options.answers ? choose : null);
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  const panes = new Map();
  shell.body.append(form, saying, stage, bars, look.controls([block]), numbers, shares.node, actions.node);

  // ------------------------------------------------------------ reading the payload
  /** @param {LabPayload} payload @param {any} next */
  function readLab(payload, next) {
    const patches = next.rows * next.cols;
    for (const pane of next.panes) {
      pane.maps = decodeArray(pane.maps);
      if (pane.maps.shape[1] !== patches) throw new Error(`the maps of "${pane.id}" have the shape [${pane.maps.shape}], which does not fit the grid`);
    }
    const { layers, heads, measures, numbers: found, asked: wanted, told, offered, shares: sought } = payload;
    const inside = new Uint8Array(patches);
    for (const [row, col] of payload.patches) inside[row * next.cols + col] = 1;
    return Object.assign(next, { layers, heads, measures, numbers: found, asked: wanted, told, offered, inside, shares: sought ?? null });
  }

  function adopt(next) {
    const firstOfAll = data === null;
    data = next;
    clearTimeout(waiting);
    sent = false;
    asked = { ...data.asked };
    pointing.here = null;
    if (!data.layers.includes(state.block)) state.block = data.layers.at(-1);
    dress();
    refresh();
    stage.removeAttribute("aria-busy");
    if (firstOfAll && wish) choose(wish);
    wish = null;
  }

  const deltaOf = (who) => `${who}_difference`;
  const called = (who) => `${who[0].toUpperCase()}${who.slice(1)}`;

  function dress() {
    const wanted = data.networks.flatMap((who) => [`${who}_clean`, `${who}_distorted`, `${who}_changed`, deltaOf(who)]);
    for (const id of wanted) if (!panes.has(id)) panes.set(id, createPane(id));
    for (const id of [...panes.keys()]) if (!wanted.includes(id)) panes.delete(id);
    stage.replaceChildren(...wanted.map((id) => panes.get(id).node));
    for (const pane of data.panes) panes.get(pane.id).dress(pane.title, pane.reference, pane.image, data, { grey: true, damage: damageOf(data, pane.view) });
    for (const who of data.networks) panes.get(deltaOf(who)).dress(`${called(who)} \u00b7 difference`, false, data.byId[`${who}_changed`].image, data, { grey: true, damage: data.damage });
    kind.fill(data.offered.kind);
    by.fill(data.offered.by);
    rule.fill(data.offered.rule);
    block.fill(data.layers.map((each) => [each, `block ${each}`]));
    look.dress(data.tables);
    shares.dress(data.shares, data.networks);
    setText(saying, tellAnswer());
    numbers.replaceChildren(tableOfNumbers());
  }

  /** What the replacement does to the cosine with the reference, and how much of what was lost comes back. */
  function tellAnswer() {
    if (!data.told) return "No patch is chosen, so that nothing is replaced: pick some in a picture, or by another rule.";
    const told = data.networks.map((who) => {
      const [before, after] = ["distorted", "changed"].map((each) => data.numbers[`${who}_${each}`].cls_cosine);
      const back = (after - before) / (1 - before);
      const words = 1 - before < 1e-3 ? "" : back >= 0 ? `: ${Math.round(100 * back)} % of what was lost comes back` : ": it loses more";
      return `the ${who}'s agreement goes from ${formatFixed(before, 3)} to ${formatFixed(after, 3)}${words}`;
    });
    return `With ${data.told}, ${told.join("; ")} (cosine of the embeddings with the reference).`;
  }

  function tableOfNumbers() {
    const columns = data.networks.flatMap((who) => [`${who}_distorted`, `${who}_changed`]);
    const rows = data.measures.map(({ id, title, help, better }) => createRow(
      [createHelp(shell, title, help), createArrow(better)],
      columns.map((each) => formatFixed(data.numbers[each][id], 3)),
    ));
    const names = columns.map((each) => columnName(data.byId[each].title));
    return createTable("vx-scores", ["Agreement with the reference, before and after"], names, rows);
  }

  // ------------------------------------------------------------ choosing
  /** Asks the server, at once or when the last patch has been picked. */
  function choose(partial, patience = 0) {
    asked = { ...asked, ...partial };
    refresh();
    clearTimeout(waiting);
    if (!sent && signatureOf(asked) === signatureOf(data.asked)) return stage.removeAttribute("aria-busy"); // nobody would answer
    stage.setAttribute("aria-busy", "true");
    waiting = setTimeout(() => {
      sent = true;
      options.onEvent?.("choose", Object.fromEntries(ASKED.map((name) => [name, asked[name]])));
    }, patience);
  }

  const signatureOf = ({ picked = [], ...rest }) => JSON.stringify([ASKED.map((name) => rest[name]), picked.map(String).sort()]);

  /** Sets or lets go a patch; what a rule had chosen is gone on from. */
  function pick(row, col) {
    if (!options.answers) return undefined;
    if (asked.kind !== "patches") return shell.announce("To replace patches, choose patches in the list Replace.");
    data.inside[row * data.cols + col] ^= 1;
    const picked = [...data.inside.keys()].filter((at) => data.inside[at]).map((at) => [Math.floor(at / data.cols), at % data.cols]);
    shell.announce(`${picked.length} patches chosen`);
    choose({ rule: "picked", picked }, PATIENCE_MS);
  }

  // ------------------------------------------------------------ painting
  function refresh() {
    if (data) life.timed(repaint);
  }

  function repaint() {
    const at = data.layers.indexOf(state.block);
    const patches = data.rows * data.cols;
    for (const pane of data.panes) pane.map = scaledSlice(pane.maps, at * patches, patches);
    const maps = data.panes.map((pane) => pane.map);
    const top = scaleEnd(maps) || 1;
    const table = data.tables[state.colours];
    for (const { id, map } of data.panes) paintMap(panes.get(id).heat, map, data.rows, data.cols, 0, top, table, state.smooth);
    data.deltas = Object.fromEntries(data.networks.map((who) => {
      const [before, after] = [data.byId[`${who}_distorted`].map, data.byId[`${who}_changed`].map];
      return [deltaOf(who), after.map((value, i) => value - before[i])];
    }));
    const span = largest(Object.values(data.deltas).map((each) => each.map(Math.abs))) || 1;
    for (const [id, map] of Object.entries(data.deltas)) paintMap(panes.get(id).heat, map, data.rows, data.cols, -span, span, data.tables.difference, state.smooth);
    const shownPatches = asked.kind === "patches" ? data.inside : null;
    for (const [id, pane] of panes) {
      pane.setLook(state.opacity, state.smooth);
      pane.setOutline(id.endsWith("_clean") ? null : shownPatches);
    }
    bar.set(`one scale for all maps: attention of block ${state.block}, mean of heads`, table, 0, top);
    deltaBar.set(`difference: changed ${MINUS} distorted`, data.tables.difference, -span, span, true);
    refreshForm();
    look.refresh();
    block.set(state.block);
    shares.mark(asked);
    actions.refresh();
    paintMarks();
  }

  function refreshForm() {
    const patches = asked.kind === "patches";
    kind.set(asked.kind);
    by.set(asked.by);
    rule.set(asked.rule);
    layer.set(asked.layer, data.layers.at(-1));
    head.set(asked.head, data.heads - 1);
    count.set(asked.count, Math.min(64, data.rows * data.cols));
    head.node.hidden = asked.kind !== "head";
    rule.node.hidden = !patches;
    count.node.hidden = !patches || asked.rule !== "attended";
  }

  const valuesOf = (id) => data.byId[id]?.map ?? data.deltas[id];

  function paintMarks() {
    if (!data) return;
    const { here } = pointing;
    const where = here && `row ${here.row}, column ${here.col}`;
    for (const [id, pane] of panes) {
      const value = here ? formatValue(valuesOf(id)[here.row * data.cols + here.col], id in data.deltas) : "";
      here ? pane.mark("cursor", here.row, here.col) : pane.unmark("cursor");
      setText(pane.note, value);
      const title = pane.title.textContent;
      pane.box.setAttribute("aria-label", here ? `${title}: ${where}, value ${value}` : `${title}: attention of block ${state.block}`);
    }
    if (!here) return shell.hideTip();
    shell.showTip([make("div", { text: `row ${here.row}, col ${here.col}` })], here.x, here.y); // the captions have the values
    if (here.key) shell.announce(`${where}: ${[...panes.values()].map((pane) => `${pane.title.textContent} ${pane.note.textContent}`).join(", ")}`);
  }
  const pointing = trackPatches(stage, { grid: () => data, moved: life.perFrame(paintMarks), press: (_pane, row, col) => pick(row, col) });
  life.atEnd(() => clearTimeout(waiting));

  // ------------------------------------------------------------ files
  function fileName() {
    return `vit-explorer-lab-${asked.kind.replaceAll(" ", "-")}-block-${asked.layer}`;
  }

  const titleText = () => (data.told ? `With ${data.told}` : "Nothing is replaced");

  function makeFigure() {
    const cellOf = (id) => {
      const pane = panes.get(id);
      return { title: pane.title.textContent, reference: !pane.badge.hidden, draw: pane.drawOn };
    };
    const settings = [`maps at ${Math.round(100 * state.opacity)} % over the picture`, ...factsOf(data.link)];
    return {
      heading: titleText(),
      cells: data.networks.map((who) => [`${who}_clean`, `${who}_distorted`, `${who}_changed`, deltaOf(who)].map(cellOf)),
      aspect: data.height / data.width,
      bars: [{ ...bar.shown(), from: 0, span: 3 }, { ...deltaBar.shown(), from: 3, span: 1 }],
      lines: [tellAnswer(), settings.join(" \u00b7 ")],
    };
  }

  function makeNumbers() {
    const maps = [...panes.keys()].map((id) => [id, tableOf(valuesOf(id), data.rows, data.cols)]);
    return { asked: { ...asked }, told: data.told, agreement: data.numbers, shares: data.shares, block: state.block, maps: Object.fromEntries(maps) };
  }

  function makePage() {
    return { title: titleOf(titleText(), data.link) };
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** What is replaced, and its settings, as query parameters, which `set` reads. */
    link: () => {
      const { picked = [], kind: of, layer: part, head: which, by: how, rule: chosen, count: many } = asked;
      const places = of === "patches" && chosen === "picked" ? { picked: picked.map((place) => place.join("-")).join(",") } : {};
      return { ...changedSettings(state, { ...LAB_DEFAULTS, block: data?.layers.at(-1) ?? null }), kind: of, part, head: which, by: how, rule: chosen, count: many, ...places };
    },
    /** Changes some settings; text from a query string is fine, nonsense is ignored. */
    set(partial = {}) {
      look.read(partial, data?.tables);
      state.block = readNumber(partial.block, state.block, 0, 1e3);
      if (data && !data.layers.includes(state.block)) state.block = data.layers.at(-1);
      const picked = String(partial.picked ?? "").split(",").filter(Boolean).map((place) => place.split("-").map(Number));
      const words = Object.fromEntries(["kind", "by", "rule"].filter((name) => name in partial).map((name) => [name, partial[name]]));
      const counts = Object.entries({ layer: partial.part, head: partial.head, count: partial.count }).filter(([, value]) => value !== undefined && readNumber(value, null, 0, 1e4) !== null);
      const asking = { ...words, ...Object.fromEntries(counts.map(([name, value]) => [name, Number(value)])), ...(picked.length ? { picked } : {}) };
      if (data && Object.keys(asking).length) choose(Object.fromEntries(Object.entries(asking).filter(([name, value]) => !data.offered[name] || readChoice(value, data.offered[name].map(([each]) => each), null) !== null)));
      else if (Object.keys(asking).length) wish = asking;
      refresh();
    },
  };
}
