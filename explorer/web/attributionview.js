// What made the answer: which patches bring three views near to what the teacher sees in the clean picture, or to a class;
// without a clean picture two views to a class.
//
// Enters: the attribution payload (pictures, a map of each, scores, how far to trust the maps). Leaves: settings through
// onState. No server is asked.

/** @import { AttributionPayload } from "./payloads" */
import { decodeArray, largest, scaledSlice, scaleEnd, tableOf } from "./arrays.js";
import { columnName, createHelp, createRow, createTable, make, setText } from "./elements.js";
import { formatValue } from "./format.js";
import { createLife } from "./life.js";
import { createLook, LOOK_DEFAULTS } from "./look.js";
import { changedSettings, createActions, factsOf, titleOf } from "./page.js";
import { createColourBar, paintMap } from "./painting.js";
import { createPane, damageOf, readPayload, trackPatches } from "./panes.js";
import { tellClass, tellScore } from "./sayings.js";

const CLEAN = "teacher_clean";
const PANE_IDS = [CLEAN, "teacher_distorted", "student_distorted"];
/** Names and explanations of the numbers, in the order of the table. */
const NUMBERS = {
  target: ["score", "How near the view comes to what the teacher sees in the clean picture: the map explains this number."],
  baseline_target: ["score of the baseline", "The same of a picture that shows nothing, such as one of its mean colour."],
  completeness: ["lost by too few steps", "By how much the map's sum misses the change of the score from the baseline's: 0 is best."],
  absorbed: ["no patch's", "The part of the score that the map leaves out: it goes to the model's biases, positions and class token, and softmaxes absorb it."],
  unexplained: ["unexplained", "The share of the score's fall, when squares of the picture are hidden, that the map does not foretell: 0 is best, 1 means that it foretells nothing."],
  deletion: ["deletion", "The area below the score as patches are hidden in the map's order, the highest first; 1 is the picture's score and 0 the baseline's: lower is better, 0.5 falls in even steps. A dash where there is no score to lose."],
  insertion: ["insertion", "The same as patches are shown in this order, over nothing else: higher is better."],
  infidelity: ["infidelity", "The same error, mean and squared, in squared units of the score: 0 is best; it cannot be compared between views."],
  sensitivity: ["sensitivity", "By how much the map changes, at most, under noise that nobody sees: 0 is best, above 1 it changes completely."],
};
const OF_A_CLASS = "How much the view speaks for this class, before the softmax: the map explains this number.";

