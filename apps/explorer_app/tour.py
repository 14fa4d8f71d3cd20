"""A story in five steps on the first visit, by `?tour=1`, and by the button in the header."""

import gradio as gr

from explorer_app.browser_view import script_of
from explorer_app.events import PRIVATE

_CARD = """
<section id="tour" role="dialog" aria-labelledby="tour-title" hidden>
  <h2 id="tour-title" tabindex="-1"></h2>
  <p></p>
  <div><span class="count"></span><button type="button" class="skip">Skip</button>
  <button type="button" class="back">Back</button><button type="button" class="next">Next</button></div>
</section>
"""


def build_tour() -> None:
    """The card, hidden until it is wanted."""
    script = f"{script_of('tour.js')}\ntour({{ element }});\n"
    gr.HTML(html_template=_CARD, js_on_load=script, elem_id="tour-place", padding=False)


def build_tour_button() -> None:
    """Tells the story again."""
    button = gr.Button("Tour", elem_id="tour-button", size="sm")
    button.click(None, js="() => { document.dispatchEvent(new Event('vx-tour')); }", **PRIVATE)
