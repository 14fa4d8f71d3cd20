// How teacher and student hold up as one distortion grows: four measures over the same axis of strengths.
//
// Enters: the sweep payload (strengths, one curve of the teacher and one of the student for each measure, where the
// student was trained), complete each time and many times while it is measured. Leaves: the strength that somebody
// chooses, through onEvent("strength", {index, value, spec}). It measures nothing itself, and draws no number that
// has not come yet.

import { MINUS, composeFigure, createActions, createHelp, createShell, formatFixed, make, oncePerFrame, readFlag, readNumber, titleOf, viewLink } from "./common.js";

const PLOT = { height: 204, left: 40, right: 16, top: 16, bottom: 44, inset: 8 };
const CLOSEST = 14; // px; strengths closer together than this could not be told apart, nor hit with a finger
const WIDE = 760; // px; from here on the numbers are open from the start
const LETTER = 6.8; // px; the width of a digit at 12 px, near enough to keep labels apart
const WHO = ["teacher", "student"];
const EMPTY = "Press Measure to see how teacher and student hold up as the damage grows.";
const UNTOUCHED = "The student is still the untouched copy of the teacher: one curve stands for both.";
const NO_LABELS = "these pictures have no labels";

/** Builds the view inside `root`; see the methods at the end. */
export function createSweepView(root, options = {}) {
  let data = null;
  let chosen = null; // index of a strength
  let wished = null; // a setting that came before there was anything to set
  let said = null; // what the last payload called chosen
  let pending = []; // chosen here, not yet heard back in a payload
  let pointed = null; // index of the strength under the pointer
  let keyed = null; // index of the strength that the keyboard has reached
  let dressed = ""; // for which strengths and measures the elements were made
  let charts = [];
  let opened = false; // whether it is settled if the numbers are open

  // ------------------------------------------------------------ elements
  const shell = createShell(root, "sweep", EMPTY);
  const head = createHead();
  const legend = createLegend();
  const stage = make("div", { class: "vx-sweepcharts" });
  const hint = make("p", { class: "vx-hint", text: "Point at a strength to read it in all charts; click to choose it. With a chart in focus: arrow keys, then Enter." });
  const numbers = make("details", { class: "vx-sweepnumbers" }, make("summary", { text: "Numbers" }));
  let table = null;
  const actions = createActions({ figure: makeFigure, numbers: makeNumbers, page: makePage, link: makeLink, options });
  shell.body.append(head.node, legend.node, stage, hint, numbers, actions.node);

  // ------------------------------------------------------------ reading the payload
  function update(payload) {
    if (payload === null || payload === undefined) return forget();
    if (!payload.values?.length && typeof payload.message === "string") return forget(payload.message);
    let next;
    try {
      next = readSweep(payload);
    } catch (error) {
      return forget(`This measurement could not be read: ${error.message}.`);
    }
    const finished = data?.key === next.key && data.progress && !next.progress;
    adopt(next);
    data = next;
    shell.say(data.message);
    shell.show(true);
    dress();
    refresh();
    if (finished) shell.announce(`Measured: all ${data.values.length} strengths.`);
  }

  function forget(message) {
    data = chosen = said = pointed = keyed = null;
    pending = [];
    shell.show(false);
    shell.say(message);
  }

  /** Which strength is chosen after a payload. One that only tells what somebody chose here earlier changes nothing. */
  function adopt(next) {
    if (data?.key !== next.key) {
      chosen = wished === null ? next.chosen : indexOfWish(next, next.chosen);
      wished = pointed = keyed = null;
      pending = [];
    } else if (next.chosen !== said) {
      const echo = pending.lastIndexOf(next.chosen);
      if (echo < 0) chosen = next.chosen;
      pending = echo < 0 ? [] : pending.slice(echo + 1);
    }
    said = next.chosen;
  }

  function indexOfWish({ values }, fallback) {
    const index = readNumber(wished.chosen, null, 0, values.length - 1);
    if (index !== null) return Math.round(index);
    const strength = readNumber(wished.strength, null, -Infinity, Infinity);
    if (strength === null) return fallback;
    return values.reduce((best, value, i) => (Math.abs(value - strength) < Math.abs(values[best] - strength) ? i : best), 0);
  }

  /** New elements, only for other strengths or measures than before. */
  function dress() {
    const wanted = JSON.stringify([data.key, data.series.map(({ id, title, help, better }) => [id, title, help, better])]);
    if (wanted === dressed) return;
    dressed = wanted;
    for (const chart of charts) observer.unobserve(chart.svg);
    charts = data.series.map((each) => createSweepChart(shell, each));
    stage.replaceChildren(...charts.map((chart) => chart.node));
    for (const chart of charts) observer.observe(chart.svg);
    table?.node.remove();
    table = createNumbers(data, choose);
    numbers.append(table.node);
    actions.refresh();
  }

  // ------------------------------------------------------------ painting
  function refresh() {
    head.set(data);
    legend.set(data);
    table.set(data);
    refreshCharts();
  }

  /** All that follows the pointer, the keys and the width. */
  function refreshCharts() {
    if (!data) return;
    openWhereWide();
    const cursor = pointed ?? keyed;
    charts.forEach((chart, i) => chart.draw(data, data.series[i], { chosen, cursor }));
    const below = charts.map((_, i) => distanceBelow(charts.filter((_chart, j) => j >= i && !data.series[j].missing)));
    charts.forEach((chart, i) => chart.join(data.series[i].missing ? 0 : below[i]));
    table.mark(chosen);
  }
  const refreshSoon = oncePerFrame(refreshCharts);

  /** Once, as soon as there is a width (none in a tab that nobody has opened). */
  function openWhereWide() {
    if (opened || !shell.host.clientWidth) return;
    numbers.open = shell.host.clientWidth >= WIDE;
    opened = true;
  }

  const observer = new ResizeObserver(refreshSoon);

  // ------------------------------------------------------------ choosing
  function choose(index) {
    chosen = index;
    pending.push(index);
    refreshCharts();
    const { value, spec } = strengthAt(index);
    options.onEvent?.("strength", { index, value, spec });
    options.onState?.(snapshot());
    shell.announce(`Chosen: ${tellStrength(data, index)}`);
  }

  function strengthAt(index) {
    return { index, value: data.values[index], spec: data.specs[index] ?? null };
  }

  const chartOf = (event) => charts.find(({ svg }) => svg.contains(event.target)) ?? null;

  function follow(event) {
    const chart = chartOf(event);
    const index = chart && data ? chart.indexAt(event.clientX) : null;
    if (index !== null) keyed = null;
    if (index === pointed) return;
    pointed = index;
    refreshSoon();
  }

  function leave() {
    if (pointed === null) return;
    pointed = null;
    refreshSoon();
  }

  function press(event) {
    const chart = chartOf(event);
    const index = chart && data ? chart.indexAt(event.clientX) : null;
    if (index !== null) choose(index);
  }

  const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -Infinity, End: Infinity };

  function onKey(event) {
    if (!data || !chartOf(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const here = pointed ?? keyed ?? chosen ?? data.order[0];
    if (event.key in STEPS) moveTo(data.order[clamp(data.order.indexOf(here) + STEPS[event.key], 0, data.order.length - 1)]);
    else if (event.key === "Enter" || event.key === " ") choose(here);
    else if (event.key === "Escape") moveTo(null);
    else return;
    event.preventDefault();
  }

  function moveTo(index) {
    pointed = null;
    keyed = index;
    refreshCharts();
    if (index !== null) shell.announce(describeStrength(data, index));
  }

  function onFocus(event) {
    if (data && chartOf(event) && event.target.matches(":focus-visible")) moveTo(keyed ?? chosen ?? data.order[0]);
  }

  function onBlur(event) {
    if (keyed === null || stage.contains(event.relatedTarget)) return;
    keyed = null;
    refreshSoon();
  }

  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointerleave", leave);
  stage.addEventListener("click", press);
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("focusin", onFocus);
  stage.addEventListener("focusout", onBlur);

  // ------------------------------------------------------------ files
  function snapshot() {
    const none = { index: null, value: null, spec: null };
    const { index, value, spec } = data && chosen !== null ? strengthAt(chosen) : none;
    return { chosen: index, value, spec, cursor: pointed ?? keyed, numbers: numbers.open };
  }

  function fileName() {
    const at = chosen === null ? "" : `-${data.parameter.name}${data.values[chosen]}`;
    return `vit-explorer-sweep-${data.operator}${at}`.replaceAll(/[^\w.-]+/g, "-");
  }

  function makeFigure() {
    const cells = data.series.map((each) => ({
      title: `${each.title}, ${each.better > 0 ? "higher" : "lower"} is better`,
      draw: (context, x, y, width, height) => paintChart(context, data, each, { x, y, width, height, chosen }),
    }));
    const rows = Array.from({ length: Math.ceil(cells.length / 2) }, (_, i) => cells.slice(2 * i, 2 * i + 2));
    const canvas = composeFigure({
      font: getComputedStyle(shell.host).fontFamily,
      heading: `${data.label}: how teacher and student hold up`,
      cells: rows,
      aspect: 0.86,
      bars: [],
      lines: [...figureLines(data, chosen), "made with vit-explorer"],
    });
    return { name: fileName(), canvas };
  }

  function makeNumbers() {
    const { operator, label, parameter, values, specs, trained, neverTrained, untouched, pictures, seed, caption } = data;
    const content = {
      view: "sweep",
      settings: snapshot(),
      operator, label, parameter, values, specs,
      series: data.series.map(({ id, title, better, teacher, student, reference }) => ({ id, title, better, teacher, student, reference })),
      trained, never_trained: neverTrained, untouched_student: untouched, pictures, seed, caption,
      complete: data.progress === null,
      link: data.link,
    };
    return { name: fileName(), content };
  }

  function makePage() {
    const payload = { ...data.payload, progress: null };
    const facts = data.progress ? [["Measured", `the first ${data.progress.done} of ${data.progress.total} pictures`]] : [];
    return { name: fileName(), title: `${data.label}: how teacher and student hold up`, payload, state: snapshot(), facts };
  }

  function makeLink() {
    return viewLink(data?.link, { view: "sweep", strength: data && chosen !== null ? data.values[chosen] : null });
  }

  // ------------------------------------------------------------ the face of the view
  return {
    /** Shows a payload, keeping the chosen strength, hover and focus where it tells of the same sweep; null empties it. */
    update,
    /** The chosen strength (index, value, spec), the one that is pointed at, and whether the numbers are open. */
    state: snapshot,
    /** Chooses a strength by `chosen` (index; null for none) or `strength` (the nearest value); nonsense is ignored. */
    set(partial = {}) {
      numbers.open = readFlag(partial.numbers, numbers.open);
      opened ||= "numbers" in partial;
      if (!("chosen" in partial) && !("strength" in partial)) return;
      wished = partial;
      if (!data) return;
      chosen = partial.chosen === null ? null : indexOfWish(data, chosen);
      wished = null;
      refreshCharts();
    },
    destroy() {
      refreshSoon.cancel();
      observer.disconnect();
      shell.destroy();
    },
  };
}

// ---------------------------------------------------------------- reading

/** The payload, checked and in the words of this file. Throws what a person can mend. */
function readSweep(payload) {
  if (typeof payload !== "object" || Array.isArray(payload)) throw new Error("it is no object");
  if ((payload.version ?? 1) !== 1) throw new Error(`it has version ${payload.version} instead of 1`);
  const { values } = payload;
  if (!Array.isArray(values) || !values.length || !values.every(Number.isFinite)) throw new Error("its strengths (values) are no list of numbers");
  if (!Array.isArray(payload.series) || !payload.series.length) throw new Error("it has no list of measures (series)");
  const untouched = Boolean(payload.untouched_student);
  const parameter = { name: String(payload.parameter?.name ?? "strength"), unit: String(payload.parameter?.unit ?? "") };
  const operator = String(payload.operator ?? "distortion");
  return {
    key: JSON.stringify([operator, parameter.name, values]),
    operator,
    label: String(payload.label ?? operator),
    parameter,
    values,
    order: values.map((_, i) => i).sort((a, b) => values[a] - values[b]),
    specs: Array.isArray(payload.specs) ? payload.specs : [],
    series: payload.series.map((each) => readSeries(each, payload, untouched)),
    trained: readTrained(payload.trained),
    neverTrained: Boolean(payload.never_trained),
    untouched,
    pictures: Number.isFinite(payload.pictures) ? payload.pictures : null,
    seed: Number.isFinite(payload.seed) ? payload.seed : null,
    chosen: Number.isInteger(payload.chosen) && payload.chosen in values ? payload.chosen : null,
    progress: readProgress(payload.progress),
    caption: payload.caption ? String(payload.caption) : "",
    message: payload.message ? String(payload.message) : null,
    link: payload.link ?? null,
    payload,
  };
}

function readSeries(each, payload, untouched) {
  if (!each || typeof each !== "object") throw new Error("one of its measures (series) is no object");
  const title = String(each.title ?? each.id ?? "a measure");
  const read = (who) => {
    const curve = each[who] ?? null;
    if (curve === null) return null;
    if (!Array.isArray(curve) || curve.length !== payload.values.length) {
      throw new Error(`the ${who}'s ${title} has ${curve.length ?? "no"} values for ${payload.values.length} strengths`);
    }
    if (!curve.every((value) => value === null || Number.isFinite(value))) throw new Error(`the ${who}'s ${title} holds something else than numbers and null`);
    return curve;
  };
  const [teacher, student] = [read("teacher"), untouched ? null : read("student")];
  const reference = Number.isFinite(each.reference) ? each.reference : null;
  const measured = [...(teacher ?? []), ...(student ?? [])].filter(Number.isFinite);
  return {
    id: String(each.id ?? title),
    title,
    better: each.better < 0 ? -1 : 1,
    help: String(each.help ?? ""),
    teacher,
    student,
    reference,
    low: Math.min(...[each.low, reference, ...measured].filter(Number.isFinite), Infinity),
    high: Math.max(...[each.high, reference, ...measured].filter(Number.isFinite), -Infinity),
    missing: measured.length ? null : whyMissing(each, payload),
  };
}

/** Why a measure has no number at all. */
function whyMissing(each, payload) {
  const others = payload.series.some((other) => WHO.some((who) => other?.[who]?.some?.(Number.isFinite)));
  if (each.why) return String(each.why).startsWith("not measured") ? String(each.why) : `not measured: ${each.why}`;
  if (payload.progress && !others) return "not measured yet";
  return each.id === "nearest_label" ? `not measured: ${NO_LABELS}` : "not measured";
}

function readTrained(trained) {
  if (!trained) return null;
  const known = Number.isFinite(trained.low);
  return {
    spec: String(trained.spec ?? ""),
    low: known ? trained.low : null,
    high: known ? (Number.isFinite(trained.high) ? trained.high : trained.low) : null,
  };
}

function readProgress(progress) {
  if (!progress || !Number.isFinite(progress.done) || !(progress.total > 0)) return null;
  return { done: clamp(progress.done, 0, progress.total), total: progress.total };
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

// ---------------------------------------------------------------- words

function formatStrength(value) {
  const text = String(Number(Math.abs(value).toPrecision(6)));
  return value < 0 ? MINUS + text : text;
}

function tellStrength({ parameter, values }, index) {
  return `${parameter.name} ${formatStrength(values[index])}`;
}

/** {text: "+0.042", word: "better"}: what the student is ahead of the teacher, or behind. */
function gapAt({ teacher, student, better }, index) {
  const gap = Number.isFinite(teacher?.[index]) && Number.isFinite(student?.[index]) ? student[index] - teacher[index] : NaN;
  if (Number.isNaN(gap)) return { text: "", word: "" };
  if (Math.abs(gap) < 0.0005) return { text: "0.000", word: "equal" };
  return { text: (gap > 0 ? "+" : "") + formatFixed(gap, 3), word: gap * better > 0 ? "better" : "worse" };
}

const numberAt = (curve, index) => formatFixed(curve?.[index] ?? NaN, 3);

/** All measures at one strength, to be read aloud. */
function describeStrength(data, index) {
  const parts = data.series.map((each) => {
    const known = WHO.filter((who) => Number.isFinite(each[who]?.[index])).map((who) => `${who} ${numberAt(each[who], index)}`);
    const { text, word } = gapAt(each, index);
    return `${each.title} ${[...known, text && `gap ${text}, ${word}`].filter(Boolean).join(", ") || "not measured"}`;
  });
  return `${tellStrength(data, index)}: ${parts.join("; ")}`;
}

function describeCurve(data, each, who) {
  const measured = data.order.filter((i) => Number.isFinite(each[who]?.[i]));
  if (!measured.length) return "";
  const tell = (i) => `${numberAt(each[who], i)} at ${formatStrength(data.values[i])}`;
  return measured.length === 1 ? `${who}: ${tell(measured[0])}` : `${who}: from ${tell(measured[0])} to ${tell(measured.at(-1))}`;
}

function trainedText(data) {
  const { trained, parameter } = data;
  const range = trained.low === trained.high ? formatStrength(trained.low) : `${formatStrength(trained.low)} to ${formatStrength(trained.high)}`;
  return `student trained at ${parameter.name} ${range}${isBeyond(data) ? ", outside this axis" : ""}`;
}

function isBeyond({ trained, values, order }) {
  return trained.high < values[order[0]] || trained.low > values[order.at(-1)];
}

const wasTrainedHere = (data) => !data.untouched && !data.neverTrained && data.trained !== null && data.trained.low !== null;
const wasNeverTrained = (data) => !data.untouched && (data.neverTrained || (data.trained !== null && data.trained.low === null));

function neverText({ trained }) {
  return `never trained on: the student learned ${trained?.spec || "something else"}`;
}

/** What the caption does not tell anyway. */
function samplesText({ pictures, seed, caption }) {
  const told = new RegExp(`\\b${pictures}\\b`).test(caption);
  return [pictures !== null && !told && `${pictures} pictures`, seed !== null && `seed ${seed}`].filter(Boolean).join(" \u00b7 ");
}

function figureLines(data, chosen) {
  const look = "Teacher: blue line, circles. Student: orange dashes, squares. Dotted: the teacher on clean pictures.";
  return [
    data.untouched ? UNTOUCHED : look,
    [wasTrainedHere(data) && `Shaded: ${trainedText(data)}.`, wasNeverTrained(data) && `${neverText(data)}.`, chosen !== null && `Line: ${tellStrength(data, chosen)}.`].filter(Boolean).join(" "),
    [data.caption, samplesText(data)].filter(Boolean).join(" \u00b7 "),
    data.progress ? `Not finished: ${progressText(data.progress)}.` : "",
  ].filter(Boolean);
}

function progressText({ done, total }) {
  return `measured ${done} of ${total} pictures`;
}

// ---------------------------------------------------------------- small parts

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setPath(node, path) {
  if (node.getAttribute("d") !== path) node.setAttribute("d", path);
}

/** What is swept, how far the measuring is, and what has to be known before the curves are read. */
function createHead() {
  const label = make("span", { class: "vx-sweeplabel" });
  const badge = make("span", { class: "vx-sweepbadge", hidden: true });
  const caption = make("p", { class: "vx-sweepcaption" });
  const facts = make("span", { class: "vx-facts" });
  const done = make("div", { class: "vx-done" });
  const progress = make("div", { class: "vx-progress", role: "progressbar", "aria-label": "Measuring", "aria-valuemin": 0 }, done);
  const note = make("p", { class: "vx-sweepnote", text: UNTOUCHED, hidden: true });
  const node = make(
    "div",
    { class: "vx-sweephead" },
    make("div", { class: "vx-sweepname" }, make("div", { class: "vx-sweepline" }, label, badge), caption),
    make("div", { class: "vx-sweepprogress" }, facts, progress),
    note,
  );
  const set = (data) => {
    setText(label, data.label);
    setText(caption, data.caption);
    badge.hidden = !wasNeverTrained(data);
    setText(badge, badge.hidden ? "" : neverText(data));
    note.hidden = !data.untouched;
    setText(facts, data.progress ? progressText(data.progress) : samplesText(data));
    progress.classList.toggle("vx-idle", !data.progress); // keeps its place, so that the charts do not jump
    progress.setAttribute("aria-hidden", String(!data.progress));
    if (!data.progress) return;
    progress.setAttribute("aria-valuemax", data.progress.total);
    progress.setAttribute("aria-valuenow", data.progress.done);
    progress.setAttribute("aria-valuetext", progressText(data.progress));
    done.style.width = `${(100 * data.progress.done) / data.progress.total}%`;
  };
  return { node, set };
}

/** A short stretch of a curve, as legends and read-outs show it. */
function createSample(who, width = 26) {
  return make(
    "svg:svg",
    { class: `vx-sample vx-by-${who}`, viewBox: `0 0 ${width} 12`, width, height: 12, "aria-hidden": "true" },
    make("svg:path", { class: "vx-stroke", d: width > 12 ? `M0 6H${width}` : "" }),
    make("svg:path", { class: "vx-dots", d: dotPath(who, width / 2, 6) }),
  );
}

function createLegend() {
  const entry = (sample, text) => {
    const words = make("span", { text });
    return { item: make("li", {}, sample, words), words };
  };
  const box = (kind, ...shapes) => {
    const size = { viewBox: "0 0 26 12", width: 26, height: 12 };
    return make("svg:svg", { class: `vx-sample vx-by-${kind}`, ...size, "aria-hidden": "true" }, ...shapes);
  };
  const teacher = entry(createSample("teacher"), "teacher, frozen");
  const student = entry(createSample("student"), "student");
  const reference = entry(box("reference", make("svg:path", { class: "vx-sweepreference", d: "M0 6H26" })), "teacher on the clean pictures");
  const trained = entry(box("trained", make("svg:path", { class: "vx-sweepband", d: "M4 0H22V12H4z" }), make("svg:path", { class: "vx-sweeptrained", d: "M4 11H22" })), "");
  const node = make("ul", { class: "vx-legend vx-sweeplegend" }, ...[teacher, student, reference, trained].map(({ item }) => item));
  const set = (data) => {
    student.item.hidden = !data.series.some((each) => each.student);
    reference.item.hidden = !data.series.some((each) => each.reference !== null && each.missing === null);
    trained.item.hidden = !wasTrainedHere(data);
    setText(trained.words, trained.item.hidden ? "" : trainedText(data));
    trained.item.title = data.trained?.spec ?? "";
  };
  return { node, set };
}

/** Strengths as columns; below each measure's name its rows of teacher and student. */
function createNumbers(data, choose) {
  const arrow = (better) => make("span", { class: "vx-direction", text: better > 0 ? "\u2191" : "\u2193", "aria-label": better > 0 ? "higher is better" : "lower is better" });
  const columns = data.order.map((i) => {
    const words = { text: formatStrength(data.values[i]), title: `choose ${tellStrength(data, i)}` };
    return make("th", { scope: "col" }, make("button", { class: "vx-sweepcolumn", type: "button", ...words, onclick: () => choose(i) }));
  });
  const parts = data.series.map(({ title, better }) => {
    const rows = Object.fromEntries(WHO.map((who) => [who, data.order.map(() => make("td"))]));
    const name = (who) => make("th", { scope: "row" }, createSample(who, 12), who);
    const lines = Object.fromEntries(WHO.map((who) => [who, make("tr", {}, name(who), ...rows[who])]));
    const why = make("td", { class: "vx-sweepwhy", colspan: data.order.length + 1 });
    const missing = make("tr", {}, why);
    const group = make("th", { scope: "rowgroup", colspan: data.order.length + 1 }, title, arrow(better));
    return { rows, lines, why, missing, body: make("tbody", {}, make("tr", { class: "vx-sweepgroup" }, group), lines.teacher, lines.student, missing) };
  });
  const heading = make("thead", {}, make("tr", {}, make("th", { scope: "col", text: data.parameter.name }), ...columns));
  const grid = make("table", { class: "vx-table vx-sweeptable", style: `--vx-strengths: ${data.values.length}` }, heading, ...parts.map(({ body }) => body));
  const node = make("div", { class: "vx-scroll", tabindex: 0, role: "group", "aria-label": "Numbers of teacher and student" }, grid);

  const set = ({ series, order }) => {
    series.forEach((each, i) => {
      const { rows, lines, why, missing } = parts[i];
      missing.hidden = each.missing === null;
      setText(why, each.missing ?? "");
      for (const who of WHO) {
        lines[who].hidden = each.missing !== null || each[who] === null;
        order.forEach((at, column) => setText(rows[who][column], numberAt(each[who], at)));
      }
      order.forEach((at, column) => judge(rows.student[column], gapAt(each, at)));
    });
  };
  const mark = (chosen) => {
    const at = data.order.indexOf(chosen);
    for (const row of grid.rows) {
      if (row.cells.length <= 1) continue; // a name that spans the row
      Array.from(row.cells).forEach((cell, i) => cell.classList.toggle("vx-sweepchosen", at >= 0 && i === at + 1));
    }
    columns.forEach((cell, i) => cell.firstChild.setAttribute("aria-pressed", String(i === at)));
  };
  return { node, set, mark };
}

/** Colours a cell by its gap and says so. */
function judge(cell, { text, word }) {
  cell.classList.toggle("vx-closer", word === "better");
  cell.classList.toggle("vx-farther", word === "worse");
  cell.title = text && `gap ${text}: ${word}`;
}

// ---------------------------------------------------------------- charts

/** One measure: its name, what it is at the strength that is pointed at (or else chosen), and the curves. */
function createSweepChart(shell, { id, title, help, better }) {
  const direction = make("span", { class: "vx-direction", text: better > 0 ? "\u2191 higher is better" : "\u2193 lower is better" });
  const name = help ? createHelp(shell, title, help) : make("span", { text: title });
  const readout = createReadout();
  const parts = createPlotParts();
  const svg = make(
    "svg:svg",
    { class: "vx-plot vx-sweepplot", role: "application", "aria-roledescription": "chart", tabindex: 0, height: PLOT.height, "data-series": id },
    ...parts.nodes,
  );
  const caption = make("figcaption", { class: "vx-sweepcaptionline" }, make("span", { class: "vx-charttitle" }, name, direction), readout.node);
  const node = make("figure", { class: "vx-chart" }, caption, svg);
  let places = null;
  let marked = null;

  const draw = (data, series, { chosen, cursor }) => {
    const shown = cursor ?? chosen;
    readout.set(data, series, shown);
    const curves = WHO.map((who) => describeCurve(data, series, who)).filter(Boolean).join("; ");
    svg.setAttribute("aria-label", `${title} over ${data.parameter.name}. ${series.missing ?? curves}`);
    const width = svg.clientWidth;
    if (!width) return; // not on screen; the observer calls when it is
    svg.setAttribute("viewBox", `0 0 ${width} ${PLOT.height}`);
    const geometry = geometryOf(data, series, { width, height: PLOT.height, chosen, cursor });
    places = geometry.places;
    marked = geometry.chosen;
    parts.paint(geometry);
  };
  /** The chosen strength's line goes on to the chart below. */
  const join = (distance) => {
    const bottom = PLOT.height - PLOT.bottom;
    setPath(parts.join, marked && distance ? `M${marked.x} ${bottom}V${PLOT.height + distance}` : "");
  };
  const indexAt = (clientX) => {
    if (!places) return null;
    const x = clientX - svg.getBoundingClientRect().left;
    return places.xs.reduce((best, each, i) => (Math.abs(each - x) < Math.abs(places.xs[best] - x) ? i : best), 0);
  };
  return { node, svg, draw, join, indexAt };
}

/** From the foot of the first chart to the plot of the next one in the same column; 0 without one. */
function distanceBelow([first, ...others]) {
  if (!first) return 0;
  const here = first.svg.getBoundingClientRect();
  const under = others.map(({ svg }) => svg.getBoundingClientRect()).find((box) => Math.abs(box.left - here.left) < 1 && box.top > here.top);
  return under ? under.top - here.bottom + PLOT.top : 0;
}

function createReadout() {
  const strength = make("span", { class: "vx-sweepat" });
  const values = Object.fromEntries(WHO.map((who) => [who, make("span", { class: "vx-sweepvalue" })]));
  const pairs = Object.fromEntries(WHO.map((who) => [who, make("span", { class: "vx-sweeppair", title: who }, createSample(who, 12), make("span", { class: "vx-sr", text: who }), values[who])]));
  const gap = make("span", { class: "vx-sweepgap" });
  const node = make("span", { class: "vx-sweepreadout" }, strength, pairs.teacher, pairs.student, gap);
  const set = (data, series, index) => {
    const nothing = index === null || series.missing !== null;
    setText(strength, index === null ? "" : `${tellStrength(data, index)}:`);
    for (const who of WHO) {
      pairs[who].hidden = nothing || series[who] === null;
      setText(values[who], nothing ? "" : numberAt(series[who], index));
    }
    const { text, word } = nothing ? { text: "", word: "" } : gapAt(series, index);
    setText(gap, text && `gap ${text} ${word}`);
    gap.className = `vx-sweepgap${word === "better" ? " vx-closer" : word === "worse" ? " vx-farther" : ""}`;
    if (series.missing !== null) setText(strength, "");
  };
  return { node, set };
}

/** The elements of one plot, and how they follow its geometry: they stay, only their shapes change. */
function createPlotParts() {
  const path = (name) => make("svg:path", { class: name });
  const one = {
    band: path("vx-sweepband"),
    trained: path("vx-sweeptrained"),
    join: path("vx-sweepjoin"),
    reference: path("vx-sweepreference"),
    cursorLine: path("vx-plotpointer"),
    chosenLine: path("vx-sweephere"),
    rings: path("vx-sweepring"),
  };
  const grid = make("svg:g", { class: "vx-plotgrid" });
  const curves = Object.fromEntries(WHO.map((who) => [who, { line: path("vx-stroke"), dots: path("vx-dots") }]));
  const groups = WHO.map((who) => make("svg:g", { class: `vx-by-${who}`, "data-who": who }, curves[who].line, curves[who].dots));
  const why = make("svg:text", { class: "vx-sweepmissing", "text-anchor": "middle" });
  const pills = { chosen: createPill("vx-pill-chosen"), cursor: createPill("vx-pill-cursor") };
  const nodes = [one.join, one.band, grid, one.trained, one.reference, one.cursorLine, one.chosenLine, ...groups, one.rings, why, pills.chosen.node, pills.cursor.node];
  let gridKey = "";

  const paint = (geometry) => {
    const key = JSON.stringify([geometry.width, geometry.yTicks, geometry.xTicks, geometry.places.xs, geometry.axis]);
    if (key !== gridKey) grid.replaceChildren(...gridNodes(geometry));
    gridKey = key;
    for (const name of ["band", "trained", "reference", "cursorLine", "chosenLine", "rings"]) setPath(one[name], geometry[name]);
    for (const who of WHO) {
      setPath(curves[who].line, geometry[who].line);
      setPath(curves[who].dots, geometry[who].dots);
    }
    setText(why, geometry.missing ?? "");
    why.setAttribute("x", geometry.middle.x);
    why.setAttribute("y", geometry.middle.y);
    pills.chosen.set(geometry.chosen);
    pills.cursor.set(geometry.cursor);
  };
  return { nodes, paint, join: one.join };
}

function gridNodes({ width, bottom, yTicks, xTicks, places, axis }) {
  const text = (content, x, y, anchor, name) => make("svg:text", { x, y, "text-anchor": anchor, text: content, class: name });
  return [
    ...yTicks.map(({ y }) => make("svg:path", { d: `M${PLOT.left} ${y}H${width - PLOT.right}` })),
    ...yTicks.map(({ y, text: content }) => text(content, PLOT.left - 6, y + 4, "end", "vx-ytick")),
    make("svg:path", { class: "vx-sweepaxis", d: `M${PLOT.left} ${bottom}H${width - PLOT.right}${places.xs.map((x) => `M${x} ${bottom}v4`).join("")}` }),
    ...xTicks.map(({ x, text: content }) => text(content, x, bottom + 17, "middle", "vx-xtick")),
    text(axis.text, axis.x, axis.y, "middle", "vx-xname"),
  ];
}

/** A strength written on the axis, on a ground of its own. */
function createPill(name) {
  const ground = make("svg:rect", { height: 18, rx: 9 });
  const text = make("svg:text", { "text-anchor": "middle" });
  const node = make("svg:g", { class: `vx-pill ${name}`, hidden: true }, ground, text);
  const set = (place) => {
    node.toggleAttribute("hidden", place === null);
    if (place === null) return setText(text, "");
    setText(text, place.text);
    for (const [key, value] of Object.entries({ x: place.x, y: place.y + 4 })) text.setAttribute(key, value);
    for (const [key, value] of Object.entries({ x: place.x - place.half, y: place.y - 9, width: 2 * place.half })) ground.setAttribute(key, value);
  };
  return { node, set };
}

// ---------------------------------------------------------------- geometry

/** Where everything of one chart lies, in px: the page's elements and the saved figure both read it from here. */
function geometryOf(data, series, { width, height, chosen = null, cursor = null }) {
  const bottom = height - PLOT.bottom;
  const places = placesOf(data, width);
  const { low, high, ticks } = rangeOf(series);
  const y = (value) => round(PLOT.top + ((high - value) / (high - low)) * (bottom - PLOT.top));
  const pointer = cursor === chosen ? null : cursor;
  const marked = [chosen, pointer].filter((index) => index !== null);
  const pillOf = (index) => (index === null ? null : { x: places.xs[index], y: bottom + 13, text: formatStrength(data.values[index]), half: halfOf(data.values[index]) });
  const missing = series.missing;
  return {
    width, height, bottom, places, missing,
    yTicks: missing ? [] : ticks.map((tick) => ({ y: y(tick), text: tickText(tick, ticks) })),
    xTicks: labelsOf(data, places, marked),
    axis: { x: (PLOT.left + width - PLOT.right) / 2, y: height - 6, text: axisText(data, places, width) },
    ...(missing ? { band: "", trained: "" } : bandOf(data, places, bottom)),
    reference: missing || series.reference === null ? "" : `M${PLOT.left} ${y(series.reference)}H${width - PLOT.right}`,
    teacher: curveOf(data, series.teacher, "teacher", places, y),
    student: curveOf(data, series.student, "student", places, y),
    rings: ringsOf(series, cursor ?? chosen, places, y),
    chosenLine: chosen === null || missing ? "" : `M${places.xs[chosen]} ${PLOT.top - 6}V${bottom}`,
    cursorLine: pointer === null || missing ? "" : `M${places.xs[pointer]} ${PLOT.top - 6}V${bottom}`,
    chosen: pillOf(chosen),
    cursor: pillOf(pointer),
    middle: { x: (PLOT.left + width - PLOT.right) / 2, y: (PLOT.top + bottom) / 2 + 4 },
  };
}

const round = (value) => Number(value.toFixed(2));
const halfOf = (value) => (formatStrength(value).length * LETTER) / 2 + 5;

/** {xs, even, at(value)}: true to scale, unless some strengths would come too close; then evenly spaced. */
function placesOf({ values, order }, width) {
  const [left, right] = [PLOT.left + PLOT.inset, width - PLOT.right - PLOT.inset];
  const [least, most] = [values[order[0]], values[order.at(-1)]];
  const share = (value) => (most > least ? (value - least) / (most - least) : 0.5);
  const last = order.length - 1;
  const gaps = order.slice(1).map((at, i) => (share(values[at]) - share(values[order[i]])) * (right - left));
  const closest = Math.min(...gaps, Infinity);
  const even = closest < CLOSEST && closest < 0.99 * ((right - left) / last); // strengths that are evenly spaced anyway stay true to scale
  const rank = new Map(order.map((at, i) => [at, i]));
  const xs = values.map((value, at) => round(left + (right - left) * (even ? rank.get(at) / last : share(value))));
  return { xs, even, at: (value) => betweenPlaces(value, values, order, xs) };
}

/** Where any strength lies, also between those that were measured; null outside of them. */
function betweenPlaces(value, values, order, xs) {
  const after = order.findIndex((at) => values[at] >= value);
  if (after < 0 || (after === 0 && values[order[0]] > value)) return null;
  const [first, second] = [order[Math.max(0, after - 1)], order[after]];
  const gap = values[second] - values[first];
  return gap > 0 ? xs[first] + ((value - values[first]) / gap) * (xs[second] - xs[first]) : xs[second];
}

/** The measure's own range, widened to what was measured, and round numbers inside of it. */
function rangeOf({ low, high }) {
  if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= 0.75 * rough);
  const first = Math.ceil(low / gap - 1e-6);
  const count = Math.floor(high / gap + 1e-6) - first + 1;
  return { low, high, ticks: Array.from({ length: count }, (_, i) => Number(((first + i) * gap).toPrecision(9))) };
}

function tickText(tick, ticks) {
  const gap = ticks.length > 1 ? ticks[1] - ticks[0] : 0.1;
  return formatFixed(tick, Math.max(0, Math.ceil(-Math.log10(gap) - 1e-6)));
}

/** The strengths that have room for their number: the two ends first, none under a pill. */
function labelsOf({ values, order }, { xs }, marked) {
  const spanOf = (at, room) => [xs[at] - halfOf(values[at]) + room, xs[at] + halfOf(values[at]) - room];
  const taken = marked.map((at) => spanOf(at, 0));
  const free = (span) => taken.every(([from, to]) => span[1] <= from || span[0] >= to);
  const kept = [...new Set([order[0], order.at(-1), ...order])].filter((at) => {
    const span = spanOf(at, 4);
    if (!free(span)) return false;
    taken.push(span);
    return true;
  });
  return kept.sort((a, b) => xs[a] - xs[b]).map((at) => ({ x: xs[at], text: formatStrength(values[at]) }));
}

function axisText({ parameter }, { even }, width) {
  const text = even ? `${parameter.name}, evenly spaced (not to scale)` : `${parameter.name}${parameter.unit && ` (${parameter.unit})`}`;
  const room = Math.floor((width - 12) / 6.2);
  return text.length > room ? `${text.slice(0, room - 1)}\u2026` : text;
}

/** Where the student was trained: shaded, and thick on the axis. One strength alone gets a width that is seen. */
function bandOf(data, places, bottom) {
  const none = { band: "", trained: "" };
  if (!wasTrainedHere(data) || isBeyond(data)) return none;
  const { values, order, trained } = data;
  const from = places.at(Math.max(trained.low, values[order[0]]));
  const to = places.at(Math.min(trained.high, values[order.at(-1)]));
  const [left, right] = to - from < 10 ? [(from + to) / 2 - 5, (from + to) / 2 + 5] : [from, to];
  return { band: `M${round(left)} ${PLOT.top}H${round(right)}V${bottom}H${round(left)}z`, trained: `M${round(left)} ${bottom}H${round(right)}` };
}

/** A line through neighbours that are both known, and a dot for each number. */
function curveOf({ order }, curve, who, { xs }, y) {
  let line = "";
  let dots = "";
  let joined = false;
  for (const at of curve ? order : []) {
    const known = Number.isFinite(curve[at]);
    if (known) {
      line += `${joined ? "L" : "M"}${xs[at]} ${y(curve[at])}`;
      dots += dotPath(who, xs[at], y(curve[at]));
    }
    joined = known;
  }
  return { line, dots };
}

function dotPath(who, x, y) {
  if (who === "student") return `M${round(x - 3.25)} ${round(y - 3.25)}h6.5v6.5h-6.5z`;
  return `M${round(x - 4.5)} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0`; // wider than the square: both are seen where they meet
}

function ringsOf(series, index, { xs }, y) {
  if (index === null) return "";
  const known = WHO.filter((who) => Number.isFinite(series[who]?.[index]));
  return known.map((who) => `M${round(xs[index] - 7)} ${y(series[who][index])}a7 7 0 1 0 14 0a7 7 0 1 0 -14 0`).join("");
}

// ---------------------------------------------------------------- figure

const INK = { text: "#1f2328", muted: "#57606a", grid: "#d1d9e0", teacher: "#0072B2", student: "#D55E00" };

/** One chart on a canvas, on white, with its numbers at the chosen strength above it. */
function paintChart(context, data, series, { x, y, width, height, chosen }) {
  const key = 18; // px for the line above the plot
  const geometry = geometryOf(data, series, { width, height: height - key, chosen });
  const font = context.font.replace(/^.*?px /, "");
  context.save();
  context.translate(x, y);
  context.font = `400 12px ${font}`;
  paintKey(context, series, chosen);
  context.translate(0, key);
  paintPlot(context, geometry);
  paintTexts(context, geometry);
  context.restore();
}

function paintKey(context, series, chosen) {
  let x = 2;
  context.textAlign = "left";
  for (const who of WHO.filter((each) => series[each] && series.missing === null)) {
    context.fillStyle = INK[who];
    context.fill(new Path2D(dotPath(who, x + 4, 8)));
    const text = chosen === null ? who : `${who} ${numberAt(series[who], chosen)}`;
    context.fillStyle = INK.text;
    context.fillText(text, x + 13, 12);
    x += 26 + context.measureText(text).width;
  }
}

function paintPlot(context, { width, bottom, yTicks, places, band, trained, reference, teacher, student, chosenLine }) {
  const stroke = (path, colour, thickness, dash = []) => {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.setLineDash(dash);
    context.stroke(new Path2D(path));
  };
  context.lineJoin = "round";
  context.fillStyle = `${INK.student}24`;
  context.fill(new Path2D(band));
  for (const { y } of yTicks) stroke(`M${PLOT.left} ${y}H${width - PLOT.right}`, INK.grid, 1);
  stroke(`M${PLOT.left} ${bottom}H${width - PLOT.right}${places.xs.map((x) => `M${x} ${bottom}v4`).join("")}`, INK.muted, 1);
  stroke(trained, INK.student, 4);
  stroke(reference, INK.teacher, 1.5, [1.5, 3.5]);
  stroke(chosenLine, INK.text, 1.5);
  for (const [who, curve, dash] of [["teacher", teacher, []], ["student", student, [6, 3]]]) {
    stroke(curve.line, INK[who], 2, dash);
    context.fillStyle = INK[who];
    context.fill(new Path2D(curve.dots));
    stroke(curve.dots, "#ffffff", 1);
  }
}

function paintTexts(context, { yTicks, xTicks, axis, chosen, missing, middle, bottom }) {
  const write = (text, x, y, align, colour = INK.muted) => {
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y);
  };
  for (const { y, text } of yTicks) write(text, PLOT.left - 6, y + 4, "right");
  for (const { x, text } of xTicks) write(text, x, bottom + 17, "center");
  write(axis.text, axis.x, axis.y, "center");
  if (missing) write(missing, middle.x, middle.y, "center");
  if (!chosen) return;
  context.fillStyle = INK.text;
  context.beginPath();
  context.roundRect(chosen.x - chosen.half, chosen.y - 9, 2 * chosen.half, 18, 9);
  context.fill();
  write(chosen.text, chosen.x, chosen.y + 4, "center", "#ffffff");
}
