"""Attribution tab: which patches made a view resemble the clean teacher's, for the three views under one scale."""

import html
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.evaluation.features import Told, share_of
from explorer.inspection.attribution import METHODS, Attribution, Settings, attribute_views
from explorer.inspection.attribution_quality import Quality, quality
from explorer_app.events import AT_ONCE, PRIVATE
from explorer_app.service.background import Background
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.question import Question
from explorer_app.tabs.shared import MADE, Field, Follows, Made, Page, Tab, asks_for, bar, mark, status_and_mark

HELP = """
Which patches make the model's answer resemble **what the teacher sees in the clean picture**? Red speaks for it, blue
against. All three maps share one scale. The table says how far to trust them: *unexplained* is the share of the score's
fall, when squares of the picture are hidden, that a map does not foretell (0 is best); *sensitivity* is how much a map
changes under noise that nobody sees (0 is best).
"""
CHOICES = [(name.replace("_", " "), name) for name in METHODS]
QUEUE: dict[str, Any] = {"concurrency_id": "attribution", "concurrency_limit": 1, **PRIVATE}
QUICKEST = "gradient_attention"
VERDICTS = (
    (0.3, "explains most of the score here"),
    (0.7, "explains some of the score here"),
    (0.95, "explains little of the score here"),
    (float("inf"), "explains nothing of the score here"),
)
"""By the largest share that is unexplained."""
HEIGHT = 460  # px, also before there is a picture, so that nothing jumps
_WATCH_SECONDS = 0.4
_OCCLUSION_PATCHES = 2  # a window of 2 x 2 patches takes a quarter of the time
_SAMPLES, _NEIGHBOURS = 16, 1

Explained = dict[str, Attribution]
Judged = dict[str, Quality]


def build(page: Page) -> Follows:
    """Explains by the quickest method as soon as it is open, by others on request."""
    with gr.Row(elem_id="attribution-form"):
        method = gr.Radio(CHOICES, value=QUICKEST, label="Method", elem_id="attribution-method")
        judge = gr.Checkbox(
            False, label="How far to trust it", info="Takes several times as long.", elem_id="attribution-judge"
        )
    with gr.Row(elem_id="attribution-buttons"):
        start = gr.Button("Explain", variant="primary", elem_id="explain", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-attribution", min_width=90)
    status, line = status_and_mark("attribution")
    figure = gr.Image(
        type="pil",
        format="png",
        label="Attribution",
        alt_text="what made the answer: the patches of three views, red where they speak for it, blue against",
        elem_id="attribution-figure",
        elem_classes=MADE,
        buttons=["download"],
        height=HEIGHT,
    )
    made = gr.State(None)
    outputs = [figure, gr.HTML(elem_id="attribution-table", elem_classes=MADE), made, status]
    hidden: dict[str, Any] = {"show_progress": "hidden", **QUEUE}
    inputs = [page.shown, page.link, made, method, judge, *page.column.inputs]
    unasked = [page.opened.then(first, inputs, outputs, **hidden), page.linked(first, inputs, outputs, **hidden)]
    asked = start.click(explain, [method, judge, *page.column.inputs], outputs, **hidden)
    for each in (*unasked, asked):
        page.redraw_after(each)
    stop.click(lambda: "", outputs=status, cancels=[*unasked, asked], **AT_ONCE)
    fields = (Field("method", method), Field("trust", judge))
    return Follows((made,), (line,), fields=fields, result=made)


def follow(question: Question, made: Made | None) -> list[Any]:
    """What is shown stays, and says of what it is."""
    return [mark(made, _of(question), f"Press <b>Explain</b> for {html.escape(_words(question))}.")]


def first(
    shown: str, link: dict[str, str] | None, made: Made | None, method: str, judge: bool, *column: Any
) -> Iterator[list[Any]]:
    """What takes a second is explained unasked, unless it is shown already; and what the page's link says."""
    yield [gr.skip()] * 4  # else what yields nothing clears its outputs
    try:
        with told():
            wanted = method == QUICKEST and not judge and (made is None or made.of != _of(Question.read(*column)))
            wanted |= made is None and asks_for(link, "attribution")
    except ToldError:
        wanted = True  # it is told in the same way
    if shown == "attribution" and wanted:
        yield from explain(method, judge, *column)


def explain(method: str, judge: bool, *column: Any) -> Iterator[list[Any]]:
    """(figure, table, what is shown, status) as the work goes on."""
    try:
        yield [*[gr.skip()] * 3, bar("looking for what made the answer")]
        with told():
            question = Question.read(*column)
            work = Background(lambda progress: explained(question, method, judge, progress))
            for done, total in work.watch(_WATCH_SECONDS):
                words = "trying how far the maps can be trusted" if done else "looking for what made the answer"
                yield [*[gr.skip()] * 3, bar(words, done, total, work.left)]
            views, judged = work.result
            made = Made(_of(question), f"{method.replace('_', ' ')}, {_words(question)}")
            from explorer import plots  # late: nothing else of a page is drawn by matplotlib

            yield [plots.to_image(plots.plot_attribution(views)), table(views, judged), made, ""]
    except ToldError as error:
        yield [*[gr.skip()] * 3, notice(error)]


def explained(question: Question, method: str, judge: bool, progress: Told) -> tuple[Explained, Judged]:
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
    each = _SAMPLES + _NEIGHBOURS
    progress(0, each * len(views))
    return views, {
        name: quality(
            networks[name],
            view,
            samples=_SAMPLES,
            neighbours=_NEIGHBOURS,
            progress=share_of(progress, place * each, each * len(views)),
        )
        for place, (name, view) in enumerate(views.items())
    }


def verdict(judged: Quality) -> str:
    """How far a map can be trusted, in words."""
    foretells = next(words for most, words in VERDICTS if judged.unexplained <= most)
    moves = "; it changes completely under noise that nobody sees" if judged.sensitivity > 1 else ""
    return f"this map {foretells}{moves}"


def table(views: Explained, judged: Judged) -> str:
    """The numbers of each view, as HTML."""
    heads = ["", "score", "score of the baseline", *(["infidelity", "unexplained", "sensitivity"] if judged else [])]
    complete = all(view.completeness is not None for view in views.values())
    heads += ["lost by too few steps"] if complete else []
    heads += ["in words"] if judged else []
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
                *([verdict(judged[name])] if judged else []),
            ]
        )
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{cells}</tbody></table>"
    )


def _of(question: Question) -> Any:
    return replace(question, layer=None), question.version()


def _words(question: Question) -> str:
    picture = "your picture" if question.photo is None else question.photo.split("/")[-1].removesuffix(".webp")
    return f"{picture} under {question.words}"


TAB = Tab(id="attribution", label="Attribution", help=HELP, build=build, follow=follow)
