"""Named endpoints for `gradio_client`: pictures as PNG files, and one JSON object of numbers."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image
from torch import Tensor

from explorer.data.image import to_pil
from explorer.errors import InputError
from explorer.evaluation.sweeping import strengths_of
from explorer.inspection.comparison import VIEWS, Comparison
from explorer.system.late import Late
from explorer_app.column.picture import picture_input
from explorer_app.events import refused
from explorer_app.service import models, runs
from explorer_app.service.cores import CORES
from explorer_app.service.limits import LIMITS
from explorer_app.service.pictures import PHOTOS, picture_set
from explorer_app.service.question import DEFAULT_DISTORTION, Question
from explorer_app.service.runs import RUNS
from explorer_app.tabs import embeddings, robustness

if TYPE_CHECKING:
    from explorer import plots
else:
    plots = Late("explorer.plots")  # nothing of a page is drawn by matplotlib

EXAMPLE = "assets/photos/farm_animal/owl.webp"
"""For "Use via API": such a file is in a copy of the project. Gradio's own example is an address; none is fetched."""
PROGRAMS = {"concurrency_id": "programs", "concurrency_limit": 2}
"""Pages, which people look at, have a queue of their own."""
_POLL_SECONDS = 0.1


def build_endpoints() -> None:
    """Publish the endpoints; their components are not shown in the page."""
    shared: dict[str, Any] = {
        "image": picture_input(label="image", visible=False),
        "distortion": gr.Textbox(DEFAULT_DISTORTION, label="distortion", visible=False),
        "backbone": gr.Textbox(models.DEFAULT_BACKBONE, label="backbone", visible=False),
        "pair": gr.Textbox(models.UNTOUCHED, label="pair", visible=False),
        "layer": gr.Number(-1, label="layer", precision=0, visible=False),
        "head": gr.Textbox("mean", label="head", visible=False),
        "row": gr.Number(0, label="row", precision=0, visible=False),
        "col": gr.Number(0, label="col", precision=0, visible=False),
        "size": gr.Number(models.SIZES[0], label="size", precision=0, visible=False),
        "seed": gr.Number(0, label="seed", precision=0, visible=False),
    }
    shared["image"].example_payload = lambda: {"path": EXAMPLE, "meta": {"_type": "gradio.FileData"}}
    for level in ("cls", "patch", "attention"):
        shared[level] = gr.Number(1, label=level, visible=False)
    shared["steps"] = gr.Number(60, label="steps", precision=0, visible=False)
    _publish(compare, shared, ["figure", "clean", "distorted", *VIEWS])
    _publish(patch_similarity, shared, ["figure", *VIEWS])
    shared["method"] = gr.Textbox("pca", label="method", visible=False)
    shared["values"] = gr.Textbox("", label="values", visible=False)
    shared["pictures"] = gr.Number(64, label="pictures", precision=0, visible=False)
    _publish(distill, shared, [], concurrency_limit=LIMITS.waiting)
    _publish(embed, shared, [], table="embeddings", concurrency_id="embedding", concurrency_limit=1)
    _publish(sweep, shared, [], table="sweep", concurrency_id="sweep", concurrency_limit=1)


@CORES.share()
def compare(
    image: str, distortion: str, backbone: str, pair: str, layer: int, head: str, size: int, seed: int
) -> tuple[Any, ...]:
    """One picture seen four ways: a figure, the clean and the distorted picture, the attention of the four views laid
    over them under one scale, and a JSON object of numbers."""
    with refused(in_page=False):
        _all_given(distortion=distortion, backbone=backbone, layer=layer, size=size, seed=seed)
        comparison = Question.read(image, None, distortion, backbone, pair, size, seed).comparison()
        which = _head(head)
        maps = comparison.maps(layer, which)
        numbers = comparison.numbers(layer, which)
    figure = plots.to_image(plots.plot_comparison(comparison, layer=layer, head=which))
    assert comparison.clean is not None, "a question damages a clean picture"
    pictures = [to_pil(comparison.clean), to_pil(comparison.distorted.clamp(0, 1))]
    return figure, *pictures, *_panes(comparison, maps), numbers


@CORES.share()
def patch_similarity(
    image: str, distortion: str, backbone: str, pair: str, row: int, col: int, layer: int, size: int, seed: int
) -> tuple[Any, ...]:
    """What resembles one patch of the clean picture, as the teacher sees it, in each of the four views: a figure, the
    four cosine maps laid over the pictures, and a JSON object of numbers."""
    with refused(in_page=False):
        _all_given(distortion=distortion, backbone=backbone, row=row, col=col, layer=layer, size=size, seed=seed)
        comparison = Question.read(image, None, distortion, backbone, pair, size, seed).comparison()
        maps = comparison.similarity(row, col, layer)
    numbers = {
        **comparison.numbers(layer),
        "query": [row, col],
        "similarity": {name: values.tolist() for name, values in maps.items()},
        "best_match": {name: list(divmod(int(values.argmax()), values.shape[1])) for name, values in maps.items()},
    }
    return plots.to_image(plots.plot_similarity(comparison, row, col, layer=layer)), *_panes(comparison, maps), numbers


