"""Robustness tab: agreement with the clean teacher by strength of the damage; a click on a curve shows maps there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer.errors import InputError
from explorer.evaluation.features import is_embedded
from explorer.evaluation.sweeping import Strengths, Sweep, strengths_of, sweep_steps
from explorer.scenes.evaluation import sweep_scene
from explorer.scenes.inspection import attention_scene
from explorer_app.browser_view import browser_view
from explorer_app.column.sidebar import Sidebar
from explorer_app.service import engine
from explorer_app.service.cores import CORES, each
from explorer_app.service.pictures import PHOTOS, picture_folders, picture_set, without
from explorer_app.tabs.shared import ToldError, compare, notice, told

HELP = """
How far do teacher and student drift from what the **teacher sees in the clean pictures**, as the damage of the left
column grows? Its operator is varied in strength; its other parameters stay. The band marks the strengths that the
student was trained on. Click a point: below, the picture of the left column is shown at that strength.
"""
QUEUE: dict[str, Any] = {"concurrency_id": "sweep", "concurrency_limit": 1, "api_visibility": "private"}
COUNTS = (16, 32, 64, 128)
_BATCH, _LARGEST_GALLERY = 8, 5000


@dataclass(frozen=True)
class RobustnessTab:
    """What the page connects."""

    view: gr.HTML
    maps: gr.HTML
    measure: gr.Button
    stop: gr.Button
    swept: gr.State
    form: tuple[Any, ...]


def build_robustness_tab() -> RobustnessTab:
    """The tab's content."""
    with gr.Accordion("How to read this", open=False):
        gr.Markdown(HELP)
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
        measure = gr.Button("Measure", variant="primary", elem_id="measure-sweep", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-sweep", min_width=90)
    view = browser_view("sweepview", "sweep-view")
    maps = browser_view("attentionview", "strength-view")
    return RobustnessTab(view, maps, measure, stop, gr.State(None), (source, count, values))


def connect_robustness_tab(tab: RobustnessTab, column: Sidebar, problem: gr.HTML) -> None:
    """Measure on request; show maps at the strength that is clicked."""
    asked = tab.measure.click(
        measure,
        [*tab.form, *column.inputs],
        [tab.view, tab.swept, problem],
        show_progress="hidden",
        **QUEUE,
    )
    tab.stop.click(lambda: notice(), outputs=problem, cancels=[asked], queue=False, api_visibility="private")
    tab.view.strength(
        show_maps,
        [tab.swept, *column.inputs],
        [tab.maps, problem],
        trigger_mode="always_last",
        show_progress="minimal",
        concurrency_id="model",
        api_visibility="private",
    )


def measure(
    source: str,
    count: int,
    values: str,
    _picture: str | None,
    _photo: str | None,
    spec: str,
    backbone: str,
    pair: str,
    size: int,
    seed: float | None,
) -> Iterator[list[Any]]:
    """(view, what was swept, notice) after each batch of pictures."""
    whole = int(seed or 0)
    try:
        with told():
            strengths = strengths_of(engine.remembered(spec), numbers(values))
            about = (backbone, pair, int(size), without(picture_set(source, int(size))))
            for swept in sweep(source, int(count), strengths, backbone, pair, int(size), whole):
                running = swept.pictures < swept.total
                yield [scene(swept, *about, running=running), strengths, notice()]
    except ToldError as error:
        yield [gr.skip(), gr.skip(), notice(error)]


def sweep(
    source: str, count: int, strengths: Strengths, backbone: str, pair: str, size: int, seed: int
) -> Iterator[Sweep]:
    """The sweep after each batch; the pictures are taken in turn from each class."""
    both = engine.pair_of(pair, backbone, size)
    images = picture_set(source, size, count)
    whole = picture_set(source, size)  # as a gallery only if that costs nothing
    gallery = whole if len(whole) <= _LARGEST_GALLERY and is_embedded(both.teacher, whole) else None
    steps = sweep_steps(both, images, strengths, seed=seed, gallery=gallery, batch_size=_BATCH)
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


def show_maps(event: gr.EventData, swept: Strengths | None, *inputs: Any) -> list[Any]:
    """(maps, notice) of the picture of the left column at the strength that was clicked."""
    if swept is None:
        return [gr.skip(), gr.skip()]
    picture, photo, _, *model = inputs
    try:
        damage = swept.distortions[int(event._data["index"])]
        comparison, link = compare(picture, photo, damage.spec, *model)
        return [attention_scene(comparison, link), notice()]
    except ToldError as error:
        return [gr.skip(), notice(error)]


def scene(swept: Sweep, backbone: str, pair: str, size: int, note: str = "", *, running: bool) -> dict[str, Any]:
    """What the view shows."""
    pictures = f"{swept.pictures} pictures, neighbours among {swept.gallery}, seed {swept.seed}"
    caption = " · ".join(part for part in (pictures, f"{backbone} at {size} px", pair, note) if part)
    return sweep_scene(swept, running=running, untouched=pair == engine.UNTOUCHED, caption=caption)
