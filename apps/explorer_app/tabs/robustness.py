"""Robustness tab: agreement with the clean teacher by strength of the damage; a click on a curve shows maps there."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.sets import in_turn
from explorer.errors import InputError
from explorer.evaluation.features import is_embedded
from explorer.evaluation.sweeping import Strengths, Sweep, strengths_of, sweep_steps
from explorer.scenes.evaluation import sweep_scene
from explorer.scenes.inspection import attention_scene
from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE, PRIVATE, on_change
from explorer_app.service.cores import CORES, each
from explorer_app.service.errors import ToldError, told
from explorer_app.service.models import UNTOUCHED
from explorer_app.service.pictures import PHOTOS, picture_folders, picture_set, without
from explorer_app.service.question import Question
from explorer_app.tabs.shared import Page, Tab, notice

HELP = """
How far do teacher and student drift from what the **teacher sees in the clean pictures**, as the damage of the left
column grows? Its operator is varied in strength; its other parameters stay. The band marks the strengths that the
student was trained on. Click a point: below, the picture of the left column is shown at that strength.
"""
QUEUE: dict[str, Any] = {"concurrency_id": "sweep", "concurrency_limit": 1, **PRIVATE}
COUNTS = (16, 32, 64, 128)
_BATCH, _LARGEST_GALLERY = 8, 5000


def build(page: Page) -> None:
    """Measures on request; shows maps at the strength that is clicked."""
    with gr.Row(elem_id="sweep-form"):
        source = gr.Dropdown([PHOTOS, *picture_folders()], value=PHOTOS, label="Pictures", elem_id="sweep-pictures")
        count = gr.Radio(list(COUNTS), value=32, label="How many", elem_id="sweep-count")
        values = gr.Textbox(
            "",
            label="Strengths",
            placeholder="seven from weak to strong",
            info="Numbers, such as 0.1, 0.3, 0.5",
            elem_id="sweep-values",
        )
    with gr.Row(elem_id="sweep-buttons"):
        start = gr.Button("Measure", variant="primary", elem_id="measure-sweep", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-sweep", min_width=90)
    view, swept = browser_view("sweepview", "sweep-view"), gr.State(None)
    maps = browser_view("attentionview", "strength-view")
    column, problem = page.column.inputs, page.problem
    inputs, outputs = [source, count, values, *column], [view, swept, problem]
    asked = start.click(measure, inputs, outputs, show_progress="hidden", **QUEUE)
    stop.click(lambda: notice(), outputs=problem, cancels=[asked], **AT_ONCE)
    on_change([view.strength], show_maps, [swept, *column], [maps, problem])


def measure(source: str, count: int, values: str, *column: Any) -> Iterator[list[Any]]:
    """(view, what was swept, notice) after each batch of pictures."""
    try:
        with told():
            question = Question.read(*column)
            strengths = strengths_of(question.damage.spec, numbers(values))
            images = picture_set(source, question.size)
            for swept in sweep(question, images, int(count), strengths):
                yield [scene(swept, question, without(images)), strengths, notice()]
    except ToldError as error:
        yield [gr.skip(), gr.skip(), notice(error)]


def sweep(question: Question, images: ex.ImageSet, count: int, strengths: Strengths) -> Iterator[Sweep]:
    """The sweep after each batch; of the pictures so many are taken in turn from each class."""
    pair = question.pair()
    taken = images.select(in_turn(images.labels or (0,) * len(images), count))
    # all as a gallery only if that costs nothing
    gallery = images if len(images) <= _LARGEST_GALLERY and is_embedded(pair.teacher, images) else None
    steps = sweep_steps(pair, taken, strengths, seed=question.seed, gallery=gallery, batch_size=_BATCH)
    yield from each(steps, CORES.share)


def numbers(text: str) -> tuple[int | float, ...] | None:
    """The strengths that were written; None for the operator's own.

    Raises:
        ValueError: something is no number.
    """
    words = text.replace(",", " ").split()
    try:
        return tuple(int(word) if word.lstrip("-").isdigit() else float(word) for word in words) or None
    except ValueError:
        raise InputError(f"strengths are numbers such as 0.1, 0.3, 0.5; got '{text}'") from None


def show_maps(event: gr.EventData, swept: Strengths | None, *column: Any) -> list[Any]:
    """(maps, notice) of the picture of the left column at the strength that was clicked."""
    if swept is None:
        return [gr.skip(), gr.skip()]
    try:
        with told():
            asked = replace(Question.read(*column), damage=swept.distortions[int(event._data["index"])])
            return [attention_scene(asked.comparison(), asked.link()), notice()]
    except ToldError as error:
        return [gr.skip(), notice(error)]


def scene(swept: Sweep, question: Question, note: str) -> dict[str, Any]:
    """What the view shows."""
    pictures = f"{swept.pictures} pictures, neighbours among {swept.gallery}, seed {swept.seed}"
    parts = (pictures, f"{question.backbone} at {question.size} px", question.student, note)
    caption = " · ".join(part for part in parts if part)
    running, untouched = swept.pictures < swept.total, question.student == UNTOUCHED
    return sweep_scene(swept, running=running, untouched=untouched, caption=caption)


TAB = Tab(id="robustness", label="Robustness", help=HELP, build=build)
