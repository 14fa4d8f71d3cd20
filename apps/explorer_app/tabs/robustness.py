"""Robustness tab: agreement with the clean teacher by strength of the damage; a click on a curve shows maps there.

Below it stands the sheet of all common corruptions (`benchmark`).
"""

import html
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.sets import in_turn
from explorer.errors import InputError
from explorer.evaluation.features import Told, is_embedded
from explorer.evaluation.sweeping import Strengths, Sweep, strengths_of, sweep_steps
from explorer.scenes.evaluation import sweep_scene
from explorer.scenes.inspection import attention_scene
from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE, MODEL_QUEUE, PRIVATE, QUICK
from explorer_app.service import first_look
from explorer_app.service.background import Background
from explorer_app.service.cache import BoundedCache
from explorer_app.service.cores import CORES, each
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.models import UNTOUCHED, called
from explorer_app.service.pace import in_words, seconds_a_picture
from explorer_app.service.pictures import Selection, Source, picture_set, source_of, title
from explorer_app.service.question import Question
from explorer_app.tabs import benchmark
from explorer_app.tabs.shared import (
    MADE,
    Field,
    Follows,
    Made,
    Page,
    Tab,
    asks_for,
    bar,
    choose_pictures,
    mark,
    settings,
    status_and_mark,
)

HELP = """
How far do teacher and student drift from what the **teacher sees in the clean pictures**, as the damage of the left
column grows? Its operator is varied in strength; its other parameters stay. The band marks the strengths that the
student was trained on. Click a point: below, the picture of the left column is shown at that strength. *Pictures* also
offers those that are **selected on the map** of the Embeddings tab, as soon as there are any.

**Every corruption on one sheet** has the common corruptions of ImageNet-C as rows and their severities as columns, for
teacher, student, and the student minus the teacher. Frames mark what the student was trained on. Click a cell: the left
column's picture is damaged like that. The *mean corruption error* is what the student loses of its agreement
(1 - CLS cosine, summed over the severities) as a share of what the teacher loses, averaged over the corruptions; it is
not ImageNet-C's mCE, which divides classification errors by AlexNet's.
"""
QUEUE: dict[str, Any] = {"concurrency_id": "sweep", "concurrency_limit": 1, **PRIVATE}
COUNTS = (16, 32, 64, 128)
SCROLL = "() => setTimeout(() => document.querySelector('#strength-status').scrollIntoView(), 50)"
_BATCH, _LARGEST_GALLERY = 8, 5000
_WATCH_SECONDS = 0.4
_measured: BoundedCache[Sweep] = BoundedCache(16, lambda _: 1)


def build(page: Page) -> Follows:
    """Measures on request, and begins with what is shipped; shows maps at the strength that is clicked."""
    with gr.Row(elem_id="sweep-form"):
        chosen = choose_pictures(page, "sweep-pictures", of_map=True, label="Pictures")
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
    status, line = status_and_mark("sweep")
    view, swept, made = browser_view("sweepview", "sweep-view", classes=MADE), gr.State(None), gr.State(None)
    below = gr.HTML(elem_id="strength-status")
    maps = browser_view("attentionview", "strength-view")
    column = page.column.inputs
    form = [page.zipped, page.selected, chosen, count, values]
    inputs, outputs = [*form, *column], [view, swept, made, status]
    hidden: dict[str, Any] = {"show_progress": "hidden", **QUEUE}
    asked = [start.click(measure, inputs, outputs, **hidden)]
    asked += [page.linked(measure_linked, [page.link, *inputs], outputs, **hidden)]
    for event in asked:
        page.redraw_after(event)
    stop.click(lambda: "", outputs=status, cancels=asked, **AT_ONCE)
    for brought in (page.zipped, page.selected):
        brought.change(lambda: "", outputs=status, **QUICK)
    waiting = bar("looking at the picture at this strength")
    view.strength(lambda: waiting, outputs=below, **AT_ONCE).then(None, js=SCROLL, **PRIVATE)
    looked: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", **MODEL_QUEUE}
    view.strength(show_maps, [swept, *column], [maps, below], **looked)
    fields = (Field("pictures", chosen), Field("count", count), Field("values", values, numbers))
    sheet = benchmark.build_benchmark(page, chosen)
    given, shown = (made, page.link, *form, *sheet.given), (line, view, swept, made, *sheet.set)
    changes = (chosen.change, count.change, values.change, *sheet.changes)
    return Follows(given, shown, changes, fields, made)


def follow(
    question: Question,
    made: Made | None,
    link: dict[str, str] | None,
    zipped: Path | None,
    selected: Selection,
    chosen: str,
    count: int,
    values: str,
    *sheet: Any,
) -> list[Any]:
    """(line, view, what was swept, what is shown): an example gives way to the one of another student; there is none
    where a link asks for what was measured. Then what `benchmark.follow` sets, which takes `sheet`."""
    below = benchmark.follow(question, *sheet)
    source = source_of(chosen, zipped, selected)
    offer = _offer(question, source, int(count), values)
    examples = (made is None and not asks_for(link, "robustness")) or (made is not None and made.example)
    shipped = first_look.sweep_of(question.student) if examples and len(question.students) == 1 else None
    if shipped is None or (made is not None and made.of == question.version()):
        return [mark(made, _of(question, source, count, values), offer), *[gr.skip()] * 3, *below]
    made = Made(question.version(), f"{shipped['label']}, {shipped['caption']}", example=True)
    return [mark(made, None, offer), shipped, strengths_of(shipped["operator"]), made, *below]


