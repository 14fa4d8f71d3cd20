// A student learning to see one picture through its damage: live while it trains, afterwards step by step.
//
// Enters: the recovery payload (pictures, the reference, the moments recorded so far, the training's records), complete
// each time and several times a second while a run goes on; what is known already is not decoded again. Leaves:
// settings through onState. Everything is computed here; no server is asked.

/** @import { Moment, RecoveryPayload } from "./payloads" */
import { decodeArray, largestAt, nearestAt, scaleEnd, tableOf } from "./arrays.js";
import { columnName, createArrow, createHelp, createRow, createSelect, createSlider, createTable, make, setText } from "./elements.js";
import { cosinesTo, featuresOf } from "./features.js";
import { formatFixed, formatValue } from "./format.js";
import { createLife } from "./life.js";
import { createLook, headChoices, LOOK_DEFAULTS, nameOfHead, readHead } from "./look.js";
import { judged, mapOfHeads } from "./maps.js";
import { changedSettings, createActions } from "./page.js";
import { createColourBar, paintMap } from "./painting.js";
import { createPane, framePatch, readPayload, readSpot, spotAt, spotOn, trackPatches } from "./panes.js";
import { agreementSeries, besideSeries, createChart, lossSeries } from "./recoverycurves.js";
import { tellLearned } from "./sayings.js";
import { readChoice, readFlag, readNumber } from "./settings.js";

const ROWS = ["attention", "similarity"];
const WAYS = ["mean"]; // to join heads
const BESIDE = ["beside0", "beside1", "beside2"]; // other runs, at the step of the one that is shown
const COLUMNS = ["reference", "before", "student", ...BESIDE];
/** @type {Record<string, any>} */
const RECOVERY_DEFAULTS = { head: "mean", pin: null, wipe: 0, ...LOOK_DEFAULTS };
const PLAY_MS = 4000; // from the first moment to the last
const PAGE_CHARACTERS = 1.6e6; // of moments on a page of its own, which stays below 2 MB
const SPEECH_MS = 5000; // a screen reader hears of a running training this often at most
const STATES = ["waiting", "running", "stopping", "stopped", "finished", "failed"];

