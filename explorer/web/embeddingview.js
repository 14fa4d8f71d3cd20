// Where pictures lie: clean ones as a frozen teacher sees them, and where damage carries them, teacher and students.
//
// Enters: the embedding payload (points in two or three components, distances and neighbours measured in feature space,
// thumbnails) and plotly.js through options.plotly, or flatplot.js in its place. Leaves: settings through onState, "open" and "select" through
// onEvent. Nothing is measured on the picture: distances and neighbours are those of the payload. No server is asked.

import { tableOf } from "./arrays.js";
import { shiftWhileDragged } from "./dragging.js";
import { createCheckbox, createSelect, make, setText } from "./elements.js";
import { measuredOf, readEmbedding, tellMeasure } from "./embeddingdata.js";
import { createChips, createPanel, focusMarks, hoverCard, loadSprite, measuresTable, thumbsOf } from "./embeddingpanel.js";
import { configOf, DARK, deepProjection, focusTraces, layoutOf, legendTraces, LIGHT, markSize, PAPER, paperFocus, scaleOf, tracesOf, unmarked } from "./embeddingplot.js";
import { createSlices, tellSlice } from "./embeddingslices.js";
import { counted, formatFixed, withCommas } from "./format.js";
import { createLife } from "./life.js";
import { createActions, titleOf } from "./page.js";
import { tellNearest } from "./sayings.js";
import { readChoice, readFlag, readNames, writeNames } from "./settings.js";

const COLOURINGS = ["label", "view", "cluster"];
const CUTS = ["outcome", "label", "cluster"];
const ARROWS = ["none", "pointed", "all"];
const NOBODY = "none"; // whose density is drawn
const BOX = { 1: "teacher_clean", true: "teacher_clean", 0: NOBODY, false: NOBODY }; // links tell it of a box that was ticked
const MANY_POINTS = 3000; // from here on, WebGL
const FEW_PICTURES = 100; // from here on, arrows are drawn only where somebody points, and students' clean views are off at first
const HOVER_PX = 14;
const CLICK_PX = 5; // what moves farther is a drag
const SETTLE_MS = 400;
const REOPEN_MS = 400; // a double click opens once
const SKETCH = "Distances in the picture are only a sketch; the numbers beside it are measured in feature space.";
const HOW_TO_READ = "Arrows lead from the clean picture to where its damage carries it for the teacher, and on to where a student puts it. Point at a mark to see its picture and its neighbours.";
const WITH_TOOLS = "Click opens the picture. Lasso or box of the tool bar select pictures, a double click or Escape lets them go. With the plot in focus, the left and right arrow keys step through the pictures and Enter opens one.";
const ALONE = "Drag moves the map, the buttons above it change its scale, a double click takes both back. With the plot in focus, the left and right arrow keys step through the pictures.";
const WITHOUT_PLOTLY = "The plot is drawn with plotly.js, which could not be loaded";

