"""The sheet of all common corruptions in the Robustness tab: teacher, student and difference, by severity.

Begins with the sheets that are shipped of the chosen students; measures others on request. A cell that is clicked sets
the left column's damage, as the sheet of previews there does.
"""

import html
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.sets import in_turn
from explorer.evaluation.benchmarking import Benchmark, benchmark_steps
from explorer.evaluation.features import Told
from explorer.scenes.evaluation import benchmark_scene
from explorer_app.browser_view import browser_view
from explorer_app.column.corruptions import NAMES, SEVERITIES
from explorer_app.column.distortion import choose_corruption
from explorer_app.events import AT_ONCE, PRIVATE, QUICK
from explorer_app.service import first_look
from explorer_app.service.background import Background
from explorer_app.service.cores import CORES, each
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.limits import LIMITS
from explorer_app.service.models import UNTOUCHED, called
from explorer_app.service.pace import in_words, seconds_a_picture
from explorer_app.service.pictures import Selection, Source, picture_set, source_of, title
from explorer_app.service.question import SYNTHETIC, Question
from explorer_app.tabs.shared import MADE, Follows, Made, Page, bar, mark, settings, status_and_mark

HEADING = "### Every corruption on one sheet"
QUEUE: dict[str, Any] = {"concurrency_id": "benchmark", "concurrency_limit": 1, **PRIVATE}
COUNTS = (8, 16, 32, 64)
OPENS, UP = "attention", "() => scrollTo({ top: 0 })"
_BATCH = 8
_WATCH_SECONDS = 0.4
_CLEAN = ex.distortion("none")


