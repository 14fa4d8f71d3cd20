// The benchmark payload, checked, and what is said about it in words. No page is needed.

/** @import { BenchmarkPayload, BenchmarkNetwork } from "./payloads" */
import { clamp } from "./arrays.js";
import { formatFixed, percent } from "./format.js";

export const UNTOUCHED = "The student is still the untouched copy of the teacher: one sheet stands for both.";

/** The payload, checked and in the words of this file. Throws what a person can mend. @param {BenchmarkPayload} payload */
export function readBenchmark(payload) {
  if (typeof payload !== "object" || Array.isArray(payload)) throw new Error("it is no object");
  if ((payload.version ?? 1) !== 1) throw new Error(`it has version ${payload.version} instead of 1`);
  const { corruptions, severities, measures } = payload;
  if (!Array.isArray(corruptions) || !corruptions.length) throw new Error("it has no list of corruptions");
  if (!Array.isArray(severities) || !severities.length || !severities.every(Number.isFinite)) throw new Error("its severities are no list of numbers");
  if (!Array.isArray(measures) || !measures.length) throw new Error("it has no list of measures");
  if (!Array.isArray(payload.networks) || payload.networks.length < 2) throw new Error("it has no teacher and student (networks)");
  const networks = payload.networks.map((each) => readNetwork(each, payload));
  return {
    key: JSON.stringify([corruptions, severities, measures.map(({ id }) => id), networks.map(({ name }) => name)]),
    rows: corruptions.map(({ name, label }) => ({ name: String(name), label: String(label ?? name) })),
    severities,
    measures: measures.map((each) => readMeasure(each, networks)),
    teacher: networks[0],
    students: networks.slice(1),
    untouched: Boolean(payload.untouched_student),
    colormaps: payload.colormaps ?? {},
    pictures: Number.isFinite(payload.pictures) ? payload.pictures : null,
    seed: Number.isFinite(payload.seed) ? payload.seed : null,
    progress: readProgress(payload.progress),
    caption: payload.caption ? String(payload.caption) : "",
    message: payload.message ? String(payload.message) : null,
    link: payload.link ?? null,
    payload,
  };
}

/** @param {BenchmarkNetwork} each @param {BenchmarkPayload} payload */
function readNetwork(each, { corruptions, severities, measures }) {
  const name = String(each?.name ?? "a network");
  const values = Object.fromEntries(measures.map(({ id }) => {
    const sheet = each?.values?.[id];
    const fits = Array.isArray(sheet) && sheet.length === corruptions.length && sheet.every((row) => row.length === severities.length);
    if (!fits) throw new Error(`the ${name}'s ${id} is no table of ${corruptions.length} corruptions by ${severities.length} severities`);
    if (!sheet.flat().every((value) => value === null || Number.isFinite(value))) throw new Error(`the ${name}'s ${id} holds something else than numbers and null`);
    return [id, sheet];
  }));
  const learned = (each.learned ?? []).map((row) => row.map(Boolean));
  return { name, values, learned, spec: String(each.spec ?? ""), error: Number.isFinite(each.error) ? each.error : null };
}

/** With the scale that teacher and students have in common: round numbers around all that was measured. */
function readMeasure(each, networks) {
  const id = String(each.id);
  const known = networks.flatMap(({ values }) => values[id].flat()).filter(Number.isFinite);
  const better = each.better < 0 ? -1 : 1;
  const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const low = better > 0 ? clamp(Math.floor(10 * least) / 10, each.low ?? -Infinity, 0.9) : Math.max(0, each.low ?? 0);
  const high = better > 0 ? Math.max(low + 0.1, each.high ?? most) : Math.max(0.05, Math.ceil(20 * most - 1e-9) / 20);
  return { id, title: String(each.title ?? id), help: String(each.help ?? ""), better, low, high, missing: known.length === 0 };
}

/** @param {BenchmarkPayload["progress"]} progress */
function readProgress(progress) {
  if (!progress || !Number.isFinite(progress.done) || !(progress.total > 0)) return null;
  return { done: clamp(progress.done, 0, progress.total), total: progress.total };
}

/** What a student is ahead of the teacher in each cell, student - teacher, null where one is missing. */
export function aheadOf(teacher, student) {
  return teacher.map((row, i) => row.map((value, j) => (value === null || student[i][j] === null ? null : student[i][j] - value)));
}

/** How far the scale of a difference reaches to both sides: a round number. */
export function reachOf(sheet) {
  const largest = Math.max(...sheet.flat().map((value) => Math.abs(value ?? 0)));
  return Math.max(0.05, Math.ceil(20 * largest - 1e-9) / 20);
}

/** Without the 0 before the point, as there is little room. */
export function cellText(value, signed = false) {
  if (value === null) return "";
  const text = formatFixed(value, 2).replace("0.", ".");
  return signed && value > 0.004999 ? `+${text}` : text;
}

/** One place of the sheet in words. */
export function describeCell({ rows, severities, teacher, untouched }, measure, student, row, column) {
  const read = ({ values }) => values[measure.id][row][column];
  const where = `${rows[row].label}, severity ${severities[column]}`;
  const [before, after] = [read(teacher), read(student)];
  if (before === null || (after === null && !untouched)) return `${where}: not measured`;
  if (untouched) return `${where}: ${measure.title} teacher ${formatFixed(before, 3)}`;
  const gap = after - before;
  const word = Math.abs(gap) < 0.0005 ? "equal" : gap * measure.better > 0 ? "better" : "worse";
  const learned = student.learned[row]?.[column] ? "; the student was trained on it" : "";
  return `${where}: ${measure.title} teacher ${formatFixed(before, 3)}, ${student.name} ${formatFixed(after, 3)}, difference ${gap > 0 ? "+" : ""}${formatFixed(gap, 3)}, ${word}${learned}`;
}

/** What the student loses over all corruptions, as a share of what the teacher loses, and where most is won and lost. */
export function sayingOf(data, student) {
  const { teacher, rows, untouched } = data;
  if (untouched || student.error === null || !student.values.cls_cosine) return "";
  const ahead = aheadOf(teacher.values.cls_cosine, student.values.cls_cosine).map((row) => row.reduce((sum, value) => sum + (value ?? 0), 0) / row.length);
  const [most, least] = [Math.max(...ahead), Math.min(...ahead)];
  const name = student.name === "student" ? "the student" : student.name;
  const told = `Over all ${rows.length} corruptions ${name} loses ${percent(student.error)} of what the teacher loses of its agreement with the clean view (mean corruption error)`;
  const won = most > 0.0005 ? `; most is won under ${rows[ahead.indexOf(most)].label}` : "";
  return `${told}${won}${least < -0.0005 ? `, and it is behind under ${rows[ahead.indexOf(least)].label}` : ""}.`;
}

/** On which of the severities a student was trained; "" for none. */
export function learnedText({ learned }, severities, row) {
  const met = severities.filter((_, column) => learned[row]?.[column]);
  if (!met.length) return "";
  return met.length === 1 ? `trained on severity ${met[0]}` : `trained on severities ${met[0]} to ${met[met.length - 1]}`;
}

/** What the caption does not tell anyway. */
export function samplesText({ pictures, seed, caption }) {
  const told = new RegExp(`\\b${pictures}\\b`).test(caption);
  return [pictures !== null && !told && `${pictures} pictures`, seed !== null && !/\bseed\b/.test(caption) && `seed ${seed}`].filter(Boolean).join(" \u00b7 ");
}

export function progressText({ done, total }) {
  return `measured ${done} of ${total} cells`;
}
