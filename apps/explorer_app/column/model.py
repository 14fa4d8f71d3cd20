"""Who looks at it: a backbone and its student."""

from typing import Any

import gradio as gr

from explorer_app.events import MODEL_QUEUE, PRIVATE, QUICK, refused
from explorer_app.service import checkpoints, models
from explorer_app.service.limits import LIMITS

SEARCHED = "Type to search timm's names, or a full one such as vit_small_patch14_dinov2.lvd142m."


def build_student() -> gr.Dropdown:
    """Who sees through the damage."""
    students = models.offered_students(models.DEFAULT_BACKBONE)
    student = gr.Dropdown(students, value=models.DEFAULT_STUDENT, label="Student", elem_id="student")
    # The page may still send the student of before while a link, or a quick change of the backbone, brings other ones,
    # and Gradio would tell the visitor so. Whether there is such a student is looked at where it is loaded.
    student.preprocess = lambda name: name
    return student


def build_model(pair: gr.Dropdown) -> dict[str, Any]:
    """Folded away: the backbone of teacher and student, the size at which both look, and a visitor's own weights."""
    with gr.Accordion("Model: backbone, size", open=False, elem_id="more-model"):
        backbone = gr.Dropdown(
            models.backbones(),
            value=models.DEFAULT_BACKBONE,
            label="Backbone of teacher and student",
            info=None if LIMITS.public else SEARCHED,
            allow_custom_value=True,
            elem_id="backbone",
        )
        size = gr.Radio(
            list(models.SIZES),
            value=models.SIZES[0],
            label="Size in pixels",
            info=models.about_size(models.DEFAULT_BACKBONE),
            elem_id="size",
        )
    with gr.Accordion("Your own checkpoint", open=False, visible=not LIMITS.public, elem_id="own-checkpoint"):
        architecture = gr.Dropdown(
            list(models.architectures()),
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
    backbone.change(lambda name: gr.Radio(info=models.about_size(name)), backbone, size, **QUICK)
    fitted = backbone.input(fit_students, [backbone, own_students], pair, **PRIVATE)
    given, changed = [checkpoint, architecture, size, own], [own, backbone, pair]
    taken = checkpoint.upload(take_checkpoint, given, changed, **MODEL_QUEUE)
    parts = {"backbone": backbone, "pair": pair, "size": size, "students": own_students, "recalled": recalled}
    return {**parts, "chosen": [fitted, taken]}


def take_checkpoint(file: str, architecture: str, size: int, own: list[str]) -> list[Any]:
    """The visitor's own backbones, the lists of backbones and students, after a checkpoint was brought."""
    with refused(title="This checkpoint cannot be used", duration=None):
        name = checkpoints.take_in(file, architecture, size)
    names = [name, *own]
    return [names, gr.Dropdown(models.backbones(names), value=name), fit_students(name, [])]


def fit_students(backbone: str, own: list[str], chosen: str | None = None) -> gr.Dropdown:
    """The students of a backbone, the visitor's own among them, of which one is chosen."""
    return gr.Dropdown(models.offered_students(backbone, own), value=chosen or models.default_student(backbone))
