// Every corruption at every severity on one sheet: teacher, student, and what the student is ahead.
//
// Enters: the benchmark payload (for each network and measure a table, corruption by severity), complete each time and
// many times while it is measured. Leaves: the cell that somebody chooses, through onEvent("corruption", {name,
// severity, spec}). It measures nothing itself, and draws no number that has not come yet.

import { clamp } from "./arrays.js";
import { aheadOf, cellText, describeCell, learnedText, progressText, reachOf, readBenchmark, samplesText, sayingOf, UNTOUCHED } from "./benchmarkdata.js";
import { createHelp, createProgress, createSelect, make, setText } from "./elements.js";
import { createLife } from "./life.js";
import { createActions } from "./page.js";
import { createColourBar, decodeColormaps } from "./painting.js";
import { readChoice } from "./settings.js";

const EMPTY = "Press Measure to see how teacher and student hold up under every corruption.";
const SHEETS = ["teacher", "student", "difference"];

/** Builds the view inside `root`; see the methods at the end. */
export function createBenchmarkView(root, options = {}) {
  let data = null;
  let dressed = ""; // for which corruptions, measures and networks the elements were made
  let tables = null; // of colours
  let sheets = [];
  let cursor = { sheet: 0, row: 0, column: 0 }; // where the keyboard is
  let chosen = null; // {row, column}
  const state = { measure: "cls_cosine", student: "" };

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "benchmark", empty: EMPTY, what: "benchmark",
    isEmpty: (payload) => payload === null || payload === undefined || (!payload.corruptions?.length && typeof payload.message === "string"),
    read: readBenchmark, adopt, forget, say: (next) => [next.message], state, refresh, snapshot,
  });
  const { shell } = life;
  const caption = make("p", { class: "vx-sweepcaption" });
  const saying = make("p", { class: "vx-saying" });
  const progress = createProgress("Measuring");
  const note = make("p", { class: "vx-sweepnote", text: UNTOUCHED, hidden: true });
  const measure = createSelect({ name: "measure", label: "Measure", change: (value) => life.change({ measure: value }) });
  const student = createSelect({ name: "student", label: "Student", change: (value) => life.change({ student: value }) });
  const help = make("span", { class: "vx-benchhelp" });
  const stage = make("div", { class: "vx-benchsheets" });
  const bars = [createColourBar(), createColourBar()];
  const legend = make("p", { class: "vx-hint" });
  const hint = make("p", { class: "vx-hint", text: options.saved ? "With a cell in focus: arrow keys." : "Click a cell to damage the picture of the left column like that. With a cell in focus: arrow keys, then Enter." });
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(
    make("div", { class: "vx-sweephead" }, caption, progress.node, note, saying),
    make("div", { class: "vx-controls", role: "group", "aria-label": "What the sheets show" }, measure.node, student.node, help),
    stage,
    make("div", { class: "vx-benchbars" }, ...bars.map(({ node }) => node)),
    legend, hint, actions.node,
  );

  // ------------------------------------------------------------ reading the payload
  function adopt(next) {
    const finished = data?.key === next.key && data.progress && !next.progress;
    data = next;
    tables = decodeColormaps(next.colormaps);
    dress();
    refresh();
    if (finished) shell.announce(`Measured: all ${data.rows.length} corruptions.`);
  }

  function forget() {
    data = chosen = null;
  }

  const measureNow = () => data.measures.find(({ id }) => id === state.measure) ?? data.measures[0];
  const studentNow = () => data.students.find(({ name }) => name === state.student) ?? data.students[0];

  /** New elements, only for other corruptions, severities or students than before. */
  function dress() {
    if (data.key === dressed) return;
    dressed = data.key;
    chosen = null;
    cursor = { sheet: 0, row: 0, column: 0 };
    sheets = SHEETS.map((_, place) => createSheet(place));
    stage.replaceChildren(...sheets.map(({ node }) => node));
    student.fill(data.students.map(({ name }) => [name, name]));
    student.node.hidden = data.students.length < 2;
    actions.refresh();
  }

  function createSheet(place) {
    const name = make("caption");
    const heads = data.severities.map((severity) => make("th", { scope: "col", text: severity }));
    const cells = data.rows.map((_, row) => data.severities.map((_severity, column) => make("td", {
      role: "gridcell", tabindex: -1, "data-row": row, "data-column": column,
    })));
    const marks = data.rows.map(() => make("span", { class: "vx-benchlearned" }));
    const lines = data.rows.map(({ label }, row) => make("tr", {}, make("th", { scope: "row" }, label, marks[row]), ...cells[row]));
    const corner = make("th", { scope: "col" }, make("span", { class: "vx-sr", text: "corruption, by severity" }));
    const table = make("table", { class: "vx-benchsheet", role: "grid", "data-sheet": SHEETS[place] }, name, make("thead", {}, make("tr", {}, corner, ...heads)), make("tbody", {}, ...lines));
    return { node: table, name, cells, marks };
  }

  // ------------------------------------------------------------ painting
  function refresh() {
    if (!data) return;
    const [now, who] = [measureNow(), studentNow()];
    measure.fill(data.measures.map(({ id, title, missing }) => [id, title, missing])); // more of them as cells come
    measure.set(now.id);
    student.set(who.name);
    help.replaceChildren(createHelp(shell, now.better > 0 ? "higher is better" : "lower is better", now.help));
    setText(caption, data.caption);
    setText(saying, sayingOf(data, who));
    note.hidden = !data.untouched;
    progress.set(data.progress, data.progress ? progressText(data.progress) : samplesText(data));
    const shown = shownSheets(now, who);
    shown.forEach((each, place) => paintSheet(sheets[place], each, place));
    sheets.forEach(({ node }, place) => (node.hidden = data.untouched && place > 0));
    bars[0].set(now.title, shown[0].table, now.low, now.high);
    bars[1].set("blue: the student is closer", shown[2].table, shown[2].low, shown[2].high, true);
    bars[1].node.hidden = data.untouched;
    const learned = who.learned.flat().some(Boolean);
    setText(legend, data.untouched ? "" : learned ? `Framed, \u25aa: ${who.name} was trained on it.` : `${who.name} was trained on none of these: ${who.spec}.`);
    legend.title = who.spec;
    mark();
  }

  /** For each sheet its title, its values, and its scale. */
  function shownSheets(now, who) {
    const ahead = aheadOf(data.teacher.values[now.id], who.values[now.id]);
    const reach = reachOf(ahead);
    const turned = (table, wanted) => (wanted ? table.slice().reverse() : table);
    const scale = { low: now.low, high: now.high, table: turned(tables.viridis, now.better < 0), signed: false };
    return [
      { title: "teacher", values: data.teacher.values[now.id], learned: null, ...scale },
      { title: who.name, values: who.values[now.id], learned: who, ...scale },
      { title: `${who.name} \u2212 teacher`, values: ahead, learned: null, low: -reach, high: reach, table: turned(tables.difference, now.better > 0), signed: true },
    ];
  }

  function paintSheet({ node, name, cells, marks }, { title, values, low, high, table, signed, learned }, place) {
    setText(name, title);
    node.setAttribute("aria-label", `${title}: ${measureNow().title} by corruption and severity`);
    cells.forEach((line, row) => line.forEach((cell, column) => {
      const value = values[row][column];
      const colour = value === null ? null : colourAt(table, value, low, high);
      setText(cell, cellText(value, signed));
      cell.setAttribute("aria-label", describeCell(data, measureNow(), studentNow(), row, column));
      cell.style.background = colour === null ? "" : `rgb(${colour.join(" ")})`;
      cell.style.color = colour === null ? "" : inkOn(colour);
      cell.classList.toggle("vx-learned", Boolean(learned?.learned[row]?.[column]));
    }));
    marks.forEach((span, row) => {
      const told = place === 1 && learned ? learnedText(learned, data.severities, row) : "";
      setText(span, told ? "\u25aa" : "");
      span.title = told;
    });
  }

  function mark() {
    sheets.forEach(({ cells }, sheet) => cells.forEach((line, row) => line.forEach((cell, column) => {
      const here = cursor.sheet === sheet && cursor.row === row && cursor.column === column;
      cell.tabIndex = here ? 0 : -1;
      cell.setAttribute("aria-selected", String(chosen !== null && chosen.row === row && chosen.column === column));
    })));
  }

  // ------------------------------------------------------------ choosing
  /** Where an event is; null beside the cells. */
  function placeOf({ target }) {
    const cell = target instanceof Element ? target.closest("td[data-row]") : null;
    if (!cell) return null;
    const sheet = sheets.findIndex(({ node }) => node.contains(cell));
    return { sheet, row: Number(cell.getAttribute("data-row")), column: Number(cell.getAttribute("data-column")) };
  }

  function choose({ row, column }) {
    chosen = { row, column };
    mark();
    const [{ name, label }, severity] = [data.rows[row], data.severities[column]];
    options.onEvent?.("corruption", { name, severity, spec: `${name}:${severity}` });
    life.tell();
    shell.announce(`Chosen: ${label}, severity ${severity}`);
  }

  function moveTo(place) {
    cursor = place;
    mark();
    sheets[place.sheet].cells[place.row][place.column].focus();
  }

  function onKey(event) {
    const place = placeOf(event);
    if (!place || event.ctrlKey || event.metaKey || event.altKey) return;
    const { sheet, row, column } = place;
    const [count, rows] = [data.severities.length, data.rows.length];
    const along = clamp(sheet * count + column + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0), 0, count * (data.untouched ? 1 : SHEETS.length) - 1);
    const down = clamp(row + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0), 0, rows - 1);
    if (event.key === "Enter" || event.key === " ") choose(place);
    else if (event.key === "Home") moveTo({ sheet, row, column: 0 });
    else if (event.key === "End") moveTo({ sheet, row, column: count - 1 });
    else if (event.key.startsWith("Arrow")) moveTo({ sheet: Math.floor(along / count), row: down, column: along % count });
    else if (event.key === "Escape") shell.hideTip();
    else return;
    event.preventDefault();
  }

  function onPress(event) {
    const place = placeOf(event);
    if (!place) return;
    cursor = place;
    choose(place);
  }

  /** The place under the pointer, or in focus, in words beside it. */
  function onPoint(event) {
    const place = placeOf(event);
    if (!place) return shell.hideTip();
    const box = event.target.closest("td").getBoundingClientRect();
    const words = describeCell(data, measureNow(), studentNow(), place.row, place.column);
    shell.showTip([make("div", { class: "vx-tiptext", text: words })], box.right - 12, box.bottom - 8);
  }

  stage.addEventListener("click", onPress);
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("pointerover", onPoint);
  stage.addEventListener("pointerleave", shell.hideTip);
  stage.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && onPoint(event));
  stage.addEventListener("focusout", shell.hideTip);

  // ------------------------------------------------------------ files
  function snapshot() {
    const none = { name: null, severity: null };
    const { name, severity } = data && chosen ? { name: data.rows[chosen.row].name, severity: data.severities[chosen.column] } : none;
    return { ...state, name, severity };
  }

  function fileName() {
    return `vit-explorer-benchmark-${measureNow().id}-${studentNow().name}`.replaceAll(/[^\w.-]+/g, "-");
  }

  function makeFigure() {
    const [now, who] = [measureNow(), studentNow()];
    const shown = shownSheets(now, who).slice(0, data.untouched ? 1 : 3);
    const cells = shown.map((each) => ({ title: each.title, draw: (context, x, y, width, height) => drawSheet(context, data, each, [x, y, width, height]) }));
    const scales = bars.slice(0, data.untouched ? 1 : 2).map((bar, i) => ({ ...bar.shown(), from: 2 * i, span: i || data.untouched ? 1 : 2 }));
    const facts = [data.caption, samplesText(data)].filter(Boolean).join(" \u00b7 ");
    return { heading: `Common corruptions by severity: ${now.title}`, cells: [cells], aspect: (data.rows.length + 1) * 0.062, bars: scales, lines: [sayingOf(data, who), legend.textContent, facts].filter(Boolean) };
  }

  function makeNumbers() {
    const { rows, severities, measures, teacher, students, pictures, seed } = data;
    return { corruptions: rows.map(({ name }) => name), severities, measures: measures.map(({ id }) => id), networks: [teacher, ...students], pictures, seed, caption: data.caption, complete: data.progress === null };
  }

  function makePage() {
    const facts = data.progress ? [["Measured", `the first ${data.progress.done} of ${data.progress.total} cells`]] : [];
    return { title: "Every common corruption: teacher and student", payload: { ...data.payload, progress: null }, facts };
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: () => (state.measure === "cls_cosine" ? {} : { measure: state.measure }),
    /** Chooses a `measure` or one of several students; nonsense is ignored. */
    set(/** @type {Record<string, any>} */ partial = {}) {
      state.measure = data ? readChoice(partial.measure, data.measures.map(({ id }) => id), state.measure) : String(partial.measure ?? state.measure);
      state.student = String(partial.student ?? state.student);
      refresh();
    },
  };
}

