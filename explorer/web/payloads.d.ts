// What Python sends to the views (explorer/scene.py and map_scene.py write it), and what the views make of arrays.

/** Base64 of little-endian numbers, row by row; `scale` turns what is stored into values. */
export interface Encoded { dtype: "int8" | "uint8" | "uint16" | "int32" | "float32"; shape: number[]; data: string; scale?: number }
export type Numbers = Int8Array | Uint8Array | Uint16Array | Int32Array | Float32Array;
export interface Decoded { values: Numbers; shape: number[]; scale: number }
/** "teacher", "student", or the name of one of several students. */
export type Who = string;
export type Head = number | "mean" | "max";
export type Spot = { row: number; col: number };
export type Grid = { rows: number; cols: number };
/** Query parameters of the link to what is shown; or why there is none, in words. */
export type Link = Record<string, string | number> | string;
export type Measured = Record<string, number | null>;
/** [term, text] for the foot of a page. */
export type Facts = [string, string][];

/** How a measure is told (explorer/analysis/measures.py). */
export interface Measure { id: string; title: string; better: 1 | -1; help: string }

interface Common { version: 1; message?: string | null; about?: Facts; link?: Link | null; untouched_student?: boolean }

// ---------------------------------------------------------------- pictures with maps over them
export interface Pane { id: string; who: Who; view: "clean" | "distorted" | "changed"; title: string; reference: boolean; picture: string }
/** Grid in patches, size in px, both (rows, cols); 256 RGB triples for each colour map. */
export interface Pictures<P> extends Common { grid: [number, number]; size: [number, number]; colormaps: Record<string, string>; panes: P[]; damage?: string; moved?: string }

/** attention: [layer, head, patch]; norms: [layer, patch], of patch tokens; norm_limits: for each layer, above which they stand out. */
export type AttentionPayload = Pictures<Pane & { attention: Encoded; rollout?: Encoded | null; norms?: Encoded | null }> &
  { norm_limits?: number[] | null; layers: number[]; heads: number; query_kind?: string; numbers?: Record<string, Measured>; measures?: Measure[] };

/** patches: [patch, dim]; rows: [patch, patch], what each attends to; pca: [patch, 3], RGB. What a probe says: classes: [patch], places
 * in `names`; chances: [patch], of that class. */
export type PatchPayload = Pictures<Pane & { patches: Encoded; rows?: Encoded | null; pca?: Encoded | null; classes?: Encoded; chances?: Encoded }> &
  { layer: number; layers?: number[]; subject?: [number, number]; classes?: { names: string[]; pictures: number } };

/** heatmap: [row, col], above 0 for the clean teacher's view and, where `signed`, below 0 against it. */
export type AttributionPayload = Pictures<Pane & { heatmap: Encoded; numbers: Measured; verdict: string | null }> &
  { method: string; called: string; signed: boolean; towards: string; label?: string | null };

/** rows: of each block, what its heads bring back, then what the kinds of `whole` do; null where nothing was lost. */
export interface Shares { rows: (number | null)[][]; heads: number; whole: string[]; cosine: number }
/** maps: [layer, patch]; patches: that are replaced, (row, col); offered: [value, text] of each list. */
export type LabPayload = Pictures<Pane & { maps: Encoded }> &
  { layers: number[]; heads: number; measures: Measure[]; numbers: Record<string, Measured>; asked: Record<string, any>; told: string; offered: Record<string, [string, string][]>; patches: [number, number][]; shares?: Record<Who, Shares> | null };

/** A payload with its pictures loaded, before a view has read its arrays. */
export interface Comparison<P> extends Grid {
  height: number; width: number; panes: (P & { title: string; image: HTMLImageElement | null })[]; byId: Record<string, P>; reference: P; networks: Who[]; students: Who[]; named: boolean;
  tables: Record<string, Uint32Array>; untouched: boolean; damage: string; moved: string; message: string | null; link: Link | null; payload: Pictures<P>;
}

