// Where pictures lie: clean ones as a frozen teacher sees them, and where damage carries them, teacher and student.
//
// Enters: the embedding payload (points in two or three components, distances and neighbours measured in feature space,
// thumbnails) and plotly.js through options.plotly, or flatplot.js in its place. Leaves: settings through onState, "open" and "select" through
// onEvent. Nothing is measured on the picture: distances and neighbours are those of the payload. No server is asked.

import { composeFigure, createActions, createHelp, createSelect, createShell, decodeArray, formatFixed, make, oncePerFrame, readChoice, tableOf, titleOf, viewLink } from "./common.js";

const LEGS = [["teacher_clean", "teacher_distorted", "teacher"], ["teacher_distorted", "student_distorted", "student"]];
const COLOURINGS = ["label", "view"];
const ARROWS = ["none", "pointed", "all"];
const MANY_PICTURES = 300; // from here on, arrows are drawn only where somebody points
const MANY_POINTS = 3000; // from here on, WebGL
const HOVER_PX = 14;
const CLICK_PX = 5; // what moves farther is a drag
const SETTLE_MS = 400;
const REOPEN_MS = 400; // a double click opens once
const SKETCH = "Distances in the picture are only a sketch; the numbers beside it are measured in feature space.";
const HOW_TO_READ = "Arrows lead from the clean picture to where its damage carries it for the teacher, and on to where the student puts it. Point at a mark to see its picture and its neighbours.";
const WITH_TOOLS = "Click opens the picture. Lasso or box of the tool bar select pictures, a double click or Escape lets them go. With the plot in focus, the left and right arrow keys step through the pictures and Enter opens one.";
const ALONE = "Drag moves the map, the buttons above it change its scale, a double click takes both back. With the plot in focus, the left and right arrow keys step through the pictures.";
const WITHOUT_PLOTLY = "The plot is drawn with plotly.js, which could not be loaded";

// Pictures tell teacher and student apart by shape, clean and distorted by filling; so no colour is needed for that.
const SHAPES = { teacher: "circle", student: "diamond" };
// Teacher and student: blue and vermilion of Okabe and Ito. Labels: twelve colours sought for the largest least
// distance in CIELAB, seen as they are and with protanopia and deuteranopia (Machado et al. 2009), at a contrast of
// at least 3 with the surface; the most distinct ones come first.
const LIGHT = {
  teacher: "#0072b2",
  student: "#d55e00",
  labels: ["#4b78ff", "#e17800", "#00a578", "#691e3c", "#b478a5", "#0f3c69", "#ff3c69", "#875a00", "#3c1e87", "#4b693c", "#780000", "#5a96e1"],
};
const DARK = {
  teacher: "#56b4e9",
  student: "#ff8c42",
  labels: ["#6969f0", "#f0e13c", "#e11e69", "#78e1ff", "#c34b2d", "#78ffd2", "#c3b478", "#d28700", "#e187b4", "#b4ff87", "#c32da5", "#6996e1"],
};
const PAPER = { ...LIGHT, dark: false, text: "#1f2328", muted: "#57606a", border: "#d1d9e0", surface: "#ffffff", accent: "#0b63ce" };

const MEASURES = [
  ["displacement", "displacement", "Cosine distance in feature space between a picture's feature and the teacher's feature of the same picture when it is clean, averaged over the pictures. 0: nothing has moved. Distances must be read here, never off the plot."],
  ["nearest_label", "1-NN label", "1-NN label accuracy: the share of pictures whose nearest other clean picture, as the teacher sees it, has the same label. 100 %: the neighbourhood still means the same. Measured in feature space, not on the plot."],
  ["retrieval", "retrieval@1", "The share of pictures whose nearest clean picture is their own original. 100 %: each is found again in spite of the damage. Measured in feature space, not on the plot."],
];
const OWN_HELP = "The place of the picture's own clean original among all clean pictures, ordered by their distance in feature space. 1st: the picture is found again.";
const KEPT_HELP = "How many of the clean picture's nearest neighbours are still among the nearest here. The damage drives neighbours out; a student that copes with it brings them back.";

