// The embedding payload, decoded and checked, and what is read off it. No page is needed.

/** @import { EmbeddingPayload, EmbeddingView } from "./payloads" */
import { decodeArray } from "./arrays.js";
import { formatFixed, percent } from "./format.js";
import { readChoice } from "./settings.js";

// Teacher and students are told apart by shape, clean and distorted by filling; so no colour is needed for that. In
// three dimensions plotly's x is a letter that many fonts lack.
const SHAPES = { 2: ["circle", "diamond", "square", "cross", "x"], 3: ["circle", "diamond", "square", "cross", "dot"] };

/** A payload, decoded and checked. Throws in words that people can read. @param {EmbeddingPayload} payload */
export function readEmbedding(payload) {
  const { views, pictures, components } = payload;
  if (!Array.isArray(views) || !views.length) throw new Error("it has no list of views");
  if (!Array.isArray(pictures?.names) || !pictures.names.length) throw new Error("it names no pictures");
  if (components !== 2 && components !== 3) throw new Error(`it has ${components} components instead of 2 or 3`);
  const names = pictures.names.map(String);
  const count = names.length;
  const labels = pictures.labels ?? null;
  if (labels && labels.length !== count) throw new Error(`it has ${labels.length} labels for ${count} pictures`);
  const classes = labels ? (pictures.classes ?? []).map(String) : [];
  const networks = [...new Set(["teacher", ...views.map(({ who }) => String(who))])];
  const read = views.map((view) => readView(view, count, components, networks));
  const students = networks.slice(1);
  const indices = names.map((_, index) => index);
  return {
    names,
    count,
    labels,
    classes,
    indices,
    components,
    members: classes.map((_, label) => indices.filter((index) => labels?.[index] === label)),
    labelOf: (index) => (labels && classes[labels[index]]) ?? null,
    measures: payload.measures,
    views: read,
    students,
    named: students.some((who) => who !== "student"), // several students, under names of somebody's own
    legs: [["teacher_clean", "teacher_distorted", 0], ...students.map((who, place) => ["teacher_distorted", `${who}_distorted`, 1 + place])],
    byId: Object.fromEntries(read.map((view) => [view.id, view])),
    reference: read.find(({ reference }) => reference) ?? null,
    ruler: rulerOf(read, components),
    clusters: readClusters(payload.clusters, count),
    slices: (payload.slices ?? []).map((slice) => ({ ...slice, indices: [...readPlaces(slice.indices, null, count, "slice")] })),
    method: readChoice(payload.method, ["pca", "umap"], "pca"),
    explained: payload.explained ?? null,
    pending: payload.pending ?? null,
    chosen: names[payload.chosen ?? -1] === undefined ? null : payload.chosen,
    shown: payload.shown ?? count,
    total: payload.total ?? count,
    untouched: Boolean(payload.untouched_student),
    caption: payload.caption ?? "",
    message: payload.message ?? null,
    link: payload.link ?? null,
    payload,
  };
}

/** Which cluster each picture is in; older payloads have none. @param {EmbeddingPayload["clusters"]} clusters @param {number} count */
function readClusters(clusters, count) {
  if (!clusters) return null;
  const of = readPlaces(clusters.of, count, clusters.names.length, "cluster");
  return { of, names: clusters.names.map(String), members: clusters.names.map((_, place) => [...of.keys()].filter((index) => of[index] === place)) };
}

/** Whole numbers below `end`. */
function readPlaces(spec, length, end, what) {
  const { values, shape } = decodeArray(spec);
  const fits = shape.length === 1 && (length === null || shape[0] === length) && values.every((value) => value >= 0 && value < end);
  if (!fits) throw new Error(`its ${what}s do not fit its pictures`);
  return values;
}

/** @param {EmbeddingView} view @param {number} count @param {number} components @param {string[]} networks */
function readView(view, count, components, networks) {
  const read = (name, shape) => {
    if (!view[name]) throw new Error(`"${view.id}" has no ${name.replace("_", " ")}`);
    const array = decodeArray(view[name]);
    const fits = array.shape.length === shape.length && shape.every((length, i) => length === null || length === array.shape[i]);
    if (!fits) throw new Error(`the ${name.replace("_", " ")} of "${view.id}" have the shape [${array.shape}], which does not fit ${count} pictures`);
    return array;
  };
  const displacement = /** @type {Float32Array} */ (read("displacement", [count]).values);
  const network = networks.indexOf(String(view.who));
  const near = view.neighbours != null; // where pictures are left out, so are some neighbours: the server sends none
  const neighbours = near ? read("neighbours", [count, null]) : { values: new Int32Array(0), shape: [count, 0] };
  const k = neighbours.shape[1];
  if (neighbours.values.some((index) => index >= count || index < -1)) throw new Error(`"${view.id}" has neighbours that are not among its pictures`);
  return {
    id: String(view.id),
    network, // 0 for the teacher
    shape: SHAPES[components][network],
    clean: view.view === "clean",
    title: String(view.title ?? view.id),
    reference: Boolean(view.reference),
    points: read("points", [count, components]).values,
    displacement,
    mean: view.mean_displacement ?? displacement.reduce((sum, value) => sum + value, 0) / count,
    neighbours: neighbours.values,
    cosines: near ? read("cosines", [count, k]).values : new Float32Array(0),
    k,
    own: view.own_rank ? read("own_rank", [count]).values : null,
    nearest_label: view.nearest_label ?? null,
    retrieval: view.retrieval ?? null,
  };
}

/** Lowest and highest value of each component over all views, so that filtering moves nothing. */
function rulerOf(views, components) {
  return Array.from({ length: components }, (_, axis) => {
    let [low, high] = [Infinity, -Infinity];
    for (const { points } of views) {
      for (let i = axis; i < points.length; i += components) {
        low = Math.min(low, points[i]);
        high = Math.max(high, points[i]);
      }
    }
    if (!Number.isFinite(low + high)) throw new Error("its points are not finite numbers");
    const pad = 0.06 * (high - low) || 1;
    return [low - pad, high + pad];
  });
}

/** The measures that the payload has. */
export const measuredOf = (data) => data.measures.filter(({ id }) => id === "displacement" || data.views.some((view) => Number.isFinite(view[id])));

export function tellMeasure(key, view) {
  if (key === "displacement") return view.reference ? "0" : formatFixed(view.mean, 3);
  return percent(view[key]);
}

export function neighboursOf({ neighbours, cosines, k }, index) {
  const out = [];
  for (let i = index * k; i < (index + 1) * k; i++) if (neighbours[i] >= 0) out.push({ other: neighbours[i], cosine: cosines[i] });
  return out;
}

export function keptText(data, view, index) {
  if (!data.reference || view.reference || view.k === 0) return "\u2013";
  const before = new Set(neighboursOf(data.reference, index).map(({ other }) => other));
  const now = neighboursOf(view, index).filter(({ other }) => other !== index);
  return `${now.filter(({ other }) => before.has(other)).length} of ${now.length}`;
}
