"""Who looks at it: a backbone, its student, and other students beside that."""

from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from explorer.models.students import MOST_STUDENTS
from explorer_app.events import MODEL_QUEUE, PRIVATE, QUICK, refused
from explorer_app.service import checkpoints, models
from explorer_app.service.errors import ToldError, notice, told
from explorer_app.service.limits import LIMITS

SEARCHED = "Type to search timm's names, or a full one such as vit_small_patch14_dinov2.lvd142m."

_IN_VIEW = """() => {
  setTimeout(() => document.querySelector("#backbone-problem .notice")?.scrollIntoView({ block: "nearest" }), 100);
}"""
"""JavaScript: what was just said of a backbone, once the page shows it."""
_TITLES = """() => {
  setTimeout(() => {
    for (const each of document.querySelectorAll("#beside .token > span")) each.title = each.innerText;
  }, 100);
}"""
"""JavaScript: chosen students are cut off after a line, and tell the rest where they are pointed at."""


def build_student() -> gr.Dropdown:
    """Who sees through the damage."""
    students = models.offered_students(models.DEFAULT_BACKBONE)
    # The page may still send the student of before while a link, or a quick change of the backbone, brings other ones,
    # and Gradio would refuse it. Whether there is such a student is looked at where it is loaded.
    return gr.Dropdown(
        students, value=models.DEFAULT_STUDENT, label="Student", allow_custom_value=True, elem_id="student"
    )


def build_model(pair: gr.Dropdown) -> dict[str, Any]:
    """Folded away: other students, the backbone of all of them, the size at which they look, and a visitor's own
    weights."""
    with gr.Accordion("Models: more students, backbone, size", open=False, elem_id="more-model") as looking:
        beside = gr.Dropdown(
            _others(models.DEFAULT_BACKBONE),
            multiselect=True,
            max_choices=MOST_STUDENTS - 1,
            allow_custom_value=True,
            label="More students beside it",
            info="In Attention, Patches, Embeddings and Robustness.",
            elem_id="beside",
        )
        backbone = gr.Dropdown(
            models.aliases(),
            value=models.DEFAULT_BACKBONE,
            label="Backbone of teacher and student",
            info=None if LIMITS.public else SEARCHED,
            allow_custom_value=True,
            elem_id="backbone",
        )
        problem = gr.HTML(elem_id="backbone-problem", padding=False)
        size = gr.Radio(
            list(models.SIZES),
            value=models.SIZES[0],
            label="Size in pixels",
            info=models.about_size(models.DEFAULT_BACKBONE),
            elem_id="size",
        )
    with gr.Accordion(
        "Your own checkpoint", open=False, visible=not LIMITS.public, elem_id="own-checkpoint"
    ) as brought:
        architecture = gr.Dropdown(
            value="vit_base_patch16_224",
            label="Its architecture",
            info="timm's name.",
            allow_custom_value=True,
            elem_id="architecture",
        )
        checkpoint = gr.UploadButton(
            "Open a safetensors file",
            file_types=[".safetensors"],
            elem_id="open-checkpoint",
            size="sm",
        )
        gr.Markdown(
            f"Its tensors' names are timm's; up to {checkpoints.LARGEST_BYTES >> 20} MiB. Pickles (.pt, .pth) are "
            f"refused. Nobody else is shown it."
        )
    own, own_students, recalled = gr.State([]), gr.State([]), gr.JSON([], visible=False)
    seen = gr.State(models.DEFAULT_BACKBONE)
    # timm and its names take seconds to be there, which the first page does not wait for.
    looking.expand(lambda names: gr.Dropdown(models.backbones(names)), own, backbone, **QUICK)
    own_students.change(lambda *now: gr.Dropdown(_others(*now)), [backbone, own_students], beside, **QUICK)
    for event in (beside.change, looking.expand):
        event(None, js=_TITLES, **PRIVATE)
    brought.expand(lambda: gr.Dropdown(list(models.architectures())), outputs=architecture, **QUICK)
    backbone.change(lambda name: gr.Radio(info=models.about_size(name)), backbone, size, **QUICK)
    asked, answered = [backbone, size, seen, own_students], [backbone, pair, beside, problem]
    # Each choice is answered, in turn: the last one wins, whatever became of those before.
    fitted = backbone.input(
        choose_backbone, asked, answered, trigger_mode="multiple", show_progress_on=problem, **MODEL_QUEUE
    )
    fitted.then(None, js=_IN_VIEW, **PRIVATE)
    given, changed = [checkpoint, architecture, size, own], [own, *answered]
    taken = checkpoint.upload(take_checkpoint, given, changed, **MODEL_QUEUE)
    parts = {"backbone": backbone, "pair": pair, "beside": beside, "size": size, "seen": seen}
    return {**parts, "students": own_students, "recalled": recalled, "chosen": [fitted, taken]}


def choose_backbone(name: str, size: int, seen: str, own: list[str]) -> list[Any]:
    """The backbone, its students, none beside them, and no complaint; one that cannot be loaded leaves those that are
    seen, and why."""
    try:
        with told():
            models.load_backbone(name, size)
    except ToldError as error:
        kept = ToldError(f"'{name}' cannot be shown; the maps are still those of the backbone before. {error}")
        return [seen, gr.skip(), gr.skip(), notice(kept)]
    return [name, fit_students(name, own), fit_beside(name, own), notice()]


def take_checkpoint(file: str, architecture: str, size: int, own: list[str]) -> list[Any]:
    """The visitor's own backbones, then what `choose_backbone` gives, after a checkpoint was brought."""
    with refused(title="This checkpoint cannot be used", duration=None):
        name = checkpoints.take_in(file, architecture, size)
    names = [name, *own]
    fitted = [fit_students(name, []), fit_beside(name, [])]
    return [names, gr.Dropdown(models.backbones(names), value=name), *fitted, notice()]


def fit_students(backbone: str, own: list[str], chosen: str | None = None) -> gr.Dropdown:
    """The students of a backbone, the visitor's own among them, of which one is chosen."""
    return gr.Dropdown(models.offered_students(backbone, own), value=chosen or models.default_student(backbone))


def fit_beside(backbone: str, own: list[str], chosen: Sequence[str] = ()) -> gr.Dropdown:
    """The students of a backbone that can be shown beside another one, of which some are chosen."""
    return gr.Dropdown(_others(backbone, own), value=list(chosen))


def _others(backbone: str, own: Iterable[str] = ()) -> list[tuple[str, str]]:
    return [each for each in models.offered_students(backbone, own) if each[1] != models.UNTOUCHED]
