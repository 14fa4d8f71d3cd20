// Some of the pictures and what was measured of them: a row for each slice, that a press selects on the map.

import { columnName, createHelp, createRow, createSelect, createTable, make } from "./elements.js";
import { measuredOf, tellMeasure } from "./embeddingdata.js";
import { withCommas } from "./format.js";

const KINDS = { outcome: "outcome", label: "label", cluster: "cluster" };
const CLUSTERED = "Clusters: k-means of the clean teacher's embeddings, in feature space; the map has no part in them.";

/** `choose(slice)` is told of the one that was pressed, null when it is let go. `cutBy(kind)`: by what is shown. */
export function createSlices(shell, choose, cutBy) {
  const kinds = createSelect({ name: "slices", label: "Slices by", change: cutBy });
  const table = make("div", { class: "vx-slicetable", tabindex: "0", role: "region", "aria-label": "Slices and what was measured of them" });
  const key = make("p", { class: "vx-hint" });
  const node = make("div", { class: "vx-part vx-embedslices" }, make("div", { class: "vx-controls" }, kinds.node), table, key);
  let shown = null; // {data, kind}

  const build = (data, kind) => {
    shown = { data, kind };
    const held = table.querySelector("button:focus")?.getAttribute("data-slice");
    const measured = measuredOf(data);
    const heads = [columnName("pictures"), ...measured.map(({ title, help }) => columnName(createHelp(shell, title, help)))];
    table.replaceChildren(createTable("", null, heads, data.slices.filter((slice) => slice.kind === kind).map((slice) => rowOf(data, slice, measured, choose))));
    const buttons = [...table.querySelectorAll("button")];
    if (held) (buttons.find((button) => button.dataset.slice === held && !button.disabled) ?? table).focus({ preventScroll: true });
    key.textContent = `${keyOf(data)} Press a slice to select its pictures on the map. ${kind === "cluster" ? CLUSTERED : ""}`.trim();
  };
  const set = (data, kind, chosen) => {
    node.hidden = !data.slices.length; // older payloads have none
    if (node.hidden) return;
    kinds.fill(Object.entries(KINDS).filter(([each]) => data.slices.some((slice) => slice.kind === each)));
    kinds.set(kind);
    if (shown?.data !== data || shown.kind !== kind) build(data, kind);
    for (const button of table.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.slice === chosen));
  };
  return { node, set };
}

function rowOf(data, slice, measured, choose) {
  const pressed = (event) => choose(event.currentTarget.getAttribute("aria-pressed") === "true" ? null : slice);
  const button = make("button", { class: "vx-slice", type: "button", text: slice.title, "data-slice": slice.id, disabled: !slice.indices.length, onclick: pressed });
  return createRow([button], [withCommas(slice.count), ...measured.map(({ id }) => tellSlice(data, slice, id))]);
}

/** What the damage makes of it for the teacher, and what each student does. */
export function tellSlice(data, slice, measure) {
  const told = ["teacher", ...data.students].map((who) => tellMeasure(measure, { mean: slice.measures[`${who}_distorted`]?.displacement, ...slice.measures[`${who}_distorted`] }));
  const [teacher, ...students] = told.map((text) => text.replaceAll(" ", "\u00a0")); // where it is narrow, lines end between them
  return students.length ? `${teacher} \u2192\u00a0${students.join(" \u00b7 ")}` : teacher;
}

function keyOf(data) {
  const students = data.named ? data.students.join(" \u00b7 ") : "student";
  return data.students.length ? `Each cell, of damaged pictures: teacher \u2192 ${students}.` : "Each cell: of damaged pictures.";
}
