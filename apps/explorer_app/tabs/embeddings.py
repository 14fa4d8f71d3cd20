"""Embeddings tab: where pictures lie to the teacher and to its students, clean and distorted, drawn in the browser."""

import hashlib
import html
from collections.abc import Iterator
from pathlib import Path
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
from explorer_app.column.picture import crop_of
from explorer_app.events import AT_ONCE, QUICK, refused
from explorer_app.service import first_look
from explorer_app.service.background import Background
from explorer_app.service.cache import BoundedCache
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.models import UNTOUCHED, called
from explorer_app.service.pace import in_words, seconds_a_picture
from explorer_app.service.pictures import (
    PHOTOS,
    Selection,
    Source,
    photo_path,
    picture_set,
    source_of,
    thumbnails,
    title,
)
from explorer_app.service.question import SYNTHETIC, Question
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
Each point is a picture. The map is fitted **once, on the clean pictures as the teacher sees them**, and then used as a
fixed ruler for the other views: an arrow leads from where a picture lies to where the damage drives it, and on to where
a student puts it back. Read distances from the numbers, which are measured in feature space, and not from the map.
Point at a picture to see its neighbours in each view; click it to open it in the Attention tab. Clusters are those of
the clean teacher, found in feature space; lines of equal density can be drawn of any view: the cloud of the distorted
teacher collapses, and that of the student spreads again. Slices tell which pictures suffer, and a press on one selects
them, as do box and lasso; what is selected can be **measured in the Robustness tab and learned from in the Train tab**,
where it is in the list of pictures. Several students (*Models: more students*) share one map, each with a mark and a
colour of its own.
"""
FEATURES: list[tuple[str, Kind]] = [
    ("global embedding", "embedding"),
    ("class token of a layer", "cls"),
    ("mean patch of a layer", "mean patch"),
]
METHODS = [("PCA", "pca"), ("UMAP", "umap")]
OPENS = "attention"
AS_IT_COMES = (PHOTOS, "embedding", 11, "pca", 2)
"""The form, when it was not touched yet."""
_projections: dict[str, BoundedCache[Projection]] = {name: BoundedCache(16, lambda _: 1) for _, name in METHODS}
_TAKEN = "they can be chosen in the tabs Robustness (Pictures) and Train (Learn from)."
_WATCH_SECONDS = 0.4
_MOST_PICTURES = 10000


def build(page: Page) -> Follows:
    """Draws what is shipped or ready as soon as the tab is open or its own controls change; the rest when it is asked
    for. A click on a point opens its picture in the first tab.
    """
    with gr.Row(elem_id="embedding-form"):
        source = choose_pictures(page, "embedding-pictures", label="Pictures")
        kind = gr.Dropdown(FEATURES, value="embedding", label="Features", elem_id="embedding-features")
        layer = gr.Slider(0, 11, 11, step=1, label="Layer", visible=False, elem_id="embedding-layer")
        method = gr.Radio(METHODS, value="pca", label="Map", elem_id="embedding-method", min_width=120)
        components = gr.Radio([("2-D", 2), ("3-D", 3)], value=2, label="Axes", elem_id="embedding-axes", min_width=120)
    with gr.Row(elem_id="embedding-buttons"):
        compute = gr.Button("Compute", variant="primary", elem_id="compute-embedding", min_width=90)
        stop = gr.Button("Stop", elem_id="stop-embedding", min_width=90)
    status, line = status_and_mark("embedding")
    view, made = browser_view("embeddingview", "embedding-view", classes=MADE), gr.State(None)
    taken = gr.HTML(elem_id="embedding-selected", padding=False)
    kind.change(lambda chosen: gr.Slider(visible=chosen != "embedding"), kind, layer, **AT_ONCE)
    # Errors are told in the tab: the line above the tabs belongs to what each change of the left column draws.
    column, form = page.column, [source, kind, layer, method, components]
    asked_of = [page.zipped, *form, *column.inputs]
    draw: dict[str, Any] = {"inputs": [page.shown, made, *asked_of], "outputs": [view, made, status]}
    ready = {"fn": draw_ready, "concurrency_id": "embedding-ready", "concurrency_limit": 4, **draw, **QUICK}
    changed = [page.zipped.change, *(control.input for control in form)]
    drawn = [page.opened.then(**ready), *(event(trigger_mode="always_last", **ready) for event in changed)]
    asked: dict[str, Any] = {"concurrency_id": "embedding", "concurrency_limit": 1, **QUICK}
    drawn += [compute.click(draw_asked, **draw, **asked)]
    drawn += [page.linked(draw_linked, [page.link, *draw["inputs"]], draw["outputs"], **asked)]
    for each in drawn:
        page.redraw_after(each)
    stop.click(lambda: "", outputs=status, cancels=drawn, **AT_ONCE)
    view.select(take_selected, made, [page.selected, taken], trigger_mode="always_last", **QUICK)
    clicked = view.open(open_point, made, [column.photo, column.picture, column.catalogue, column.way], **QUICK)
    of_clicked: dict[str, Any] = {"inputs": [column.photo, column.picture], "outputs": [column.file, column.crop]}
    kept = clicked.success(lambda photo, path: (path, crop_of(None if photo else path)), **of_clicked, **QUICK)
    page.redraw_after(kept.then(lambda: (gr.Tabs(selected=OPENS), OPENS), outputs=[page.tabs, page.shown], **AT_ONCE))
    names = ("pictures", "features", "features_layer", "method", "axes")
    fields = tuple(Field(name, control) for name, control in zip(names, form, strict=True))
    return Follows((made, page.zipped, *form), (line,), fields=fields, result=made)


def follow(question: Question, made: Made | None, zipped: Path | None, chosen: str, *form: Any) -> list[Any]:
    """What is shown stays, and says of what it is."""
    source = source_of(chosen, zipped)
    return [mark(made, (settings(question), (source, *form)), _offer(question, source, *form))]


def draw_ready(shown: str, made: Made | None, *inputs: Any) -> Iterator[list[Any]]:
    """Draw what is shipped, needs no forward pass, or takes seconds; else say what `Compute` would do."""
    yield [gr.skip()] * 3  # else what yields nothing clears its outputs
    if shown == "embeddings":
        yield from _draw(False, made, *inputs)


def draw_asked(_shown: str, made: Made | None, *inputs: Any) -> Iterator[list[Any]]:
    """Draw, however long it takes."""
    yield from _draw(True, made, *inputs)


def draw_linked(link: dict[str, str] | None, shown: str, made: Made | None, *inputs: Any) -> Iterator[list[Any]]:
    """As `draw_asked`, where the page's link says that it was; else as `draw_ready`."""
    yield [gr.skip()] * 3
    if shown == "embeddings":
        yield from _draw(asks_for(link, shown), made, *inputs)


