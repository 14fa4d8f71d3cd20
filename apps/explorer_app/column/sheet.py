"""On a narrow screen the left column is a sheet at the foot of it, so that what it changes is seen above."""

import gradio as gr

_BAR = """<button type="button" aria-expanded="false" aria-controls="sidebar">Picture, damage, student</button>"""
_SCRIPT = """
const button = element.querySelector("button");
const sheet = () => document.getElementById("sidebar");
const isOpen = () => sheet().hasAttribute("data-open");
const open = (wanted) => {
  sheet().toggleAttribute("data-open", wanted);
  button.setAttribute("aria-expanded", String(wanted));
  button.textContent = wanted ? "Close" : "Picture, damage, student";
  if (wanted) sheet().querySelector("button, input, textarea")?.focus({ preventScroll: true });
  else button.focus({ preventScroll: true });
};
button.onclick = () => open(!isOpen());
document.addEventListener("pointerdown", (event) => {
  const inside = [sheet(), element].some((part) => part.contains(event.target)) || event.target.closest(".options");
  if (isOpen() && !inside) open(false);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && isOpen() && open(false));
"""


def build_sheet_bar() -> None:
    """The bar that opens and closes the sheet, with Escape as well; it is there on a narrow screen alone."""
    gr.HTML(html_template=_BAR, js_on_load=_SCRIPT, elem_id="sheet-bar", padding=False)