/** [red, green, blue] of a value. */
function colourAt(table, value, low, high) {
  const entry = table[Math.round(255 * clamp((value - low) / (high - low), 0, 1))];
  return [entry & 255, (entry >> 8) & 255, (entry >> 16) & 255];
}

/** Black or white, whichever is read better on a colour (WCAG's relative luminance). */
function inkOn(colour) {
  const [red, green, blue] = colour.map((each) => (each <= 10.3 ? each / 3294.6 : ((each / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

/** A sheet on a canvas, with its names. */
function drawSheet(context, { rows, severities }, { values, low, high, table, signed, learned }, [x, y, width, height]) {
  const names = 108;
  const [wide, tall] = [(width - names) / severities.length, height / (rows.length + 1)];
  const write = (text, left, line, colour, align) => {
    context.font = `11px ${context.font.replace(/^.*?px /, "")}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, left, y + (line + 0.72) * tall, align === "left" ? names - 4 : wide);
  };
  severities.forEach((severity, column) => write(String(severity), x + names + (column + 0.5) * wide, 0, "#57606a", "center"));
  rows.forEach(({ label }, row) => {
    write(label, x, row + 1, "#1f2328", "left");
    severities.forEach((_, column) => {
      const value = values[row][column];
      if (value === null) return;
      const [left, top] = [x + names + column * wide, y + (row + 1) * tall];
      const colour = colourAt(table, value, low, high);
      context.fillStyle = `rgb(${colour.join(",")})`;
      context.fillRect(left, top, wide + 0.5, tall + 0.5);
      context.strokeStyle = inkOn(colour);
      if (learned?.learned[row]?.[column]) context.strokeRect(left + 1.5, top + 1.5, wide - 3, tall - 3);
      write(cellText(value, signed), left + wide / 2, row + 1, inkOn(colour), "center");
    });
  });
}