async def distill(
    backbone: str, distortion: str, cls: float, patch: float, attention: float, steps: int, size: int, seed: int
) -> AsyncIterator[dict[str, Any]]:
    """Train a student on the shipped photos, and stream one JSON object for each step: step, losses, lr, alignment of
    held-out photos (at some steps) and so on, as in a pair's history, and the name of the student, which the other
    endpoints take as `pair`. Runs take their turn; cancelling the job stops the run after the current step.
    """
    # Gradio cannot close a synchronous generator that waits, and lets everybody else wait with it.
    with refused(in_page=False):
        levels = {"cls": cls, "patch": patch, "attention": attention}
        _all_given(backbone=backbone, distortion=distortion, **levels, steps=steps, size=size, seed=seed)
        config = runs.configuration(distortion, steps, size, **levels, seed=seed)
        run = RUNS.start(backbone, config)
    sent = 0
    try:
        while not run.ended or sent < len(run.history):
            for record in run.history[sent:]:
                sent += 1
                yield {**record, "pair": run.name}
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        RUNS.stop(run)
    if run.state == "failed":
        raise gr.Error(run.message or "the run failed", print_exception=False)


def embed(backbone: str, pair: str, distortion: str, method: str, seed: int, size: int) -> tuple[Any, dict[str, Any]]:
    """Where the shipped photos lie in four views: a table with one row for each photo and view (x, y, view, index,
    label, displacement, name), and one JSON object of what was measured in feature space. `method` is "pca" or "umap",
    fitted on the clean teacher's embeddings; the displacement is the centred cosine distance from them."""
    with refused(in_page=False):
        _all_given(backbone=backbone, distortion=distortion, method=method, seed=seed, size=size)
        question = Question.read(None, None, distortion, backbone, pair, size, seed)
        embedding = embeddings.embed(question, picture_set(PHOTOS, size)[0])
        projection = embeddings.project(embedding, method, 2, seed)
        rows = embedding.measures.astype(object).where(embedding.measures.notna(), None).to_dict(orient="records")
    about = {"measures": rows, "distortion": embedding.distortion.spec, "seed": seed, "method": method}
    return embedding.named(projection.frame()), about


def sweep(
    backbone: str, pair: str, distortion: str, values: str, seed: int, pictures: int, size: int
) -> tuple[Any, dict[str, Any]]:
    """How teacher and student agree with the clean teacher as one distortion grows: a table with one row for each of
    them and each strength, and one JSON object of what it was measured on. `values` are strengths such as
    "0.1, 0.3, 0.5"; empty for seven from weak to strong."""
    with refused(in_page=False):
        _all_given(backbone=backbone, distortion=distortion, values=values, seed=seed, pictures=pictures, size=size)
        strengths = strengths_of(distortion, robustness.numbers(values))
        question = Question.read(None, None, distortion, backbone, pair, size, seed)
        *_, swept = robustness.sweep(question, picture_set(PHOTOS, size)[0], pictures, strengths)
    about = {name: getattr(swept, name) for name in ("operator", "parameter", "pictures", "seed", "never_trained")}
    return swept.frame(), {**about, "trained_on": swept.trained_on.spec, "nearest_label_clean": swept.ceiling}


def _publish(
    function: Any, shared: dict[str, Any], pictures: list[str], table: str | None = None, **queue: Any
) -> None:
    if function.__name__ not in LIMITS.endpoints:
        return
    names = function.__annotations__
    inputs = [shared[name] for name in names if name != "return"]
    outputs: list[Any] = [gr.Image(type="pil", format="png", label=name, visible=False) for name in pictures]
    if table is not None:
        outputs.append(gr.Dataframe(label=table, visible=False))
    numbers = gr.JSON(label="numbers", visible=False)
    trigger = gr.Button(visible=False)
    trigger.click(function, inputs, [*outputs, numbers], api_name=function.__name__, **(queue or PROGRAMS))


def _panes(comparison: Comparison, maps: dict[str, Tensor]) -> list[Image.Image]:
    """The four maps over their pictures, under one scale."""
    highest = plots.style.scale_end(*(values.numpy() for values in maps.values()))
    lowest = min(0.0, *(float(values.min()) for values in maps.values()))
    assert comparison.clean is not None, "a question damages a clean picture"
    pictures = {"clean": comparison.clean, "distorted": comparison.distorted.clamp(0, 1)}
    return [
        Image.fromarray(plots.overlay(pictures[name.split("_")[1]], values, low=lowest, high=highest))
        for name, values in maps.items()
    ]


def _all_given(**values: Any) -> None:
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise InputError(f"expected a value for {', '.join(missing)}; got nothing")


def _head(head: str) -> Any:
    head = str(head).strip()
    try:
        return head if head in ("mean", "max") else int(head)
    except ValueError:
        raise InputError(f"head must be a number, 'mean' or 'max'; got {head!r}") from None
