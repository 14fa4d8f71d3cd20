"""Below the maps of a photo that is damaged already: which clean pictures it resembles, to teacher and student."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.image import to_pil
from explorer.evaluation.features import is_embedded
from explorer.inspection.neighbours import Neighbour, nearest_pictures
from explorer.models.students import STUDENT, TEACHER, network_and_kind
from explorer_app.events import QUICK
from explorer_app.service.background import Background
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.pace import in_words, seconds_a_picture
from explorer_app.service.pictures import picture_set, source_of, title
from explorer_app.service.question import DAMAGED, Question
from explorer_app.tabs.shared import MADE, Page, bar, choose_pictures, status_and_mark

QUEUE: dict[str, Any] = {"concurrency_id": "nearest", "concurrency_limit": 2, **QUICK}
UNKNOWN = "These are as the teacher sees them clean; the numbers are centred cosines. Nobody knows what is right."
_SIDE, _WATCH_SECONDS, _MOST_PICTURES = 96, 0.4, 5000


def build_nearest(page: Page) -> None:
    """Found at once where the gallery is embedded already, else on request; shown for a damaged photo alone."""
    column = page.column
    with gr.Column(visible=False, elem_id="nearest") as panel:
        with gr.Row():
            chosen = choose_pictures(page, "nearest-pictures", label="Nearest clean pictures among")
            find = gr.Button("Find", elem_id="find-nearest", min_width=90)
        status, line = status_and_mark("nearest")
        found = gr.HTML(elem_id="nearest-found", elem_classes=MADE, padding=False)
    column.way.change(lambda way: gr.Column(visible=way == DAMAGED), column.way, panel, **QUICK)
    inputs, outputs = [page.shown, page.zipped, chosen, *column.inputs], [found, status, line]
    find.click(_find, inputs, outputs, **QUEUE)

    def follow() -> None:
        for event in (*column.changes, page.zipped.change, chosen.change):
            event(find_ready, inputs, outputs, trigger_mode="always_last", **QUEUE)

    page.column.later.append(follow)
    for done in (*column.chosen, page.opened):
        done.then(find_ready, inputs, outputs, **QUEUE)


def find_ready(shown: str, zipped: Path | None, chosen: str, *column: Any) -> Iterator[list[Any]]:
    """(found, status, line) without waiting, or what Find would do."""
    yield from _find(shown, zipped, chosen, *column, asked=False)


def _find(shown: str, zipped: Path | None, chosen: str, *column: Any, asked: bool = True) -> Iterator[list[Any]]:
    try:
        with told():
            question = Question.read(*column)
            if shown != "attention" or question.way != DAMAGED or not question.is_settled() or not question.picture:
                yield [gr.skip()] * 3
                return
            source = source_of(chosen, zipped)
            images, note = picture_set(source, question.size, _MOST_PICTURES)
            teacher = question.teacher()
            if not asked and not is_embedded(teacher, images):
                seconds = in_words(len(images) * seconds_a_picture(teacher))
                words = f"Press <b>Find</b> to look among {len(images)} {html.escape(title(source))}: {seconds}."
                yield ["", "", f'<p class="quiet">{words}</p>']
                return
            yield [gr.skip(), bar("looking for what it resembles"), ""]
            work = Background(
                lambda progress: nearest_pictures(teacher, question.together(), images, progress=progress)
            )
            for done, total in work.watch(_WATCH_SECONDS):
                yield [gr.skip(), bar("looking for what it resembles", done, total, work.left), ""]
            told_once = f"{UNKNOWN} {note}".strip()
            yield [_rows(work.result, images), "", f'<p class="quiet">{html.escape(told_once)}</p>']
    except ToldError as error:
        yield ["", notice(error), ""]


def _rows(found: dict[str, tuple[Neighbour, ...]], images: ex.ImageSet) -> str:
    """A row of pictures for each view, with their names and cosines."""
    rows = []
    for view, neighbours in found.items():
        network = network_and_kind(view)[0]
        title_of = html.escape(f"To the {network}" if network in (TEACHER, STUDENT) else f"To {network}")
        figures = "".join(_figure(each, images) for each in neighbours)
        rows.append(f'<section aria-label="{title_of}"><h4>{title_of}</h4><div>{figures}</div></section>')
    return "".join(rows)


def _figure(found: Neighbour, images: ex.ImageSet) -> str:
    stream = io.BytesIO()
    to_pil(images[found.index][0]).resize((_SIDE, _SIDE)).save(stream, "webp", quality=80)
    picture = base64.b64encode(stream.getvalue()).decode()
    name = html.escape(Path(found.name).stem)
    label = f" · {html.escape(found.label)}" if found.label else ""
    image = f'<img src="data:image/webp;base64,{picture}" alt="{name}" width="{_SIDE}" height="{_SIDE}">'
    return f"<figure>{image}<figcaption>{name}{label}<br>{found.cosine:.2f}</figcaption></figure>"
