// The sweep payload, checked, and what is said about it in words. No page is needed.

/** @import { Series, SweepPayload } from "./payloads" */
import { clamp } from "./arrays.js";
import { formatFixed, MINUS } from "./format.js";
import { tellKept } from "./sayings.js";

export const LOOKS = ["teacher", "student", "student2", "student3", "student4"]; // colour, dash and shape of a curve
export const UNTOUCHED = "The student is still the untouched copy of the teacher: one curve stands for both.";
const NO_LABELS = "these pictures have no labels";

/** The payload, checked and in the words of this file. Throws what a person can mend. @param {SweepPayload} payload */
export function readSweep(payload) {
  if (typeof payload !== "object" || Array.isArray(payload)) throw new Error("it is no object");
  if ((payload.version ?? 1) !== 1) throw new Error(`it has version ${payload.version} instead of 1`);
  const { values } = payload;
  if (!Array.isArray(values) || !values.length || !values.every(Number.isFinite)) throw new Error("its strengths (values) are no list of numbers");
  if (!Array.isArray(payload.series) || !payload.series.length) throw new Error("it has no list of measures (series)");
  const untouched = Boolean(payload.untouched_student);
  const parameter = { name: String(payload.parameter?.name ?? "strength"), unit: String(payload.parameter?.unit ?? "") };
  const operator = String(payload.operator ?? "distortion");
  const learners = (payload.learned ?? []).map((each) => ({ name: String(each.name), ...readTrained(each) }));
  const students = learners.length ? learners.map(({ name }) => name) : ["student"];
  const who = ["teacher", ...students];
  return {
    key: JSON.stringify([operator, parameter.name, values]),
    operator,
    who,
    students,
    learners, // what each of several students learned
    looks: Object.fromEntries(who.map((name, i) => [name, LOOKS[i]])),
    label: String(payload.label ?? operator),
    parameter,
    values,
    order: values.map((_, i) => i).sort((a, b) => values[a] - values[b]),
    specs: Array.isArray(payload.specs) ? payload.specs : [],
    series: payload.series.map((each) => readSeries(each, payload, untouched, who)),
    trained: readTrained(payload.trained),
    neverTrained: Boolean(payload.never_trained),
    untouched,
    pictures: Number.isFinite(payload.pictures) ? payload.pictures : null,
    seed: Number.isFinite(payload.seed) ? payload.seed : null,
    chosen: values[payload.chosen ?? -1] === undefined ? null : payload.chosen,
    progress: readProgress(payload.progress),
    caption: payload.caption ? String(payload.caption) : "",
    message: payload.message ? String(payload.message) : null,
    link: payload.link ?? null,
    payload,
  };
}

/** @param {Series} each @param {SweepPayload} payload @param {boolean} untouched @param {string[]} names */
function readSeries(each, payload, untouched, names) {
  if (!each || typeof each !== "object") throw new Error("one of its measures (series) is no object");
  const title = String(each.title ?? each.id ?? "a measure");
  const read = (who) => {
    const curve = (who === "teacher" ? each.teacher : each.students ? each.students[who] : each.student) ?? null;
    if (curve === null) return null;
    if (!Array.isArray(curve) || curve.length !== payload.values.length) {
      throw new Error(`the ${who}'s ${title} has ${curve.length ?? "no"} values for ${payload.values.length} strengths`);
    }
    if (!curve.every((value) => value === null || Number.isFinite(value))) throw new Error(`the ${who}'s ${title} holds something else than numbers and null`);
    return curve;
  };
  const curves = Object.fromEntries(names.map((who) => [who, untouched && who !== "teacher" ? null : read(who)]));
  const reference = Number.isFinite(each.reference) ? each.reference : null;
  /** @type {any[]} */
  const measured = Object.values(curves).flatMap((curve) => curve ?? []).filter(Number.isFinite);
  return {
    id: String(each.id ?? title),
    title,
    better: each.better < 0 ? -1 : 1,
    help: String(each.help ?? ""),
    curves,
    reference,
    low: Math.min(...[each.low, reference, ...measured].filter(Number.isFinite), Infinity),
    high: Math.max(...[each.high, reference, ...measured].filter(Number.isFinite), -Infinity),
    missing: measured.length ? null : whyMissing(each, payload),
  };
}

/** Why a measure has no number at all. @param {Series} each @param {SweepPayload} payload @returns {string} */
function whyMissing(each, payload) {
  const others = payload.series.some((other) => [other?.teacher, other?.student, ...Object.values(other?.students ?? {})].some((curve) => curve?.some?.(Number.isFinite)));
  if (each.why) return String(each.why).startsWith("not measured") ? String(each.why) : `not measured: ${each.why}`;
  if (payload.progress && !others) return "not measured yet";
  return each.id === "nearest_label" ? `not measured: ${NO_LABELS}` : "not measured";
}

/** @param {SweepPayload["trained"]} trained */
function readTrained(trained) {
  if (!trained) return null;
  const known = Number.isFinite(trained.low);
  return {
    spec: String(trained.spec ?? ""),
    low: known ? trained.low : null,
    high: known ? (Number.isFinite(trained.high) ? trained.high : trained.low) : null,
  };
}

