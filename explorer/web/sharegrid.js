// Tables of how much each part brings back: a row for each block, a column for each head, then all heads and the
// perceptron. Pointer or arrow keys go over them, and a click or Enter chooses a part.

import { make, setText } from "./elements.js";
import { formatFixed } from "./format.js";

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const WHOLE = { attention: ["all", "all heads"], mlp: ["MLP", "perceptron"] };

/** choose({kind, layer, head}) follows a click; null where nothing can be chosen. */
export function createShares(shell, choose) {
  const note = make("p", { class: "vx-hint" });
  const tables = make("div", { class: "vx-sharetables" });
  const node = make("section", { class: "vx-shares", "aria-label": "What each part of the clean view brings back", hidden: true }, note, tables);
  /** @type {any[][]} */
  let cells = []; // of all tables: their rows
  const parts = new Map(); // cell -> what it stands for

  function dress(shares, networks) {
    node.hidden = !shares;
    cells = [];
    parts.clear();
    tables.replaceChildren(...(shares ? networks.map((who) => tableOf(who, shares[who])) : []));
    if (shares) setText(note, "How much of the cosine with its own clean view, which the damage takes, comes back to a network with one part of its clean run: 1 all of it, below 0 it makes it worse; all: all heads of a block at once." + (choose ? " Click a part, or move with the arrow keys and press Enter, to replace it above." : ""));
  }

  function tableOf(who, { rows, heads, whole, cosine }) {
    const partOf = (layer, column) => (column < heads ? { kind: "head", layer, head: column } : { kind: whole[column - heads], layer });
    /** @param {any} part */
    const nameOf = ({ kind, layer, head }) => (kind === "head" ? `head ${layer}.${head}` : `${WHOLE[kind][1]} of block ${layer}`);
    const own = rows.map((row, layer) => row.map((share, column) => {
      const part = partOf(layer, column);
      const text = share === null ? "\u2013" : formatFixed(share, 2);
      const strength = Math.round(100 * Math.min(1, Math.abs(share ?? 0)));
      const cell = make("td", {
        role: "gridcell", tabindex: -1, "aria-label": `${nameOf(part)}: ${text}`, "data-kind": part.kind, "data-layer": layer, "data-head": part.head ?? "",
        class: `vx-share ${share !== null && share < 0 ? "vx-sharebelow" : "vx-shareabove"}${column >= heads ? " vx-sharewhole" : ""}`,
        style: `--vx-strength: ${strength}%`, text,
        onclick: () => choose?.(part),
      });
      parts.set(cell, part);
      return cell;
    }));
    own[0][0].tabIndex = 0;
    cells.push(...own);
    const heading = [...Array(heads).keys(), ...whole.map((kind) => WHOLE[kind])].map((name) => {
      const [text, title] = Array.isArray(name) ? name : [String(name), `head ${name}`];
      return make("th", { scope: "col", role: "columnheader", text, title });
    });
    const body = own.map((row, layer) => make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader", text: `block ${layer}` }), ...row));
    const caption = make("caption", { text: `${who[0].toUpperCase()}${who.slice(1)}: cosine ${formatFixed(cosine, 3)} without any of them` });
    return make(
      "div",
      { class: "vx-sharescroll" },
      make(
        "table",
        { class: "vx-table vx-sharetable", role: "grid", onkeydown: (event) => onKey(event, own), onfocusin: (event) => settle(event, own) },
        caption,
        make("thead", {}, make("tr", { role: "row" }, make("td", { role: "cell" }), ...heading)),
        make("tbody", {}, ...body),
      ),
    );
  }

  function settle({ target }, own) {
    for (const cell of own.flat()) cell.tabIndex = cell === target ? 0 : -1;
  }

  function onKey(event, own) {
    const row = own.findIndex((each) => each.includes(event.target));
    if (row < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const column = own[row].indexOf(event.target);
    const [down, right] = MOVES[event.key] ?? [];
    if (MOVES[event.key]) own[row + down]?.[column + right]?.focus();
    else if (event.key === "Enter" || event.key === " ") choose?.(parts.get(event.target));
    else return;
    event.preventDefault();
  }

  /** Rings what is replaced. */
  function mark({ kind, layer, head }) {
    for (const cell of cells.flat()) {
      const part = parts.get(cell);
      const same = part.kind === kind && part.layer === layer && (kind !== "head" || part.head === head);
      cell.classList.toggle("vx-sharechosen", same);
      same ? cell.setAttribute("aria-selected", "true") : cell.removeAttribute("aria-selected");
    }
  }
  return { node, dress, mark };
}