def open_point(event: gr.EventData, made: Made) -> list[Any]:
    """(photo, picture, catalogue, way) of the left column for the picture that was clicked."""
    name = str(event._data["name"])
    source = _shown(made)
    if source == PHOTOS:
        return [name, photo_path(name), name, SYNTHETIC]
    with refused():
        images, _ = picture_set(source, None)
        if name not in images.names:
            raise InputError(f"'{name}' is not there any more")
        return [None, to_pil(images[images.names.index(name)][0]), None, SYNTHETIC]


def take_selected(event: gr.EventData, made: Made) -> list[Any]:
    """(selection, what is said of it) for the pictures that are selected on the map, which other tabs take over."""
    selection = Selection(_shown(made), tuple(map(str, event._data["names"])), event._data["slice"])
    if not selection.names:
        return [selection, ""]
    with refused():
        count = len(picture_set(selection, None)[0])
    words = html.escape(f"{count} {title(selection)}")
    return [selection, f'<p class="quiet"><b>{words}</b>: {_TAKEN}</p>']


def _shown(made: Made) -> str | Path:
    """The pictures that are on the map."""
    return PHOTOS if made.example else made.of[1][0]


def embed(
    question: Question, images: ex.ImageSet, kind: Kind = "embedding", layer: int = -1, progress: Told | None = None
) -> PairEmbedding:
    """The features of pictures in the views of teacher and students."""
    asked = (question.pairs(), images, question.done_here(), question.seed)
    return embed_pair(*asked, **_layers(question, kind, layer), progress=progress)


def project(embedding: PairEmbedding, method: str, components: int, seed: int) -> Projection:
    """A projection, from memory where it was made lately."""
    digest = hashlib.sha256(b"".join(values.tobytes() for values in embedding.features.values())).hexdigest()
    key = (digest, tuple(embedding.features), components, seed)
    if method not in _projections:
        raise InputError(f"the map is made by one of {', '.join(_projections)}; got '{method}'")
    return _projections[method].get(key, lambda: embedding.project(method, components, seed))  # type: ignore[arg-type]


