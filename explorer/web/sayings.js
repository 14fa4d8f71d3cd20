// What a view shows, in one plain sentence made from its numbers; "" where they are missing. No page is needed.

import { formatValue } from "./format.js";

/** @typedef {Record<string, Record<string, number> | undefined>} Numbers of the damaged view: teacher, student or students by name */

const COPIED = ". The student is its untouched copy.";
const share = (value) => `${Math.round(100 * Math.max(0, value))} %`;

/** What the damage costs the teacher and what each student keeps. @type {(damage: string, numbers: Numbers, untouched: boolean, students?: string[]) => string} */
export function tellKept(damage, numbers, untouched, students = ["student"]) {
  const cosineOf = (who) => numbers[who]?.cls_cosine ?? NaN;
  const left = cosineOf("teacher");
  if (!Number.isFinite(left)) return "";
  const lost = damage === "no damage"
    ? "Nothing is damaged: the teacher agrees with itself"
    : `${damage || "The damage"} costs the teacher ${share(1 - Math.max(0, left))} of its agreement with the clean view`;
  if (untouched) return lost + COPIED;
  const kept = students.filter((who) => Number.isFinite(cosineOf(who))).map((who) => `${who === "student" ? "the student" : who} keeps ${share(cosineOf(who))}`);
  return kept.length ? `${lost}; ${kept.join(", ")} (cosine of the class tokens).` : `${lost}.`;
}

/** Where a patch of the clean picture is found again in the damaged one, by distances in patches; several students as [name, distance]. @type {(teacher: number | undefined, student: number | [string, number][] | undefined, untouched: boolean) => string} */
export function tellFound(teacher, student, untouched) {
  if (teacher == null || student == null) return "";
  const where = (distance) => (distance < 0.5 ? "in its place" : distance < 1.5 ? "one patch away" : `${Math.round(distance)} patches away`);
  const found = `Under the damage the teacher finds this patch ${where(teacher)}`;
  const others = Array.isArray(student) ? student : [["the student", student]];
  return untouched ? found + COPIED : `${found}, ${others.map(([who, distance]) => `${who} ${where(distance)}`).join(", ")}.`;
}

/** What is told of a share: of the teacher, and of others after it. */
const SHARED = {
  foreground: [(part) => `the teacher's foreground overlaps the clean one by ${part}`, (who, part) => `${who}'s by ${part}`],
  clusters: [(part) => `${part} of the teacher's patches stay in their cluster`, (who, part) => `${part} of ${who}'s`],
  matches: [(part) => `the teacher finds ${part} of the patches within one patch of their place`, (who, part) => `${who} ${part}`],
  classes: [(part) => `${part} of the teacher's patches keep their class`, (who, part) => `${part} of ${who}'s`],
  labels: [(part) => `${part} of the teacher's patches keep their label`, (who, part) => `${part} of ${who}'s`],
};

/** How much of what the clean teacher's patches tell the damaged ones still tell; several students as [name, share]. @type {(mode: string, teacher: number | undefined, student: number | [string, number][] | undefined, untouched: boolean) => string} */
export function tellShared(mode, teacher = NaN, student = NaN, untouched) {
  if (!Number.isFinite(teacher)) return "";
  const [first, next] = SHARED[mode];
  const lost = `Under the damage ${first(share(teacher))}`;
  if (untouched) return lost + COPIED;
  const others = Array.isArray(student) ? student : [["the student", student]];
  const told = others.filter(([, found]) => Number.isFinite(found)).map(([who, found]) => next(who, share(found)));
  return `${[lost, ...told].join(", ")}.`;
}

/** How many damaged pictures are still nearest to their own clean one; several students as [name, share]. @type {(teacher: number | undefined, student: number | [string, number][] | undefined, untouched: boolean) => string} */
export function tellNearest(teacher = NaN, student = NaN, untouched) {
  if (!Number.isFinite(teacher)) return "";
  const lost = `Damaged, ${share(teacher)} of the pictures are still nearest to their own clean one for the teacher`;
  if (untouched) return lost + COPIED;
  const others = Array.isArray(student) ? student : [["the student", student ?? NaN]];
  const told = others.filter(([, found]) => Number.isFinite(found)).map(([who, found]) => `${share(found)} for ${who}`);
  const last = told.pop();
  return last ? `${[lost, ...told].join(", ")}, and ${last}.` : `${lost}.`;
}

/** What the damage takes of the score that is explained, and what the student wins back of that. @type {(damage: string, scores: { clean?: number, teacher?: number, student?: number }, untouched: boolean) => string} */
export function tellScore(damage, { clean = NaN, teacher = NaN, student = NaN }, untouched) {
  const lost = clean - teacher;
  if (!(clean > 0) || !Number.isFinite(lost)) return "";
  const falls = lost > 0.005 * clean;
  const told = damage === "no damage"
    ? "Nothing is damaged: the teacher keeps its score"
    : `${damage || "The damage"} takes ${falls ? share(Math.min(1, lost / clean)) : "nothing"} of the teacher's score`;
  if (untouched) return told + COPIED;
  if (!Number.isFinite(student)) return `${told}.`;
  if (!falls) return `${told}; the student has ${share(student / clean)} of it.`;
  const back = (student - teacher) / lost;
  if (back < -0.005) return `${told}; the student loses even more.`;
  return `${told}; the student wins ${back < 0.005 ? "nothing" : back > 0.995 ? "all of it" : `${share(back)} of it`} back.`;
}

/** What a probe's score for a class is in each view; it has no scale of its own. @type {(label: string, scores: { clean?: number, teacher?: number, student?: number }, untouched: boolean) => string} */
export function tellClass(label, { clean = NaN, teacher = NaN, student = NaN }, untouched) {
  if (!Number.isFinite(teacher)) return "";
  const whole = Number.isFinite(clean) ? `${formatValue(clean)} in the clean picture and ` : "";
  const told = `For \u201c${label}\u201d the teacher scores ${whole}${formatValue(teacher)} in the damaged ${whole ? "one" : "picture"}`;
  if (untouched) return told + COPIED;
  return Number.isFinite(student) ? `${told}; the student scores ${formatValue(student)} there.` : `${told}.`;
}

/** What the steps of a run brought. @type {(before: number | undefined, now: number | undefined, step: number, who?: string) => string} */
export function tellLearned(before = NaN, now = NaN, step, who = "student") {
  if (!Number.isFinite(before) || !Number.isFinite(now)) return "";
  const lost = `Before the first step the damage costs the ${who} ${share(1 - Math.max(0, before))} of its agreement with the clean view`;
  return step ? `${lost}; after step ${step} it keeps ${share(now)} (cosine of the class tokens).` : `${lost}.`;
}
