"""Embeddings tab: where pictures lie to the teacher and to the student, clean and distorted, drawn in the browser."""

import hashlib
import html
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.image import to_pil
from explorer.errors import InputError
from explorer.evaluation.embedding import PairEmbedding, embed_pair, is_embedded
from explorer.evaluation.features import Kind, Told
from explorer.evaluation.projection import Projection
from explorer.scenes.evaluation import embedding_scene
from explorer_app.browser_view import browser_view
from explorer_app.events import AT_ONCE, QUICK, refused
from explorer_app.service.background import Background
from explorer_app.service.cache import BoundedCache
from explorer_app.service.errors import ToldError, told
from explorer_app.service.pictures import PHOTOS, photo_path, picture_folders, picture_set, thumbnails, without
from explorer_app.service.question import Question
from explorer_app.tabs.shared import Page, Tab, notice

HELP = """
Each point is a picture. The map is fitted **once, on the clean pictures as the teacher sees them**, and then used as a
fixed ruler for the other views: an arrow leads from where a picture lies to where the damage drives it, and on to where
the student puts it back. Read distances from the numbers, which are measured in feature space, and not from the map.
Point at a picture to see its neighbours in each view; click it to open it in the Attention tab.
"""
FEATURES: list[tuple[str, Kind]] = [
    ("global embedding", "embedding"),
    ("class token of a layer", "cls"),
    ("mean patch of a layer", "mean patch"),
]
METHODS = [("PCA", "pca"), ("UMAP", "umap")]
OPENS = "attention"
CHANGED = '<p class="quiet">The left column has changed: press <b>Compute</b>.</p>'
"""Shown until the map is drawn again: every change would else start minutes of work."""
_projections: dict[str, BoundedCache[Projection]] = {name: BoundedCache(16, lambda _: 1) for _, name in METHODS}
_WATCH_SECONDS = 0.4
_MOST_PICTURES = 5000


