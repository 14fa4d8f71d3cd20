"""The page: the left column, the tabs, and what follows on what."""

import html
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import gradio as gr
from gradio.routes import App

from explorer.errors import InputError
from explorer_app.column.picture import UPLOAD_AT_ONCE
from explorer_app.column.sheet import build_sheet_bar
from explorer_app.column.sidebar import build_sidebar
from explorer_app.endpoints import build_endpoints
from explorer_app.events import AT_ONCE, MODEL_QUEUE, OPENING, PRIVATE, hush, on_change
from explorer_app.links import TELL_TABS, build_share, connect_share, reopen
from explorer_app.names import GIVE_NAMES
from explorer_app.service import first_look
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.pictures import Selection
from explorer_app.service.question import FORGOTTEN, Question
from explorer_app.style import SWITCH_THEME, TAGLINE, TITLE
from explorer_app.tabs import TABS
from explorer_app.tabs.shared import Follows, Made, Page, Tab, mark
from explorer_app.tour import build_tour, build_tour_button

FOLLOWING = {tab.id: tab for tab in TABS if tab.draw or tab.follow}
EXAMPLE = Made(None, "recorded before", example=True)
PROGRESS = gr.Progress(track_tqdm=True)


def build() -> gr.Blocks:
    """The whole page.

    Gradio would make the web application when a page begins, when it gets a queue and when it ends, half a second each;
    the one that serves is made by `launch`.
    """
    later = patch.object(App, "create_app", return_value=None)
    with later, gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        blocks.queue(max_size=64)
        nobody = gr.HTML(visible=False)
        share = _build_header()
        shown, drawn = gr.State(None), gr.State({})  # None is a page that was forgotten: `reopen` sets it
        opened_by, linked = gr.State(None), gr.Button(visible="hidden", elem_id="linked")
        zipped, selected, probed = gr.State(None), gr.State(Selection()), gr.State(None)
        broken_link = gr.HTML(visible=False, elem_id="link-notice")
        problem = gr.HTML(notice(), elem_id="notice")
        working = gr.HTML(elem_id="working", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="sidebar"):
                column = build_sidebar()
                weights = gr.Markdown(elem_id="weights")
            with gr.Column(scale=7, min_width=320), gr.Tabs(elem_id="tabs") as tabs:
                states = zipped, selected, probed
                page = Page(column, problem, tabs, shown, opened_by, linked.click, blocks.load, *states)
                built = {tab.id: _build_tab(tab, page) for tab in TABS}
        build_sheet_bar()
        build_tour()
        fields = [field.control for part in built.values() for field in part.fields]
        described = [broken_link, tabs, shown, opened_by, *column.described, *fields]
        reopened = blocks.load(reopen(built), column.recalled, described, **OPENING)
        for event in (reopened, *column.chosen):
            page.redraw_after(event)
        reopened.then(None, js=TELL_TABS, **PRIVATE)
        connect_share(share, page, built)
        for script in (GIVE_NAMES, UPLOAD_AT_ONCE):
            blocks.load(None, js=script, **PRIVATE)
        parts = {name: built[name] for name in FOLLOWING}
        given = [each for name in FOLLOWING for each in parts[name].given]
        refresh = _refresh({name: (len(part.given), len(part.set)) for name, part in parts.items()})
        inputs = [drawn, shown, *given, *column.inputs]
        outputs = [*(each for name in FOLLOWING for each in parts[name].set), problem, weights, drawn, column.seen]
        own = [each for part in parts.values() for each in part.changes]
        changes = [*column.changes, zipped.change, selected.change, *own]
        clock = {"show_progress": "minimal", "show_progress_on": working}
        on_change(changes, refresh, inputs, outputs, **clock)
        for connect in column.later:
            connect()
        for event, settings in page.redrawn:
            event.then(refresh, inputs, outputs, **{**clock, **MODEL_QUEUE, **settings})
        build_endpoints()
        hush(blocks, nobody)
    return blocks


def _refresh(counts: dict[str, tuple[int, int]]) -> Callable[..., Iterator[list[Any]]]:
    """What draws the tab that is open, unless it shows this already; another one is drawn when it is opened. Until the
    model is there, what is shipped of the same question is shown.

    Args:
        counts: for each tab that follows how many components it is given, and how many it sets.
    """

    def refresh(
        drawn: dict[str, Any],
        shown: str | None,
        progress: gr.Progress = PROGRESS,  # noqa: ARG001  (Gradio then shows the download of weights)
        *asked: Any,
    ) -> Iterator[list[Any]]:
        given, rest = {}, list(asked)
        for name, (taken, _) in counts.items():
            given[name], rest = rest[:taken], rest[taken:]
        parts = {name: [gr.skip()] * count for name, (_, count) in counts.items()}
        weights, seen, problem = gr.skip(), gr.skip(), gr.skip()

        def told_parts() -> list[Any]:
            return [*(each for name in FOLLOWING for each in parts[name]), problem, weights, drawn, seen]

        try:
            with told():
                if shown is None:
                    raise InputError(FORGOTTEN)
                if shown in parts:
                    tab, question = FOLLOWING[shown], Question.read(*rest)
                    if not question.is_settled():
                        pass  # the student that belongs to this backbone is on its way
                    elif tab.follow:
                        parts[shown] = tab.follow(question, *given[shown])
                    elif tab.draw and question.picture is None:
                        pass  # it is being replaced, as its place in the left column says
                    elif tab.draw and drawn.get(shown) != (wanted := tab.depends(question)):
                        example = None if question.is_ready() else first_look.scene_of(shown, question)
                        if example is not None:
                            parts[shown] = [example, mark(EXAMPLE, None, "It is being renewed.")]
                            yield told_parts()
                            parts[shown] = [gr.skip(), mark(EXAMPLE, None, "")]
                        parts[shown] = [tab.draw(question), ""]
                        weights = f"Weights: {html.escape(question.teacher().source)}"
                        drawn = {**drawn, shown: wanted}
                    if question.is_settled():
                        seen = question.backbone
            problem = notice()
        except ToldError as error:
            problem = notice(error)
        yield told_parts()

    return refresh


def _build_tab(tab: Tab, page: Page) -> Follows:
    with gr.Tab(tab.label, id=tab.id) as item:
        opened = item.select(lambda: tab.id, outputs=page.shown, **AT_ONCE)
        page.redraw_after(opened)
        if tab.help:
            with gr.Accordion("How to read this", open=False):
                gr.Markdown(tab.help)
        example = gr.HTML(elem_classes="example", padding=False) if tab.draw else None
        part = tab.build(replace(page, opened=opened))
        return part if tab.follow else Follows((), (part, example))


def _build_header() -> gr.HTML:
    with gr.Row(elem_id="header"):
        gr.Markdown(f"# {TITLE}\n{TAGLINE}")
        share = build_share()
        build_tour_button()
        gr.Button("Light / dark", elem_id="theme-switch", size="sm").click(None, js=SWITCH_THEME, **PRIVATE)
    return share
