// The small parts around the plot of pictures: thumbnails, chips, tables, the panel of one picture, rings and arrows.

/** @import { Sprite } from "./payloads" */
import { columnName, createHelp, createRow, createTable, make, setText } from "./elements.js";
import { keptText, measuredOf, neighboursOf, tellMeasure } from "./embeddingdata.js";
import { legsOf } from "./embeddingplot.js";
import { formatFixed, ordinal, withCommas } from "./format.js";

const OWN_HELP = "The place of the picture's own clean original among all clean pictures, ordered by their distance in feature space. 1st: the picture is found again.";
const KEPT_HELP = "How many of the clean picture's nearest neighbours are still among the nearest here. The damage drives neighbours out; a student that copes with it brings them back.";

/** Rings around a picture's marks, and its arrows, as SVG. */
export function focusMarks(now, index, isChosen, radius, place) {
  const rings = now.views.map((view) => {
    const [cx, cy] = place(view, index);
    return make("svg:circle", { class: isChosen ? "vx-ring vx-ring-chosen" : "vx-ring", cx, cy, r: radius + 4 });
  });
  const byId = Object.fromEntries(now.views.map((view) => [view.id, view]));
  const paths = legsOf(now).map(([from, to, network]) => ({ network, d: arrowPath(place(byId[from], index), place(byId[to], index), radius + 5) })).filter(({ d }) => d);
  const cases = paths.map(({ d }) => make("svg:path", { class: "vx-arrowcase", d }));
  const arrows = paths.map(({ d, network }) => make("svg:path", { class: "vx-arrow", d, style: `color: ${now.ink.networks[network]}` }));
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

/** An object URL is short; the data URL itself would be repeated in each thumbnail's style. @type {(sprite: Sprite) => Promise<any>} */
export async function loadSprite({ image, side, columns }) {
  try {
    const [head, body] = image.split(",");
    const inline = head.startsWith("data:") && head.endsWith(";base64");
    const bytes = () => Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    const url = inline ? URL.createObjectURL(new Blob([bytes()], { type: head.slice(5, -7) })) : image;
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

const OUTLINES = {
  circle: "M2 7a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
  diamond: "M7 1.5L12.5 7L7 12.5L1.5 7Z",
  square: "M2.5 2.5H11.5V11.5H2.5Z",
  cross: "M5 1.5H9V5H12.5V9H9V12.5H5V9H1.5V5H5Z",
  x: "M9.5 1.7L12.3 4.5L9.8 7L12.3 9.5L9.5 12.3L7 9.8L4.5 12.3L1.7 9.5L4.2 7L1.7 4.5L4.5 1.7L7 4.2Z",
  dot: "M4.5 7a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0Z",
};

/** The mark of a view as the plot draws it. */
function glyphOf({ shape, clean }, colour) {
  const d = OUTLINES[shape];
  return make("svg:svg", { class: ["vx-glyph", clean && "vx-filled", /cross|x/.test(shape) && "vx-fine"].filter(Boolean).join(" "), viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true", style: `color: ${colour}` }, make("svg:path", { d }));
}

/** (picture, side) -> its thumbnail; without a sprite the first letter of its name. */
export function thumbsOf(sprite, { names }) {
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

export function hoverCard(data, view, index, now) {
  const label = data.labelOf(index);
  const words = make("div", {},
    make("div", { class: "vx-tiphead", text: data.names[index] }),
    label === null ? "" : make("div", { class: "vx-labelled" }, swatch(now.byLabel ? now.labelInk(index) : null), label),
    now.byCluster || now.clusterNames ? make("div", { class: "vx-labelled" }, swatch(now.byCluster ? now.groupInk(index) : null), `cluster ${data.clusters.of[index] + 1}: ${data.clusters.names[data.clusters.of[index]]}`) : "",
    make("div", { class: "vx-labelled" }, glyphOf(view, now.byView ? now.ink.networks[view.network] : now.ink.text), view.title),
    make("div", { text: view.reference ? "the reference" : `displacement ${formatFixed(view.displacement[index], 3)}` }));
  return [make("div", { class: "vx-hovercard" }, data.thumb(index, 64), words)];
}

function swatch(colour) {
  return colour ? make("span", { class: "vx-swatch", style: `background: ${colour}`, "aria-hidden": "true" }) : "";
}

/** A row of buttons that show and hide. `change(hidden)` gets a Set of the ids that are off. */
export function createChips(name, change) {
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
    const now = JSON.stringify(items.map(({ id, text, glyph }) => [id, text, glyph?.shape]));
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

export function measuresTable(shell, data) {
  const known = measuredOf(data);
  const heads = known.map(({ title, help }) => columnName(createHelp(shell, title, help)));
  return createTable("", ["Measured in feature space"], heads, data.views.map((view) => rowOf(view, known.map(({ id }) => tellMeasure(id, view)))));
}

function rowOf(view, cells) {
  return createRow([make("span", { class: "vx-labelled" }, glyphOf(view, `var(--vx-network-${view.network})`), view.title)], cells, { "data-view": view.id });
}

/** The panel of one picture: how far it moved in each view, and which clean pictures lie next to it there. */
export function createPanel(shell, open, canOpen) {
  const node = make("section", { class: "vx-embedpanel", "aria-label": "The picture and its neighbours" });
  let shown = "";

  const go = (index) => {
    open(index);
    focusName();
  };
  const focusName = () => node.querySelector(".vx-panelname")?.focus({ preventScroll: true });
  const set = (data, index, isChosen, now) => {
    const key = JSON.stringify([index, isChosen, now.byLabel, now.ink.dark]);
    if (key === shown && node.vxData === data) return;
    shown = key;
    node.vxData = data;
    if (index === null) {
      node.replaceChildren(make("p", { class: "vx-hint", text: "Point at a mark to see its picture and the clean pictures next to it." }));
      return;
    }
    const held = node.matches(":focus-within");
    node.replaceChildren(panelHead(data, index, isChosen || !canOpen, now, open), panelTable(shell, data, index, go), panelKey(data));
    if (held) focusName(); // what was pressed is gone
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
  const displacement = data.measures.find(({ id }) => id === "displacement").help.replace(", averaged over the pictures", "");
  const terms = [["displacement", displacement], ["own original", OWN_HELP], ["kept", KEPT_HELP]];
  const heads = terms.map(([term, help]) => columnName(createHelp(shell, term, help)));
  const rows = data.views.flatMap((view) => {
    const cells = [view.reference ? "0" : formatFixed(view.displacement[index], 3), view.own && !view.reference ? ordinal(view.own[index] + 1) : "\u2013", keptText(data, view, index)];
    return [
      rowOf(view, cells),
      view.k > 0 ? make("tr", { class: "vx-nearestrow" }, make("td", { colspan: 4 }, nearestStrip(data, view, index, open))) : "",
    ];
  });
  return createTable("vx-paneltable", null, heads, rows);
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
