// What a page of its own does around its views: tabs, light and dark, facts, and saving itself again.
//
// Enters: the page's content, and the views that its modules left in `vxViews`. It needs no server.

import { decodeBytes, encodeBytes } from "./arrays.js";
import { make } from "./elements.js";

// The page as it came, so that it can be saved again with other settings. Nothing has changed it by now.
const pristine = `<!doctype html>\n${document.documentElement.outerHTML}`;
const views = /** @type {any} */ (globalThis).vxViews ?? {};
const content = JSON.parse(element("vx-data").textContent ?? "");
const NAMES = { attentionview: "Attention", patchview: "Patches", recoveryview: "Recovery", embeddingview: "Embeddings", sweepview: "Robustness", benchmarkview: "Benchmark", attributionview: "Attribution", labview: "Lab" };
const mounted = new Map(); // section -> its view
let open = content.sections[0];

/** @type {(id: string) => HTMLElement} */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`this page has no element "${id}"`);
  return found;
}

// ------------------------------------------------------------ content
/** Long texts are kept once, arrays among them compressed: {$: place} stands for one of them. */
async function textOf(text) {
  if (typeof text === "string") return text;
  const whole = new Response(new Blob([decodeBytes(text.gzip)]).stream().pipeThrough(new DecompressionStream("gzip")));
  return encodeBytes(new Uint8Array(await whole.arrayBuffer()));
}

function restored(node, texts) {
  if (Array.isArray(node)) return node.map((each) => restored(each, texts));
  if (node === null || typeof node !== "object") return node;
  if (Number.isInteger(node.$)) return texts[node.$];
  return Object.fromEntries(Object.entries(node).map(([name, each]) => [name, restored(each, texts)]));
}

let texts = null;
const scenesOf = async (section) => {
  texts ??= Promise.all(content.texts.map(textOf));
  return restored(section.scenes, await texts);
};

// ------------------------------------------------------------ views
/** The text of this page with the settings of now. */
function savedAgain() {
  const sections = content.sections.map((section) => ({ ...section, state: mounted.get(section)?.state() ?? section.state }));
  const mark = 'id="vx-' + 'data">';
  const from = pristine.indexOf(mark) + mark.length;
  const json = JSON.stringify({ ...content, sections, open: content.sections.indexOf(open) }).replaceAll("<", "\\u003c");
  return pristine.slice(0, from) + json + pristine.slice(pristine.indexOf("</" + "script>", from));
}

async function mount(section) {
  const { panel } = section.parts;
  if (panel.firstChild) return;
  const root = panel.appendChild(make("div", { class: "vx-mount" }));
  try {
    const scenes = await scenesOf(section);
    const sceneOf = (layer) => scenes.find((scene) => scene.layer === layer);
    const view = views[section.view](root, {
      saved: true,
      page: { again: savedAgain },
      plotly: () => views.flatplot,
      onEvent: (name, data) => name === "layer" && sceneOf(data.layer) && view.update(sceneOf(data.layer)),
    });
    await view.update(sceneOf(section.state?.layer) ?? scenes[0]);
    await view.set(section.state ?? {});
    mounted.set(section, view);
    root.view = view;
  } catch (error) {
    root.textContent = `This view could not be drawn; a newer browser may do it. ${error?.message ?? error}`;
    throw error;
  }
}

function show(section) {
  open = section;
  for (const each of content.sections) {
    each.parts.panel.hidden = each !== section;
    each.parts.tab.setAttribute("aria-selected", String(each === section));
    each.parts.tab.tabIndex = each === section ? 0 : -1;
  }
  tellFacts(section);
  scenesOf(section).then(([scene]) => open === section && tellFacts(scene));
  return mount(section);
}

// ------------------------------------------------------------ the page around them
function tellFacts({ about = [], caption }) {
  const told = [...about, ...(caption ? [["Shown", caption]] : []), ...content.facts];
  element("page-facts").replaceChildren(...told.flatMap(([term, text]) => [make("dt", { text: term }), make("dd", { text })]));
}

for (const [place, section] of content.sections.entries()) {
  const [tabId, panelId] = [`tab-${place}`, `panel-${place}`];
  const onkeydown = ({ key }) => {
    const next = content.sections[place + ({ ArrowRight: 1, ArrowLeft: -1 }[key] ?? NaN)];
    if (next) show(next), next.parts.tab.focus();
  };
  const panel = make("section", { class: "page-section", id: panelId, role: "tabpanel", "aria-labelledby": tabId });
  const tab = make("button", {
    class: "page-button",
    type: "button",
    id: tabId,
    text: NAMES[section.view],
    role: "tab",
    "aria-controls": panelId,
    onclick: () => show(section),
    onkeydown,
  });
  Object.defineProperty(section, "parts", { value: { tab, panel } }); // not enumerable: it is not saved again
  element("page-tabs").append(tab);
  element("page-sections").append(panel);
}
element("page-tabs").hidden = content.sections.length < 2;
element("page-title").textContent = content.title;
element("page-note").textContent = content.note;
element("page-note").hidden = !content.note;
element("page-theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.classList.contains("dark") || (!root.classList.contains("light") && window.matchMedia("(prefers-color-scheme: dark)").matches);
  root.className = dark ? "light" : "dark";
});
const asked = content.sections.find(({ view }) => location.hash.length > 1 && NAMES[view].toLowerCase() === location.hash.slice(1));
show(asked ?? content.sections[content.open ?? 0] ?? content.sections[0]);
