// The charts of the sweep view: on the page, and on the canvas of a figure.

import { createHelp, make, setText } from "./elements.js";
import { NETWORKS } from "./networks.js";
import { describeCurve, gapAt, LOOKS, numberAt, tellStrength } from "./sweepdata.js";
import { dotPath, geometryOf, PLOT } from "./sweepgeometry.js";

function setPath(node, path) {
  if (node.getAttribute("d") !== path) node.setAttribute("d", path);
}

/** A short stretch of a curve, as legends and read-outs show it. */
export function createSample(look, width = 26) {
  return make(
    "svg:svg",
    { class: `vx-sample vx-by-${look}`, viewBox: `0 0 ${width} 12`, width, height: 12, "aria-hidden": "true" },
    make("svg:path", { class: "vx-stroke", d: width > 12 ? `M0 6H${width}` : "" }),
    make("svg:path", { class: "vx-dots", d: dotPath(look, width / 2, 6) }),
  );
}

/** One measure: its name, what it is at the strength that is pointed at (or else chosen), and a curve for each network,
 * whose looks are given by name. */
export function createSweepChart(shell, { id, title, help, better }, looks) {
  const direction = make("span", { class: "vx-direction", text: better > 0 ? "\u2191 higher is better" : "\u2193 lower is better" });
  const name = help ? createHelp(shell, title, help) : make("span", { text: title });
  const readout = createReadout(looks);
  const parts = createPlotParts(looks);
  const svg = make(
    "svg:svg",
    { class: "vx-plot vx-sweepplot", role: "application", "aria-roledescription": "chart", tabindex: 0, height: PLOT.height, "data-series": id },
    ...parts.nodes,
  );
  const caption = make("figcaption", { class: "vx-sweepcaptionline" }, make("span", { class: "vx-charttitle" }, name, direction), readout.node);
  const node = make("figure", { class: "vx-chart" }, caption, svg);
  let places = null;
  let marked = null;

  const draw = (data, series, { chosen, cursor }) => {
    const shown = cursor ?? chosen;
    readout.set(data, series, shown);
    const curves = data.who.map((who) => describeCurve(data, series, who)).filter(Boolean).join("; ");
    svg.setAttribute("aria-label", `${title} over ${data.parameter.name}. ${series.missing ?? curves}`);
    const width = svg.clientWidth;
    if (!width) return; // not on screen; the observer calls when it is
    svg.setAttribute("viewBox", `0 0 ${width} ${PLOT.height}`);
    const geometry = geometryOf(data, series, { width, height: PLOT.height, chosen, cursor });
    places = geometry.places;
    marked = geometry.chosen;
    parts.paint(geometry);
  };
  /** The chosen strength's line goes on to the chart below. */
  const join = (distance) => {
    const bottom = PLOT.height - PLOT.bottom;
    setPath(parts.join, marked && distance ? `M${marked.x} ${bottom}V${PLOT.height + distance}` : "");
  };
  const indexAt = (clientX) => {
    if (!places) return null;
    const x = clientX - svg.getBoundingClientRect().left;
    return places.xs.reduce((best, each, i) => (Math.abs(each - x) < Math.abs(places.xs[best] - x) ? i : best), 0);
  };
  return { node, svg, draw, join, indexAt };
}

/** From the foot of the first chart to the plot of the next one in the same column; 0 without one. @param {any[]} charts */
export function distanceBelow([first, ...others]) {
  if (!first) return 0;
  const here = first.svg.getBoundingClientRect();
  const under = others.map(({ svg }) => svg.getBoundingClientRect()).find((box) => Math.abs(box.left - here.left) < 1 && box.top > here.top);
  return under ? under.top - here.bottom + PLOT.top : 0;
}