/** Builds the view inside `root`; see the methods at the end. */
export function createRecoveryView(root, options = {}) {
  const state = { ...RECOVERY_DEFAULTS };
  let data = null;
  let basis = null; // {key, promise}: pictures and reference, read once
  let known = new Map(); // step -> decoded moment
  let place = null; // the step that somebody chose; null: always the newest
  let query = null; // {row, col}: the patch of the reference whose feature is compared
  const shown = {}; // one Float32Array for each pane
  let playing = null; // {from, began, frame}

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "recovery", empty: "Start a run and watch the student learn here.", what: "run",
    isEmpty: (payload) => !payload || !(payload.state || payload.reference), prepare: readBasis, read: readRun, adopt, forget,
    say: () => [], state, refresh, snapshot,
  });
  const { shell, change, tell: tellState } = life;
  const stats = Object.assign(life.face.stats, { decoded: 0 });
  const status = createRunStatus();
  const panes = Object.fromEntries(ROWS.flatMap((what) => COLUMNS.map((id) => [`${what}_${id}`, createPane(`${what}_${id}`)])));
  const wipes = Object.fromEntries(ROWS.map((what) => [what, addWipe(panes[`${what}_student`])]));
  const views = ROWS.flatMap((what) => COLUMNS.slice(1).map((id) => panes[`${what}_${id}`])).map(({ title }) => {
    const view = make("span", { class: "vx-view" });
    title.after(view);
    return view;
  });
  const bars = { attention: createColourBar(), similarity: createColourBar() };
  const differences = createDifferences();
  status.node.append(differences.node);
  const lines = Object.fromEntries(ROWS.map((what) => [what, make("div", { class: "vx-triple" })]));
  const maps = make("div", { class: "vx-recoverymaps" }, ...Object.values(lines));
  let placed = 0; // how many panes stand in a row

  const icon = make("svg:path");
  const playName = make("span");
  const toggle = () => {
    if (playing) halt();
    else start();
    tellState();
  };
  const play = make(
    "button",
    { class: "vx-button vx-play", type: "button", name: "play", onclick: toggle },
    make("svg:svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, icon),
    playName,
  );
  const scrubber = createSlider({
    name: "moment", label: "Recorded step", min: 0, max: 0, step: 1,
    show: (i) => (data?.moments[i] ? `step ${data.moments[i].step}` : ""),
    change: (i) => {
      halt();
      goTo(i);
      tellState();
    },
  });
  const wipe = createSlider({
    name: "wipe", label: "Wipe: before \u27f7 after", min: 0, max: 100, step: 1,
    show: (value) => (value === 0 ? "after" : value === 100 ? "before" : `${value} % before`),
    change: (value) => change({ wipe: value }),
  });
  const head = createSelect({ name: "head", label: "Attention head", change: (value) => change({ head: headFrom(value) }) });
  const look = createLook(state, change);
  const controls = look.controls([head]);
  const scrub = make("div", { class: "vx-scrub", role: "group", "aria-label": "Which step is shown" }, play, scrubber.node, wipe.node);
  const choose = (step) => {
    if (!data?.moments.length) return;
    halt();
    goTo(nearestMoment(step));
    tellState();
  };
  const charts = {
    losses: createChart(life, "Losses", choose),
    agreement: createChart(life, "Agreement with the teacher on the clean picture", choose),
    cls_cosine: createChart(life, "CLS cosine, held-out pictures", choose),
    patch_cosine: createChart(life, "Patch cosine, held-out pictures", choose),
  };
  const table = createAgreementTable(shell);
  const saying = make("p", { class: "vx-saying" });
  const hint = make("p", { class: "vx-hint", text: "Point at a patch, or focus a pane and use the arrow keys: what resembles this patch of the clean picture? A ring marks its best match. Click, Enter or Space pins the patch, Escape lets it go." });
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  const side = make("div", { class: "vx-part vx-recoveryside" }, make("div", { class: "vx-charts" }, ...Object.values(charts).map(({ node }) => node)), saying, table.node);
  const more = make("div", { class: "vx-part vx-recoverymore" }, hint, controls, actions.node);
  shell.body.append(status.node, scrub, maps, side, more);

  // ------------------------------------------------------------ reading the payload
  function adopt(next) {
    const another = data?.base !== next.base;
    if (another) begin(data, next);
    data = next;
    if (another) dress();
    refreshRun();
    refresh();
    if (another) actions.refresh();
    if (another && next.payload.plays && place === null && !window.matchMedia("(prefers-reduced-motion: reduce)").matches) start();
  }

  function forget() {
    halt();
    data = basis = pointing.here = null;
    known = new Map();
  }

  /** Pictures and reference. A payload in which they are the same costs nothing. @param {RecoveryPayload} payload */
  function readBasis(payload) {
    const { pictures, reference } = payload;
    const key = JSON.stringify([payload.run, payload.key, payload.grid, Boolean(pictures && reference)]);
    if (basis?.key !== key) {
      basis = { key, promise: pictures && reference ? decodeBasis(payload, pictures, reference) : Promise.resolve({ reference: null }) };
      const tried = basis;
      basis.promise.catch(() => tried === basis && (basis = null)); // so that the next payload tries again
    }
    return basis.promise;
  }

  /** @param {RecoveryPayload} payload @param {{ clean: string; distorted: string }} pictures @param {Moment} seen */
  async function decodeBasis(payload, { clean, distorted }, seen) {
    const base = await readPayload({ ...payload, panes: [{ id: "clean", picture: clean }, { id: "distorted", picture: distorted }] });
    const [first, second] = base.panes;
    const reference = readMoment(seen, base.rows * base.cols);
    return { ...base, reference, clean: first.image, distorted: second.image };
  }

  /** Moments are told apart by their step, and by their data: a run that is resumed repeats some steps. @param {RecoveryPayload} payload @param {any} base */
  function readRun(payload, base) {
    const already = data?.base === base ? known : new Map();
    const kept = new Map();
    /** @param {{ moments?: Moment[] }} of @param {string} whose @returns {any[]} */
    const readMoments = ({ moments = [] }, whose) => (base.reference ? moments : []).map((moment) => {
      const key = `${moment.step} ${whose}`;
      const old = already.get(key);
      const fresh = old?.source !== moment.attention.data;
      if (fresh) stats.decoded += 1;
      kept.set(key, fresh ? readMoment(moment, base.rows * base.cols) : old);
      return kept.get(key);
    });
    const moments = readMoments(payload, "");
    const beside = (payload.beside ?? []).slice(0, BESIDE.length).map((run) => ({ records: [], before: null, ...run, moments: readMoments(run, run.name) }));
    known = kept;
    return {
      base,
      moments,
      beside,
      near: beside.filter((run) => run.moments.length), // those that saw the same picture
      differs: payload.differs ?? [],
      run: payload.run ?? null,
      state: readChoice(payload.state, STATES, null),
      message: payload.message ?? null,
      steps: payload.steps ?? payload.records?.at(-1)?.steps ?? 0,
      records: payload.records ?? [],
      before: payload.before ?? null,
      measures: payload.measures ?? [],
      called: payload.called ?? ["teacher", "student"],
      view: payload.view ?? "distorted",
      payload,
    };
  }

  /** Other pictures or another run: from its newest step, at the patch that its reference looks at most. */
  function begin(earlier, next) {
    halt();
    pointing.here = null;
    if (earlier?.base.reference) place = null;
    const { base } = next;
    if (!base.reference) return;
    if (typeof state.head === "number" && state.head >= base.reference.heads) state.head = "mean";
    state.pin &&= spotOn(state.pin, earlier?.base.reference && earlier.base, base);
    query = state.pin ?? spotAt(largestAt(attentionMap(base.reference, "mean")), base.cols);
  }

  function dress() {
    const { base, called, view } = data;
    charts.agreement.entitle(`Agreement with the ${called[0]} on the clean picture`);
    if (!base.reference) return;
    for (const node of views) setText(node, view);
    for (const what of ROWS) {
      for (const id of COLUMNS) {
        const isReference = id === "reference";
        panes[`${what}_${id}`].dress(isReference ? `${capital(called[0])} \u00b7 clean` : "", isReference, isReference ? base.clean : base.distorted, base, { grey: what === "attention" });
      }
    }
    head.fill(headChoices(WAYS, base.reference.heads));
    look.dress(base.tables);
  }

  // ------------------------------------------------------------ which moment
  const filled = () => Boolean(data?.moments.length);

  function indexNow() {
    return place === null ? data.moments.length - 1 : nearestMoment(place);
  }

  const nearestMoment = (step) => nearestAt(data.moments.map((moment) => moment.step), step);

  /** At the last moment, the view follows those that come. */
  function goTo(index) {
    place = index >= data.moments.length - 1 ? null : data.moments[index].step;
    refreshMoment();
  }

  function start() {
    const last = filled() ? data.moments.length - 1 : 0;
    if (last < 1) return;
    const from = indexNow() === last ? 0 : indexNow();
    playing = { from, began: performance.now(), frame: requestAnimationFrame(tick) };
    goTo(from);
  }

  function tick(now) {
    const last = data.moments.length - 1;
    const index = Math.min(last, playing.from + Math.max(0, Math.floor(((now - playing.began) / PLAY_MS) * last)));
    if (index !== indexNow()) goTo(index);
    if (index < last) {
      playing.frame = requestAnimationFrame(tick);
      return;
    }
    halt();
    tellState();
  }

  function halt() {
    if (!playing) return;
    cancelAnimationFrame(playing.frame);
    playing = null;
    refreshPlay();
  }

  function refreshPlay() {
    setText(playName, playing ? "Pause" : "Play");
    icon.setAttribute("d", playing ? "M2 1h3v10H2zM7 1h3v10H7z" : "M2 .5v11L11.5 6z");
    play.disabled = !filled() || data.moments.length < 2;
  }

  // ------------------------------------------------------------ values
  function chosenMoments() {
    const student = data.moments[indexNow()];
    const others = data.near.map(({ moments }, i) => [BESIDE[i], moments.findLast(({ step }) => step <= student.step) ?? moments[0]]);
    return { reference: data.base.reference, before: data.moments[0], student, ...Object.fromEntries(others) };
  }

  /** Cosine of one patch of the reference with every patch of the reference, before, and now. */
  function similarity(row, col) {
    const { reference, cols } = data.base;
    const moments = Object.entries(chosenMoments());
    return Object.fromEntries(moments.map(([id, { features }]) => [id, cosinesTo(features, reference.features, row * cols + col)]));
  }

  /** The panes of a row that are shown. */
  const columns = () => COLUMNS.slice(0, COLUMNS.length - BESIDE.length + data.near.length);

  /** Where the scale for all steps ends, so that scrubbing does not change what a colour means. */
  function attentionTop() {
    const tops = (data.tops ??= new Map()); // sought once for each head, and not at each step of the scrubber
    if (!tops.has(state.head)) {
      tops.set(state.head, scaleEnd([data.base.reference, ...data.moments, ...data.near.flatMap(({ moments }) => moments)].map((moment) => attentionMap(moment, state.head))));
    }
    return tops.get(state.head);
  }

  const headFrom = (value) => readHead(value, WAYS, data?.base.reference?.heads ?? Infinity, state.head);

  // ------------------------------------------------------------ painting
  function paintRow(what, values, high) {
    const { rows, cols, tables } = data.base;
    const paint = (canvas, map) => paintMap(canvas, map, rows, cols, 0, high, tables[state.colours], state.smooth);
    for (const id of columns()) {
      shown[`${what}_${id}`] = values[id];
      paint(panes[`${what}_${id}`].heat, values[id]);
    }
    if (state.wipe > 0) paint(wipes[what].canvas, values.before);
  }

  function paintAttention() {
    const top = attentionTop();
    const values = Object.entries(chosenMoments()).map(([id, moment]) => [id, attentionMap(moment, state.head)]);
    paintRow("attention", Object.fromEntries(values), top);
    bars.attention.set(`Attention: where the model looks, last block, ${nameOfHead(state.head)}`, data.base.tables[state.colours], 0, top);
  }

  /** All that follows the pointer, and nothing else: called once a frame at most. */
  function repaint() {
    if (!filled()) return;
    life.timed(paintSimilarity);
  }
  const repaintSoon = life.perFrame(repaint);

  function paintSimilarity() {
    paintRow("similarity", similarity(query.row, query.col), 1);
    bars.similarity.set(`Similarity: cosine with the patch at row ${query.row}, col ${query.col} of the clean picture, as the ${data.called[0]} sees it`, data.base.tables[state.colours], 0, 1);
    paintMarks();
  }

  const tellValue = (id, at) => (id.startsWith("attention") ? formatValue(shown[id][at]) : formatFixed(shown[id][at], 3));

  function paintMarks() {
    const { here: hovered } = pointing;
    const here = hovered ?? query;
    const { cols } = data.base;
    const at = here.row * cols + here.col;
    for (const id of ROWS.flatMap((what) => columns().map((column) => `${what}_${column}`))) {
      const pane = panes[id];
      const origin = id.endsWith("reference");
      const kind = !origin ? "same" : state.pin ? "pin" : "cursor";
      for (const other of ["same", "pin", "cursor"]) if (other !== kind) pane.unmark(other);
      pane.mark(kind, query.row, query.col);
      if (state.pin && hovered) pane.mark("cursor", hovered.row, hovered.col);
      if (id.startsWith("similarity") && !origin) {
        const best = spotAt(largestAt(shown[id]), cols);
        pane.mark("match", best.row, best.col);
      }
      setText(pane.note, tellValue(id, at));
      pane.box.setAttribute("aria-label", `${nameOf(id)}: row ${here.row}, column ${here.col}, value ${tellValue(id, at)}`);
    }
    if (!hovered) return shell.hideTip();
    const value = tellValue(hovered.pane, at);
    shell.showTip([make("div", { text: `row ${here.row}, col ${here.col}: ${value}` })], hovered.x, hovered.y);
    if (hovered.key) announce(hovered, at);
    hovered.key = false; // once: the same patch is painted again with each update
  }

  function nameOf(id) {
    const what = id.split("_")[0];
    return `${capital(what)}, ${panes[id].title.textContent}`;
  }

  function announce({ pane, row, col }, at) {
    const what = pane.split("_")[0];
    const values = columns().map((id) => `${panes[`${what}_${id}`].title.textContent} ${tellValue(`${what}_${id}`, at)}`);
    shell.announce(`row ${row}, column ${col}. ${what}: ${values.join(", ")}`);
  }

  /** What changes with the step that is shown. */
  function refreshMoment() {
    refreshPlay();
    if (!filled()) return markCharts(data?.records.at(-1)?.step ?? 0);
    const index = indexNow();
    const { before: first, student: latest, ...others } = chosenMoments();
    const { step } = latest;
    scrubber.set(index, data.moments.length - 1);
    for (const what of ROWS) {
      entitle(panes[`${what}_before`], `Before \u00b7 step ${first.step}`);
      entitle(panes[`${what}_student`], `${capital(data.called[1])} \u00b7 step ${step}`);
      data.near.forEach(({ name }, i) => entitle(panes[`${what}_${BESIDE[i]}`], `${name} \u00b7 step ${others[BESIDE[i]].step}`));
    }
    markCharts(step);
    const [before, now] = [first, latest].map(({ agreement }) => agreement.cls_cosine);
    setText(saying, data.view === "clean" ? "" : tellLearned(before, now, step, data.called[1]));
    table.set(data.measures, [["before", first], [data.called[1], latest], ...data.near.map(({ name }, i) => [name, others[BESIDE[i]]])]);
    paintAttention();
    repaint();
  }

  function markCharts(step) {
    for (const chart of Object.values(charts)) chart.mark(step);
  }

  /** What changes with the payload alone. Without a picture to be watched there are curves only. */
  function refreshRun() {
    status.set(data);
    shell.body.classList.toggle("vx-curvesonly", !filled());
    shell.body.classList.toggle("vx-besides", data.beside.length > 0);
    for (const node of [scrub, maps, more, saying, table.node]) node.hidden = !filled();
    placePanes();
    differences.set(data);
    charts.losses.draw(lossSeries(data), data.steps);
    charts.agreement.draw(agreementSeries(data), data.steps);
    charts.agreement.node.hidden = data.beside.length > 0;
    for (const measure of ["cls_cosine", "patch_cosine"]) {
      charts[measure].node.hidden = !data.beside.length;
      charts[measure].draw(besideSeries([{ ...data, name: "this run" }, ...data.beside], measure), data.steps);
    }
  }

  function placePanes() {
    if (placed === columns().length) return;
    placed = columns().length;
    maps.style.setProperty("--vx-columns", placed);
    for (const what of ROWS) lines[what].replaceChildren(...columns().map((id) => panes[`${what}_${id}`].node), bars[what].node);
  }

  /** What changes with settings or payload, but not with the pointer. */
  function refresh() {
    if (!filled()) return refreshMoment();
    head.set(state.head);
    look.refresh();
    wipe.set(state.wipe);
    for (const pane of Object.values(panes)) pane.setLook(state.opacity, state.smooth);
    for (const each of Object.values(wipes)) each.set(state.wipe, state.opacity, state.smooth);
    refreshMoment();
  }

  // ------------------------------------------------------------ pointing
  function pin(row, col) {
    if (state.pin?.row === row && state.pin?.col === col) return unpin();
    query = { row, col };
    change({ pin: { row, col } });
    shell.announce(`Pinned row ${row}, column ${col} of the clean picture`);
  }

  function unpin() {
    if (!state.pin) return;
    if (pointing.here) query = { row: pointing.here.row, col: pointing.here.col };
    change({ pin: null });
    shell.announce("Unpinned");
  }

  const pointing = trackPatches(maps, {
    grid: () => (filled() ? data.base : null),
    moved: () => {
      if (pointing.here && !state.pin) query = { row: pointing.here.row, col: pointing.here.col };
      repaintSoon();
    },
    press: (_pane, row, col) => pin(row, col),
    escape: unpin,
  });

  // ------------------------------------------------------------ files
  function snapshot() {
    const index = filled() ? indexNow() : null;
    return {
      ...state,
      pin: state.pin && { ...state.pin },
      query: query && { ...query },
      index,
      step: index === null ? place : data.moments[index].step,
      playing: Boolean(playing),
    };
  }

  function fileName() {
    if (!filled()) return "vit-explorer-recovery";
    return `vit-explorer-recovery-step${data.moments[indexNow()].step}-row${query.row}-col${query.col}`;
  }

  /** As many of the recorded steps as there is room for, the one that is shown among them. */
  function makePage() {
    const all = data.payload.moments ?? [];
    const largest = Math.max(...all.map((moment) => JSON.stringify(moment).length));
    const room = Math.max(2, Math.floor(PAGE_CHARACTERS / (largest * (1 + data.near.length))));
    const kept = all.length <= room ? new Set(all.keys()) : new Set(Array.from({ length: room }, (_, i) => Math.round((i * (all.length - 1)) / (room - 1))));
    const moments = all.filter((moment, i) => kept.has(i) || (filled() && moment.step === data.moments[indexNow()].step));
    const ended = ["finished", "stopped", "failed"].includes(data.state);
    const near = (run) => run.moments && new Set(moments.map(({ step }) => run.moments.findLast((moment) => moment.step <= step) ?? run.moments[0]));
    const beside = data.payload.beside?.map((run) => ({ ...run, moments: near(run) && [...near(run)] }));
    const payload = { ...data.payload, moments, ...(beside && { beside }), state: ended ? data.state : null, message: ended ? data.payload.message : null };
    const facts = moments.length < all.length ? [["Steps", `${moments.length} of the ${all.length} recorded`]] : [];
    return { title: `A ${data.called[1]} learns to see`, payload, state: { ...snapshot(), index: null, playing: false }, facts };
  }

  function makeFigure() {
    const { step, agreement } = data.moments[indexNow()];
    const numbers = (values) => data.measures.map(({ id, title }) => `${title} ${formatFixed(values[id], 3)}`).join(", ");
    const wiped = state.wipe > 0 ? `; left of the line, ${state.wipe} % of its pane: before` : "";
    const cellOf = (what, id) => {
      const pane = panes[`${what}_${id}`];
      const draw = id === "student" ? drawWiped(panes[`${what}_before`], pane) : pane.drawOn;
      return { title: pane.title.textContent, reference: id === "reference", draw };
    };
    return {
      heading: `A ${data.called[1]} learns to see: step ${step} of ${data.steps}`,
      cells: ROWS.map((what) => columns().map((id) => cellOf(what, id))),
      aspect: data.base.height / data.base.width,
      bars: [
        { ...bars.attention.shown(), text: `attention, ${nameOfHead(state.head)}: one scale for all steps`, from: 0, span: columns().length / 2 },
        { ...bars.similarity.shown(), text: `cosine with row ${query.row}, col ${query.col} of the clean picture`, from: columns().length / 2, span: columns().length / 2 },
      ],
      lines: [
        `${capital(data.called[1])}: step ${step}${wiped}`,
        `Agreement of this picture before: ${numbers(data.moments[0].agreement)}`,
        `Agreement of this picture at step ${step}: ${numbers(agreement)}`,
        ...data.near.map(({ name }, i) => `${name}: ${numbers(chosenMoments()[BESIDE[i]].agreement)}`),
      ],
      over: markFigure,
    };
  }

  function drawWiped(before, after) {
    return (context, x, y, width, height) => {
      after.drawOn(context, x, y, width, height);
      if (state.wipe === 0) return;
      const edge = (state.wipe / 100) * width;
      context.save();
      context.beginPath();
      context.rect(x, y, edge, height);
      context.clip();
      before.drawOn(context, x, y, width, height);
      context.restore();
      context.fillStyle = "#fff";
      context.fillRect(x + edge - 1, y, 2, height);
    };
  }

  function markFigure(context, places) {
    for (const pane of places) framePatch(context, pane, query, data.base);
  }

  function makeNumbers() {
    const { rows, cols } = data.base;
    const grids = (what) => Object.fromEntries(columns().map((id) => [id, tableOf(shown[`${what}_${id}`], rows, cols)]));
    const { step, agreement } = data.moments[indexNow()];
    return {
      run: data.run,
      step,
      steps: data.steps,
      grid: [rows, cols],
      query: { ...query },
      attention: grids("attention"),
      similarity: grids("similarity"),
      agreement: { before: data.moments[0].agreement, student: agreement },
      recorded_steps: data.moments.map((moment) => moment.step),
      before: data.before,
      records: data.records,
      beside: data.beside.map(({ name, before, records }) => ({ name, before, records })),
      differs: data.differs,
    };
  }

  function makeLink() {
    const { pin: spot, ...rest } = state;
    const pinned = spot ? { pin: `${spot.row},${spot.col}` } : {};
    return { ...pinned, ...changedSettings(rest, RECOVERY_DEFAULTS), step: place };
  }

  // ------------------------------------------------------------ settings
  function readPin(value) {
    if (value === null || value === "") return null;
    const [row, col] = typeof value === "string" ? value.split(",") : [value.row, value.col];
    const spot = readSpot(row, col);
    return (spot && data?.base.reference ? spotOn(spot, null, data.base) : spot) ?? state.pin;
  }

  function readPlace(partial) {
    const last = filled() ? data.moments.length - 1 : 0;
    const step = readNumber(partial.step, null, 0, 1e9);
    const index = filled() ? readNumber(partial.index, null, 0, last) : null;
    if (index === null && step === null) return;
    halt();
    if (!filled()) place = step; // remembered until there is something to show
    else goTo(index === null ? nearestMoment(step) : Math.round(index));
  }

  // ------------------------------------------------------------ the face of the view
  refreshPlay();
  life.atEnd(halt);
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: makeLink,
    /** Changes some settings; text is fine, nonsense is ignored. */
    set(partial = {}) {
      if ("head" in partial) state.head = headFrom(partial.head);
      look.read(partial, data?.base.tables);
      state.wipe = readNumber(partial.wipe, state.wipe, 0, 100);
      if ("pin" in partial) state.pin = readPin(partial.pin);
      if (state.pin) query = { ...state.pin };
      else if (partial.query) query = readPin(partial.query) ?? query;
      readPlace(partial);
      refresh();
      const wanted = readFlag(partial.playing, Boolean(playing));
      if (!wanted) halt();
      else if (!playing) start();
    },
    /** Cosine with the patch at (row, col) of the reference: {reference, before, student, beside0…: Float32Array}, row by row. */
    similarity,
    /** The maps on screen, by pane: `attention_student` and so on. */
    maps: () => ({ ...shown }),
  };
}

