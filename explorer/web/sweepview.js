// How teacher and student hold up as one distortion grows: four measures over the same axis of strengths.
//
// Enters: the sweep payload (strengths, one curve of the teacher and one of each student for each measure, where the
// students were trained), complete each time and many times while it is measured. Leaves: the strength that somebody
// chooses, through onEvent("strength", {index, value, spec}). It measures nothing itself, and draws no number that
// has not come yet.

import { clamp, nearestAt } from "./arrays.js";
import { createProgress, make, setText } from "./elements.js";
import { createLife } from "./life.js";
import { createActions } from "./page.js";
import { readFlag, readNumber } from "./settings.js";
import { createSample, createSweepChart, distanceBelow, paintChart } from "./sweepcharts.js";
import { describeStrength, figureLines, formatStrength, gapAt, learnerText, neverText, numberAt, progressText, readSweep, samplesText, sayingOf, tellStrength, trainedText, UNTOUCHED, wasNeverTrained, wasTrainedHere } from "./sweepdata.js";

const WIDE = 760; // px; from here on the numbers are open from the start
const EMPTY = "Press Measure to see how teacher and student hold up as the damage grows.";

/** Builds the view inside `root`; see the methods at the end. */
export function createSweepView(root, options = {}) {
  let data = null;
  let chosen = null; // index of a strength
  let wished = null; // a setting that came before there was anything to set
  let own = false; // whether it was chosen here or by a link, and not by a payload
  let said = null; // what the last payload called chosen
  let pending = []; // chosen here, not yet heard back in a payload
  let pointed = null; // index of the strength under the pointer
  let keyed = null; // index of the strength that the keyboard has reached
  let dressed = ""; // for which strengths and measures the elements were made
  let charts = [];
  let opened = false; // whether it is settled if the numbers are open

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "sweep", empty: EMPTY, what: "measurement",
    isEmpty: (payload) => payload === null || payload === undefined || (!payload.values?.length && typeof payload.message === "string"),
    read: readSweep, adopt, forget, say: (next) => [next.message], snapshot,
  });
  const { shell } = life;
  const head = createHead();
  const legend = createLegend();
  const stage = make("div", { class: "vx-sweepcharts" });
  const hint = make("p", { class: "vx-hint", text: "Point at a strength to read it in all charts; click to choose it. With a chart in focus: arrow keys, then Enter." });
  const numbers = make("details", { class: "vx-sweepnumbers" }, make("summary", { text: "Numbers" }));
  let table = null;
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(head.node, legend.node, stage, hint, numbers, actions.node);

  // ------------------------------------------------------------ reading the payload
  function adopt(next) {
    const finished = data?.key === next.key && data.progress && !next.progress;
    const asked = wished !== null; // by a link: its maps are wanted, as after a click
    chooseFrom(next);
    data = next;
    dress();
    refresh();
    if (finished) shell.announce(`Measured: all ${data.values.length} strengths.`);
    if (asked && chosen !== null) options.onEvent?.("strength", strengthAt(chosen));
  }

  function forget() {
    data = chosen = said = pointed = keyed = null;
    pending = [];
  }

  /** Which strength is chosen after a payload. One that only tells what somebody chose here earlier changes nothing. */
  function chooseFrom(next) {
    if (data?.key !== next.key) {
      chosen = wished === null ? next.chosen : indexOfWish(next, next.chosen);
      own = wished !== null;
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
    return nearestAt(values, strength);
  }

  /** New elements, only for other strengths or measures than before. */
  function dress() {
    const wanted = JSON.stringify([data.key, data.who, data.series.map(({ id, title, help, better }) => [id, title, help, better])]);
    if (wanted === dressed) return;
    dressed = wanted;
    for (const chart of charts) observer.unobserve(chart.svg);
    charts = data.series.map((each) => createSweepChart(shell, each, data.looks));
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
  const refreshSoon = life.perFrame(refreshCharts);

  /** Once, as soon as there is a width (none in a tab that nobody has opened). */
  function openWhereWide() {
    if (opened || !shell.host.clientWidth) return;
    numbers.open = shell.host.clientWidth >= WIDE;
    opened = true;
  }

  const observer = life.observe(new ResizeObserver(refreshSoon));

  // ------------------------------------------------------------ choosing
  function choose(index) {
    chosen = index;
    own = true;
    pending.push(index);
    refreshCharts();
    const { value, spec } = strengthAt(index);
    options.onEvent?.("strength", { index, value, spec });
    life.tell();
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
    return {
      heading: `${data.label}: how ${data.learners.length ? "teacher and students" : "teacher and student"} hold up`,
      cells: rows,
      aspect: 0.86,
      bars: [],
      lines: figureLines(data, chosen),
    };
  }

  function makeNumbers() {
    const { operator, label, parameter, values, specs, trained, neverTrained, untouched, pictures, seed, caption } = data;
    return {
      operator, label, parameter, values, specs,
      series: data.series.map(({ id, title, better, curves, reference }) => ({ id, title, better, ...curves, reference })),
      trained, never_trained: neverTrained, untouched_student: untouched, pictures, seed, caption,
      complete: data.progress === null,
    };
  }

  function makePage() {
    const payload = { ...data.payload, progress: null };
    const facts = data.progress ? [["Measured", `the first ${data.progress.done} of ${data.progress.total} pictures`]] : [];
    return { title: `${data.label}: how teacher and student hold up`, payload, facts };
  }

  function makeLink() {
    return { strength: own && chosen !== null ? data.values[chosen] : null };
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: makeLink,
    /** Chooses a strength by `chosen` (index; null for none) or `strength` (the nearest value); nonsense is ignored. */
    set(/** @type {Record<string, any>} */ partial = {}) {
      numbers.open = readFlag(partial.numbers, numbers.open);
      opened ||= "numbers" in partial;
      if (!("chosen" in partial) && !("strength" in partial)) return;
      wished = partial;
      if (!data) return;
      chosen = partial.chosen === null ? null : indexOfWish(data, chosen);
      own = true;
      wished = null;
      refreshCharts();
    },
  };
}

/** What is swept, how far the measuring is, and what has to be known before the curves are read. */
function createHead() {
  const label = make("span", { class: "vx-sweeplabel" });
  const badge = make("span", { class: "vx-sweepbadge", hidden: true });
  const caption = make("p", { class: "vx-sweepcaption" });
  const saying = make("p", { class: "vx-saying" });
  const progress = createProgress("Measuring");
  const note = make("p", { class: "vx-sweepnote", text: UNTOUCHED, hidden: true });
  const node = make(
    "div",
    { class: "vx-sweephead" },
    make("div", { class: "vx-sweepname" }, make("div", { class: "vx-sweepline" }, label, badge), caption),
    progress.node,
    note,
    saying,
  );
  const set = (data) => {
    setText(saying, sayingOf(data));
    setText(label, data.label);
    setText(caption, data.caption);
    badge.hidden = !wasNeverTrained(data);
    setText(badge, badge.hidden ? "" : neverText(data));
    note.hidden = !data.untouched;
    progress.set(data.progress, data.progress ? progressText(data.progress) : samplesText(data));
  };
  return { node, set };
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
  const reference = entry(box("reference", make("svg:path", { class: "vx-sweepreference", d: "M0 6H26" })), "teacher on the clean pictures");
  const trained = entry(box("trained", make("svg:path", { class: "vx-sweepband", d: "M4 0H22V12H4z" }), make("svg:path", { class: "vx-sweeptrained", d: "M4 11H22" })), "");
  const node = make("ul", { class: "vx-legend vx-sweeplegend" }, teacher.item, reference.item, trained.item);
  let named = "";
  let students = [];
  const set = (data) => {
    const words = data.learners.length ? data.learners.map((each) => learnerText(each, data)) : ["student"];
    if (named !== words.join()) {
      for (const { item } of students) item.remove();
      students = words.map((text, i) => entry(createSample(data.looks[data.students[i]]), text));
      teacher.item.after(...students.map(({ item }) => item));
      named = words.join();
    }
    students.forEach(({ item }, i) => (item.hidden = !data.series.some((each) => each.curves[data.students[i]])));
    reference.item.hidden = !data.series.some((each) => each.reference !== null && each.missing === null);
    trained.item.hidden = !wasTrainedHere(data);
    setText(trained.words, trained.item.hidden ? "" : trainedText(data));
    trained.item.title = data.trained?.spec ?? "";
  };
  return { node, set };
}

/** Strengths as columns; below each measure's name its rows of teacher and students. */
function createNumbers(data, choose) {
  const arrow = (better) => make("span", { class: "vx-direction", text: better > 0 ? "\u2191" : "\u2193", "aria-label": better > 0 ? "higher is better" : "lower is better" });
  const columns = data.order.map((i) => {
    const words = { text: formatStrength(data.values[i]), title: `choose ${tellStrength(data, i)}` };
    return make("th", { scope: "col" }, make("button", { class: "vx-sweepcolumn", type: "button", ...words, onclick: () => choose(i) }));
  });
  const parts = data.series.map(({ title, better }) => {
    const rows = Object.fromEntries(data.who.map((who) => [who, data.order.map(() => make("td"))]));
    const name = (who) => make("th", { scope: "row" }, createSample(data.looks[who], 12), who);
    const lines = Object.fromEntries(data.who.map((who) => [who, make("tr", {}, name(who), ...rows[who])]));
    const why = make("td", { class: "vx-sweepwhy", colspan: data.order.length + 1 });
    const missing = make("tr", {}, why);
    const group = make("th", { scope: "rowgroup", colspan: data.order.length + 1 }, title, arrow(better));
    return { rows, lines, why, missing, body: make("tbody", {}, make("tr", { class: "vx-sweepgroup" }, group), ...Object.values(lines), missing) };
  });
  const heading = make("thead", {}, make("tr", {}, make("th", { scope: "col", text: data.parameter.name }), ...columns));
  const grid = make("table", { class: "vx-table vx-sweeptable", style: `--vx-strengths: ${data.values.length}` }, heading, ...parts.map(({ body }) => body));
  const node = make("div", { class: "vx-scroll", tabindex: 0, role: "group", "aria-label": `Numbers of ${data.who.join(", ")}` }, grid);

  const set = ({ series, order }) => {
    series.forEach((each, i) => {
      const { rows, lines, why, missing } = parts[i];
      missing.hidden = each.missing === null;
      setText(why, each.missing ?? "");
      for (const who of data.who) {
        lines[who].hidden = each.missing !== null || each.curves[who] === null;
        order.forEach((at, column) => setText(rows[who][column], numberAt(each.curves[who], at)));
        if (who !== "teacher") order.forEach((at, column) => judge(rows[who][column], gapAt(each, at, who)));
      }
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