def measure(
    zipped: Path | None, selected: Selection, chosen: str, count: int, values: str, *column: Any
) -> Iterator[list[Any]]:
    """(view, what was swept, what is shown, status) as the work goes on."""
    try:
        yield [*[gr.skip()] * 3, bar("getting ready")]
        with told():
            question = Question.read(*column)
            strengths = strengths_of(question.done_here().spec, numbers(values))
            source = source_of(chosen, zipped, selected)
            images, note = picture_set(source, question.size)
            among = picture_set(source.of, question.size)[0] if isinstance(source, Selection) else images
            taken = _taken(images, int(count))
            of, drawn = _of(question, source, count, values), 0
            made = Made(of, f"{len(taken)} {title(source)}, {question.words}")
            latest: list[Sweep] = []
            specs = tuple(damage.spec for damage in strengths.distortions)
            key = (settings(question), *((one.digest, one.labels, one.classes) for one in (among, taken)), specs)

            def measured(progress: Told) -> Sweep:
                latest.extend(sweep(question, images, int(count), strengths, progress, among))
                return latest[-1]

            work = Background(lambda progress: _measured.get(key, lambda: measured(progress)))
            for done, total in work.watch(_WATCH_SECONDS):
                words = f"{done} of {total} views of pictures" if done else "loading"
                going_on = bar(words, done, total, work.left, live=bool(latest))
                if len(latest) > drawn:
                    drawn = len(latest)
                    part = latest[-1]
                    shown = replace(made, said=f"Stopped after {part.pictures} of {part.total} pictures.")
                    yield [scene(part, question, note), strengths, shown, going_on]
                else:
                    yield [*[gr.skip()] * 3, going_on]
            yield [scene(work.result, question, note), strengths, made, ""]
    except ToldError as error:
        yield [*[gr.skip()] * 3, notice(error)]


def measure_linked(link: dict[str, str] | None, *inputs: Any) -> Iterator[list[Any]]:
    """As `measure`, where the page's link says that it was."""
    yield [gr.skip()] * 4  # else what yields nothing clears its outputs
    if asks_for(link, "robustness"):
        yield from measure(*inputs)


def sweep(
    question: Question,
    images: ex.ImageSet,
    count: int,
    strengths: Strengths,
    progress: Told | None = None,
    among: ex.ImageSet | None = None,
) -> Iterator[Sweep]:
    """The sweep after each batch, of so many of the pictures.

    Args:
        among: all pictures of which these are some, where neighbours are looked for; None for these.
    """
    taken, among = _taken(images, count), images if among is None else among
    # all as a gallery only if that costs nothing
    gallery = among if len(among) <= _LARGEST_GALLERY and is_embedded(question.teacher(), among) else None
    steps = sweep_steps(
        question.pairs(), taken, strengths, seed=question.seed, gallery=gallery, batch_size=_BATCH, progress=progress
    )
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
    """(maps, status) of the picture of the left column at the strength that was clicked."""
    if swept is None:
        return [gr.skip(), ""]
    try:
        with told():
            damage = swept.distortions[int(event._data["index"])]
            asked = Question.read(*column)
            asked.done_here()
            asked = replace(asked, damage=damage)
            of = f'<p class="quiet">The picture of the left column under {html.escape(damage.spec)}.</p>'
            return [attention_scene(asked.together(), asked.link()), of]
    except ToldError as error:
        return [gr.skip(), notice(error)]


def scene(swept: Sweep, question: Question, note: str) -> dict[str, Any]:
    """What the view shows."""
    pictures = f"{swept.pictures} pictures, neighbours among {swept.gallery}, seed {swept.seed}"
    students = ", ".join(map(called, question.students))
    parts = (pictures, f"{question.backbone} at {question.size} px", students, note)
    caption = " · ".join(part for part in parts if part)
    running, untouched = swept.pictures < swept.total, question.students == (UNTOUCHED,)
    return sweep_scene(swept, running=running, untouched=untouched, caption=caption)


def _taken(images: ex.ImageSet, count: int) -> ex.ImageSet:
    """So many, in turn from each class."""
    return images.select(in_turn(images.labels or (0,) * len(images), count))


def _of(question: Question, source: Source, count: int, values: str) -> Any:
    """What decides what is measured."""
    return settings(question), source, int(count), values


def _offer(question: Question, source: Source, count: int, values: str) -> str:
    """What Measure would do, and how long it would take."""
    try:
        with told():
            strengths = len(strengths_of(question.done_here().spec, numbers(values)).values)
            count = min(count, len(picture_set(source, question.size)[0]))
    except ToldError as error:
        return f"{html.escape(str(error))}."
    networks = 1 + sum(student != UNTOUCHED for student in question.students)
    seconds = count * (1 + networks * strengths) * seconds_a_picture(question.teacher())
    what = html.escape(f"{question.words}: {strengths} strength{'s' * (strengths > 1)}, {count} {title(source)}")
    return f"<b>Measure</b> takes about {in_words(seconds)} for {what}."


TAB = Tab(id="robustness", label="Robustness", help=HELP, build=build, follow=follow, of_picture=False)