function createReadout(looks) {
  const who = Object.keys(looks);
  const strength = make("span", { class: "vx-sweepat" });
  const values = Object.fromEntries(who.map((name) => [name, make("span", { class: "vx-sweepvalue" })]));
  const pairs = Object.fromEntries(who.map((name) => [name, make("span", { class: "vx-sweeppair", title: name }, createSample(looks[name], 12), make("span", { class: "vx-sr", text: name }), values[name])]));
  const gap = make("span", { class: "vx-sweepgap" }); // of a single student
  const node = make("span", { class: "vx-sweepreadout" }, strength, ...Object.values(pairs), gap);
  const set = (data, series, index) => {
    const nothing = index === null || series.missing !== null;
    setText(strength, index === null ? "" : `${tellStrength(data, index)}:`);
    for (const name of who) {
      pairs[name].hidden = nothing || series.curves[name] === null;
      setText(values[name], nothing ? "" : numberAt(series.curves[name], index));
    }
    const { text, word } = nothing || who.length > 2 ? { text: "", word: "" } : gapAt(series, index, who[1]);
    setText(gap, text && `gap ${text} ${word}`);
    gap.className = `vx-sweepgap${word === "better" ? " vx-closer" : word === "worse" ? " vx-farther" : ""}`;
    if (series.missing !== null) setText(strength, "");
  };
  return { node, set };
}

/** The elements of one plot, and how they follow its geometry: they stay, only their shapes change. */
function createPlotParts(looks) {
  const path = (name) => make("svg:path", { class: name });
  const one = {
    band: path("vx-sweepband"),
    trained: path("vx-sweeptrained"),
    join: path("vx-sweepjoin"),
    reference: path("vx-sweepreference"),
    cursorLine: path("vx-plotpointer"),
    chosenLine: path("vx-sweephere"),
    rings: path("vx-sweepring"),
  };
  const grid = make("svg:g", { class: "vx-plotgrid" });
  const curves = Object.fromEntries(Object.keys(looks).map((who) => [who, { line: path("vx-stroke"), dots: path("vx-dots") }]));
  const groups = Object.entries(looks).map(([who, look]) => make("svg:g", { class: `vx-by-${look}`, "data-who": who }, curves[who].line, curves[who].dots));
  const why = make("svg:text", { class: "vx-sweepmissing", "text-anchor": "middle" });
  const pills = { chosen: createPill("vx-pill-chosen"), cursor: createPill("vx-pill-cursor") };
  const nodes = [one.join, one.band, grid, one.trained, one.reference, one.cursorLine, one.chosenLine, ...groups, one.rings, why, pills.chosen.node, pills.cursor.node];
  let gridKey = "";

  const paint = (geometry) => {
    const key = JSON.stringify([geometry.width, geometry.yTicks, geometry.xTicks, geometry.places.xs, geometry.axis]);
    if (key !== gridKey) grid.replaceChildren(...gridNodes(geometry));
    gridKey = key;
    for (const name of ["band", "trained", "reference", "cursorLine", "chosenLine", "rings"]) setPath(one[name], geometry[name]);
    for (const [who, { line, dots }] of Object.entries(geometry.curves)) {
      setPath(curves[who].line, line);
      setPath(curves[who].dots, dots);
    }
    setText(why, geometry.missing ?? "");
    why.setAttribute("x", geometry.middle.x);
    why.setAttribute("y", geometry.middle.y);
    pills.chosen.set(geometry.chosen);
    pills.cursor.set(geometry.cursor);
  };
  return { nodes, paint, join: one.join };
}

function gridNodes({ width, bottom, yTicks, xTicks, places, axis }) {
  const text = (content, x, y, anchor, name) => make("svg:text", { x, y, "text-anchor": anchor, text: content, class: name });
  return [
    ...yTicks.map(({ y }) => make("svg:path", { d: `M${PLOT.left} ${y}H${width - PLOT.right}` })),
    ...yTicks.map(({ y, text: content }) => text(content, PLOT.left - 6, y + 4, "end", "vx-ytick")),
    make("svg:path", { class: "vx-sweepaxis", d: `M${PLOT.left} ${bottom}H${width - PLOT.right}${places.xs.map((x) => `M${x} ${bottom}v4`).join("")}` }),
    ...xTicks.map(({ x, text: content }) => text(content, x, bottom + 17, "middle", "vx-xtick")),
    text(axis.text, axis.x, axis.y, "middle", "vx-xname"),
  ];
}

