"""Embeddings tab: where pictures lie to the teacher and to the student, clean and distorted, drawn in the browser."""

import html
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

import explorer as ex
from explorer.data.image import to_pil
from explorer.evaluation.embedding import PairEmbedding, embed_pair, is_embedded
from explorer.evaluation.features import Kind, Told
from explorer.scenes.evaluation import embedding_scene
from explorer_app.browser_view import browser_view
from explorer_app.column.sidebar import Sidebar
from explorer_app.service import engine
from explorer_app.service.background import Background
from explorer_app.service.pictures import PHOTOS, picture_folders, picture_set, without
from explorer_app.tabs.shared import ToldError, notice, told

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
ASKED: dict[str, Any] = {"concurrency_id": "embedding", "concurrency_limit": 1, "api_visibility": "private"}
READY: dict[str, Any] = {"concurrency_id": "embedding-ready", "concurrency_limit": 4, "api_visibility": "private"}
_WATCH_SECONDS = 0.4
_MOST_PICTURES = 5000


@dataclass(frozen=True)
class EmbeddingsTab:
    """What the page connects."""

    view: gr.HTML
    status: gr.HTML
    compute: gr.Button
    stop: gr.Button
    form: tuple[Any, ...]


def build_embeddings_tab() -> EmbeddingsTab:
    """The tab's content."""
    with gr.Accordion("How to read this", open=False):
        gr.Markdown(HELP)
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
    kind.input(
        lambda chosen: gr.Slider(visible=chosen != "embedding"),
        kind,
        layer,
        queue=False,
        api_visibility="private",
    )
    return EmbeddingsTab(view, status, compute, stop, (source, kind, layer, method, components))


def connect_embeddings_tab(tab: EmbeddingsTab, column: Sidebar, shown: gr.State, opened: Any) -> None:
    """Draw what is ready as soon as the tab is open or its own controls change; the rest when it is asked for.

    Args:
        shown: the name of the tab that is open.
        opened: the event after which this tab is open.
    """
    # Errors are told in the tab: the line above the tabs belongs to what each change of the left column draws.
    inputs, outputs = [shown, *tab.form, *column.inputs], [tab.view, tab.status]
    draw: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "show_progress": "hidden"}
    first = opened.then(draw_ready, **draw, **READY)
    events = [control.input for control in tab.form]
    changes = [event(draw_ready, trigger_mode="always_last", **draw, **READY) for event in events]
    asked = tab.compute.click(draw_asked, **draw, **ASKED)
    tab.stop.click(
        lambda: "",
        outputs=tab.status,
        cancels=[first, asked, *changes],
        queue=False,
        api_visibility="private",
    )


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
        return [name, engine.photo_path(name), name]
    images = picture_set(source, None)
    if name not in images.names:
        raise gr.Error(f"'{name}' is not in the folder any more", print_exception=False)
    return [None, to_pil(images[images.names.index(name)][0]), None]


def embed(
    source: str,
    kind: Kind,
    layer: int,
    spec: str,
    backbone: str,
    pair: str,
    size: int,
    seed: int,
    progress: Told | None = None,
) -> PairEmbedding:
    """The features of a set of pictures in the four views."""
    both = engine.pair_of(pair, backbone, size)
    images = picture_set(source, size, _MOST_PICTURES)
    return embed_pair(both, images, spec, seed, **_layers(both, kind, layer), progress=progress)


def _draw(
    asked: bool,
    source: str,
    kind: Kind,
    layer: int,
    method: str,
    components: int,
    _picture: str | None,
    photo: str | None,
    spec: str,
    backbone: str,
    pair: str,
    size: int,
    seed: float | None,
) -> Iterator[list[Any]]:
    """(view, status) as the work goes on."""
    whole = int(seed or 0)
    try:
        with told():
            what = (source, kind, int(layer), engine.remembered(spec), backbone, pair, int(size), whole)
            if not asked and not _is_ready(*what):
                yield [gr.skip(), _ask(source, int(size))]
                return
            work = Background(lambda progress: embed(*what, progress=progress))
            first: tuple[int, float] | None = None
            for done, total in work.watch(_WATCH_SECONDS):
                first = first or ((done, time.monotonic()) if done else None)
                yield [gr.skip(), _bar(done, total, first)]
            embedding = work.result
            scene: dict[str, Any] = {"chosen": photo, "caption": _caption(embedding, *what)}
            thumbnails = engine.thumbnails(source, embedding.images)
            if method == "umap":
                pending = Background(lambda _: engine.project(embedding, "umap", int(components), whole))
                quick = engine.project(embedding, "pca", int(components), whole)
                for waited, _ in enumerate(pending.watch(_WATCH_SECONDS)):
                    if waited == 0:
                        text = "UMAP is on its way; this is PCA"
                        yield [embedding_scene(embedding, quick, thumbnails, pending=text, **scene), ""]
                found = pending.result
            else:
                found = engine.project(embedding, "pca", int(components), whole)
            yield [embedding_scene(embedding, found, thumbnails, **scene), ""]
    except ToldError as error:
        yield [gr.skip(), notice(error)]


def _is_ready(source: str, kind: Kind, layer: int, spec: str, backbone: str, pair: str, size: int, seed: int) -> bool:
    both = engine.pair_of(pair, backbone, size)
    return is_embedded(both, picture_set(source, size, _MOST_PICTURES), spec, seed, **_layers(both, kind, layer))


def _layers(pair: ex.Pair, kind: Kind, layer: int) -> dict[str, Any]:
    """All blocks are kept together as soon as one in the middle is asked for."""
    if kind == "embedding":
        return {"kind": kind}
    place = min(layer, pair.teacher.depth - 1)
    return {"kind": kind, "layer": place, "keep": -1 if place == pair.teacher.depth - 1 else "all"}


def _caption(embedding: PairEmbedding, source: str, kind: Kind, layer: int, *model: Any) -> str:
    spec, backbone, pair, size, seed = model
    features = kind if kind == "embedding" else f"{kind} of layer {layer}"
    shown = f"{len(embedding.images)} {source} · {spec}, seed {seed} · {backbone} at {size} px, {pair} · {features}"
    return " · ".join(part for part in (shown, without(embedding.images)) if part)


def _ask(source: str, size: int) -> str:
    pictures = html.escape(source)
    return f'<p class="quiet">The {pictures} were not looked at like this yet, at {size} px: press <b>Compute</b>.</p>'


CHANGED = '<p class="quiet">The left column has changed: press <b>Compute</b>.</p>'
"""Shown until the map is drawn again: every change would else start minutes of work."""


def _bar(done: int, total: int, first: tuple[int, float] | None) -> str:
    """How far it is; what was done at first may have come from the cache, which says nothing of the time left."""
    if not done:
        return '<div class="progress"><progress></progress> loading …</div>'
    text = f"{done} of {total} views of pictures"
    if first is not None and done > first[0]:
        left = (time.monotonic() - first[1]) / (done - first[0]) * (total - done)
        text += f", about {left:.0f} s left"
    return f'<div class="progress"><progress max="{total}" value="{done}"></progress> {text}</div>'
