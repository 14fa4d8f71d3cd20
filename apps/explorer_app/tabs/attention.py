"""Attention tab: {clean, distorted} x {teacher, student} under one colour scale, drawn in the browser."""

from typing import Any

import gradio as gr

from explorer.scenes.inspection import attention_scene
from explorer_app.browser_view import browser_view
from explorer_app.tabs.shared import ToldError, compare, notice, weights_line

HELP = """
Each map shows where the model's **class token** looks: the share of its attention that each patch gets. The
**reference** is the teacher on the clean picture. All four maps share one colour scale, so that a pale map really
means less; the difference maps show where attention moved. Layer, head, colours and the overview need no waiting:
they are computed in this page.
"""


def build_attention_tab() -> gr.HTML:
    """The tab's content; returns the view."""
    with gr.Accordion("How to read this", open=False):
        gr.Markdown(HELP)
    return browser_view("attentionview", "attention-view")


def show_attention(*inputs: Any) -> tuple[Any, str, str]:
    """(payload, notice, weights) for the left column's values; what was shown stays if something is wrong."""
    try:
        comparison, link = compare(*inputs)
        return attention_scene(comparison, link), notice(), weights_line(inputs[3], inputs[5])
    except ToldError as error:
        return gr.skip(), notice(error), gr.skip()
