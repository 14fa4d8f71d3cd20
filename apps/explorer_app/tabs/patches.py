"""Patches tab: point at a patch, and every pane shows at pointer speed what resembles it, or what it attends to; or see
what all patches know: foreground, clusters, matches, classes, labels that somebody sets."""

from typing import Any

import gradio as gr

from explorer.evaluation.patch_probes import shipped_patch_probe
from explorer.scenes.inspection import patch_scene
from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE
from explorer_app.service.question import Question
from explorer_app.tabs.shared import Page, Tab

HELP = """
Move the pointer, a finger or the arrow keys over any picture. **Similarity** compares the features of that patch with
those of all patches in all four views: does the damaged picture still know what belongs together? **Attention** shows
what the patch looks at. **PCA colours** paint similar patches alike across the four views. Click to pin a patch: its
best match in every view is ringed and joined.

What all patches know: **Foreground** is the side of the first principal component of all views with less weight at the
border. **Clusters** are fitted on the clean teacher's patches, and every view is read by them. **Matches** tell where
each patch is found again; the right answer is its own place. **Labels** you set yourself, by clicks or with the arrow
keys, 1 to 6 and Enter: every patch of all views takes the label of the most similar one. **Classes** are what a linear
probe says that comes with the model (DINOv2 S/14), fitted on what the clean teacher sees in photos with masks.
"""


def build(page: Page) -> gr.HTML:
    """The view, which asks for another layer when it is chosen there."""
    view = browser_view("patchview", "patch-view")
    page.redraw_after(view.layer(pick_layer, outputs=page.column.layer, **AT_ONCE), show_progress="hidden")
    return view


def draw(question: Question) -> Any:
    """One layer at a time; the last where the backbone has none of this number."""
    comparison, layer = question.together(), question.layer
    chosen = -1 if layer is None or layer >= len(comparison.reference.trace.layers) else layer
    return patch_scene(comparison, chosen, question.link(), probe=shipped_patch_probe(question.teacher().sha256))


def pick_layer(event: gr.EventData) -> int:
    """The layer that the view asked for."""
    return int(event._data["layer"])


TAB = Tab(
    id="patches",
    label="Patches",
    help=HELP,
    build=build,
    depends=lambda question: (question, question.versions()),
    draw=draw,
)