// ---------------------------------------------------------------- moments

/** @param {Moment} moment @param {number} patches */
function readMoment(moment, patches) {
  const attention = decodeArray(moment.attention);
  const features = decodeArray(moment.patches);
  if (attention.shape[1] !== patches || features.shape[0] !== patches) {
    throw new Error(`step ${moment.step} has maps of [${attention.shape}] and [${features.shape}], which do not fit the grid`);
  }
  return {
    step: moment.step,
    source: moment.attention.data,
    agreement: moment.agreement ?? {},
    attention,
    heads: attention.shape[0],
    maps: new Map(), // head -> Float32Array, made when first asked for
    features: featuresOf(features),
  };
}

function attentionMap(moment, head) {
  if (!moment.maps.has(head)) moment.maps.set(head, mapOfHeads(moment.attention, head));
  return moment.maps.get(head);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function entitle({ title }, text) {
  setText(title, text);
  title.title = text;
}

/** A second map in a pane, seen left of a line. */
function addWipe(pane) {
  const canvas = make("canvas", { class: "vx-heat vx-wiped", hidden: true });
  const line = make("div", { class: "vx-wipeline", hidden: true });
  pane.heat.after(canvas, line);
  const set = (percent, opacity, smooth) => {
    canvas.hidden = percent === 0;
    line.hidden = percent === 0 || percent === 100;
    line.style.left = `${percent}%`;
    canvas.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    pane.heat.style.clipPath = percent === 0 ? "" : `inset(0 0 0 ${percent}%)`;
    canvas.style.opacity = opacity;
    canvas.classList.toggle("vx-crisp", !smooth);
  };
  return { canvas, set };
}

/** How far the run is. What screen readers hear of it is told apart, and seldom. */
function createRunStatus() {
  const badge = make("span", { class: "vx-state" });
  const steps = make("span", { class: "vx-steps" });
  const facts = make("span", { class: "vx-facts" });
  const done = make("div", { class: "vx-done" });
  const progress = make("div", { class: "vx-progress", role: "progressbar", "aria-label": "Training", "aria-valuemin": 0 }, done);
  const message = make("p", { class: "vx-runmessage", hidden: true });
  const spoken = make("p", { class: "vx-sr", role: "status" });
  const node = make("div", { class: "vx-run" }, make("div", { class: "vx-runline" }, badge, steps, facts), progress, message, spoken);
  let told = { state: null, message: null, at: -Infinity };

  const set = (run) => {
    const record = run.records.at(-1);
    const step = record?.step ?? run.moments.at(-1)?.step ?? 0;
    const going = run.state === "running" || run.state === "stopping";
    const count = run.steps ? `step ${step} of ${run.steps}` : `step ${step}`;
    const left = run.state === "running" && step < run.steps ? timeLeft(record?.eta_seconds) : null;
    const speed = going && Number.isFinite(record?.images_per_second) ? `${Number(record.images_per_second.toPrecision(2))} images/s` : null;
    node.dataset.state = run.state ?? "";
    badge.hidden = !run.state;
    setText(badge, run.state ?? "");
    setText(steps, count);
    setText(facts, [speed, left].filter(Boolean).join(" \u00b7 "));
    done.style.width = `${Math.min(100, (100 * step) / (run.steps || 1))}%`;
    progress.setAttribute("aria-valuemax", run.steps);
    progress.setAttribute("aria-valuenow", step);
    message.hidden = !run.message;
    setText(message, run.message ?? "");
    speak(run, [run.state, count, left, run.message].filter(Boolean).join(", "));
  };
  const speak = (run, text) => {
    const news = run.state !== told.state || run.message !== told.message;
    if (!news && performance.now() - told.at < SPEECH_MS) return;
    told = { state: run.state, message: run.message, at: performance.now() };
    setText(spoken, text);
  };
  return { node, set };
}

function timeLeft(seconds) {
  if (!Number.isFinite(seconds)) return null;
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s left`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min left` : `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

/** This picture's agreement, before and at the step that is shown: of this student, and of those beside it. */
function createAgreementTable(shell) {
  const node = make("div");
  let shown = null; // the measures that the table has columns for, and how many rows
  let names = [];
  let cells = [];
  const build = (measures, count) => {
    const heads = measures.map(({ title, better, help }) => columnName(createHelp(shell, title, help), createArrow(better)));
    names = Array.from({ length: count }, () => make("span"));
    cells = names.map(() => measures.map(() => make("td")));
    const rows = names.map((name, i) => createRow([name], cells[i]));
    node.replaceChildren(createTable("vx-agreement", ["This picture\u2019s agreement with the reference"], heads, rows));
  };
  /** moments: [who, moment] for each row; the others are judged by the first one. */
  const set = (measures, moments) => {
    const key = JSON.stringify([measures, moments.length]);
    if (shown !== key) build(measures, moments.length);
    shown = key;
    const first = moments[0][1].agreement;
    moments.forEach(([who, { step, agreement }], row) => {
      setText(names[row], `${who}, step ${step}`);
      measures.forEach(({ id, better }, i) => {
        const cell = cells[row][i];
        const word = row ? judged(better, first[id], agreement[id], 0.0005).replace("same", "") : "";
        cell.className = word && `vx-${word}`;
        if (cell.textContent === `${formatFixed(agreement[id], 3)} ${word}`) return;
        cell.replaceChildren(`${formatFixed(agreement[id], 3)} `, make("span", { class: "vx-sr", text: word }));
      });
    });
  };
  return { node, set };
}

/** The settings in which runs beside each other differ, and why one of them shows no maps. */
function createDifferences() {
  const node = make("div", { class: "vx-differences", hidden: true });
  let shown = "";
  /** @param {{ beside: import("./payloads").BesideRun[]; differs: [string, string[]][] }} run */
  const set = ({ beside, differs }) => {
    node.hidden = !beside.length;
    const key = JSON.stringify([differs, beside.map(({ name, why }) => [name, why])]);
    if (key === shown) return;
    shown = key;
    const heads = ["this run", ...beside.map(({ name }) => name)].map((name) => columnName(name));
    const rows = differs.map(([name, values]) => createRow([name], values));
    const reasons = beside.filter(({ why }) => why).map(({ name, why }) => make("p", { class: "vx-hint", text: `${name}: curves only, since ${why}.` }));
    const alike = make("p", { class: "vx-hint", text: "The runs have the same settings." });
    node.replaceChildren(rows.length ? createTable("vx-settings", ["What differs"], heads, rows) : alike, ...reasons);
  };
  return { node, set };
}