/** A strength written on the axis, on a ground of its own. */
function createPill(name) {
  const ground = make("svg:rect", { height: 18, rx: 9 });
  const text = make("svg:text", { "text-anchor": "middle" });
  const node = make("svg:g", { class: `vx-pill ${name}`, hidden: true }, ground, text);
  const set = (place) => {
    node.toggleAttribute("hidden", place === null);
    if (place === null) return setText(text, "");
    setText(text, place.text);
    for (const [key, value] of Object.entries({ x: place.x, y: place.y + 4 })) text.setAttribute(key, value);
    for (const [key, value] of Object.entries({ x: place.x - place.half, y: place.y - 9, width: 2 * place.half })) ground.setAttribute(key, value);
  };
  return { node, set };
}

/** @type {Record<string, string>} */
const INK = {
  text: "#1f2328", muted: "#57606a", grid: "#d1d9e0",
  ...Object.fromEntries(LOOKS.map((look, i) => [look, NETWORKS.light[i]])),
};

/** One chart on a canvas, on white, with its numbers at the chosen strength above it. */
export function paintChart(context, data, series, { x, y, width, height, chosen }) {
  const key = 18; // px for the line above the plot
  const geometry = geometryOf(data, series, { width, height: height - key, chosen });
  const font = context.font.replace(/^.*?px /, "");
  context.save();
  context.translate(x, y);
  context.font = `400 12px ${font}`;
  paintKey(context, data, series, chosen);
  context.translate(0, key);
  paintPlot(context, geometry, data.looks);
  paintTexts(context, geometry);
  context.restore();
}

function paintKey(context, { who: names, looks }, series, chosen) {
  let x = 2;
  context.textAlign = "left";
  for (const who of names.filter((each) => series.curves[each] && series.missing === null)) {
    context.fillStyle = INK[looks[who]];
    context.fill(new Path2D(dotPath(looks[who], x + 4, 8)));
    const text = chosen === null ? who : `${who} ${numberAt(series.curves[who], chosen)}`;
    context.fillStyle = INK.text;
    context.fillText(text, x + 13, 12);
    x += 26 + context.measureText(text).width;
  }
}

function paintPlot(context, { width, bottom, yTicks, places, band, trained, reference, curves, chosenLine }, looks) {
  const stroke = (path, colour, thickness, dash = []) => {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.setLineDash(dash);
    context.stroke(new Path2D(path));
  };
  context.lineJoin = "round";
  context.fillStyle = `${INK.student}24`;
  context.fill(new Path2D(band));
  for (const { y } of yTicks) stroke(`M${PLOT.left} ${y}H${width - PLOT.right}`, INK.grid, 1);
  stroke(`M${PLOT.left} ${bottom}H${width - PLOT.right}${places.xs.map((x) => `M${x} ${bottom}v4`).join("")}`, INK.muted, 1);
  stroke(trained, INK.student, 4);
  stroke(reference, INK.teacher, 1.5, [1.5, 3.5]);
  stroke(chosenLine, INK.text, 1.5);
  for (const [who, curve] of Object.entries(curves)) {
    const ink = INK[looks[who]];
    stroke(curve.line, ink, 2, who === "teacher" ? [] : [6, 3]);
    context.fillStyle = ink;
    context.fill(new Path2D(curve.dots));
    stroke(curve.dots, "#ffffff", 1);
  }
}

function paintTexts(context, { yTicks, xTicks, axis, chosen, missing, middle, bottom }) {
  const write = (text, x, y, align, colour = INK.muted) => {
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y);
  };
  for (const { y, text } of yTicks) write(text, PLOT.left - 6, y + 4, "right");
  for (const { x, text } of xTicks) write(text, x, bottom + 17, "center");
  write(axis.text, axis.x, axis.y, "center");
  if (missing) write(missing, middle.x, middle.y, "center");
  if (!chosen) return;
  context.fillStyle = INK.text;
  context.beginPath();
  context.roundRect(chosen.x - chosen.half, chosen.y - 9, 2 * chosen.half, 18, 9);
  context.fill();
  write(chosen.text, chosen.x, chosen.y + 4, "center", "#ffffff");
}