/** Builds the view inside `root`; see the methods at the end. */
export function createAttributionView(root, options = {}) {
  /** @type {Record<string, any>} */
  const state = { ...LOOK_DEFAULTS };
  let data = null;

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "attribution", empty: "Press Explain to see which patches made the answer.", what: "result",
    isEmpty: (payload) => !payload?.panes?.length, prepare: readPayload, read: readAttribution, adopt,
    forget: () => (data = null), state, refresh,
  });
  const { shell, change } = life;
  const panes = PANE_IDS.map(createPane);
  const bar = createColourBar();
  const saying = make("p", { class: "vx-saying", role: "status" });
  const stage = make("div", { class: "vx-attributed" }, ...panes.map(({ node }) => node), bar.node);
  const numbers = make("div");
  const look = createLook(state, change);
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(saying, look.controls([]), stage, numbers, actions.node);

  // ------------------------------------------------------------ reading the payload
  /** @param {AttributionPayload} payload @param {any} next */
  function readAttribution({ called, signed, towards, label = null }, next) {
    const patches = next.rows * next.cols;
    const ids = PANE_IDS.filter((id) => id !== CLEAN || next.byId[CLEAN]);
    for (const id of ids) {
      const pane = next.byId[id];
      const map = pane && decodeArray(pane.heatmap);
      if (map?.values.length !== patches) throw new Error(`it has no map of "${id}" that fits the grid`);
      pane.map = scaledSlice(map, 0, patches);
    }
    return Object.assign(next, { ids, called, signed, towards, label });
  }

  function adopt(next) {
    data = next;
    pointing.here = null;
    for (const pane of panes) pane.node.hidden = !data.ids.includes(pane.id);
    stage.classList.toggle("vx-alone", !data.byId[CLEAN]);
    for (const pane of shown()) {
      const { title, image, view, reference } = data.byId[pane.id];
      pane.dress(title, reference, image, data, { grey: true, damage: damageOf(data, view) });
    }
    look.dress(data.tables);
    setText(saying, tellData());
    numbers.replaceChildren(tableOfNumbers());
    refresh();
  }

  const shown = () => panes.filter(({ node }) => !node.hidden);

  function tellData() {
    const [clean, teacher, student] = PANE_IDS.map((id) => data.byId[id]?.numbers.target);
    if (data.label !== null) return tellClass(data.label, { clean, teacher, student }, data.untouched);
    return tellScore(data.damage, { clean, teacher, student }, data.untouched);
  }

  /** The numbers that are known, as [name, explanation, text of each pane]. @type {() => [string, string, string[]][]} */
  function knownNumbers() {
    const found = data.ids.map((id) => data.byId[id]);
    const meaning = data.label === null ? NUMBERS.target[1] : OF_A_CLASS;
    const known = Object.entries(NUMBERS).filter(([id]) => found.some((pane) => Number.isFinite(pane.numbers[id])));
    return known.map(([id, [name, help]]) => [name, id === "target" ? `${meaning} It is the ${data.towards}.` : help, found.map((pane) => formatValue(pane.numbers[id]))]);
  }

  function tableOfNumbers() {
    const rows = knownNumbers().map(([name, help, texts]) => createRow([createHelp(shell, name, help)], texts));
    const verdicts = data.ids.map((id) => data.byId[id].verdict ?? "");
    if (verdicts.some(Boolean)) rows.push(createRow(["this map"], verdicts.map((text) => make("td", { class: "vx-verdict", text }))));
    return createTable("vx-scores", ["Scores, and how far to trust the maps"], data.ids.map((id) => columnName(data.byId[id].title)), rows);
  }

  // ------------------------------------------------------------ painting
  function refresh() {
    if (data) life.timed(repaint);
  }

  function repaint() {
    const sizes = data.ids.map((id) => data.byId[id].map.map(Math.abs));
    const highest = largest(sizes);
    const top = scaleEnd(sizes) || highest || 1;
    const [low, table] = data.signed ? [-top, data.tables.difference] : [0, data.tables[state.colours]];
    for (const pane of shown()) {
      paintMap(pane.heat, data.byId[pane.id].map, data.rows, data.cols, low, top, table, state.smooth);
      pane.setLook(state.opacity, state.smooth);
    }
    const beyond = highest > top ? `; a few patches lie beyond its end, up to ${formatValue(highest)}` : "";
    const meaning = data.signed ? `above 0 (red) speaks for ${data.label === null ? "the clean teacher's view" : `\u201c${data.label}\u201d`}, below 0 (blue) against it` : "brighter patches matter more, this method has no sign";
    bar.set(`one scale for ${sizes.length > 2 ? "all three" : "both"} maps: ${data.called}; ${meaning}${beyond}`, table, low, top, data.signed);
    look.refresh();
    look.colours.node.hidden = data.signed;
    actions.refresh();
    paintMarks();
  }

  function paintMarks() {
    if (!data) return;
    const { here } = pointing;
    const where = here && `row ${here.row}, column ${here.col}`;
    const spoken = [];
    for (const pane of shown()) {
      const { title, map } = data.byId[pane.id];
      const value = here ? formatValue(map[here.row * data.cols + here.col], data.signed) : "";
      here ? pane.mark("cursor", here.row, here.col) : pane.unmark("cursor");
      setText(pane.note, value);
      pane.box.setAttribute("aria-label", here ? `${title}: ${where}, value ${value}` : `${title}: ${data.called}`);
      spoken.push(`${title} ${value}`);
    }
    if (!here) return shell.hideTip();
    shell.showTip([make("div", { text: `row ${here.row}, col ${here.col}` })], here.x, here.y); // the captions have the values
    if (here.key) shell.announce(`${where}: ${spoken.join(", ")}`);
  }
  const pointing = trackPatches(stage, { grid: () => data, moved: life.perFrame(paintMarks) });

  // ------------------------------------------------------------ files
  function fileName() {
    return `vit-explorer-attribution-${data.payload.method.replaceAll("_", "-")}`;
  }

  function makeFigure() {
    const told = knownNumbers().map(([name, , texts]) => `${name}: ${texts.map((text, i) => `${data.byId[data.ids[i]].title} ${text}`).join(", ")}`);
    const settings = [`maps at ${Math.round(100 * state.opacity)} % over the picture`, ...factsOf(data.link)];
    return {
      heading: `What made the answer: ${data.called}`,
      cells: [shown().map((pane) => ({ title: pane.title.textContent, reference: !pane.badge.hidden, draw: pane.drawOn }))],
      aspect: data.height / data.width,
      bars: [{ ...bar.shown(), from: 0, span: data.ids.length }],
      lines: [tellData(), ...told, `score: ${data.towards}`, settings.join(" \u00b7 ")].filter(Boolean),
    };
  }

  function makeNumbers() {
    const perPane = (what) => Object.fromEntries(data.ids.map((id) => [id, what(data.byId[id])]));
    return {
      method: data.payload.method,
      towards: data.towards,
      grid: [data.rows, data.cols],
      reference: data.byId[CLEAN] ? CLEAN : null,
      numbers: perPane(({ numbers: known, verdict }) => ({ ...known, verdict })),
      maps: perPane(({ map }) => tableOf(map, data.rows, data.cols)),
    };
  }

  function makePage() {
    return { title: titleOf(`What made the answer: ${data.called}`, data.link) };
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: () => changedSettings(state, LOOK_DEFAULTS),
    /** Changes some settings; text from a query string is fine, nonsense is ignored. */
    set(partial = {}) {
      look.read(partial, data?.tables);
      refresh();
    },
  };
}
