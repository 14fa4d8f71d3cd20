"""Patches tab: point at a patch, and every pane shows at pointer speed what resembles it, or what it attends to."""

from typing import Any

import gradio as gr

from explorer.scenes.inspection import patch_scene
from explorer_app.browser_view import browser_view
from explorer_app.tabs.shared import ToldError, compare, notice, weights_line

HELP = """
Move the pointer, a finger or the arrow keys over any picture. **Similarity** compares the features of that patch with
those of all patches in all four views: does the damaged picture still know what belongs together? **Attention** shows
what the patch looks at. **PCA colours** paint similar patches alike across the four views. Click to pin a patch: its
best match in every view is ringed and joined.
"""


def build_patches_tab() -> tuple[gr.HTML, gr.State]:
    """The tab's content; returns the view and the chosen layer (None: the last)."""
    with gr.Accordion("How to read this", open=False):
        gr.Markdown(HELP)
    return browser_view("patchview", "patch-view"), gr.State(None)


def pick_layer(event: gr.EventData) -> int:
    """The layer that the view asked for."""
    return int(event._data["layer"])


def show_patches(layer: int | None, *inputs: Any) -> tuple[Any, str, str]:
    """(payload, notice, weights) for the left column's values; what was shown stays if something is wrong."""
    try:
        comparison, link = compare(*inputs)
        depth = len(comparison.reference.trace.layers)
        chosen = -1 if layer is None or layer >= depth else layer
        return patch_scene(comparison, chosen, link), notice(), weights_line(inputs[3], inputs[5])
    except ToldError as error:
        return gr.skip(), notice(error), gr.skip()
