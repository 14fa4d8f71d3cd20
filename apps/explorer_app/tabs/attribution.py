"""Attribution tab: which patches made a view resemble the clean teacher's, or speak for a class of the Predict tab's
probes, for three views under one scale; of a damaged photo alone for two, towards a class."""

import html
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from explorer.errors import InputError
from explorer.evaluation.features import Told, share_of
from explorer.inspection.attribution import attribute_views
from explorer.inspection.attribution_methods import WAYS
from explorer.inspection.attribution_problem import Baseline, Settings
from explorer.inspection.attribution_quality import quality
from explorer.models.students import STUDENT, TEACHER, sources_of
from explorer.scenes.common import Payload
from explorer.scenes.inspection import attribution_scene
from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE, PRIVATE, QUICK
from explorer_app.service import probes
from explorer_app.service.background import Background
from explorer_app.service.cache import BoundedCache
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.question import DAMAGED, Question
from explorer_app.tabs.shared import (
    MADE,
    Field,
    Fitted,
    Follows,
    Made,
    Page,
    Tab,
    asks_for,
    bar,
    mark,
    status_and_mark,
)

HELP = """
Which patches make the model's answer resemble **what the teacher sees in the clean picture**? All maps share one
scale. Integrated gradients, occlusion and AttnLRP, which shares the score out backwards through all layers, have a
sign: red speaks for it, blue against; of the others brighter patches matter more. **How far to trust it** tests the
maps: the table tells what each number means. **Towards** asks which patches speak for a class instead, where probes
were fitted in the Predict tab; nothing else can be asked of a damaged photo alone.
"""
ONLY_A_CLASS = (
    "Without a clean picture maps go towards a class: press Fit in the Predict tab and choose a class under Towards, "
    "or give a pair."
)
AS_CLEAN = ("what the teacher sees in the clean picture", "")
CHOICES = [(how.called, name) for name, how in WAYS.items()]
QUEUE: dict[str, Any] = {"concurrency_id": "attribution", "concurrency_limit": 1, **PRIVATE}
QUICKEST = "gradient_attention"
_explained: BoundedCache[Payload] = BoundedCache(16, lambda _: 1)
_WATCH_SECONDS = 0.4
_OCCLUSION_PATCHES = 2  # a window of 2 x 2 patches takes a quarter of the time
_SAMPLES, _NEIGHBOURS, _STEPS = 16, 1, 8


