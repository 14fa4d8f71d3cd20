// Elements of a page: controls, the frame of a view, terms with an explanation. Every string from outside enters the
// page through textContent.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/** What draws on a canvas. @type {(canvas: HTMLCanvasElement) => CanvasRenderingContext2D} */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser cannot draw on a canvas");
  return context;
}

/** An element with attributes, listeners (onclick: f), text and children. Strings never become markup. @type {(tag: string, attributes?: Record<string, any>, ...children: (Node | string)[]) => any} */
export function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS(SVG_NAMESPACE, tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

let controlCount = 0;

function labelled(label, control, extra) {
  control.id = `vx-control-${++controlCount}-${Math.random().toString(36).slice(2, 7)}`;
  const caption = make("label", { class: "vx-label", for: control.id, text: label });
  const head = extra ? make("div", { class: "vx-labelrow" }, caption, extra) : caption;
  return make("div", { class: "vx-control" }, head, control);
}

/** A labelled native slider. `show` turns the number into the text beside the label and for screen readers. */
export function createSlider({ name, label, min, max, step, show, change }) {
  const input = make("input", { type: "range", class: "vx-range", name, min, max, step });
  const output = make("span", { class: "vx-output", "aria-hidden": "true" }); // the slider itself tells it
  const tell = () => {
    const text = show(Number(input.value));
    setText(output, text);
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--vx-fill", `${(100 * (input.value - input.min)) / (input.max - input.min || 1)}%`);
  };
  input.addEventListener("input", () => {
    tell();
    change(Number(input.value));
  });
  const set = (value, high = max) => {
    input.max = high;
    input.disabled = Number(high) <= Number(min);
    input.value = value;
    tell();
  };
  return { node: labelled(label, input, output), input, set };
}

/** A labelled native select; `fill([[value, text, disabled?], ...])` rebuilds the choices only when they changed. */
export function createSelect({ name, label, change }) {
  const input = make("select", { class: "vx-select", name });
  input.addEventListener("change", () => change(input.value));
  let known = "";
  const fill = (choices) => {
    const signature = JSON.stringify(choices);
    if (signature === known) return;
    known = signature;
    input.replaceChildren(...choices.map(([value, text, disabled]) => make("option", { value, text, disabled })));
  };
  const set = (value) => {
    input.value = String(value);
  };
  return { node: labelled(label, input), input, fill, set };
}

export function createCheckbox({ name, label, change }) {
  const input = make("input", { type: "checkbox", class: "vx-checkbox", name });
  input.addEventListener("change", () => change(input.checked));
  const words = make("span", { text: label });
  const node = make("label", { class: "vx-check" }, input, words);
  return { node, input, set: (value) => (input.checked = value), call: (text) => setText(words, text) };
}

/** A line of facts, and below it how far something is; while nothing goes on it keeps its place, so that nothing jumps. */
export function createProgress(label) {
  const facts = make("span", { class: "vx-facts" });
  const done = make("div", { class: "vx-done" });
  const bar = make("div", { class: "vx-progress", role: "progressbar", "aria-label": label, "aria-valuemin": 0 }, done);
  const node = make("div", { class: "vx-sweepprogress" }, facts, bar);
  const set = (progress, text) => {
    setText(facts, text);
    bar.classList.toggle("vx-idle", !progress);
    bar.setAttribute("aria-hidden", String(!progress));
    if (!progress) return;
    bar.setAttribute("aria-valuemax", progress.total);
    bar.setAttribute("aria-valuenow", progress.done);
    bar.setAttribute("aria-valuetext", text);
    done.style.width = `${(100 * progress.done) / progress.total}%`;
  };
  return { node, set };
}

/** The frame of a view: notice, empty state, body, tooltip and live region. */
export function createShell(root, kind, emptyText) {
  const notice = make("p", { class: "vx-notice", role: "status", hidden: true });
  const empty = make("p", { class: "vx-empty", text: emptyText });
  const body = make("div", { class: `vx-body vx-${kind}`, hidden: true });
  const tip = make("div", { class: "vx-tip", role: "tooltip", hidden: true });
  const live = make("p", { class: "vx-sr", "aria-live": "polite" });
  const host = make("div", { class: "vx" }, make("div", { class: "vx-frame" }, notice, empty, body, tip, live));
  root.append(host);

  const say = (...lines) => {
    const texts = lines.filter(Boolean);
    notice.hidden = texts.length === 0;
    if (notice.textContent !== texts.join("\n")) notice.replaceChildren(...texts.map((text) => make("span", { text })));
  };
  const show = (filled) => {
    body.hidden = !filled;
    empty.hidden = filled;
    if (!filled) hideTip();
  };
  const showTip = (nodes, x, y) => {
    tip.replaceChildren(...nodes);
    tip.hidden = false;
    const box = host.firstChild.getBoundingClientRect();
    const left = x - box.left + 16 + tip.offsetWidth > box.width ? x - box.left - 16 - tip.offsetWidth : x - box.left + 16;
    const top = y - box.top + 16 + tip.offsetHeight > box.height ? y - box.top - 16 - tip.offsetHeight : y - box.top + 16;
    const right = box.width - tip.offsetWidth;
    tip.style.transform = `translate(${Math.round(Math.min(Math.max(0, left), right))}px, ${Math.round(Math.max(0, top))}px)`;
  };
  const hideTip = () => {
    tip.hidden = true;
  };
  const announce = (text) => {
    live.textContent = text;
  };
  return { host, body, say, show, showTip, hideTip, announce, destroy: () => host.remove() };
}

/** A term with a plain-language explanation that appears on hover, focus and tap. */
export function createHelp(shell, term, explanation) {
  const show = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    shell.showTip([make("div", { class: "vx-tiptext", text: explanation })], box.left - 12, box.bottom - 8);
  };
  return make("abbr", {
    class: "vx-help",
    tabindex: "0",
    text: term,
    "aria-description": explanation,
    onpointerenter: show,
    onfocus: show,
    onpointerleave: shell.hideTip,
    onblur: shell.hideTip,
  });
}

/** A table below a caption, nothing above the names of its rows. heads: cells; rows: of the body. */
export function createTable(kind, caption, heads, rows) {
  return make(
    "table",
    { class: `vx-table ${kind}`.trim() },
    caption ? make("caption", {}, ...caption) : "",
    make("thead", {}, make("tr", {}, make("td"), ...heads)),
    make("tbody", {}, ...rows),
  );
}

/** The name of a column, above it. */
export const columnName = (...content) => make("th", { scope: "col" }, ...content);

/** The name of a row and its cells, which are texts or elements of their own. */
export function createRow(name, cells, attributes = {}) {
  return make("tr", attributes, make("th", { scope: "row" }, ...name), ...cells.map((each) => (typeof each === "string" ? make("td", { text: each }) : each)));
}

/** Up or down, as a measure is better when it is higher or lower. */
export function createArrow(direction) {
  const [text, title] = direction > 0 ? ["\u2191", "higher is closer"] : ["\u2193", "lower is closer"];
  return make("span", { class: "vx-direction", text, title });
}