def build_benchmark(page: Page, chosen: gr.Dropdown) -> Follows:
    """Measures on request, and begins with what is shipped.

    Args:
        chosen: the list of pictures, which the tab has once.
    """
    gr.Markdown(HEADING, elem_id="sheet-heading")
    with gr.Row(elem_id="sheet-form"):
        counts = [count for count in COUNTS if count <= LIMITS.sheet]  # Gradio takes no other
        count = gr.Radio(counts, value=min(16, LIMITS.sheet), label="How many", elem_id="sheet-count")
        start = gr.Button("Measure on these photos", variant="primary", elem_id="measure-sheet", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-sheet", min_width=90)
    status, line = status_and_mark("sheet")
    view, made = browser_view("benchmarkview", "sheet-view", classes=MADE), gr.State(None)
    with gr.Row(elem_id="sheet-chosen", visible=False) as below:
        said = gr.HTML(elem_id="sheet-said")
        show = gr.Button("Show its maps", elem_id="sheet-maps", min_width=90)
    form, column = [page.zipped, page.selected, chosen, count], page.column
    outputs = [view, made, status]
    asked = start.click(measure, [*form, *column.inputs], outputs, show_progress="hidden", **QUEUE)
    page.redraw_after(asked)
    stop.click(lambda: "", outputs=status, cancels=[asked], **AT_ONCE)
    view.corruption(choose, outputs=[*column.controls, below, said], **QUICK)
    opened = show.click(lambda: (gr.Tabs(selected=OPENS), OPENS), outputs=[page.tabs, page.shown], **AT_ONCE)
    page.redraw_after(opened)
    opened.then(None, js=UP, **PRIVATE)
    return Follows((made, *form), (line, view, made), (count.change,))


def follow(
    question: Question, made: Made | None, zipped: Path | None, selected: Selection, chosen: str, count: int
) -> list[Any]:
    """(line, view, what is shown): an example gives way to the one of other students."""
    source = source_of(chosen, zipped, selected)
    offer = _offer(question, source, int(count))
    shipped = first_look.sheet_of(question.students) if made is None or made.example else None
    if shipped is None or (made is not None and made.of == question.versions()):
        return [mark(made, _of(question, source, int(count)), offer), gr.skip(), gr.skip()]
    height, width = shipped.image_size
    words = f"{shipped.pictures} shipped photos at {height} x {width} px, {', '.join(map(called, question.students))}"
    made = Made(question.versions(), words, example=True)
    caption = f"{words}, seed {shipped.seed}"
    return [mark(made, None, offer), benchmark_scene(shipped, caption=caption), made]


def measure(zipped: Path | None, selected: Selection, chosen: str, count: int, *column: Any) -> Iterator[list[Any]]:
    """(view, what is shown, status) as the work goes on."""
    try:
        yield [gr.skip(), gr.skip(), bar("getting ready")]
        with told():
            question = Question.read(*column)
            source = source_of(chosen, zipped, selected)
            images, note = picture_set(source, question.size)
            taken = images.select(in_turn(images.labels or (0,) * len(images), int(count)))
            words = f"{len(taken)} {title(source)}, {question.backbone} at {question.size} px"
            made = Made(_of(question, source, int(count)), f"{words}, {', '.join(map(called, question.students))}")
            latest: list[Benchmark] = []
            drawn = 0
            work = Background(lambda progress: _measured(question, taken, latest, progress))
            for done, total in work.watch(_WATCH_SECONDS):
                told_now = f"{done} of {total} views of pictures" if done else "loading"
                going_on = bar(told_now, done, total, work.left, live=bool(latest))
                if len(latest) > drawn:
                    drawn = len(latest)
                    part = latest[-1]
                    shown = replace(made, said=f"Stopped after {part.done} of {len(part.places)} cells.")
                    yield [scene(part, question, note), shown, going_on]
                else:
                    yield [gr.skip(), gr.skip(), going_on]
            yield [scene(work.result, question, note), made, ""]
    except ToldError as error:
        yield [gr.skip(), gr.skip(), notice(error)]


def scene(found: Benchmark, question: Question, note: str) -> dict[str, Any]:
    """What the view shows."""
    students = ", ".join(map(called, question.students))
    parts = (f"{found.pictures} pictures, seed {found.seed}", f"{question.backbone} at {question.size} px", students)
    caption = " · ".join(part for part in (*parts, note) if part)
    running, untouched = found.done < len(found.places), question.students == (UNTOUCHED,)
    return benchmark_scene(found, running=running, untouched=untouched, caption=caption)


def choose(event: gr.EventData) -> list[Any]:
    """The left column's controls, and what is said, for the cell that was clicked."""
    entry, severity = ex.DISTORTIONS[str(event._data["name"])], int(event._data["severity"])
    words = f"The left column is now damaged by {entry.label}, severity {severity}."
    return [*choose_corruption(event), gr.Row(visible=True), f'<p class="quiet">{html.escape(words)}</p>']


def _measured(question: Question, taken: ex.ImageSet, latest: list[Benchmark], progress: Told) -> Benchmark:
    steps = benchmark_steps(question.pairs(), taken, seed=question.seed, batch_size=_BATCH, progress=progress)
    latest.extend(each(steps, CORES.share))
    return latest[-1]


def _of(question: Question, source: Source, count: int) -> Any:
    """What decides what is measured: all but the damage of the left column."""
    return settings(replace(question, damage=_CLEAN, way=SYNTHETIC)), source, count


def _offer(question: Question, source: Source, count: int) -> str:
    """What Measure would do, and how long it would take."""
    try:
        with told():
            count = min(count, len(picture_set(source, question.size)[0]))
    except ToldError as error:
        return f"{html.escape(str(error))}."
    networks = 1 + sum(student != UNTOUCHED for student in question.students)
    views = (1 + len(NAMES)) + networks * (1 + len(NAMES) * len(SEVERITIES))
    seconds = count * views * seconds_a_picture(question.teacher())
    what = html.escape(f"{len(NAMES)} corruptions at 5 severities, {count} {title(source)} at {question.size} px")
    return f"<b>Measure</b> takes about {in_words(seconds)} for {what}; what is finished is kept."
