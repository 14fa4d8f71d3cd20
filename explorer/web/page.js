// What leaves a view: files, and a page of its own.

import { decodeBytes, encodeBytes } from "./arrays.js";
import { make } from "./elements.js";
import { composeFigure } from "./figure.js";

/** Buttons below a view: figure, numbers, page.
 *
 * shown: the data on screen, null while there are none. fileName: without its ending. figure: what `composeFigure` takes,
 * at once or later. numbers: what is saved beside the settings. page: its title, and what differs from the payload as it
 * came.
 * `options.page` is what a page of its own is made of, see `composePage`, or `load` of it, which brings that; without it,
 * there is no such button.
 */
export function createActions({ kind, options, shell, face }, { shown, fileName, figure, numbers, page }) {
  const status = make("span", { class: "vx-status", role: "status" });
  const report = (text) => {
    status.textContent = text;
  };
  const drawFigure = async () => {
    const made = await figure();
    const canvas = composeFigure({ host: shell.host, ...made, lines: [...made.lines, ...footOf(shown().payload)] });
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  };
  const saveFigure = async () => {
    const name = fileName();
    const blob = await drawFigure().catch(() => null);
    if (!blob) return report("The figure could not be made.");
    downloadBlob(`${name}.png`, blob);
    report("figure saved");
  };
  const saveNumbers = () => {
    const content = { view: kind, settings: face.state(), ...numbers(), link: shown().link };
    downloadBlob(`${fileName()}.json`, new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    report("numbers saved");
  };
  const savePage = async () => {
    report("making the page \u2026");
    const name = fileName();
    const content = { payload: shown().payload, state: face.state(), facts: [], ...page() };
    const text = options.page.again ? options.page.again() : await composePage((await options.page.load?.()) ?? options.page, content);
    const blob = new Blob([text], { type: "text/html" });
    downloadBlob(`${name}.html`, blob);
    report(`page saved (${(blob.size / 1e6).toFixed(1)} MB); it needs no network`);
  };
  const button = (text, action) => make("button", { class: "vx-button", type: "button", text, onclick: action });
  const node = make(
    "div",
    { class: "vx-actions" },
    button("Save figure (PNG)", saveFigure),
    button("Save numbers (JSON)", saveNumbers),
    ...(options.page ? [button("Save page (HTML)", savePage)] : []),
    status,
  );
  const refresh = () => report("");
  return { node, refresh };
}

const LONG_TEXT = 400; // characters: longer texts are kept once, apart from where they are used

/** A view as one HTML file that needs nothing else; the same as `page` in explorer/scenes/pages.py makes.
 *
 * template, style, modules: of `page_template`, `stylesheet` and `page_modules` in explorer.web. view: its name there.
 * payload, state: what it shows, and its settings. facts: more lines for the foot of the page, [[term, text], ...].
 */
async function composePage({ template, style, modules, view }, { title, payload, state, facts }) {
  const shared = new Map(); // text -> its place
  const packed = (node) => {
    if (Array.isArray(node)) return node.map(packed);
    if (typeof node === "string" && node.length > LONG_TEXT) {
      if (!shared.has(node)) shared.set(node, shared.size);
      return { $: shared.get(node) };
    }
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([name, each]) => [name, packed(each)]));
  };
  const sections = [{ view, scenes: [packed(payload)], state }];
  const texts = await Promise.all([...shared.keys()].map(compressed));
  const parts = {
    TITLE: title.replaceAll("&", "&amp;").replaceAll("<", "&lt;"),
    STYLE: style,
    DATA: JSON.stringify({ title, note: "", facts, sections, texts }).replaceAll("<", "\\u003c"),
    MODULES: modules.map((source) => `<script type="module">\n${source}</` + "script>").join("\n"),
  };
  return template.replace(/%%VX_([A-Z]+)%%/g, (_, name) => parts[name]); // in one pass: what is filled in is not read again
}

/** Arrays are compressed where that pays, and where the browser can; pictures are already. */
async function compressed(text) {
  if (!globalThis.CompressionStream || text.length % 4 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return text;
  const packed = new Response(new Blob([decodeBytes(text)]).stream().pipeThrough(new CompressionStream("gzip")));
  const bytes = new Uint8Array(await packed.arrayBuffer());
  return bytes.length * 1.34 > text.length ? text : { gzip: encodeBytes(bytes) };
}

function downloadBlob(name, blob) {
  const url = URL.createObjectURL(blob);
  const anchor = make("a", { href: url, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 30000);
}

/** The title of a page of its own: what it shows, and of which photo under what. */
export function titleOf(what, link) {
  return [what, link?.photo, link?.distortion].filter(Boolean).join(" \u00b7 ");
}

/** What stood behind a picture: weights, distortion with its seed, size, versions; as pages of their own tell it. */
function footOf({ about = [], size }) {
  const facts = about.map(([term, text]) => `${term}: ${text}`);
  return size ? [...facts, `Size: ${size.join(" \u00d7 ")} px`] : facts;
}

/** Photo and distortion, as a figure names them. */
export function factsOf(link) {
  return ["photo", "distortion"].filter((name) => link?.[name]).map((name) => `${name} ${link[name]}`);
}

/** Settings that are not as they come, as query parameters. */
export function changedSettings(settings, defaults) {
  const changed = Object.entries(settings).filter(([name, value]) => value !== defaults[name]);
  return Object.fromEntries(changed.map(([name, value]) => [name, typeof value === "boolean" ? Number(value) : value]));
}