def _draw(
    asked: bool,
    shown: Made | None,
    zipped: Path | None,
    chosen: str,
    kind: Kind,
    layer: int,
    method: str,
    components: int,
    *column: Any,
) -> Iterator[list[Any]]:
    """(view, what is shown, status) as the work goes on."""
    source = source_of(chosen, zipped)
    form = (source, kind, layer, method, components)
    try:
        with told():
            question = Question.read(*column)
            now = settings(question), form
            if not asked and shown is not None and shown.of == now:
                return
            if not asked and form == AS_IT_COMES and (shown is None or shown.example):
                example, is_all = _example(question)
                if example is not None and (shown is None or shown.of != example[1].of):
                    yield [*example, ""]
                if is_all:
                    return
            yield [gr.skip(), gr.skip(), bar("getting ready")]
            images, note = picture_set(source, question.size, _MOST_PICTURES)
            what = (question, images, kind, int(layer))
            if not asked and not _is_ready(*what):
                yield [gr.skip(), gr.skip(), ""]
                return
            work = Background(lambda progress: embed(*what, progress=progress))
            for done, total in work.watch(_WATCH_SECONDS):
                text = f"{done} of {total} views of pictures" if done else "loading"
                yield [gr.skip(), gr.skip(), bar(text, done, total, work.left)]
            embedding = work.result
            scene: dict[str, Any] = {"chosen": question.photo, "caption": _caption(source, note, *what)}
            made = Made(now, scene["caption"])
            how = int(components), question.seed
            little = thumbnails(embedding.images)
            if method == "umap":
                pending = Background(lambda _: project(embedding, "umap", *how))
                quick = project(embedding, "pca", *how)
                for waited, _ in enumerate(pending.watch(_WATCH_SECONDS)):
                    if waited == 0:
                        text = "UMAP is on its way; this is PCA"
                        yield [embedding_scene(embedding, quick, little, pending=text, **scene), made, bar(text)]
                found = pending.result
            else:
                found = project(embedding, "pca", *how)
            yield [embedding_scene(embedding, found, little, **scene), made, ""]
    except ToldError as error:
        yield [gr.skip(), gr.skip(), notice(error)]


def _example(question: Question) -> tuple[tuple[dict[str, Any], Made] | None, bool]:
    """The shipped map of the student and what it is, if there is one; and whether it is what would be computed. None is
    shipped of several students."""
    shipped = first_look.map_of(question.student)
    if shipped is None or len(question.students) > 1:
        return None, False
    scene, names = shipped.scene, shipped.scene["pictures"]["names"]
    scene = {**scene, "chosen": names.index(question.photo) if question.photo in names else None}
    made = Made((question.version(), question.photo), scene["caption"], example=True)
    return (scene, made), shipped.asked == (question.damage.spec, question.size, question.seed)


def _is_ready(question: Question, images: ex.ImageSet, kind: Kind, layer: int) -> bool:
    asked = (question.pairs(), images, question.damage, question.seed)
    return is_embedded(*asked, **_layers(question, kind, layer))


def _layers(question: Question, kind: Kind, layer: int) -> dict[str, Any]:
    """All blocks are kept together as soon as one in the middle is asked for."""
    if kind == "embedding":
        return {"kind": kind}
    last = question.teacher().depth - 1
    return {"kind": kind, "layer": min(layer, last), "keep": -1 if layer >= last else "all"}


def _caption(source: Source, note: str, question: Question, images: ex.ImageSet, kind: Kind, layer: int) -> str:
    features = kind if kind == "embedding" else f"{kind} of layer {layer}"
    damage = f"{question.damage.spec}, seed {question.seed}"
    model = f"{question.backbone} at {question.size} px, {', '.join(map(called, question.students))}"
    parts = (f"{len(images)} {title(source)}", damage, model, features, note)
    return " · ".join(part for part in parts if part)


def _offer(question: Question, source: Source, kind: Kind, layer: int, method: str, components: int) -> str:
    """What Compute would do, and how long it would take at most: features may be kept from before."""
    try:
        with told():
            question.done_here()
            students = question.students
            count = len(picture_set(source, question.size, _MOST_PICTURES)[0])
    except ToldError as error:
        return f"{html.escape(str(error))}."
    views = 2 + 2 * sum(name != UNTOUCHED for name in students)
    others = [f"beside {', '.join(map(called, students[1:]))}"] if students[1:] else []
    seconds = in_words(views * count * seconds_a_picture(question.teacher()))
    features = kind if kind == "embedding" else f"{kind} of layer {layer}"
    shown = f"{features}, {method} in {components}-D: {seconds} at most"
    what = " · ".join([f"{count} {title(source)}", question.words, *others, shown])
    return f"Press <b>Compute</b> for {html.escape(what)}."


TAB = Tab(id="embeddings", label="Embeddings", help=HELP, build=build, follow=follow, of_picture=False)