def build(page: Page) -> Follows:
    """Explains by the quickest method as soon as it is open, by others on request."""
    with gr.Row(elem_id="attribution-form"):
        method = gr.Radio(CHOICES, value=QUICKEST, label="Method", scale=3, elem_id="attribution-method")
        judge = gr.Checkbox(
            False, label="How far to trust it", info="Takes several times as long.", elem_id="attribution-judge"
        )
    listed = gr.Dropdown([AS_CLEAN], value="", label="Towards", elem_id="attribution-toward")
    toward = gr.State("")  # other events may be sent with a class that the list has lost meanwhile
    with gr.Row(elem_id="attribution-buttons"):
        start = gr.Button("Explain", variant="primary", elem_id="explain", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-attribution", min_width=90)
    status, line = status_and_mark("attribution")
    view, made = browser_view("attributionview", "attribution-view", classes=MADE), gr.State(None)
    outputs = [view, made, status]
    hidden: dict[str, Any] = {"show_progress": "hidden", **QUEUE}
    form = [method, judge, toward, page.probed]
    inputs = [page.shown, page.link, made, *form, *page.column.inputs]
    unasked = [page.opened.then(first, inputs, outputs, **hidden), page.linked(first, inputs, outputs, **hidden)]
    asked = start.click(explain, [*form, *page.column.inputs], outputs, **hidden)
    listed.input(lambda chosen: [chosen, ""], listed, [toward, status], **QUICK)
    page.probed.change(_classes, [page.probed, toward], [listed, toward], **QUICK)
    for each in (*unasked, asked):
        page.redraw_after(each)
    stop.click(lambda: "", outputs=status, cancels=[*unasked, asked], **AT_ONCE)
    fields = (Field("method", method), Field("trust", judge))
    return Follows((made, toward, page.probed), (line,), (toward.change,), fields, made)


def follow(question: Question, made: Made | None, toward: str, probed: Fitted | None) -> list[Any]:
    """What is shown stays, and says of what it is."""
    offer = f"Press <b>Explain</b> for {html.escape(_words(question, toward))}."
    if question.way == DAMAGED and not toward:
        offer = ONLY_A_CLASS
    return [mark(made, _of(question, toward, probed), offer)]


def first(
    shown: str,
    link: dict[str, str] | None,
    made: Made | None,
    method: str,
    judge: bool,
    toward: str,
    probed: Fitted | None,
    *column: Any,
) -> Iterator[list[Any]]:
    """What takes a second is explained unasked, unless it is shown already; and what the page's link says."""
    yield [gr.skip()] * 3  # else what yields nothing clears its outputs
    try:
        with told():
            of = _of(Question.read(*column), toward, probed)
            wanted = method == QUICKEST and not judge and (made is None or made.of != of)
            wanted |= made is None and asks_for(link, "attribution")
    except ToldError:
        wanted = True  # it is told in the same way
    if shown == "attribution" and wanted:
        yield from explain(method, judge, toward, probed, *column)


def explain(method: str, judge: bool, toward: str, probed: Fitted | None, *column: Any) -> Iterator[list[Any]]:
    """(view, what is shown, status) as the work goes on."""
    try:
        yield [*[gr.skip()] * 2, bar("looking for what made the answer")]
        with told():
            question = Question.read(*column)
            key = _key(question, toward, probed)
            work = Background(lambda progress: explained(question, method, judge, toward, key, progress))
            for done, total in work.watch(_WATCH_SECONDS):
                words = "trying how far the maps can be trusted" if done else "looking for what made the answer"
                yield [*[gr.skip()] * 2, bar(words, done, total, work.left)]
            words = f"{WAYS[method].called}, {_words(question, toward)}"
            made = Made(_of(question, toward, probed), words)
            yield [work.result, made, ""]
    except ToldError as error:
        yield [*[gr.skip()] * 2, notice(error)]


def explained(
    question: Question,
    method: str,
    judge: bool = False,
    toward: str = "",
    probed: str = "",
    progress: Told = lambda *_: None,
) -> Payload:
    """The views towards the clean teacher's embedding, or a class of the probes of this key, and how good their
    maps are, if that is wanted; what was explained lately is not explained again."""
    of = (question, question.version(), method, judge, toward, probed)
    return _explained.get(of, lambda: _explain(question, method, judge, toward, probed, progress))


def _explain(question: Question, method: str, judge: bool, toward: str, probed: str, progress: Told) -> Payload:
    both, (clean, distorted, damage) = question.pair(), question.seen()
    if clean is None and not toward:
        raise InputError(ONLY_A_CLASS)
    goals: dict[str, Any] = {}
    if toward:
        made, _ = probes.probes(question, probed)
        goals = {"toward": (made["teacher"], toward), "student_toward": (made["student"], toward)}
    patch = distorted.shape[1] // both.teacher.grid.rows
    # From a blur, 16 steps miss a hundredth of the score; from the mean colour they miss more than all of it.
    baseline: Baseline = "blur" if method == "integrated_gradients" else "mean"
    settings = Settings(steps=16, patch=_OCCLUSION_PATCHES * patch, baseline=baseline)
    views = attribute_views(both.teacher, both.student, clean, distorted, method=method, settings=settings, **goals)
    judged, each = {}, _SAMPLES + 2 * _STEPS + _NEIGHBOURS
    if judge:
        progress(0, each * len(views))
    for place, (name, view) in enumerate(views.items() if judge else ()):
        judged[name] = quality(
            both.student if name.startswith("student") else both.teacher,
            view,
            samples=_SAMPLES,
            neighbours=_NEIGHBOURS,
            steps=_STEPS,
            progress=share_of(progress, place * each, each * len(views)),
        )
    weights = (*sources_of({TEACHER: both.teacher, STUDENT: both.student}).values(),)
    return attribution_scene(
        views, judged, distortion=damage, weights=weights, seed=question.seed, link=question.link()
    )


def _classes(probed: Fitted | None, toward: str) -> list[Any]:
    """(list, what is asked for): a class that the probes do not have is given up."""
    names = () if probed is None else probed.classes
    kept = toward if toward in names else ""
    return [gr.Dropdown([AS_CLEAN, *((name, name) for name in names)], value=kept), kept]


def _key(question: Question, toward: str, probed: Fitted | None) -> str:
    """By which the probes are kept, for a map towards one of their classes.

    Raises:
        InputError: they are those of other models.
    """
    if not toward:
        return ""
    if probed is None or probed.of[:4] != probes.asked(question, None, None)[:4]:
        raise InputError(
            "the probes are of other models: press Fit in the Predict tab, or ask for what the teacher sees"
        )
    return probed.key


def _of(question: Question, toward: str, probed: Fitted | None) -> Any:
    asked = (toward, probed.key if probed else "") if toward else None
    return replace(question, layer=None, beside=()), question.version(), asked


def _words(question: Question, toward: str) -> str:
    picture = "your picture" if question.photo is None else question.photo.split("/")[-1].removesuffix(".webp")
    return f"{picture} under {question.words}{f', towards {toward}' if toward else ''}"


def _told(made: Made | None) -> dict[str, str]:
    """That a map was made, for a link.

    Raises:
        InputError: towards a class of probes, which are those of this page.
    """
    if made is not None and made.of[-1] is not None:
        raise InputError("No link leads to a map towards a class, whose probes are those of this page.")
    return {} if made is None else {"made": "1"}


TAB = Tab(id="attribution", label="Attribution", help=HELP, build=build, follow=follow, told=_told)