/** Builds the view inside `root`; see the methods at the end. */
export function createEmbeddingView(root, options = {}) {
  const state = { colour: null, arrows: null, hiddenViews: new Set(), hiddenLabels: new Set(), selected: null };
  let data = null;
  let turn = 0;
  let sprite = null; // {source, picture}: read once for each text
  let plotly = null; // the library, once it has come
  let drawn = null; // "flat", "deep" or nothing: what plotly holds
  let painting = Promise.resolve();
  let pointed = null; // a picture; stays when the pointer goes, so that one can go to its neighbours
  let pointer = null; // {x, y} over the plot
  let pressed = null; // where a button or finger went down
  let opened = { index: null, at: -Infinity };
  let revision = 0; // of the selection
  let home = null; // {key, ruler, ranges}: what plotly made of the ruler for this size
  let zoomed = false;
  let settling = 0; // until when the camera may still move
  let theme = PAPER;

  // ------------------------------------------------------------ elements
  const shell = createShell(root, "embedding", "Choose what to show and press Compute.");
  const change = (partial) => {
    Object.assign(state, partial);
    refresh();
    options.onState?.(snapshot());
  };
  const colour = createSelect({ name: "colour", label: "Colour by", change: (value) => change({ colour: value }) });
  const arrows = createSelect({ name: "arrows", label: "Arrows", change: (value) => change({ arrows: value }) });
  arrows.fill([["none", "none"], ["pointed", "chosen or pointed"], ["all", "all"]]);
  const viewChips = createChips("Views", (hidden) => change({ hiddenViews: hidden }));
  const labelChips = createChips("Labels", (hidden) => change({ hiddenLabels: hidden }));
  const pending = make("p", { class: "vx-pending", role: "status", hidden: true });
  const plot = make("div", { class: "vx-embedplot" });
  const overlay = make("svg:svg", { class: "vx-embedoverlay", "aria-hidden": "true" });
  const instead = make("p", { class: "vx-embedinstead", hidden: true });
  const stage = make("div", { class: "vx-embedstage", tabindex: "0", role: "application", "aria-roledescription": "scatter plot" }, plot, overlay, instead);
  const sketch = make("p", { class: "vx-sketch", text: SKETCH });
  const notes = make("p", { class: "vx-hint vx-embednotes" });
  const chosenText = make("span", { role: "status" });
  const unselect = make("button", { class: "vx-button vx-unpin", type: "button", text: "Clear", onclick: () => select(null) });
  const selection = make("div", { class: "vx-selection", hidden: true }, chosenText, unselect);
  const measures = make("div", { class: "vx-embedmeasures" });
  const panel = createPanel(shell, (index) => open(index), !options.saved);
  const actions = createActions({ figure: makeFigure, numbers: makeNumbers, page: makePage, link: makeLink, options });
  shell.body.append(
    make("div", { class: "vx-embedtop" },
      make("div", { class: "vx-controls", role: "group", "aria-label": "What the plot shows" }, colour.node, arrows.node),
      viewChips.node, labelChips.node),
    make("div", { class: "vx-embedmain" }, pending, stage, selection, sketch, notes),
    make("div", { class: "vx-embedside" }, measures, panel.node),
    make("div", { class: "vx-embedmore" },
      make("p", { class: "vx-hint", text: options.saved ? `${HOW_TO_READ} ${ALONE}` : `${HOW_TO_READ} ${WITH_TOOLS}` }),
      actions.node),
  );

  // ------------------------------------------------------------ reading the payload
  async function update(payload) {
    const mine = ++turn;
    if (!payload) return forget();
    if (payload.message && !payload.views?.length) return forget(payload.message);
    let next;
    let picture;
    try {
      next = readEmbedding(payload);
      picture = await readSprite(payload.sprite);
    } catch (error) {
      if (mine === turn) forget(`This embedding could not be read: ${error.message}.`);
      return;
    }
    if (mine !== turn) return;
    next.thumb = thumbsOf(picture, next);
    settle(data, next);
    data = next;
    shell.say(
      data.message,
      data.untouched && "The student is still the untouched copy of the teacher: train one or choose one to see a difference.",
    );
    shell.show(true);
    theme = readTheme(shell.host);
    dress();
    refresh();
    await loadPlotly(mine);
    await painting;
  }

  function forget(message) {
    clearPlot();
    data = pointed = state.selected = null;
    releaseSprite();
    shell.show(false);
    shell.say(message);
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
    if (!same) pointed = state.selected = null;
    if (earlier?.chosen !== next.chosen) pointed = null;
    shell.hideTip();
    if (state.hiddenViews.size >= next.views.length) state.hiddenViews = new Set();
    if (earlier && earlier.classes.join("\n") !== next.classes.join("\n")) state.hiddenLabels = new Set();
  }

  async function loadPlotly(mine) {
    if (plotly) return;
    tellInstead("The drawing library is on its way\u2026");
    try {
      const found = await (options.plotly ? options.plotly() : window.Plotly);
      if (!found?.react) throw new Error("there is none on this page");
      plotly = found;
      if (mine === turn) refreshNotes();
    } catch (error) {
      if (mine === turn) tellInstead(`${WITHOUT_PLOTLY}: ${error?.message ?? error}. The numbers and the neighbours do without it.`);
      return;
    }
    if (mine === turn) paint();
  }

  function tellInstead(text) {
    instead.hidden = !text;
    setText(instead, text ?? "");
  }

  // ------------------------------------------------------------ what is shown
  const colouring = () => (data?.labels ? state.colour ?? "label" : "view");
  const arrowing = () => state.arrows ?? (data && data.count <= MANY_PICTURES ? "all" : "pointed");
  const isFlat = () => data.components === 2 || Boolean(plotly?.onlyFlat) || !hasWebgl();
  const isMany = () => isFlat() && !plotly?.onlyFlat && data.count * data.views.length > MANY_POINTS && hasWebgl();
  const shownViews = () => data.views.filter(({ id }) => !state.hiddenViews.has(id));
  const isKept = (index) => !state.hiddenLabels.has(data.labelOf(index));
  const keptPictures = () => data.indices.filter(isKept);
  const focused = () => [...new Set([data.chosen, pointed])].filter((index) => index !== null && isKept(index));

  /** The same for the page and for a figure on paper. */
  function look(ink = theme) {
    const labels = colouring() === "label";
    const labelInk = (index) => (data.labels?.[index] >= 0 ? ink.labels[data.labels[index] % ink.labels.length] : ink.muted);
    return {
      ink,
      flat: isFlat(),
      many: isMany(),
      ranges: home?.ranges ?? data.ruler,
      kept: keptPictures(),
      views: shownViews(),
      selected: state.selected && new Set(state.selected),
      revision,
      arrows: arrowing(),
      focused: focused(),
      colourOf: labels ? (view, index) => labelInk(index) : (view) => ink[view.who],
      labelInk,
      byLabel: labels,
    };
  }

  /** What changes with the payload alone. */
  function dress() {
    colour.fill([["label", data.labels ? "label" : "label (there are none)", !data.labels], ["view", "teacher or student"]]);
    pending.hidden = !data.pending;
    setText(pending, data.pending ?? "");
    measures.replaceChildren(measuresTable(shell, data));
    actions.refresh();
  }

  /** What changes with settings or payload, but not with the pointer. */
  function refresh() {
    if (!data) return;
    for (const who of Object.keys(SHAPES)) shell.body.style.setProperty(`--vx-${who}`, theme[who]);
    colour.set(colouring());
    arrows.set(arrowing());
    refreshChips();
    refreshNotes();
    refreshSelection();
    refreshPanel();
    stage.setAttribute("aria-label", `${keptPictures().length} pictures in ${shownViews().length} views. Left and right arrow keys step through them, ${options.saved ? "" : "Enter opens one, "}Escape clears.`);
    paint();
  }

  function refreshChips() {
    const { labelInk, byLabel, ink, kept } = look();
    viewChips.set(data.views.map((view) => ({ id: view.id, text: view.title, count: kept.length, glyph: view, colour: byLabel ? ink.text : ink[view.who] })), state.hiddenViews);
    labelChips.node.hidden = !data.labels;
    labelChips.set(data.classes.map((name, label) => ({ id: name, text: name, count: data.members[label].length, colour: byLabel ? labelInk(data.members[label][0]) : ink.muted })).filter(({ count }) => count), state.hiddenLabels);
  }

  function refreshNotes() {
    const repeat = colouring() === "label" && data.classes.length > theme.labels.length;
    setText(notes, [
      data.caption,
      data.shown < data.total && `${withCommas(data.shown)} of ${withCommas(data.total)} pictures are drawn`,
      isMany() && "drawn with WebGL: many points",
      data.components === 3 && isFlat() && `${plotly?.onlyFlat ? "pages of their own are flat" : "this browser offers no WebGL, which three dimensions need"}: the first two components are drawn`,
      repeat && `${theme.labels.length} colours for ${data.classes.length} labels: some repeat`,
    ].filter(Boolean).join(" \u00b7 "));
  }

  function refreshSelection() {
    selection.hidden = !state.selected;
    if (!state.selected) return setText(chosenText, "");
    const counts = data.classes.map((name, label) => [name, state.selected.filter((index) => data.labels?.[index] === label).length]);
    const found = counts.filter(([, count]) => count).sort(([, a], [, b]) => b - a);
    const told = found.slice(0, 6).map(([name, count]) => `${name} ${count}`);
    const more = found.length > 6 ? [`${found.length - 6} more labels`] : [];
    setText(chosenText, [`${counted(state.selected.length, "picture")} selected`, [...told, ...more].join(", ")].filter(Boolean).join(" \u00b7 "));
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
    const started = performance.now();
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
    root.dataset.repaintMs = (performance.now() - started).toFixed(2);
  }

  const paintLater = oncePerFrame(paint);

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
  const overlaySoon = oncePerFrame(() => {
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
  const hoverSoon = oncePerFrame(() => {
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
  const followSoon = oncePerFrame(() => {
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

  function select(indices) {
    if (!data || (!indices && !state.selected)) return;
    revision += 1; // plotly keeps its own outline and its own fading otherwise
    state.selected = indices;
    refresh();
    options.onEvent?.("select", { indices: indices ?? [] });
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
    const moved = data.views.filter(({ reference }) => !reference).map(({ title, displacement }) => `${title} displacement ${formatFixed(displacement[index], 2)}`);
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
    pressed = { x: event.clientX, y: event.clientY };
    shell.hideTip();
    stage.focus({ preventScroll: true }); // plotly keeps the browser from doing so
  }, true);

  /** Plotly lays a sheet over the page while a button is down; so the end of a click is heard at the window. */
  function release(event) {
    const from = pressed;
    pressed = null;
    if (!from || event.type !== "pointerup" || Math.hypot(event.clientX - from.x, event.clientY - from.y) > CLICK_PX) return;
    const mark = markNear(from);
    if (mark) open(mark.index);
  }
  const letGo = (event) => event.buttons === 0 && (pressed = null); // it may have been released outside the window
  window.addEventListener("pointermove", letGo, true);
  window.addEventListener("pointerup", release, true);
  window.addEventListener("pointercancel", release, true);

  // ------------------------------------------------------------ size and theme
  const fit = oncePerFrame(() => {
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
  const sizes = new ResizeObserver(fit);
  sizes.observe(plot);
  const retheme = oncePerFrame(() => {
    const next = readTheme(shell.host);
    if (JSON.stringify(next) === JSON.stringify(theme)) return;
    theme = next;
    refresh();
  });
  const themes = new MutationObserver(retheme);
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributes: true });
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", retheme);

  // ------------------------------------------------------------ files and links
  const fileName = () => `vit-explorer-embedding-${data.method}-${data.components}d`;

  /** The figure comes late, because plotly draws it; `createActions` asks for a blob and waits. */
  function makeFigure() {
    const toBlob = (done) => drawFigure().then((canvas) => canvas.toBlob(done, "image/png"), () => done(null));
    return { name: fileName(), canvas: { toBlob } };
  }

  async function drawFigure() {
    const [width, height, cell] = [1088, 720, 260];
    const image = new Image();
    image.src = await plotly.toImage(paperFigure(), { format: "png", width, height, scale: 2 });
    await image.decode();
    return composeFigure({
      font: fontOf(),
      heading: "Where the pictures lie: teacher and student",
      cells: [[{ title: "", draw: (context, x, y) => context.drawImage(image, x, y, width, height) }, null, null, null]],
      aspect: height / cell,
      bars: [],
      lines: figureLines(),
    });
  }

  function paperFigure() {
    const now = look(PAPER);
    const layout = layoutOf(data, now, fontOf());
    layout.paper_bgcolor = layout.plot_bgcolor = PAPER.surface;
    if (now.flat) {
      const { xaxis, yaxis } = plot._fullLayout;
      Object.assign(layout, paperFocus(data, now));
      [layout.xaxis.range, layout.yaxis.range] = [[...xaxis.range], [...yaxis.range]];
    } else layout.scene.camera = plot._fullLayout.scene.camera;
    const focus = now.flat ? [] : now.focused.flatMap((index) => focusTraces(data, now, index));
    const legend = legendTraces(data, now).map((trace) => (plotly.onlyFlat ? trace : { ...trace, name: unmarked(trace.name) }));
    return { data: [...tracesOf(data, now), ...focus, ...legend], layout: { ...layout, showlegend: true } };
  }

  function figureLines() {
    const told = (view) => measuredOf(data).map(([key, name]) => `${name} ${tellMeasure(key, view)}`).join(", ");
    return [
      data.caption,
      ...data.views.map((view) => `${view.title}: ${told(view)}`),
      data.shown < data.total && `${withCommas(data.shown)} of ${withCommas(data.total)} pictures are drawn.`,
      "Distances in the picture are only a sketch; the numbers are measured in feature space.",
      "made with vit-explorer",
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
    const content = {
      view: "embedding",
      settings: snapshot(),
      method: data.method,
      components,
      explained: data.explained,
      caption: data.caption,
      shown: data.shown,
      total: data.total,
      pictures: data.indices.map((index) => ({ name: data.names[index], label: data.labelOf(index) })),
      views: Object.fromEntries(views),
      link: data.link,
    };
    return { name: fileName(), content };
  }

  function makePage() {
    return { name: fileName(), title: titleOf("Where the pictures lie: teacher and student", data.link), payload: data.payload, state: snapshot() };
  }

  function makeLink() {
    if (!data) return null;
    const parameters = { view: "embedding", colour: state.colour, arrows: state.arrows };
    if (state.hiddenViews.size) parameters.hidden_views = [...state.hiddenViews].join(",");
    return viewLink(data.link, parameters);
  }

  // ------------------------------------------------------------ settings
  function snapshot() {
    return {
      colour: colouring(),
      arrows: arrowing(),
      hidden_views: [...state.hiddenViews],
      hidden_labels: [...state.hiddenLabels],
      pointed,
      selected: state.selected && [...state.selected],
    };
  }

  function readIndex(value, fallback) {
    if (value === null) return null;
    const index = Number(value);
    return data && Number.isInteger(index) && index >= 0 && index < data.count ? index : fallback;
  }

  // ------------------------------------------------------------ the face of the view
  return {
    /** Shows a payload, keeping settings where they make sense; null empties the view. Resolves when it is drawn. */
    update,
    /** The settings, the picture that is pointed at and those that are selected. */
    state: snapshot,
    /** Changes some settings; text is fine (names with commas between them), nonsense is ignored. */
    set(partial = {}) {
      state.colour = readChoice(partial.colour, COLOURINGS, state.colour);
      state.arrows = readChoice(partial.arrows, ARROWS, state.arrows);
      state.hiddenViews = readNames(partial.hidden_views, state.hiddenViews);
      state.hiddenLabels = readNames(partial.hidden_labels, state.hiddenLabels);
      if ("pointed" in partial) pointed = readIndex(partial.pointed, pointed);
      if ("selected" in partial && data) {
        const found = (partial.selected ?? []).map((index) => readIndex(index, null)).filter((index) => index !== null);
        state.selected = found.length ? found : null;
        revision += 1;
      }
      refresh();
      return painting;
    },
    /** Where a picture's mark is on the page, {x, y}; null while nothing is drawn. */
    pixel,
    /** Resolves when plotly has drawn what was asked last. */
    painted: () => painting,
    destroy() {
      turn += 1;
      clearPlot();
      releaseSprite();
      data = null;
      sizes.disconnect();
      themes.disconnect();
      system.removeEventListener("change", retheme);
      window.removeEventListener("pointermove", letGo, true);
      window.removeEventListener("pointerup", release, true);
      window.removeEventListener("pointercancel", release, true);
      for (const each of [paintLater, overlaySoon, followSoon, hoverSoon, fit, retheme]) each.cancel();
      shell.destroy();
      delete root.dataset.repaintMs;
    },
  };
}

// ---------------------------------------------------------------- reading

/** A payload, decoded and checked. Throws in words that people can read. */
function readEmbedding(payload) {
  const { views, pictures, components } = payload;
  if (!Array.isArray(views) || !views.length) throw new Error("it has no list of views");
  if (!Array.isArray(pictures?.names) || !pictures.names.length) throw new Error("it names no pictures");
  if (components !== 2 && components !== 3) throw new Error(`it has ${components} components instead of 2 or 3`);
  const names = pictures.names.map(String);
  const count = names.length;
  const labels = pictures.labels ?? null;
  if (labels && labels.length !== count) throw new Error(`it has ${labels.length} labels for ${count} pictures`);
  const classes = labels ? (pictures.classes ?? []).map(String) : [];
  const read = views.map((view) => readView(view, count, components));
  const indices = names.map((_, index) => index);
  return {
    names,
    count,
    labels,
    classes,
    indices,
    components,
    members: classes.map((_, label) => indices.filter((index) => labels[index] === label)),
    labelOf: (index) => classes[labels?.[index]] ?? null,
    views: read,
    byId: Object.fromEntries(read.map((view) => [view.id, view])),
    reference: read.find(({ reference }) => reference) ?? null,
    ruler: rulerOf(read, components),
    method: readChoice(payload.method, ["pca", "umap"], "pca"),
    explained: payload.explained ?? null,
    pending: payload.pending ?? null,
    chosen: Number.isInteger(payload.chosen) && payload.chosen >= 0 && payload.chosen < count ? payload.chosen : null,
    shown: payload.shown ?? count,
    total: payload.total ?? count,
    untouched: Boolean(payload.untouched_student),
    caption: payload.caption ?? "",
    message: payload.message ?? null,
    link: payload.link ?? null,
    payload,
  };
}

function readView(view, count, components) {
  const read = (name, shape, whole = false) => {
    if (!view[name]) throw new Error(`"${view.id}" has no ${name.replace("_", " ")}`);
    const array = whole ? decodeWhole(view[name]) : decodeArray(view[name]);
    const fits = array.shape.length === shape.length && shape.every((length, i) => length === null || length === array.shape[i]);
    if (!fits) throw new Error(`the ${name.replace("_", " ")} of "${view.id}" have the shape [${array.shape}], which does not fit ${count} pictures`);
    return array;
  };
  const displacement = read("displacement", [count]).values;
  const near = view.neighbours != null; // where pictures are left out, so are some neighbours: the server sends none
  const neighbours = near ? read("neighbours", [count, null], true) : { values: new Int32Array(0), shape: [count, 0] };
  const k = neighbours.shape[1];
  if (neighbours.values.some((index) => index >= count || index < -1)) throw new Error(`"${view.id}" has neighbours that are not among its pictures`);
  return {
    id: String(view.id),
    who: view.who === "student" ? "student" : "teacher",
    clean: view.view === "clean",
    title: String(view.title ?? view.id),
    reference: Boolean(view.reference),
    points: read("points", [count, components]).values,
    displacement,
    mean: view.mean_displacement ?? displacement.reduce((sum, value) => sum + value, 0) / count,
    neighbours: neighbours.values,
    cosines: near ? read("cosines", [count, k]).values : new Float32Array(0),
    k,
    own: view.own_rank ? read("own_rank", [count], true).values : null,
    nearest_label: view.nearest_label ?? null,
    retrieval: view.retrieval ?? null,
  };
}

/** Whole numbers of 32 bits, which have the size of the floats that `decodeArray` knows. */
function decodeWhole(spec) {
  if (spec.dtype !== "int32") throw new Error(`array of type ${spec.dtype} instead of int32`);
  const { values, shape } = decodeArray({ ...spec, dtype: "float32" });
  return { values: new Int32Array(values.buffer), shape };
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

/** An object URL is short; the data URL itself would be repeated in each thumbnail's style. */
async function loadSprite({ image, side, columns }) {
  try {
    const [head, body] = image.split(",");
    const inline = head.startsWith("data:") && head.endsWith(";base64");
    const bytes = inline ? Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0)) : null;
    const url = inline ? URL.createObjectURL(new Blob([bytes], { type: head.slice(5, -7) })) : image;
    const picture = new Image();
    picture.src = url;
    const release = () => inline && URL.revokeObjectURL(url);
    try {
      await picture.decode();
    } catch {
      release();
      return null;
    }
    return { url, side, columns, width: picture.naturalWidth, height: picture.naturalHeight, picture, release };
  } catch {
    return null; // thumbnails are a help, not the matter
  }
}

function readNames(value, fallback) {
  if (value === undefined || value === null) return fallback;
  const names = typeof value === "string" ? value.split(",").filter(Boolean) : [...value];
  return new Set(names.map(String));
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

// ---------------------------------------------------------------- what plotly is asked for

const markSize = (count) => (count <= 60 ? 12 : count <= 400 ? 9.5 : count <= 1500 ? 7 : 5);

function translucent(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

/** WebGL adds translucent lines up to something bright; so they are made pale instead. */
function mixed(hex, ground, share) {
  const at = (colour, start) => parseInt(colour.slice(start, start + 2), 16);
  return `rgb(${[1, 3, 5].map((start) => Math.round(share * at(hex, start) + (1 - share) * at(ground, start)))})`;
}

const symbolOf = ({ who, clean }) => SHAPES[who] + (clean ? "" : "-open");

/** Arrows below, then one trace for each view, hidden ones too: toggling changes no trace's place. */
function tracesOf(data, now) {
  const points = data.views.map((view) => pointTrace(data, now, view));
  return [...LEGS.map((leg) => arrowTrace(data, now, leg)), ...points];
}

function columnsOf(data, now, view, indices) {
  const names = now.flat ? ["x", "y"] : ["x", "y", "z"];
  return Object.fromEntries(names.map((name, axis) => [name, indices.map((index) => view.points[index * data.components + axis])]));
}

function pointTrace(data, now, view) {
  const { kept, selected, flat, many } = now;
  const faint = (index) => !flat && selected && !selected.has(index) && index !== data.chosen;
  const ink = kept.map((index) => (faint(index) ? translucent(now.colourOf(view, index), 0.12) : now.colourOf(view, index)));
  const size = markSize(data.count);
  const trace = {
    type: flat ? (many ? "scattergl" : "scatter") : "scatter3d",
    mode: "markers",
    name: view.title,
    meta: view.id,
    visible: now.views.includes(view),
    ...columnsOf(data, now, view, kept),
    customdata: kept,
    hoverinfo: "skip",
    showlegend: false,
    marker: {
      symbol: symbolOf(view),
      size: flat ? size : size * (view.who === "student" ? 0.52 : 0.62), // diamonds come out larger there
      color: ink,
      opacity: flat ? 0.92 : 1,
      line: view.clean ? { width: size < 7 ? 0.4 : 0.75, color: now.ink.surface } : { width: size < 7 ? 1.2 : 1.9, ...(flat ? {} : { color: ink }) },
    },
  };
  if (!flat) return trace;
  const positions = selected && [...kept.keys()].filter((position) => selected.has(kept[position]) || kept[position] === data.chosen);
  return { ...trace, selectedpoints: positions, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.1 } } };
}

const bothShown = (now, [from, to]) => [from, to].every((id) => now.views.some((view) => view.id === id));

/** All arrows of one leg as one line with gaps. In WebGL and in three dimensions they have no heads. */
function arrowTrace(data, now, leg) {
  const [from, to, who] = leg;
  const drawn = now.arrows === "all" && bothShown(now, leg);
  const indices = drawn ? now.kept.filter((index) => !now.selected || now.selected.has(index)) : [];
  const ends = drawn && [from, to].map((id) => columnsOf(data, now, data.byId[id], indices));
  const line = (name) => (drawn ? indices.flatMap((_, i) => [ends[0][name][i], ends[1][name][i], null]) : []);
  const names = now.flat ? ["x", "y"] : ["x", "y", "z"];
  const alpha = indices.length <= 60 ? 0.5 : indices.length <= MANY_PICTURES ? 0.3 : 0.16;
  const trace = {
    type: now.flat ? (now.many ? "scattergl" : "scatter") : "scatter3d",
    mode: "lines",
    name: `arrows to ${to}`,
    meta: `arrows_${to}`,
    visible: drawn,
    ...Object.fromEntries(names.map((name) => [name, line(name)])),
    connectgaps: false,
    hoverinfo: "skip",
    showlegend: false,
    line: now.flat ? { width: 1.2, color: translucent(now.ink[who], alpha) } : { width: 2, color: mixed(now.ink[who], now.ink.surface, alpha) },
  };
  if (!now.flat || now.many) return trace;
  const radius = markSize(data.count) / 2;
  return {
    ...trace,
    mode: "lines+markers",
    line: { ...trace.line, simplify: false },
    marker: {
      symbol: "arrow",
      angleref: "previous",
      standoff: radius,
      size: indices.flatMap(() => [0, radius + 2, 0]),
      color: translucent(now.ink[who], Math.min(1, alpha + 0.15)),
      opacity: 1,
      line: { width: 0 },
    },
    selectedpoints: null,
    selected: { marker: { opacity: 1 } },
    unselected: { marker: { opacity: 1 } }, // a lasso is about pictures, not about their arrows
  };
}

/** In three dimensions the strong arrows and rings on paper are traces. */
function focusTraces(data, now, index) {
  const base = { type: "scatter3d", hoverinfo: "skip", showlegend: false };
  const legs = now.arrows === "none" ? [] : LEGS.filter((leg) => bothShown(now, leg));
  const lines = legs.map(([from, to, who]) => {
    const ends = [from, to].map((id) => columnsOf(data, now, data.byId[id], [index]));
    const joined = Object.fromEntries(["x", "y", "z"].map((name) => [name, ends.flatMap((end) => end[name])]));
    return { ...base, mode: "lines", ...joined, line: { width: 6, color: now.ink[who] } };
  });
  const places = now.views.map((view) => columnsOf(data, now, view, [index]));
  const rings = Object.fromEntries(["x", "y", "z"].map((name) => [name, places.flatMap((place) => place[name])]));
  const marker = { symbol: "circle-open", size: markSize(data.count) * 1.2, color: now.ink.text, line: { width: 3 } };
  return [...lines, { ...base, mode: "markers", ...rings, marker }];
}

function axisTitle(data, axis) {
  if (data.method === "umap") return `UMAP ${axis + 1}`;
  const share = data.explained?.[axis];
  return Number.isFinite(share) ? `PC ${axis + 1} (${Math.round(100 * share)} %)` : `PC ${axis + 1}`;
}

/** Where this changes, the numbers of the axes mean something else. */
const scaleOf = (data, flat) => `${data.method} ${data.components} ${flat}`;

function layoutOf(data, now, family) {
  const { ink, flat } = now;
  const axis = (i) => ({
    range: [...(flat ? now.ranges : data.ruler)[i]],
    title: { text: axisTitle(data, i), font: { size: 12.5, color: ink.muted }, ...(flat ? { standoff: 6 } : {}) },
    showticklabels: false,
    ticks: "",
    zeroline: false,
    showline: false,
    gridcolor: translucent(ink.border, ink.dark ? 0.55 : 0.65),
  });
  const common = {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family, size: 12.5, color: ink.text },
    showlegend: false,
    hovermode: false,
    uirevision: scaleOf(data, flat),
    selectionrevision: now.revision,
    selections: [],
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink.muted, activecolor: ink.accent, orientation: "h" },
    newselection: { line: { color: ink.accent, width: 1.5, dash: "dot" } },
  };
  if (flat) return { ...common, dragmode: "pan", margin: { l: 34, r: 10, t: 36, b: 34 }, xaxis: axis(0), yaxis: { ...axis(1), scaleanchor: "x", scaleratio: 1 } };
  const deep = (i) => ({ ...axis(i), showspikes: false, showbackground: false, gridcolor: ink.border });
  const scene = { xaxis: deep(0), yaxis: deep(1), zaxis: deep(2), aspectmode: "data", hovermode: false, bgcolor: "rgba(0,0,0,0)", camera: { eye: { x: 1.15, y: 1.15, z: 0.72 }, center: { x: 0, y: 0, z: -0.08 } } };
  return { ...common, margin: { l: 0, r: 0, t: 30, b: 0 }, scene };
}

function configOf(kind) {
  const unwanted = kind === "flat" ? ["toImage", "autoScale2d"] : ["toImage", "resetCameraLastSave3d", "hoverClosest3d"];
  return { displayModeBar: true, displaylogo: false, showTips: false, responsive: false, doubleClick: "reset", modeBarButtonsToRemove: unwanted };
}

/** On paper the chosen and the pointed picture are marked by plotly itself. */
function paperFocus(data, now) {
  const at = ({ points }, index) => [points[index * data.components], points[index * data.components + 1]];
  const radius = markSize(data.count) / 2 + 4;
  const shapes = now.focused.flatMap((index) => now.views.map((view) => {
    const [xanchor, yanchor] = at(view, index);
    return { type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor, yanchor, x0: -radius, x1: radius, y0: -radius, y1: radius, line: { color: now.ink.text, width: 2 } };
  }));
  const legs = now.arrows === "none" ? [] : LEGS.filter((leg) => bothShown(now, leg));
  const annotations = now.focused.flatMap((index) => legs.map(([from, to, who]) => {
    const [ax, ay] = at(data.byId[from], index);
    const [x, y] = at(data.byId[to], index);
    return { x, y, ax, ay, xref: "x", yref: "y", axref: "x", ayref: "y", text: "", showarrow: true, arrowhead: 2, arrowwidth: 2.5, arrowcolor: now.ink[who], standoff: radius, startstandoff: radius };
  }));
  return { shapes, annotations };
}

/** Plotly reads tags in names, and mathematics between dollars: a name is neither. */
const unmarked = (name) => String(name).replace(/[&<>$]/g, (letter) => `&#${letter.charCodeAt(0)};`);

/** A legend on paper: what the chips say on the page. */
function legendTraces(data, now) {
  const empty = now.flat ? { type: "scatter", x: [null], y: [null] } : { type: "scatter3d", x: [null], y: [null], z: [null] };
  const entry = (name, marker) => ({ ...empty, mode: "markers", name, marker: { size: 10, ...marker }, showlegend: true });
  const views = now.views.map((view) => entry(view.title, { symbol: symbolOf(view), color: now.byLabel ? now.ink.text : now.ink[view.who], line: { width: view.clean ? 0 : 2 } }));
  const some = data.members.map((indices, label) => [data.classes[label], indices.find((index) => now.kept.includes(index))]).filter(([, index]) => index !== undefined);
  return [...views, ...(now.byLabel ? some.map(([name, index]) => entry(name, { symbol: "square", color: now.labelInk(index) })) : [])];
}

/** Where a mark of three dimensions lies on the page: plotly's own camera, applied here. */
function deepProjection({ glplot, dataScale }, { left, top, width, height }, at) {
  if (!glplot?.cameraParams) return null;
  const { model, view, projection } = glplot.cameraParams;
  const rows = [0, 1, 2, 3];
  const times = (matrix, vector) => rows.map((row) => vector.reduce((sum, value, col) => sum + matrix[4 * col + row] * value, 0));
  return ({ points }, index) => {
    const place = [0, 1, 2].map((axis) => at(points, index, axis) * dataScale[axis]);
    const [x, y, , w] = times(projection, times(view, times(model, [...place, 1])));
    return { x: left + (0.5 + x / w / 2) * width, y: top + (0.5 - y / w / 2) * height };
  };
}

/** Rings around a picture's marks, and its arrows, as SVG. */
function focusMarks(now, index, isChosen, radius, place) {
  const rings = now.views.map((view) => {
    const [cx, cy] = place(view, index);
    return make("svg:circle", { class: isChosen ? "vx-ring vx-ring-chosen" : "vx-ring", cx, cy, r: radius + 4 });
  });
  const legs = now.arrows === "none" ? [] : LEGS.filter((leg) => bothShown(now, leg));
  const byId = Object.fromEntries(now.views.map((view) => [view.id, view]));
  const paths = legs.map(([from, to, who]) => ({ who, d: arrowPath(place(byId[from], index), place(byId[to], index), radius + 5) })).filter(({ d }) => d);
  const cases = paths.map(({ d }) => make("svg:path", { class: "vx-arrowcase", d }));
  const arrows = paths.map(({ d, who }) => make("svg:path", { class: "vx-arrow", d, style: `color: ${now.ink[who]}` }));
  return [...cases, ...arrows, ...rings];
}

function arrowPath([x0, y0], [x1, y1], gap) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (!(length > 2 * gap + 4)) return null; // the rings touch: there is no room for an arrow
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
  const [tx, ty] = [x1 - gap * ux, y1 - gap * uy];
  const head = Math.min(9, length - 2 * gap);
  const wing = (side) => `${(tx - head * ux + side * 0.5 * head * uy).toFixed(1)} ${(ty - head * uy - side * 0.5 * head * ux).toFixed(1)}`;
  const tip = `${tx.toFixed(1)} ${ty.toFixed(1)}`;
  return `M${(x0 + gap * ux).toFixed(1)} ${(y0 + gap * uy).toFixed(1)}L${tip}M${wing(1)}L${tip}L${wing(-1)}`;
}

// ---------------------------------------------------------------- small parts

const withCommas = (count) => count.toLocaleString("en");
const counted = (count, noun) => `${withCommas(count)} ${noun}${count === 1 ? "" : "s"}`;
const percent = (share) => (Number.isFinite(share) ? `${Math.round(100 * share)} %` : "\u2013");

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function ordinal(place) {
  const ending = place % 100 >= 11 && place % 100 <= 13 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[place % 10] ?? "th";
  return `${withCommas(place)}${ending}`;
}

/** The mark of a view as the plot draws it. */
function glyphOf({ who, clean }, colour) {
  const d = who === "student" ? "M7 1.5L12.5 7L7 12.5L1.5 7Z" : "M2 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z";
  return make("svg:svg", { class: clean ? "vx-glyph vx-filled" : "vx-glyph", viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true", style: `color: ${colour}` }, make("svg:path", { d }));
}

/** (picture, side) -> its thumbnail; without a sprite the first letter of its name. */
function thumbsOf(sprite, { names }) {
  return (index, size) => {
    const node = make("span", { class: "vx-thumb", style: `width: ${size}px; height: ${size}px`, "aria-hidden": "true" });
    if (!sprite) {
      node.textContent = names[index].replace(/^.*[\\/]/, "").slice(0, 1);
      return node;
    }
    const scale = size / sprite.side;
    const [row, col] = [Math.floor(index / sprite.columns), index % sprite.columns];
    node.style.backgroundImage = `url("${sprite.url}")`;
    node.style.backgroundSize = `${sprite.width * scale}px ${sprite.height * scale}px`;
    node.style.backgroundPosition = `${-col * size}px ${-row * size}px`;
    return node;
  };
}

function hoverCard(data, view, index, now) {
  const label = data.labelOf(index);
  const words = make("div", {},
    make("div", { class: "vx-tiphead", text: data.names[index] }),
    label === null ? "" : make("div", { class: "vx-labelled" }, swatch(now.byLabel ? now.labelInk(index) : null), label),
    make("div", { class: "vx-labelled" }, glyphOf(view, now.byLabel ? now.ink.text : now.ink[view.who]), view.title),
    make("div", { text: view.reference ? "the reference" : `displacement ${formatFixed(view.displacement[index], 3)}` }));
  return [make("div", { class: "vx-hovercard" }, data.thumb(index, 64), words)];
}

function swatch(colour) {
  return colour ? make("span", { class: "vx-swatch", style: `background: ${colour}`, "aria-hidden": "true" }) : "";
}

/** A row of buttons that show and hide. `change(hidden)` gets a Set of the ids that are off. */
function createChips(name, change) {
  const row = make("div", { class: "vx-chips", role: "group", "aria-label": `${name} that are shown` });
  const every = (text, hidden) => make("button", { class: "vx-few", type: "button", text, "aria-label": `${text} ${name.toLowerCase()}`, onclick: () => change(new Set(hidden())) });
  const node = make("div", { class: "vx-chiprow" },
    make("span", { class: "vx-chiphead" }, make("span", { class: "vx-label", text: name }), every("all", () => []), every("none", () => known.keys())),
    row);
  let known = new Map(); // id -> its parts
  let off = new Set();
  let signature = "";

  const toggle = (id) => {
    const hidden = new Set([...off].filter((each) => known.has(each)));
    if (!hidden.delete(id)) hidden.add(id);
    change(hidden);
  };
  const build = (items) => {
    known = new Map(items.map(({ id, text, glyph }) => {
      const mark = glyph ? glyphOf(glyph, "") : make("span", { class: "vx-swatch", "aria-hidden": "true" });
      const count = make("span", { class: "vx-count" });
      const button = make("button", { class: "vx-chip", type: "button", "data-id": id, onclick: () => toggle(id) }, mark, make("span", { text }), count);
      return [id, { button, mark, count, glyph }];
    }));
    row.replaceChildren(...[...known.values()].map(({ button }) => button));
  };
  const set = (items, hidden) => {
    off = hidden;
    const now = JSON.stringify(items.map(({ id, text }) => [id, text]));
    if (now !== signature) build(items);
    signature = now;
    for (const item of items) {
      const { button, mark, count, glyph } = known.get(item.id);
      button.setAttribute("aria-pressed", String(!hidden.has(item.id)));
      mark.style[glyph ? "color" : "background"] = item.colour;
      setText(count, withCommas(item.count));
    }
  };
  return { node, set };
}

/** The measures that the payload has. */
const measuredOf = (data) => MEASURES.filter(([key]) => key === "displacement" || data.views.some((view) => Number.isFinite(view[key])));

function tellMeasure(key, view) {
  if (key === "displacement") return view.reference ? "0" : formatFixed(view.mean, 3);
  return percent(view[key]);
}

function measuresTable(shell, data) {
  const known = measuredOf(data);
  return make(
    "table",
    { class: "vx-table" },
    make("caption", { text: "Measured in feature space" }),
    make("thead", {}, make("tr", {}, make("td"), ...known.map(([, name, help]) => make("th", { scope: "col" }, createHelp(shell, name, help))))),
    make("tbody", {}, ...data.views.map((view) => make("tr", { "data-view": view.id },
      make("th", { scope: "row" }, make("span", { class: "vx-labelled" }, glyphOf(view, `var(--vx-${view.who})`), view.title)),
      ...known.map(([key]) => make("td", { text: tellMeasure(key, view) }))))),
  );
}

// ---------------------------------------------------------------- the picture and its neighbours

/** The panel of one picture: how far it moved in each view, and which clean pictures lie next to it there. */
function createPanel(shell, open, canOpen) {
  const node = make("section", { class: "vx-embedpanel", "aria-label": "The picture and its neighbours" });
  let shown = "";

  const go = (index) => {
    open(index);
    node.querySelector(".vx-panelname")?.focus({ preventScroll: true }); // the button that was pressed is gone
  };
  const set = (data, index, isChosen, now) => {
    const key = JSON.stringify([index, isChosen, now.byLabel, now.ink.dark]);
    if (key === shown && node.vxData === data) return;
    shown = key;
    node.vxData = data;
    if (index === null) {
      node.replaceChildren(make("p", { class: "vx-hint", text: "Point at a mark to see its picture and the clean pictures next to it." }));
      return;
    }
    node.replaceChildren(panelHead(data, index, isChosen || !canOpen, now, open), panelTable(shell, data, index, go), panelKey(data));
  };
  return { node, set };
}

function panelHead(data, index, isChosen, now, open) {
  const label = data.labelOf(index);
  const name = make("h4", { class: "vx-panelname", tabindex: "-1", text: data.names[index], title: data.names[index] });
  const facts = make("div", { class: "vx-labelled" }, swatch(label !== null && now.byLabel ? now.labelInk(index) : null), label ?? "");
  const status = isChosen
    ? make("span", { class: "vx-hint", text: index === data.chosen ? "the picture that is open" : "" })
    : make("button", { class: "vx-button vx-unpin", type: "button", text: "Open this picture", onclick: () => open(index) });
  return make("div", { class: "vx-panelhead" }, data.thumb(index, 88), make("div", {}, name, facts, status));
}

function panelTable(shell, data, index, open) {
  const heading = [createHelp(shell, "displacement", MEASURES[0][2].replace(", averaged over the pictures", "")), createHelp(shell, "own original", OWN_HELP), createHelp(shell, "kept", KEPT_HELP)];
  const rows = data.views.flatMap((view) => {
    const cells = [view.reference ? "0" : formatFixed(view.displacement[index], 3), view.own && !view.reference ? ordinal(view.own[index] + 1) : "\u2013", keptText(data, view, index)];
    return [
      make("tr", { "data-view": view.id }, make("th", { scope: "row" }, make("span", { class: "vx-labelled" }, glyphOf(view, `var(--vx-${view.who})`), view.title)), ...cells.map((text) => make("td", { text }))),
      view.k > 0 ? make("tr", { class: "vx-nearestrow" }, make("td", { colspan: 4 }, nearestStrip(data, view, index, open))) : "",
    ];
  });
  return make("table", { class: "vx-table vx-paneltable" }, make("thead", {}, make("tr", {}, make("td"), ...heading.map((each) => make("th", { scope: "col" }, each)))), make("tbody", {}, ...rows));
}

function neighboursOf({ neighbours, cosines, k }, index) {
  const out = [];
  for (let i = index * k; i < (index + 1) * k; i++) if (neighbours[i] >= 0) out.push({ other: neighbours[i], cosine: cosines[i] });
  return out;
}

function keptText(data, view, index) {
  if (!data.reference || view.reference || view.k === 0) return "\u2013";
  const before = new Set(neighboursOf(data.reference, index).map(({ other }) => other));
  const now = neighboursOf(view, index).filter(({ other }) => other !== index);
  return `${now.filter(({ other }) => before.has(other)).length} of ${now.length}`;
}

/** The neighbours in their order; the picture's own original stands where it belongs, if it is near enough. */
function nearestStrip(data, view, index, open) {
  const found = neighboursOf(view, index);
  const place = view.own?.[index] ?? -1;
  const missing = !view.reference && place >= 0 && place <= found.length && !found.some(({ other }) => other === index);
  if (missing) found.splice(place, 0, { other: index, cosine: 1 - view.displacement[index] });
  const before = data.reference && !view.reference ? new Set(neighboursOf(data.reference, index).map(({ other }) => other)) : null;
  return make("div", { class: "vx-nearest", role: "group", "aria-label": `Nearest clean pictures: ${view.title}` }, ...found.map(({ other, cosine }, i) => {
    const own = other === index;
    const alike = !own && data.labels !== null && data.labelOf(other) !== null && data.labelOf(other) === data.labelOf(index);
    const fresh = !own && before !== null && !before.has(other);
    const told = [`${i + 1}: ${data.names[other]}`, data.labelOf(other), `cosine ${formatFixed(cosine, 3)}`, own && "its own original", alike && "same label", fresh && "not a neighbour of the clean picture"].filter(Boolean).join(", ");
    const classes = ["vx-near", alike && "vx-alike", own && "vx-own"].filter(Boolean).join(" ");
    const badge = own ? make("span", { class: "vx-nearbadge", text: "own" }) : fresh ? make("span", { class: "vx-nearbadge vx-nearnew", text: "+" }) : "";
    return make("button", { class: classes, type: "button", title: told, "aria-label": told, "data-picture": other, onclick: () => open(other) }, data.thumb(other, 44), badge, make("span", { class: "vx-nearcosine", text: formatFixed(cosine, 2) }));
  }));
}

function panelKey(data) {
  if (data.views.every(({ k }) => k === 0)) return make("p", { class: "vx-hint vx-panelkey", text: data.shown < data.total ? "Neighbours are shown where all pictures are drawn." : "There are no neighbours to show." });
  const parts = [data.labels && "green ring: the same label", data.reference && "+: no neighbour of the clean picture", "number: cosine"];
  const text = parts.filter(Boolean).join(" \u00b7 ");
  return make("p", { class: "vx-hint vx-panelkey", text: `Nearest clean pictures of the teacher. ${text[0].toUpperCase()}${text.slice(1)}.` });
}
