"""Attention tab: {clean, distorted} x {teacher, student} under one colour scale, drawn in the browser."""

from dataclasses import replace

import gradio as gr

from explorer.scenes.inspection import attention_scene
from explorer_app.browser_view import browser_view
from explorer_app.tabs.nearest import build_nearest
from explorer_app.tabs.shared import Page, Tab

HELP = """
Each map shows where the model's **class token** looks: the share of its attention that each patch gets. The
**reference** is the teacher on the clean picture. All four maps share one colour scale, so that a pale map really
means less; the difference maps show where attention moved. Layer, head, colours and the overview need no waiting:
they are computed in this page. A photo that is damaged already has no reference: then teacher and student are compared
with each other, and below stand the clean pictures that each of them takes it for.
"""


def build(page: Page) -> gr.HTML:
    """The view, and what a damaged photo resembles."""
    view = browser_view("attentionview", "attention-view")
    build_nearest(page)
    return view


TAB = Tab(
    id="attention",
    label="Attention",
    help=HELP,
    build=build,
    depends=lambda question: (replace(question, layer=None), question.versions()),
    draw=lambda question: attention_scene(question.together(), question.link()),
)
