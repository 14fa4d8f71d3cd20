"""Puts a view of `explorer.web` into a Gradio page: a `gr.HTML` whose value is the view's payload."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gradio as gr
import plotly
from gradio import component_meta

from explorer.web import VIEWS, module_source, page_modules, page_template, registration

LINK_NAMES = {
    "attentionview": "attention",
    "patchview": "patches",
    "recoveryview": "train",
    "embeddingview": "embeddings",
    "sweepview": "robustness",
    "benchmarkview": "benchmark",
    "attributionview": "attribution",
    "labview": "lab",
}
"""What the query parameter `view` calls the tab that each is the first view of; no link tells of a benchmark's."""
EVENTS = ("layer", "open", "select", "strength", "corruption", "choose")
"""What the views tell the server: another layer is wanted, a picture is to be opened, pictures are selected, a strength
is to be shown, the left column is to take a corruption, a part is to be replaced."""
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
gr.set_static_paths([PLOTLY])

STUDENTS_KEY = "vit-explorer-students"
RECALL = f"""() => {{
  try {{ return JSON.parse(localStorage.getItem("{STUDENTS_KEY}")) ?? []; }} catch {{ return []; }}
}}"""
"""JavaScript: the names of the students that this browser has trained or opened, the latest first."""
REMEMBER = f"""(names) => {{
  try {{ localStorage.setItem("{STUDENTS_KEY}", JSON.stringify(names)); }} catch {{ /* private browsing */ }}
}}"""


def script_of(name: str) -> str:
    """A file of JavaScript beside this one, as a script that knows the function that the file exports."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8").replace("export ", "", 1)


_MOUNT = script_of("mount.js")


# Gradio would write a file of types beside the module of a new component.
with patch.object(component_meta, "create_or_modify_pyi"):

    class BrowserView(gr.HTML):
        """Its value travels as one text: Gradio looks for files in all parts of a value, and copies it in the page
        whenever it tells the element that something goes on. And its events are told: for each name that it does not
        know, Gradio reads the whole script.
        """

        def __getattr__(self, name: str) -> Any:
            if name not in EVENTS:
                raise AttributeError(name)
            return super().__getattr__(name)

        def postprocess(self, value: dict[str, Any] | None) -> str | None:
            """A payload as JSON."""
            return None if value is None else json.dumps(value, allow_nan=False, separators=(",", ":"))


def browser_view(
    module: str, elem_id: str, value: dict[str, Any] | None = None, classes: str | None = None
) -> BrowserView:
    """A view that draws its payload in the browser.

    Args:
        module: a key of `explorer.web.VIEWS`.
        elem_id: id of the element in the page; its `.vx-mount` child carries the view as `.view`.
        value: the first payload; None for an empty view.
        classes: of the element, for style sheets.
    """
    given = {
        "source": module_source(module),
        "view": module,
        "template": page_template(),
        "registration": registration(module),
        "more": page_modules(module)[1:],
        "factory": VIEWS[module],
        "name": LINK_NAMES[module],
        "events": EVENTS,
        "plotly": PLOTLY.as_posix(),
    }
    students = f"recall: {RECALL}, remember: {REMEMBER}"
    script = f"{_MOUNT}\nmount({{ element, props, watch, trigger }}, {{ ...{json.dumps(given)}, {students} }});\n"
    return BrowserView(
        value,
        html_template='<div class="vx-mount"></div>',
        js_on_load=script,
        elem_id=elem_id,
        elem_classes=classes,
        min_height=420,
    )
