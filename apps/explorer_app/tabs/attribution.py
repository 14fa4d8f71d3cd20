"""Attribution tab: which patches made a view resemble the clean teacher's, for the three views under one scale."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from explorer.inspection.attribution import METHODS, Attribution, Settings, attribute_views
from explorer.inspection.attribution_quality import Quality, quality
from explorer.plots.panes import plot_attribution
from explorer.plots.style import to_image
from explorer_app.events import AT_ONCE, PRIVATE
from explorer_app.service.background import Background
from explorer_app.service.errors import ToldError, told
from explorer_app.service.question import Question
from explorer_app.tabs.shared import Page, Tab, notice

HELP = """
Which patches make the model's answer resemble **what the teacher sees in the clean picture**? Red speaks for it, blue
against. All three maps share one scale. The table says how far to trust them: *unexplained* is the share of the score's
fall, when squares of the picture are hidden, that a map does not foretell (0 is best); *sensitivity* is how much a map
changes under noise that nobody sees (0 is best).
"""
CHOICES = [(name.replace("_", " "), name) for name in METHODS]
QUEUE: dict[str, Any] = {"concurrency_id": "attribution", "concurrency_limit": 1, **PRIVATE}
_WATCH_SECONDS = 0.4
_OCCLUSION_PATCHES = 2  # a window of 2 x 2 patches takes a quarter of the time
_SAMPLES, _NEIGHBOURS = 16, 1

Explained = dict[str, Attribution]
Judged = dict[str, Quality]


def build(page: Page) -> None:
    """Explains on request."""
    with gr.Row(elem_id="attribution-form"):
        method = gr.Radio(CHOICES, value="gradient_attention", label="Method", elem_id="attribution-method")
        judge = gr.Checkbox(
            False, label="How far to trust it", info="Takes several times as long.", elem_id="attribution-judge"
        )
    with gr.Row(elem_id="attribution-buttons"):
        start = gr.Button("Explain", variant="primary", elem_id="explain", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-attribution", min_width=90)
    status = gr.HTML(elem_id="attribution-status")
    figure = gr.Image(
        type="pil", format="png", label="Attribution", elem_id="attribution-figure", visible=False, buttons=["download"]
    )
    outputs = [figure, gr.HTML(elem_id="attribution-table"), status, page.problem]
    asked = start.click(explain, [method, judge, *page.column.inputs], outputs, show_progress="hidden", **QUEUE)
    stop.click(lambda: ("", notice()), outputs=outputs[2:], cancels=[asked], **AT_ONCE)


def explain(method: str, judge: bool, *column: Any) -> Iterator[list[Any]]:
    """(figure, table, status, notice) as the work goes on."""
    try:
        with told():
            question = Question.read(*column)
            work = Background(lambda _: explained(question, method, judge))
            for _ in work.watch(_WATCH_SECONDS):
                waiting = '<div class="progress"><progress></progress> looking for what made the answer …</div>'
                yield [gr.skip(), gr.skip(), waiting, notice()]
            views, judged = work.result
            figure = to_image(plot_attribution(views))
            yield [gr.Image(figure, visible=True), table(views, judged), "", notice()]
    except ToldError as error:
        yield [gr.skip(), gr.skip(), "", notice(error)]


def explained(question: Question, method: str, judge: bool) -> tuple[Explained, Judged]:
    """The three views towards the clean teacher's embedding, and how good their maps are, if that is wanted."""
    both, clean = question.pair(), question.clean()
    patch = clean.shape[1] // both.teacher.grid.rows
    settings = Settings(steps=16, patch=_OCCLUSION_PATCHES * patch)
    views = attribute_views(
        both.teacher, both.student, clean, question.damage, method=method, settings=settings, seed=question.seed
    )
    if not judge:
        return views, {}
    networks = {name: both.student if name.startswith("student") else both.teacher for name in views}
    return views, {
        name: quality(networks[name], view, samples=_SAMPLES, neighbours=_NEIGHBOURS) for name, view in views.items()
    }


def table(views: Explained, judged: Judged) -> str:
    """The numbers of each view, as HTML."""
    heads = ["", "score", "score of the baseline", *(["infidelity", "unexplained", "sensitivity"] if judged else [])]
    complete = all(view.completeness is not None for view in views.values())
    heads += ["lost by too few steps"] if complete else []
    rows = []
    for name, view in views.items():
        numbers = [view.target, view.baseline_target]
        if judged:
            numbers += [judged[name].infidelity, judged[name].unexplained, judged[name].sensitivity]
        numbers += [view.completeness] if complete and view.completeness is not None else []
        rows.append(
            [
                name.replace("_", ", "),
                *(f"{number:.3f}" if abs(number) >= 0.01 else f"{number:.1e}" for number in numbers),
            ]
        )
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{cells}</tbody></table>"
    )


TAB = Tab(id="attribution", label="Attribution", help=HELP, build=build)