/** Builds the view inside `root`; see the methods at the end. */
export function createEmbeddingView(root, options = {}) {
  /** @type {Record<string, any>} */
  const state = { colour: null, arrows: null, hiddenViews: null, hiddenLabels: new Set(), selected: null, density: NOBODY, clusterNames: null, cutBy: "outcome", slice: null };
  let data = null;
  let sprite = null; // {source, picture}: read once for each text
  let plotly = null; // the library, once it has come
  let drawn = null; // "flat", "deep" or nothing: what plotly holds
  let painting = Promise.resolve();
  let pointed = null; // a picture; stays when the pointer goes, so that one can go to its neighbours
  /** @type {Record<string, any>} */
  let wished = {}; // pictures that were asked for before they were there
  let pointer = null; // {x, y} over the plot
  let pressed = null; // where a button or finger went down
  let opened = { index: null, at: -Infinity };
  let revision = 0; // of the selection
  let toldNames = ""; // of the selection, as the last event had them
  let home = null; // {key, ruler, ranges}: what plotly made of the ruler for this size
  let zoomed = false;
  let settling = 0; // until when the camera may still move
  let theme = PAPER;

  // ------------------------------------------------------------ elements
  const life = createLife(root, options, {
    kind: "embedding", empty: "Choose what to show and press Compute.", what: "embedding",
    isEmpty: (payload) => !payload || (payload.message && !payload.views?.length),
    prepare, adopt, forget, state, refresh, snapshot,
  });
  const { shell, change } = life;
  const colour = createSelect({ name: "colour", label: "Colour by", change: (value) => change({ colour: value }) });
  const arrows = createSelect({ name: "arrows", label: "Arrows", change: (value) => change({ arrows: value }) });
  arrows.fill([["none", "none"], ["pointed", "chosen or pointed"], ["all", "all"]]);
  const viewChips = createChips("Views", (hidden) => change({ hiddenViews: hidden }));
  const labelChips = createChips("Labels", (hidden) => change({ hiddenLabels: hidden }));
  const density = createSelect({ name: "density", label: "Density of", change: (value) => change({ density: value }) });
  const clusterNames = createCheckbox({ name: "cluster_names", label: "Names of clusters", change: (value) => change({ clusterNames: value }) });
  const pending = make("p", { class: "vx-pending", role: "status", hidden: true });
  const plot = make("div", { class: "vx-embedplot" });
  const overlay = make("svg:svg", { class: "vx-embedoverlay", "aria-hidden": "true" });
  const instead = make("p", { class: "vx-embedinstead", hidden: true });
  const stage = make("div", { class: "vx-embedstage", tabindex: "0", role: "application", "aria-roledescription": "scatter plot" }, plot, overlay, instead);
  const sketch = make("p", { class: "vx-sketch", text: SKETCH });
  const notes = make("p", { class: "vx-hint vx-embednotes" });
  const chosenText = make("span", { role: "status" });
  const unselect = make("button", { class: "vx-button vx-unpin", type: "button", text: "Clear", onclick: clearSelection });
  const selection = make("div", { class: "vx-selection" }, chosenText, unselect);
  const measures = make("div", { class: "vx-embedmeasures" });
  const panel = createPanel(shell, (index) => open(index), !options.saved);
  const slices = createSlices(shell, (slice) => (slice ? choose(slice) : select(null)), (kind) => change({ cutBy: kind }));
  const actions = createActions(life, { shown: () => data, fileName, figure: makeFigure, numbers: makeNumbers, page: makePage });
  shell.body.append(
    make("div", { class: "vx-part vx-embedtop" },
      make("div", { class: "vx-controls", role: "group", "aria-label": "What the plot shows" }, colour.node, arrows.node, density.node, clusterNames.node),
      viewChips.node, labelChips.node),
    make("div", { class: "vx-part vx-embedmain" }, pending, stage, selection, sketch, notes),
    make("div", { class: "vx-part vx-embedside" }, measures, panel.node),
    slices.node,
    make("div", { class: "vx-part vx-embedmore" },
      make("p", { class: "vx-hint", text: options.saved ? `${HOW_TO_READ} ${ALONE}` : `${HOW_TO_READ} ${WITH_TOOLS}` }),
      actions.node),
  );

  // ------------------------------------------------------------ reading the payload
  async function prepare(payload) {
    const next = readEmbedding(payload);
    next.thumb = thumbsOf(await readSprite(payload.sprite), next);
    return next;
  }

  async function adopt(next, isLatest) {
    settle(data, next);
    data = next;
    grant();
    tellOthers();
    theme = readTheme(shell.host);
    dress();
    refresh();
    await loadPlotly(isLatest);
    await painting;
  }

  function forget() {
    clearPlot();
    data = pointed = state.selected = null;
    releaseSprite();
  }

  function readSprite(spec) {
    if (sprite && sprite.source === spec?.image) return sprite.picture;
    releaseSprite();
    sprite = spec ? { source: spec.image, picture: loadSprite(spec) } : null;
    return sprite?.picture ?? null;
  }

  function releaseSprite() {
    sprite?.picture.then((picture) => picture?.release());
    sprite = null;
  }

  /** Settings that the new payload cannot honour go; what was pointed at goes with the pictures that it was among. */
  function settle(earlier, next) {
    const same = earlier && earlier.names.join("\n") === next.names.join("\n");
    if (!same) pointed = state.selected = state.slice = null;
    if (state.slice) recut(next);
    if (earlier?.chosen !== next.chosen) pointed = null;
    shell.hideTip();
    if (state.hiddenViews?.size >= next.views.length) state.hiddenViews = new Set();
    if (earlier && earlier.students.join("\n") !== next.students.join("\n")) state.hiddenViews = null;
    if (earlier && earlier.classes.join("\n") !== next.classes.join("\n")) state.hiddenLabels = new Set();
  }

  /** A slice is cut anew: another student may save others. */
  function recut({ slices: found }) {
    const cut = found.find(({ id }) => id === state.slice);
    state.selected = cut?.indices.length ? cut.indices : null;
    if (!state.selected) state.slice = null;
    revision += 1;
  }

  /** What may be asked for before there are pictures: one by its name, several by their places. */
  /** @type {(partial: Record<string, any>) => Record<string, any>} */
  const wishesOf = ({ picked, selected, slice }) => ({ ...(picked && { picked }), ...(selected !== undefined && { selected }), ...(slice !== undefined && { slice }) });

  /** A name waits for the pictures among which it is. */
  function grant() {
    if (wished.picked && !data.names.includes(wished.picked)) return;
    if (wished.picked) pointed = data.names.indexOf(wished.picked);
    if ("selected" in wished) state.selected = indicesOf(wished.selected ?? []);
    if ("selected" in wished) revision += 1;
    if ("selected" in wished || "slice" in wished) state.slice = wished.slice ?? null;
    if (state.slice) recut(data);
    wished = {};
  }

  async function loadPlotly(isLatest) {
    if (plotly) return;
    tellInstead("The drawing library is on its way\u2026");
    try {
      const found = await (options.plotly ? options.plotly() : /** @type {any} */ (window).Plotly);
      if (!found?.react) throw new Error("there is none on this page");
      plotly = found;
      if (isLatest()) refreshNotes();
    } catch (error) {
      if (isLatest()) tellInstead(`${WITHOUT_PLOTLY}: ${error?.message ?? error}. The numbers and the neighbours do without it.`);
      return;
    }
    if (isLatest()) paint();
  }

  function tellInstead(text) {
    instead.hidden = !text;
    setText(instead, text ?? "");
  }

  // ------------------------------------------------------------ what is shown
  /** The first that can be: what was asked for, labels, views. */
  const colouring = () => [state.colour, "label"].find((by) => (by === "label" && data?.labels) || (by === "cluster" && data?.clusters) || by === "view") ?? "view";
  const isNamed = () => Boolean(data?.clusters) && (state.clusterNames ?? colouring() === "cluster");
  const dense = () => data?.views.find(({ id }) => id === state.density) ?? null;
  const contoured = () => (isFlat() ? dense() : null);
  const cutting = () => [state.cutBy, ...CUTS].find((kind) => data?.slices.some((slice) => slice.kind === kind)) ?? state.cutBy;
  const arrowing = () => state.arrows ?? (data && data.count <= FEW_PICTURES ? "all" : "pointed");
  const isFlat = () => data.components === 2 || Boolean(plotly?.onlyFlat) || !hasWebgl();
  const isMany = () => isFlat() && !plotly?.onlyFlat && data.count * data.views.length > MANY_POINTS && hasWebgl();
  const offAtFirst = () => (data.named || data.count > FEW_PICTURES ? data.views.filter(({ network, clean }) => network && clean) : []);
  const hiddenViews = () => state.hiddenViews ?? new Set(data ? offAtFirst().map(({ id }) => id) : []);
  const shownViews = () => data.views.filter(({ id }) => !hiddenViews().has(id));
  const isKept = (index) => !state.hiddenLabels.has(data.labelOf(index));
  const keptPictures = () => data.indices.filter(isKept);
  const focused = () => [...new Set([data.chosen, pointed])].filter((index) => index !== null && isKept(index));

  /** The same for the page and for a figure on paper. */
  function look(ink = theme) {
    const by = colouring();
    const labelInk = (index) => (data.labels?.[index] >= 0 ? ink.labels[data.labels[index] % ink.labels.length] : ink.muted);
    const groupInk = by === "cluster" ? (index) => ink.labels[data.clusters.of[index] % ink.labels.length] : labelInk;
    return {
      ink,
      flat: isFlat(),
      many: isMany(),
      ranges: home?.ranges ?? data.ruler,
      kept: keptPictures(),
      views: shownViews(),
      legs: data.legs,
      selected: state.selected && new Set(state.selected),
      revision,
      arrows: arrowing(),
      focused: focused(),
      colourOf: by === "view" ? (view) => ink.networks[view.network] : (view, index) => groupInk(index),
      labelInk,
      groupInk,
      byLabel: by === "label",
      byView: by === "view",
      byCluster: by === "cluster",
      density: contoured(),
      clusterNames: isNamed(),
      written: plotly?.onlyFlat ? String : unmarked,
    };
  }

  /** What changes with the payload alone. */
  function dress() {
    colour.fill([["label", data.labels ? "label" : "label (there are none)", !data.labels], ["view", data.named ? "teacher or which student" : "teacher or student"], ...(data.clusters ? [["cluster", "cluster"]] : [])]);
    clusterNames.node.hidden = !data.clusters;
    pending.hidden = !data.pending;
    setText(pending, data.pending ?? "");
    const found = (id) => data.byId[id]?.retrieval ?? undefined;
    const students = data.named ? data.students.map((who) => [who, found(`${who}_distorted`)]) : found("student_distorted");
    const told = tellNearest(found("teacher_distorted"), students, data.untouched);
    measures.replaceChildren(make("p", { class: "vx-saying", text: told }), measuresTable(shell, data));
    actions.refresh();
  }

  /** What changes with settings or payload, but not with the pointer. */
  function refresh() {
    if (!data) return;
    theme.networks.forEach((ink, network) => shell.body.style.setProperty(`--vx-network-${network}`, ink));
    colour.set(colouring());
    arrows.set(arrowing());
    density.fill([[NOBODY, isFlat() ? "none" : "none (in two dimensions only)"], ...data.views.map(({ id, title }) => [id, title])]);
    density.set(contoured()?.id ?? NOBODY);
    density.input.disabled = !isFlat();
    clusterNames.set(isNamed());
    slices.set(data, cutting(), state.slice);
    refreshChips();
    refreshNotes();
    refreshSelection();
    refreshPanel();
    stage.setAttribute("aria-label", `${keptPictures().length} pictures in ${shownViews().length} views. Left and right arrow keys step through them, ${options.saved ? "" : "Enter opens one, "}Escape clears.`);
    paint();
  }

  function refreshChips() {
    const { labelInk, byLabel, byView, ink, kept } = look();
    viewChips.set(data.views.map((view) => ({ id: view.id, text: view.title, count: kept.length, glyph: view, colour: byView ? ink.networks[view.network] : ink.text })), hiddenViews());
    labelChips.node.hidden = !data.labels;
    labelChips.set(data.classes.map((name, label) => ({ id: name, text: name, count: data.members[label].length, colour: byLabel ? labelInk(data.members[label][0]) : ink.muted })).filter(({ count }) => count), state.hiddenLabels);
  }

  function refreshNotes() {
    const repeat = colouring() === "label" && data.classes.length > theme.labels.length;
    setText(notes, [
      data.caption,
      data.shown < data.total && `${withCommas(data.shown)} of ${withCommas(data.total)} pictures are drawn`,
      contoured() && `density of ${contoured().title}: the lines hold 30, 60 and 90 % of its pictures`,
      isMany() && "drawn with WebGL: many points",
      data.components === 3 && isFlat() && `${plotly?.onlyFlat ? "pages of their own are flat" : "this browser offers no WebGL, which three dimensions need"}: the first two components are drawn`,
      repeat && `${theme.labels.length} colours for ${data.classes.length} labels: some repeat`,
    ].filter(Boolean).join(" \u00b7 "));
  }

  function refreshSelection() {
    selection.hidden = Boolean(options.saved) && !data.slices.length; // nothing there selects
    unselect.hidden = !state.selected;
    if (!state.selected) return setText(chosenText, "No pictures are selected.");
    const cut = cutNow();
    const counts = data.classes.map((name, label) => [name, state.selected.filter((index) => data.labels?.[index] === label).length]);
    const found = counts.filter(([, count]) => count).sort(([, a], [, b]) => b - a);
    if (cut?.kind === "label") found.length = 0; // it says the same
    const told = found.slice(0, 6).map(([name, count]) => `${name} ${count}`);
    const more = found.length > 6 ? [`${found.length - 6} more labels`] : [];
    const thinned = cut && cut.count > cut.indices.length && `${withCommas(cut.indices.length)} of its ${withCommas(cut.count)} pictures are drawn`;
    setText(chosenText, [`${counted(state.selected.length, "picture")} selected`, cut?.title, thinned, [...told, ...more].join(", ")].filter(Boolean).join(" \u00b7 "));
  }

  function refreshPanel() {
    const index = pointed ?? data.chosen;
    panel.set(data, index, pointed === null || pointed === data.chosen, look());
  }

  // ------------------------------------------------------------ painting
  /** Asks plotly for the state of now. Without a size (a closed tab) it waits for one. */
  function paint() {
    if (!plotly || !data || !plot.clientWidth) return;
    if (pressed) return paintLater(); // a drag holds on to the axes that it began with
    life.timed(paintNow);
  }
  const paintLater = life.perFrame(paint);

  function paintNow() {
    const kind = isFlat() ? "flat" : "deep";
    if (drawn !== kind) clearPlot();
    forgetHome();
    try {
      const now = look();
      painting = Promise.resolve(plotly.react(plot, tracesOf(data, now), layoutOf(data, now, fontOf()), configOf(kind))).then(findHome).catch(tellFailure);
      if (!drawn) listen();
      drawn = kind;
      tellInstead(null);
    } catch (error) {
      tellFailure(error);
    }
    paintOverlay();
  }

  function tellFailure(error) {
    tellInstead(`The plot could not be drawn: ${error?.message ?? error}.`);
  }

  // Plotly widens the ranges so that both axes have one scale. It keeps a zoom only if it is given the very ranges that
  // it had before the zoom; so what it made of the ruler is read back once, and given again.
  const rangesNow = () => ["xaxis", "yaxis"].map((name) => [...plot._fullLayout[name].range]);

  function findHome() {
    if (drawn === "flat" && !home) home = { key: scaleOf(data, true), ruler: data.ruler, ranges: rangesNow() };
  }

  function forgetHome() {
    const other = home && home.ruler.join() !== data.ruler.join();
    if (home && home.key === scaleOf(data, isFlat()) && !(other && !zoomed)) return;
    home = null;
    zoomed = false;
  }

  function onZoom(edits) {
    if (!home || !Object.keys(edits ?? {}).some((name) => /^[xy]axis/.test(name))) return;
    const size = home.ranges[0][1] - home.ranges[0][0];
    zoomed = rangesNow().flat().some((value, i) => Math.abs(value - home.ranges.flat()[i]) > 1e-4 * size);
    if (!zoomed && home.ruler.join() !== data?.ruler.join()) refresh(); // other points came while it was zoomed
  }

  function clearPlot() {
    if (drawn) plotly.purge(plot);
    drawn = home = null;
    zoomed = false;
    overlay.replaceChildren();
  }

  const fontOf = () => getComputedStyle(shell.host).fontFamily;

  /** Rings and strong arrows of the chosen and the pointed picture: they follow the pointer, so plotly is not asked. */
  function paintOverlay() {
    const project = projection();
    if (!project) return overlay.replaceChildren();
    const box = plot.getBoundingClientRect();
    const { xaxis, yaxis } = plot._fullLayout;
    const area = drawn === "flat"
      ? { x: xaxis._offset, y: yaxis._offset, width: xaxis._length, height: yaxis._length }
      : { x: 0, y: 0, width: box.width, height: box.height };
    const place = (view, index) => {
      const { x, y } = project(view, index);
      return [x - box.left - area.x, y - box.top - area.y];
    };
    const now = look();
    overlay.replaceChildren(make("svg:svg", area, ...now.focused.flatMap((index) => focusMarks(now, index, index === data.chosen, markSize(data.count) / 2, place))));
  }
  const overlaySoon = life.perFrame(() => {
    paintOverlay();
    if (performance.now() < settling) overlaySoon();
  });
  /** In three dimensions the camera moves on for some frames after it was let go. */
  const overlayFollows = () => {
    settling = drawn === "deep" ? performance.now() + SETTLE_MS : 0;
    overlaySoon();
  };

  /** From a mark to its place on the page; null while nothing is drawn. */
  function projection() {
    if (!drawn || !data) return null;
    const layout = plot._fullLayout;
    const { left, top, width, height } = plot.getBoundingClientRect();
    const at = (points, index, axis) => points[index * data.components + axis];
    if (drawn === "deep") return deepProjection(layout.scene._scene, { left, top, width, height }, at);
    const { xaxis, yaxis } = layout;
    return ({ points }, index) => ({
      x: left + xaxis._offset + xaxis.l2p(at(points, index, 0)),
      y: top + yaxis._offset + yaxis.l2p(at(points, index, 1)),
    });
  }

  function pixel(viewId, index) {
    const view = data?.byId[viewId];
    return view && index >= 0 && index < data.count ? projection()?.(view, index) ?? null : null;
  }

  // ------------------------------------------------------------ pointing
  function listen() {
    plot.on("plotly_selected", (event) => {
      if (!event?.range && !event?.lassoPoints) return; // not a gesture, but an echo of our own clearing
      const found = (event.points ?? []).map(({ customdata }) => customdata).filter(Number.isInteger);
      requestAnimationFrame(() => select(found.length ? [...new Set(found)].sort((a, b) => a - b) : null));
    });
    for (const name of ["plotly_deselect", "plotly_doubleclick"]) plot.on(name, () => requestAnimationFrame(() => select(null)));
    plot.on("plotly_relayout", onZoom);
    for (const name of ["plotly_relayouting", "plotly_relayout", "plotly_afterplot"]) plot.on(name, overlayFollows);
  }

  /** What lies below the pointer is found here, not by plotly: where marks overlap plotly takes any of them, in three
   * dimensions arrows hide marks from it, and it reports a click there for as long as a button is down. */
  const hoverSoon = life.perFrame(() => {
    const mark = pointer && !pressed ? markNear(pointer) : null;
    stage.classList.toggle("vx-overmark", Boolean(mark));
    if (!mark) return shell.hideTip();
    shell.showTip(hoverCard(data, mark.view, mark.index, look()), pointer.x, pointer.y);
    pointAt(mark.index);
  });

  function markNear({ x, y }) {
    const project = projection();
    if (!project) return null;
    const { kept, views } = look();
    let best = { distance: HOVER_PX };
    for (const view of views) {
      for (const index of kept) {
        const at = project(view, index);
        const distance = Math.hypot(at.x - x, at.y - y);
        if (distance <= best.distance) best = { view, index, distance };
      }
    }
    return best.view ? best : null;
  }

  function leave() {
    pointer = null;
    hoverSoon();
  }

  function pointAt(index) {
    if (pointed === index) return;
    pointed = index;
    followSoon();
  }
  const followSoon = life.perFrame(() => {
    if (!data) return;
    refreshPanel();
    paintOverlay();
  });

  function open(index) {
    if (!Number.isInteger(index) || !data) return;
    const now = performance.now();
    if (opened.index === index && now - opened.at < REOPEN_MS) return;
    opened = { index, at: now };
    pointAt(index);
    options.onEvent?.("open", { index, name: data.names[index] });
  }

  const choose = (slice) => select(slice.indices, slice.id);
  const cutNow = () => data.slices.find(({ id }) => id === state.slice);

  function select(indices, slice = null) {
    if (!data || (!indices && !state.selected)) return;
    revision += 1; // plotly keeps its own outline and its own fading otherwise
    state.selected = indices;
    state.slice = slice;
    refresh();
    life.tell();
    tell();
  }

  function clearSelection() {
    select(null);
    stage.focus({ preventScroll: true }); // the button is gone
  }

  function tell() {
    const names = (state.selected ?? []).map((index) => data.names[index]);
    toldNames = names.join("\n");
    options.onEvent?.("select", { indices: state.selected ?? [], names, slice: cutNow()?.title ?? null });
  }

  /** What nobody pressed is told, too: a link's selection, and a slice that was cut anew. One that went with its pictures stays with whoever took it. */
  function tellOthers() {
    if (state.selected && state.selected.map((index) => data.names[index]).join("\n") !== toldNames) tell();
  }

  function step(by) {
    const among = (state.selected ?? data.indices).filter(isKept);
    if (!among.length) return;
    const at = among.indexOf(pointed ?? data.chosen);
    const next = at < 0 ? (by > 0 ? 0 : among.length - 1) : (at + by + among.length) % among.length;
    pointAt(among[next]);
    announce(among[next]);
    const view = shownViews()[0];
    const place = view && pixel(view.id, among[next]);
    if (place) shell.showTip(hoverCard(data, view, among[next], look()), place.x, place.y);
  }

  function announce(index) {
    const moved = shownViews().filter(({ reference }) => !reference).map(({ title, displacement }) => `${title} displacement ${formatFixed(displacement[index], 2)}`);
    shell.announce([data.names[index], data.labelOf(index), ...moved].filter(Boolean).join(", "));
  }

  function clear() {
    pointed = null;
    shell.hideTip();
    shell.announce("Cleared");
    followSoon();
    select(null);
  }

  stage.addEventListener("keydown", (event) => {
    if (event.target !== stage || !data || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = pointed ?? data.chosen;
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "Enter" && index !== null) open(index);
    else return;
    event.preventDefault();
  });
  shell.host.addEventListener("keydown", (event) => event.key === "Escape" && data && clear());
  const onTools = (event) => event.target instanceof Element && event.target.closest(".modebar-container") !== null;
  stage.addEventListener("pointermove", (event) => {
    pointer = onTools(event) ? null : { x: event.clientX, y: event.clientY };
    hoverSoon();
  }, true);
  stage.addEventListener("pointerleave", leave);
  stage.addEventListener("blur", () => shell.hideTip());
  stage.addEventListener("pointerdown", (event) => {
    if (onTools(event) || event.button !== 0) return;
    pressed = { x: event.clientX, y: event.clientY, pointed };
    shell.hideTip();
    stage.focus({ preventScroll: true }); // plotly keeps the browser from doing so
  }, true);

  /** Plotly lays a sheet over the page while a button is down; so the end of a click is heard at the window. */
  function release(event) {
    const from = pressed;
    pressed = null;
    if (!from || event.type !== "pointerup" || Math.hypot(event.clientX - from.x, event.clientY - from.y) > CLICK_PX) return;
    const mark = markNear(from);
    if (!mark) return;
    const first = event.pointerType === "touch" && from.pointed !== mark.index;
    if (first) showNeighbours(mark.index);
    else open(mark.index);
  }

  shiftWhileDragged(life, stage, plot, () => drawn === "flat" && isMany());

  /** A finger cannot point without tapping: its first tap shows what a pointer would have shown, the second opens. */
  function showNeighbours(index) {
    pointAt(index);
    announce(index);
    requestAnimationFrame(() => panel.node.scrollIntoView({ block: "nearest" }));
  }
  life.listen(window, ["pointermove"], (event) => event.buttons === 0 && (pressed = null), true); // it may have been released outside the window
  life.listen(window, ["pointerup", "pointercancel"], release, true);

  // ------------------------------------------------------------ size and theme
  const fit = life.perFrame(() => {
    if (!data || !plotly || !plot.clientWidth) return;
    if (!drawn) return paint();
    if (pressed) return fit();
    const { width, height } = plot._fullLayout;
    if (Math.abs(width - plot.clientWidth) < 1 && Math.abs(height - plot.clientHeight) < 1) return;
    plotly.Plots.resize(plot).then(() => {
      if (zoomed || !data) return;
      home = null;
      findHome();
    }, tellFailure);
  });
  life.observe(new ResizeObserver(fit)).observe(plot);
  const retheme = life.perFrame(() => {
    const next = readTheme(shell.host);
    if (JSON.stringify(next) === JSON.stringify(theme)) return;
    theme = next;
    refresh();
  });
  const themes = life.observe(new MutationObserver(retheme));
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributes: true });
  life.listen(window.matchMedia("(prefers-color-scheme: dark)"), ["change"], retheme);
  life.atEnd(() => {
    clearPlot();
    releaseSprite();
    data = null;
  });

  // ------------------------------------------------------------ files and links
  function fileName() {
    return `vit-explorer-embedding-${data.method}-${data.components}d`;
  }

  const heading = () => `Where the pictures lie: teacher and student${data.named ? "s" : ""}`;

  async function makeFigure() {
    const [width, height, cell] = [1088, 720, 260];
    const image = new Image();
    image.src = await plotly.toImage(paperFigure(), { format: "png", width, height, scale: 2 });
    await image.decode();
    return {
      heading: heading(),
      cells: [[{ title: "", draw: (context, x, y) => context.drawImage(image, x, y, width, height) }, null, null, null]],
      aspect: height / cell,
      bars: [],
      lines: figureLines(),
    };
  }

  function paperFigure() {
    const now = look(PAPER);
    /** @type {any} */
    const layout = layoutOf(data, now, fontOf());
    layout.paper_bgcolor = layout.plot_bgcolor = PAPER.surface;
    if (now.flat) {
      const { xaxis, yaxis } = plot._fullLayout;
      const { shapes, annotations } = paperFocus(data, now);
      Object.assign(layout, { shapes, annotations: [...layout.annotations, ...annotations] });
      [layout.xaxis.range, layout.yaxis.range] = [[...xaxis.range], [...yaxis.range]];
    } else layout.scene.camera = plot._fullLayout.scene.camera;
    const focus = now.flat ? [] : now.focused.flatMap((index) => focusTraces(data, now, index));
    const legend = legendTraces(data, now).map((trace) => (plotly.onlyFlat ? trace : { ...trace, name: unmarked(trace.name) }));
    return { data: [...tracesOf(data, now), ...focus, ...legend], layout: { ...layout, showlegend: true } };
  }

  function figureLines() {
    const told = (view) => measuredOf(data).map(({ id, title }) => `${title} ${tellMeasure(id, view)}`).join(", ");
    return [
      data.caption,
      ...data.views.map((view) => `${view.title}: ${told(view)}`),
      ...data.slices.filter(({ id }) => id === state.slice).map((slice) => `${slice.title}, ${counted(slice.count, "picture")}: ${measuredOf(data).map(({ id, title }) => `${title} ${tellSlice(data, slice, id)}`).join(", ")}`),
      contoured() && `Density of ${contoured().title}: the lines hold 30, 60 and 90 % of its pictures.`,
      data.shown < data.total && `${withCommas(data.shown)} of ${withCommas(data.total)} pictures are drawn.`,
      "Distances in the picture are only a sketch; the numbers are measured in feature space.",
    ].filter(Boolean);
  }

  function makeNumbers() {
    const { count, components } = data;
    const flat = (values) => tableOf(values, 1, values.length)[0];
    const views = data.views.map((view) => [view.id, {
      title: view.title,
      mean_displacement: view.mean,
      nearest_label: view.nearest_label,
      retrieval: view.retrieval,
      points: tableOf(view.points, count, components),
      displacement: flat(view.displacement),
      neighbours: tableOf(view.neighbours, count, view.k),
      cosines: tableOf(view.cosines, count, view.k),
      own_rank: view.own && flat(view.own),
    }]);
    return {
      method: data.method,
      components,
      explained: data.explained,
      caption: data.caption,
      shown: data.shown,
      total: data.total,
      pictures: data.indices.map((index) => ({ name: data.names[index], label: data.labelOf(index), ...(data.clusters && { cluster: data.clusters.of[index] }) })),
      clusters: data.clusters?.names ?? null,
      slices: data.slices.map(({ indices, ...slice }) => ({ ...slice, pictures: indices })),
      views: Object.fromEntries(views),
    };
  }

  function makePage() {
    return { title: titleOf(heading(), data.link), payload: { ...data.payload, pending: null } };
  }

  function makeLink() {
    return {
      colour: state.colour,
      arrows: state.arrows,
      hidden_views: state.hiddenViews && writeNames(state.hiddenViews),
      hidden_labels: writeNames(state.hiddenLabels) || null,
      picked: pointed === null ? null : data.names[pointed],
      selected: state.slice ? null : state.selected && state.selected.join(","),
      density: dense()?.id ?? null,
      cluster_names: state.clusterNames === null ? null : Number(state.clusterNames),
      cut_by: state.cutBy === CUTS[0] ? null : state.cutBy,
      slice: state.slice,
    };
  }

  // ------------------------------------------------------------ settings
  function snapshot() {
    return {
      colour: colouring(),
      arrows: arrowing(),
      hidden_views: [...hiddenViews()],
      hidden_labels: [...state.hiddenLabels],
      pointed,
      selected: state.selected && [...state.selected],
      density: dense()?.id ?? NOBODY,
      cluster_names: isNamed(),
      cut_by: cutting(),
      slice: state.slice,
    };
  }

  function readIndex(value, fallback) {
    if (value === null) return null;
    const index = Number(value);
    return data && Number.isInteger(index) && index >= 0 && index < data.count ? index : fallback;
  }

  /** Before there are pictures nobody knows their views. */
  function readDensity(value, fallback) {
    const id = BOX[String(value)] ?? value ?? fallback;
    return data ? readChoice(id, [NOBODY, ...data.views.map((view) => view.id)], fallback) : String(id);
  }

  function indicesOf(chosen) {
    const given = typeof chosen === "string" ? chosen.split(",") : chosen;
    const found = given.map((index) => readIndex(index, null)).filter((index) => index !== null);
    return found.length ? found : null;
  }

  // ------------------------------------------------------------ the face of the view
  return {
    ...life.face,
    /** Its settings as query parameters, which `set` reads. */
    link: makeLink,
    /** Changes some settings; text is fine (names with commas between them), nonsense is ignored. */
    set(/** @type {Record<string, any>} */ partial = {}) {
      state.colour = readChoice(partial.colour, COLOURINGS, state.colour);
      state.arrows = readChoice(partial.arrows, ARROWS, state.arrows);
      state.hiddenViews = readNames(partial.hidden_views, state.hiddenViews);
      state.hiddenLabels = readNames(partial.hidden_labels, state.hiddenLabels);
      state.density = readDensity(partial.density, state.density);
      state.clusterNames = readFlag(partial.cluster_names, state.clusterNames);
      state.cutBy = readChoice(partial.cut_by, CUTS, state.cutBy);
      if ("pointed" in partial) pointed = readIndex(partial.pointed, pointed);
      wished = { ...wished, ...wishesOf(partial) };
      if (data) grant();
      if (data) tellOthers();
      refresh();
      return painting;
    },
    /** Where a picture's mark is on the page, {x, y}; null while nothing is drawn. */
    pixel,
    /** Resolves when plotly has drawn what was asked last. */
    painted: () => painting,
  };
}

function readTheme(host) {
  const style = getComputedStyle(host);
  const context = make("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const read = (text) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const [text, surface, border, accent] = [style.color, ...["surface", "border", "accent"].map((name) => style.getPropertyValue(`--vx-${name}`))].map(read);
  const dark = 0.3 * surface[0] + 0.59 * surface[1] + 0.11 * surface[2] < 128;
  const muted = text.map((value, i) => Math.round(0.74 * value + 0.26 * surface[i]));
  const css = (rgb) => `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  return { ...(dark ? DARK : LIGHT), dark, text: css(text), muted: css(muted), surface: css(surface), border: css(border), accent: css(accent) };
}

let webgl = null;

function hasWebgl() {
  if (webgl === null) {
    const context = make("canvas").getContext("webgl");
    webgl = Boolean(context);
    context?.getExtension("WEBGL_lose_context")?.loseContext(); // there are few of them in a page
  }
  return webgl;
}