/** @param {SweepPayload["progress"]} progress */
function readProgress(progress) {
  if (!progress || !Number.isFinite(progress.done) || !(progress.total > 0)) return null;
  return { done: clamp(progress.done, 0, progress.total), total: progress.total };
}

export function formatStrength(value) {
  const text = String(Number(Math.abs(value).toPrecision(6)));
  return value < 0 ? MINUS + text : text;
}

export function tellStrength({ parameter, values }, index) {
  return `${parameter.name} ${formatStrength(values[index])}`;
}

/** {text: "+0.042", word: "better"}: what a student is ahead of the teacher, or behind. */
export function gapAt({ curves, better }, index, who) {
  const [teacher, student] = [curves.teacher, curves[who]];
  const gap = Number.isFinite(teacher?.[index]) && Number.isFinite(student?.[index]) ? student[index] - teacher[index] : NaN;
  if (Number.isNaN(gap)) return { text: "", word: "" };
  if (Math.abs(gap) < 0.0005) return { text: "0.000", word: "equal" };
  return { text: (gap > 0 ? "+" : "") + formatFixed(gap, 3), word: gap * better > 0 ? "better" : "worse" };
}

export const numberAt = (curve, index) => formatFixed(curve?.[index] ?? NaN, 3);

/** All measures at one strength, to be read aloud. */
export function describeStrength(data, index) {
  const parts = data.series.map((each) => {
    const known = data.who.filter((who) => Number.isFinite(each.curves[who]?.[index])).map((who) => {
      const { text, word } = who === "teacher" ? { text: "", word: "" } : gapAt(each, index, who);
      return `${who} ${numberAt(each.curves[who], index)}${text && `, gap ${text}, ${word}`}`;
    });
    return `${each.title} ${known.join(", ") || "not measured"}`;
  });
  return `${tellStrength(data, index)}: ${parts.join("; ")}`;
}

export function describeCurve(data, each, who) {
  const measured = data.order.filter((i) => Number.isFinite(each.curves[who]?.[i]));
  if (!measured.length) return "";
  const tell = (i) => `${numberAt(each.curves[who], i)} at ${formatStrength(data.values[i])}`;
  return measured.length === 1 ? `${who}: ${tell(measured[0])}` : `${who}: from ${tell(measured[0])} to ${tell(measured.at(-1))}`;
}

/** What the strongest damage that the student was trained on, or else the strongest of all, costs both. */
export function sayingOf(data) {
  const cosines = data.series.find(({ id }) => id === "cls_cosine");
  const known = data.order.filter((i) => Number.isFinite(cosines?.curves.teacher?.[i]));
  const within = known.filter((i) => data.trained?.low !== null && data.values[i] <= (data.trained?.high ?? -Infinity));
  const at = (within.length ? within : known).at(-1);
  if (at === undefined) return "";
  const numbers = Object.fromEntries(data.who.map((who) => [who, { cls_cosine: cosines.curves[who]?.[at] }]));
  return tellKept(`${data.label}, ${tellStrength(data, at)},`, numbers, data.untouched, data.students);
}

export function trainedText(data) {
  return `student ${rangeText(data.trained, data)}${isBeyond(data) ? ", outside this axis" : ""}`;
}

const rangeText = ({ low, high }, { parameter }) => `trained at ${parameter.name} ${low === high ? formatStrength(low) : `${formatStrength(low)} to ${formatStrength(high)}`}`;

/** One of several students, and what it learned of this. */
export function learnerText(learner, data) {
  return `${learner.name}, ${learner.low === null ? "never trained on this" : rangeText(learner, data)}`;
}

export function isBeyond({ trained, values, order }) {
  return trained.high < values[order[0]] || trained.low > values[order.at(-1)];
}

export const wasTrainedHere = (data) => !data.untouched && !data.neverTrained && data.trained !== null && data.trained.low !== null;
export const wasNeverTrained = (data) => !data.untouched && (data.neverTrained || (data.trained !== null && data.trained.low === null));

export function neverText({ trained }) {
  return `never trained on: the student learned ${trained?.spec || "something else"}`;
}

/** What the caption does not tell anyway. */
export function samplesText({ pictures, seed, caption }) {
  const told = new RegExp(`\\b${pictures}\\b`).test(caption);
  return [pictures !== null && !told && `${pictures} pictures`, seed !== null && `seed ${seed}`].filter(Boolean).join(" \u00b7 ");
}

export function figureLines(data, chosen) {
  const student = data.learners.length ? `${data.learners.map((each) => learnerText(each, data)).join("; ")}.` : "Student: orange dashes, squares.";
  const look = `Teacher: blue line, circles. ${student} Dotted: the teacher on clean pictures.`;
  return [
    data.untouched ? UNTOUCHED : look,
    [wasTrainedHere(data) && `Shaded: ${trainedText(data)}.`, wasNeverTrained(data) && `${neverText(data)}.`, chosen !== null && `Line: ${tellStrength(data, chosen)}.`].filter(Boolean).join(" "),
    [data.caption, samplesText(data)].filter(Boolean).join(" \u00b7 "),
    data.progress ? `Not finished: ${progressText(data.progress)}.` : "",
  ].filter(Boolean);
}

export function progressText({ done, total }) {
  return `measured ${done} of ${total} pictures`;
}
