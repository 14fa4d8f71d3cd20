"""What the page asks of the server, in which order; and how a payload travels."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Request
from visiting import Visit

import explorer_app
from explorer_app.browser_view import EVENTS, browser_view
from explorer_app.page import build


def test_a_payload_travels_as_one_text() -> None:
    view = browser_view("attentionview", "view")
    payload: dict[str, Any] = {"version": 1, "panes": [{"id": "a", "values": [0.5, None]}], "text": "<b>é</b>"}
    text = view.postprocess(payload)
    assert isinstance(text, str)
    assert json.loads(text) == payload
    assert view.postprocess(None) is None
    assert all(callable(getattr(view, event)) for event in EVENTS)
    assert not hasattr(view, "attention"), "the script has this word, which is no event"
    assert not list(Path(explorer_app.__file__).parent.rglob("*.pyi")), "Gradio writes them for components"


def test_hidden_progress_is_told_to_nobody() -> None:
    events = build().fns.values()
    (nobody,) = {event.show_progress_on[0] for event in events if event.show_progress == "hidden"}
    assert not nobody.visible
    assert not any(nobody in event.outputs for event in events)


@pytest.mark.browser
@pytest.mark.weights
def test_what_draws_the_open_tab_is_asked_for_first(visit: Visit) -> None:
    config = visit.page.evaluate("window.gradio_config")
    outputs = {event["id"]: event["outputs"] for event in config["dependencies"]}
    (view,) = (each["id"] for each in config["components"] if each["props"].get("elem_id") == "attention-view")
    asked: list[Request] = []
    visit.unfold("more-damage")
    visit.settle()
    visit.page.on("request", lambda request: asked.append(request) if request.method == "POST" else None)
    before = visit.numbers()
    visit.page.locator("#reroll").click()
    visit.wait_for_other_numbers(before)
    assert view in outputs[asked[0].post_data_json["fn_index"]]
