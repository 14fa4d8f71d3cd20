"""Puts a view of `explorer.web` into a Gradio page: a `gr.HTML` whose value is the view's payload."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from explorer.web import VIEWS, module_source, page_modules, page_template, registration

LINK_NAMES = {"attentionview": "attention", "patchview": "patches", "recoveryview": "train"}
"""What the query parameter `view` calls them in the links that the views make."""
EVENTS = ("layer", "open", "strength")
"""What the views tell the server: another layer is wanted, a picture is to be opened, a strength is to be shown."""
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

_MOUNT = """
const recall = %(recall)s;
const remember = (name) => (%(remember)s)([...new Set([name, ...recall()])].slice(0, 20));
const source = %(source)s;
const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
import(address).then((module) => {
  const root = element.querySelector(".vx-mount");
  const view = module.%(factory)s(root, {
    page: {
      view: %(view)s,
      template: %(template)s,
      modules: [source + %(registration)s, ...%(more)s],
      get style() { return document.getElementById("vx-style").textContent; },
    },
    onEvent: (name, data) => { if (%(events)s.includes(name)) trigger(name, data); },
    plotly: () => (window.vxPlotly ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${window.gradio_config?.root ?? ""}${window.gradio_config?.api_prefix ?? ""}/file=%(plotly)s`;
      script.onload = () => done(window.Plotly);
      script.onerror = () => { delete window.vxPlotly; failed(new Error("plotly could not be loaded")); };
      document.head.append(script);
    })),
  });
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
        "view": json.dumps(module),
        "template": json.dumps(page_template()),
        "registration": json.dumps(registration(module)),
        "more": json.dumps(page_modules(module)[1:]),
        "factory": VIEWS[module],
        "name": json.dumps(LINK_NAMES.get(module)),
        "events": json.dumps(EVENTS),
        "plotly": PLOTLY.as_posix(),
        "recall": RECALL,
        "remember": REMEMBER,
    }
    return gr.HTML(
        value, html_template='<div class="vx-mount"></div>', js_on_load=script, elem_id=elem_id, min_height=420
    )