// ---------------------------------------------------------------- recovery
/** attention: [head, patch]; patches: [patch, dim]. */
export interface Moment { step: number; attention: Encoded; patches: Encoded; agreement?: Measured }
export interface TrainingRecord {
  step: number; steps: number; losses?: Measured; alignment?: Measured | null; eta_seconds?: number; images_per_second?: number;
}
/** A run beside the one that is shown: without moments where it saw another picture, or none is recorded; `why` tells it. */
export interface BesideRun { name: string; records?: TrainingRecord[]; before?: Measured | null; moments?: Moment[]; why?: string | null }
/** differs: settings that are not the same in all runs, each with its value in this one and in those beside it. */
export interface RecoveryPayload extends Common {
  beside?: BesideRun[]; differs?: [string, string[]][];
  grid: [number, number]; size: [number, number]; colormaps: Record<string, string>; key?: string; run?: string | null;
  pictures?: { clean: string; distorted: string }; reference?: Moment; moments?: Moment[]; records?: TrainingRecord[];
  called?: [string, string]; view?: "clean" | "distorted";
  before?: Measured | null; steps?: number; measures?: Measure[]; plays?: boolean; state?: "waiting" | "running" | "stopping" | "stopped" | "finished" | "failed" | null;
}

// ---------------------------------------------------------------- embedding
/** points: [picture, component]; neighbours and cosines: [picture, k], -1 where there is none. */
export interface EmbeddingView {
  id: string; who: Who; view: "clean" | "distorted"; title: string; reference: boolean; points: Encoded; displacement: Encoded;
  mean_displacement?: number; nearest_label?: number | null; retrieval?: number | null;
  neighbours?: Encoded | null; cosines?: Encoded | null; own_rank?: Encoded | null;
}
/** Thumbnails of `side` px in one picture, `columns` in a row. */
export interface Sprite { image: string; side: number; columns: number }
/** Some of the pictures: `indices` are the places of those that are drawn, counts and measures are of all. */
export interface Slice {
  id: string; kind: "label" | "cluster" | "outcome"; title: string; count: number; indices: Encoded;
  measures: Record<string, Record<string, number | null>>;
}
export interface EmbeddingPayload extends Common {
  clusters?: { of: Encoded; names: string[] } | null; slices?: Slice[];
  method: "pca" | "umap"; components: 2 | 3; explained?: number[] | null; pending?: string | null; views: EmbeddingView[];
  pictures: { names: string[]; labels?: number[] | null; classes?: string[] }; sprite?: Sprite | null;
  chosen?: number | null; shown?: number; total?: number; caption?: string; measures: Measure[];
}

// ---------------------------------------------------------------- sweep
/** One measure over all strengths; null where it is not known (yet). */
export interface Series extends Measure {
  low?: number | null; high?: number | null; why?: string | null;
  reference?: number | null; teacher: (number | null)[] | null; student?: (number | null)[] | null;
  students?: Record<string, (number | null)[] | null>;
}
/** What a student learned: a spec, and the weakest and strongest of these strengths in it. */
export interface Learned { name?: string; spec: string; low?: number | null; high?: number | null }
export interface SweepPayload extends Common {
  operator: string; label: string; parameter: { name: string; unit: string }; values: number[]; specs: string[]; series: Series[];
  trained?: Learned | null; learned?: Learned[]; never_trained?: boolean; pictures?: number | null;
  seed?: number | null; chosen?: number | null; progress?: { done: number; total: number } | null; caption?: string;
}

// ---------------------------------------------------------------- benchmark
/** values: measure -> [corruption][severity], null where it is not known (yet); learned: where a student was trained. */
export interface BenchmarkNetwork { name: string; values: Record<string, (number | null)[][]>; learned?: boolean[][]; spec?: string; error?: number | null }
/** networks: the teacher, then its students. */
export interface BenchmarkPayload extends Common {
  corruptions: { name: string; label: string }[]; severities: number[]; measures: (Measure & { low?: number | null; high?: number | null })[];
  networks: BenchmarkNetwork[]; colormaps: Record<string, string>; pictures?: number | null; seed?: number | null;
  progress?: { done: number; total: number } | null; caption?: string;
}

// ---------------------------------------------------------------- around the views
declare global {
  /** Stands for the function of a view in explorer/widgets/mount.js. */
  const FACTORY: (root: HTMLElement, options: Record<string, any>) => any;
  interface HTMLDivElement { view?: any }
}
