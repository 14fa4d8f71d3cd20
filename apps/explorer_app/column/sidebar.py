"""The left column, which belongs to every tab: one picture, its damage, one pair, one seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from explorer_app.column.distortion import build_damage, build_distortion, show_distortion
from explorer_app.column.model import build_model, build_student, fit_beside, fit_students
from explorer_app.column.picture import build_picture, crop_of
from explorer_app.events import QUICK
from explorer_app.service import models
from explorer_app.service.question import SYNTHETIC, Question


@dataclass(frozen=True)
class Sidebar:
    """The components that the page and the tabs read and write.

    Attributes:
        file: path of the picture. Events take it in place of `picture`, which Gradio marks as awaited whenever it is
            among their inputs: the clock of an element that is rebuilt meanwhile then ticks for ever.
        beside: other students that are shown at once.
        way: where the damage comes from.
        twin: path of the picture's damaged twin.
        align: whether that is moved onto it.
        controls: of the distortion, in the order of `show_distortion`.
        layer: that a view asked for; None for the last.
        seen: the backbone that the open tab was drawn for.
        students: names of the visitor's own.
        recalled: the same, as the browser recalls them.
        chosen: the events after which other models are chosen.
        later: what connects all else that follows a change. Of the events of one change each waits until the one that
            was connected before is answered: what draws the open tab is to be the first.
    """

    picture: gr.Image
    photo: gr.State
    file: gr.State
    catalogue: gr.Dropdown
    crop: gr.Slider
    way: gr.Radio
    twin: gr.State
    align: gr.Checkbox
    spec: gr.State
    controls: list[Any]
    backbone: gr.Dropdown
    pair: gr.Dropdown
    beside: gr.Dropdown
    size: gr.Radio
    seed: gr.Number
    layer: gr.State
    seen: gr.State
    students: gr.State
    recalled: gr.JSON
    chosen: list[Any]
    later: list[Callable[[], object]]

    @property
    def inputs(self) -> list[Any]:
        """What `Question.read` takes, in its order."""
        models = [self.backbone, self.pair, self.size]
        given = [self.way, self.twin, self.align, self.beside]
        return [self.file, self.photo, self.spec, *models, self.seed, self.layer, self.crop, *given]

    @property
    def changes(self) -> list[Any]:
        """The events after which the question is another."""
        return [
            self.file.change,  # which is set together with the photo's name and the crop
            self.crop.input,
            self.way.change,
            self.twin.change,
            self.align.input,
            self.spec.change,
            self.seed.change,
            self.pair.input,
            self.beside.input,
            self.size.input,
        ]

    @property
    def described(self) -> list[Any]:
        """What `describe` sets, in its order."""
        shown = [self.photo, self.file, self.picture, self.catalogue, self.crop]
        models = [self.backbone, self.pair, self.beside, self.size]
        return [*shown, *models, self.seed, self.layer, *self.controls]


def build_sidebar() -> Sidebar:
    """Lay out the column and connect its parts: first what one looks at and with whom, then all the rest, folded."""
    picture = build_picture()
    with gr.Column(elem_id="damage") as done_here:
        damage = build_damage()
    pair = build_student()
    with gr.Column(elem_id="damages") as folded_away:
        distortion = build_distortion(damage, picture["file"], picture["crop"])
    folded = {**distortion, **build_model(pair)}
    both = [done_here, folded_away]
    picture["way"].change(lambda way: [gr.Column(visible=way == SYNTHETIC)] * 2, picture["way"], both, **QUICK)
    return Sidebar(**picture, **folded, layer=gr.State(None))


def describe(asked: Question, own: list[str]) -> list[Any]:
    """The column as it asks a question, with these students of the visitor's own."""
    students = [fit_students(asked.backbone, own, asked.student), fit_beside(asked.backbone, own, asked.beside)]
    size = gr.Radio(value=asked.size, info=models.about_size(asked.backbone))  # it may be folded, and hear of no change
    shown = [asked.photo, asked.picture, asked.picture, asked.photo, crop_of(None)]
    return [*shown, asked.backbone, *students, size, asked.seed, asked.layer, *show_distortion(asked.damage)]
