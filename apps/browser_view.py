"""Puts a view of `explorer.web` into a Gradio page: a `gr.HTML` whose value is the view's payload."""

import json
from typing import Any

import gradio as gr

from explorer.web import VIEWS, module_source

LINK_NAMES = {"attentionview": "attention", "patchview": "patches", "recoveryview": "train"}
"""What the query parameter `view` calls them in the links that the views make."""

STUDENTS_KEY = "vit-explorer-students"
RECALL = f"""() => {{
  try {{ return JSON.parse(localStorage.getItem("{STUDENTS_KEY}")) ?? []; }} catch {{ return []; }}
}}"""
"""JavaScript: the names of the students that this browser has trained or opened, the latest first."""
REMEMBER = f"""(names) => {{
  try {{ localStorage.setItem("{STUDENTS_KEY}", JSON.stringify(names)); }} catch {{ /* private browsing */ }}
}}"""

_MOUNT = """
const recall = %(recall)s;
const remember = (name) => (%(remember)s)([...new Set([name, ...recall()])].slice(0, 20));
const address = URL.createObjectURL(new Blob([%(source)s], { type: "text/javascript" }));
import(address).then((module) => {
  const root = element.querySelector(".vx-mount");
  const view = module.%(factory)s(root, { onEvent: (name, data) => { if (name === "layer") trigger("layer", data); } });
  const query = Object.fromEntries(new URLSearchParams(location.search));
  if ((query.view ?? "attention") === %(name)s) view.set(query);
  const show = () => {
    if (props.value?.run) remember(props.value.run);
    view.update(props.value && props.value.version ? props.value : null);
  };
  watch("value", show);
  show();
  root.view = view;
}).finally(() => URL.revokeObjectURL(address));
"""


def browser_view(module: str, elem_id: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """A view that draws its payload in the browser.

    Args:
        module: a key of `explorer.web.VIEWS`.
        elem_id: id of the element in the page; its `.vx-mount` child carries the view as `.view`.
        value: the first payload; None for an empty view.
    """
    script = _MOUNT % {
        "source": json.dumps(module_source(module)),
        "factory": VIEWS[module],
        "name": json.dumps(LINK_NAMES[module]),
        "recall": RECALL,
        "remember": REMEMBER,
    }
    return gr.HTML(
        value, html_template='<div class="vx-mount"></div>', js_on_load=script, elem_id=elem_id, min_height=420
    )