def build(page: Page) -> gr.HTML:
    """Draws what is ready as soon as the tab is open or its own controls change; the rest when it is asked for. A click
    on a point opens its picture in the first tab.
    """
    with gr.Row(elem_id="embedding-form"):
        source = gr.Dropdown([PHOTOS, *picture_folders()], value=PHOTOS, label="Pictures", elem_id="embedding-pictures")
        kind = gr.Dropdown(FEATURES, value="embedding", label="Features", elem_id="embedding-features")
        layer = gr.Slider(0, 11, 11, step=1, label="Layer", visible=False, elem_id="embedding-layer")
        method = gr.Radio(METHODS, value="pca", label="Map", elem_id="embedding-method", min_width=120)
        components = gr.Radio([("2-D", 2), ("3-D", 3)], value=2, label="Axes", elem_id="embedding-axes", min_width=120)
    with gr.Row(elem_id="embedding-buttons"):
        compute = gr.Button("Compute", variant="primary", elem_id="compute-embedding", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-embedding", min_width=90)
    status = gr.HTML(elem_id="embedding-status")
    view = browser_view("embeddingview", "embedding-view")
    kind.input(lambda chosen: gr.Slider(visible=chosen != "embedding"), kind, layer, **AT_ONCE)
    # Errors are told in the tab: the line above the tabs belongs to what each change of the left column draws.
    column, form = page.column, [source, kind, layer, method, components]
    draw: dict[str, Any] = {"inputs": [page.shown, *form, *column.inputs], "outputs": [view, status]}
    ready = {"fn": draw_ready, "concurrency_id": "embedding-ready", "concurrency_limit": 4, **draw, **QUICK}
    drawn = [page.opened.then(**ready), *(control.input(trigger_mode="always_last", **ready) for control in form)]
    drawn += [compute.click(draw_asked, concurrency_id="embedding", concurrency_limit=1, **draw, **QUICK)]
    stop.click(lambda: "", outputs=status, cancels=drawn, **AT_ONCE)
    clicked = view.open(open_point, source, [column.photo, column.picture, column.catalogue], **QUICK)
    page.redraw_after(
        clicked.then(lambda: (gr.Tabs(selected=OPENS), OPENS), outputs=[page.tabs, page.shown], **AT_ONCE)
    )
    return status


def draw_ready(shown: str, *inputs: Any) -> Iterator[list[Any]]:
    """Draw what needs no forward pass, or takes seconds; else say what `Compute` would do."""
    if shown == "embeddings":
        yield from _draw(False, *inputs)


def draw_asked(_shown: str, *inputs: Any) -> Iterator[list[Any]]:
    """Draw, however long it takes."""
    yield from _draw(True, *inputs)


def open_point(event: gr.EventData, source: str) -> list[Any]:
    """(photo, picture, catalogue) of the left column for the picture that was clicked."""
    name = str(event._data["name"])
    if source == PHOTOS:
        return [name, photo_path(name), name]
    with refused():
        images = picture_set(source, None)
        if name not in images.names:
            raise InputError(f"'{name}' is not in the folder any more")
        return [None, to_pil(images[images.names.index(name)][0]), None]


def embed(
    question: Question, images: ex.ImageSet, kind: Kind = "embedding", layer: int = -1, progress: Told | None = None
) -> PairEmbedding:
    """The features of pictures in the four views."""
    both = question.pair()
    return embed_pair(both, images, question.damage, question.seed, **_layers(both, kind, layer), progress=progress)


def project(embedding: PairEmbedding, method: str, components: int, seed: int) -> Projection:
    """A projection, from memory where it was made lately."""
    digest = hashlib.sha256(b"".join(values.tobytes() for values in embedding.features.values())).hexdigest()
    key = (digest, components, seed)
    if method not in _projections:
        raise InputError(f"the map is made by one of {', '.join(_projections)}; got '{method}'")
    return _projections[method].get(key, lambda: embedding.project(method, components, seed))  # type: ignore[arg-type]


def _draw(
    asked: bool, source: str, kind: Kind, layer: int, method: str, components: int, *column: Any
) -> Iterator[list[Any]]:
    """(view, status) as the work goes on."""
    try:
        with told():
            question = Question.read(*column)
            images = picture_set(source, question.size, _MOST_PICTURES)
            what = (question, images, kind, int(layer))
            if not asked and not _is_ready(*what):
                yield [gr.skip(), _ask(source, question.size)]
                return
            work = Background(lambda progress: embed(*what, progress=progress))
            first: tuple[int, float] | None = None
            for done, total in work.watch(_WATCH_SECONDS):
                first = first or ((done, time.monotonic()) if done else None)
                yield [gr.skip(), _bar(done, total, first)]
            embedding = work.result
            scene: dict[str, Any] = {"chosen": question.photo, "caption": _caption(source, *what)}
            how = int(components), question.seed
            little = thumbnails(embedding.images)
            if method == "umap":
                pending = Background(lambda _: project(embedding, "umap", *how))
                quick = project(embedding, "pca", *how)
                for waited, _ in enumerate(pending.watch(_WATCH_SECONDS)):
                    if waited == 0:
                        text = "UMAP is on its way; this is PCA"
                        yield [embedding_scene(embedding, quick, little, pending=text, **scene), ""]
                found = pending.result
            else:
                found = project(embedding, "pca", *how)
            yield [embedding_scene(embedding, found, little, **scene), ""]
    except ToldError as error:
        yield [gr.skip(), notice(error)]


def _is_ready(question: Question, images: ex.ImageSet, kind: Kind, layer: int) -> bool:
    both = question.pair()
    return is_embedded(both, images, question.damage, question.seed, **_layers(both, kind, layer))


def _layers(pair: ex.Pair, kind: Kind, layer: int) -> dict[str, Any]:
    """All blocks are kept together as soon as one in the middle is asked for."""
    if kind == "embedding":
        return {"kind": kind}
    place = min(layer, pair.teacher.depth - 1)
    return {"kind": kind, "layer": place, "keep": -1 if place == pair.teacher.depth - 1 else "all"}


def _caption(source: str, question: Question, images: ex.ImageSet, kind: Kind, layer: int) -> str:
    features = kind if kind == "embedding" else f"{kind} of layer {layer}"
    damage = f"{question.damage.spec}, seed {question.seed}"
    model = f"{question.backbone} at {question.size} px, {question.student}"
    parts = (f"{len(images)} {source}", damage, model, features, without(images))
    return " · ".join(part for part in parts if part)


def _ask(source: str, size: int) -> str:
    pictures = html.escape(source)
    return f'<p class="quiet">The {pictures} were not looked at like this yet, at {size} px: press <b>Compute</b>.</p>'


def _bar(done: int, total: int, first: tuple[int, float] | None) -> str:
    """How far it is; what was done at first may have come from the cache, which says nothing of the time left."""
    if not done:
        return '<div class="progress"><progress></progress> loading …</div>'
    text = f"{done} of {total} views of pictures"
    if first is not None and done > first[0]:
        left = (time.monotonic() - first[1]) / (done - first[0]) * (total - done)
        text += f", about {left:.0f} s left"
    return f'<div class="progress"><progress max="{total}" value="{done}"></progress> {text}</div>'


TAB = Tab(
    id="embeddings",
    label="Embeddings",
    help=HELP,
    build=build,
    depends=lambda question: replace(question, picture=None, photo=None, layer=None),
    changed=CHANGED,
)
