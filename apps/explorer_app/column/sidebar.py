"""The left column, which belongs to every tab: one picture, one distortion, one pair, one seed."""

import html
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

import explorer as ex
from explorer.distortions.parameters import Description, Parameter
from explorer_app.column.corruptions import build_corruption_sheet, draw_sheet, picked
from explorer_app.service import checkpoints, engine
from explorer_app.service.limits import LIMITS
from explorer_app.tabs.shared import ToldError, told

DEFAULT_PHOTO = "farm_animal/owl.webp"
DEFAULT_DISTORTION = "gaussian_noise"
DEFAULT_BACKBONE = "s14"
DEFAULT_PAIR = "s14-noise"
NO_DISTORTION = "none"
SEARCHED = "Type to search timm's names, or a full one such as vit_small_patch14_dinov2.lvd142m."
SLIDERS = max(len(entry.parameters) for entry in ex.DISTORTIONS.values())
SAMPLES = (
    DEFAULT_PHOTO,
    "wild_animal/panda.webp",
    "farm_animal/dog.webp",
    "wild_animal/scarlet_macaw.webp",
    "wild_animal/giraffe.webp",
    "fish/fish1.webp",
    "monument/eiffelTower.webp",
    "monument/tajMahal.webp",
    "household/chair.webp",
    "tool/hammer1.webp",
    "windmill/windmill.webp",
    "household/spoons.webp",
)


def picture_input(*args: Any, **kwargs: Any) -> gr.Image:
    """A `gr.Image` that hands over the file unopened: explorer decodes it, and says what is wrong with it. Gradio would
    fetch any public address that a program names instead of a file; this one refuses.

    Not a subclass: Gradio would write a stub file beside this module for it, which a read-only folder does not take.
    """
    component = gr.Image(*args, type="filepath", **kwargs)
    decode = component.preprocess

    def preprocess(payload: ImageData | None) -> Any:
        embedded = payload is not None and payload.url is not None and payload.url.startswith("data:")
        return decode(payload) if payload is None or embedded else payload.path

    async def take_in(path: str | Path | None) -> str | None:
        if path is not None and str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("expected an uploaded file; addresses are not fetched: download the picture and upload it")
        return await move(path)

    move = component.async_move_resource_to_block_cache
    component.async_move_resource_to_block_cache = take_in
    component.preprocess = preprocess
    return component


@dataclass(frozen=True)
class Sidebar:
    """The components that the tabs read from."""

    picture: gr.Image
    photo: gr.State
    samples: gr.Gallery
    catalogue: gr.Dropdown
    backbone: gr.Dropdown
    pair: gr.Dropdown
    size: gr.Radio
    own: gr.State
    architecture: gr.Dropdown
    checkpoint: gr.UploadButton
    operator: gr.Dropdown
    sliders: tuple[gr.Slider, ...]
    severity: gr.Radio
    corruptions: tuple[gr.Accordion, gr.HTML]
    clip: gr.Checkbox
    text: gr.Textbox
    spec: gr.State
    seed: gr.Number

    @property
    def inputs(self) -> list[Any]:
        """What `tabs.refresh` takes, in its order."""
        return [self.picture, self.photo, self.spec, self.backbone, self.pair, self.size, self.seed]


def build_sidebar() -> Sidebar:
    """Lay out the column and connect its parts with each other."""
    picture, photo, samples, catalogue = _picture_part()
    operator, sliders, severity, corruptions, clip, text, spec, seed = _distortion_part()
    pictures, model = (picture, photo, samples, catalogue), _model_part()
    column = Sidebar(*pictures, *model, operator, sliders, severity, corruptions, clip, text, spec, seed)
    _connect(column)
    return column


def _picture_part() -> tuple[gr.Image, gr.State, gr.Gallery, gr.Dropdown]:
    gr.Markdown("### Picture")
    picture = picture_input(
        engine.photo_path(DEFAULT_PHOTO),
        sources=["upload", "clipboard", "webcam"],
        label="Picture (its centre square is used)",
        elem_id="picture",
        height=210,
        buttons=[],
        alt_text="the picture that is looked at",
    )
    samples = gr.Gallery(
        [(engine.thumbnail(name), _photo_label(name)) for name in SAMPLES],
        label="Samples",
        columns=6,
        height="auto",
        allow_preview=False,
        buttons=[],
        object_fit="cover",
        elem_id="samples",
        format="png",
    )
    catalogue = gr.Dropdown(
        [(f"{label} · {stem}", name) for name, label, stem in _catalogue()],
        value=DEFAULT_PHOTO,
        label="All 207 photos",
        info="CC0 or public domain; type to search.",
        elem_id="catalogue",
    )
    return picture, gr.State(None), samples, catalogue  # the states are set when the page opens


def _distortion_part() -> tuple[Any, ...]:
    gr.Markdown("### Distortion")
    start = ex.DISTORTIONS[DEFAULT_DISTORTION]
    operator = gr.Dropdown(
        [*((entry.label, name) for name, entry in ex.DISTORTIONS.items()), ("None", NO_DISTORTION)],
        value=DEFAULT_DISTORTION,
        label="Distortion",
        info=start.summary,
        elem_id="operator",
    )
    sliders = tuple(gr.Slider(elem_id=f"parameter-{i}", **_slider(start, i)) for i in range(SLIDERS))
    severity = gr.Radio([1, 2, 3, 4, 5], label="ImageNet-C severity", info="Sets the sliders.", elem_id="severity")
    corruptions = build_corruption_sheet()
    with gr.Row(elem_id="seed-row"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, elem_id="seed", min_width=90)
        dice = gr.Button("Re-roll", elem_id="reroll", min_width=90, size="sm")
    with gr.Accordion("Combine, clip, write it as text", open=False):
        clip = gr.Checkbox(False, label="Clip to [0, 1] afterwards", elem_id="clip")
        text = gr.Textbox(
            _default_spec(),
            label="Distortion as text",
            info="Press Enter to apply. Combine with +, for example: gaussian_blur(sigma=3) + pixel_mask(fraction=0.5)",
            elem_id="spec",
            max_lines=3,
        )
    dice.click(lambda: random.randrange(10_000), outputs=seed, api_visibility="private", queue=False)
    return operator, sliders, severity, corruptions, clip, text, gr.State(None), seed


def _model_part() -> tuple[gr.Dropdown, gr.Dropdown, gr.Radio, gr.State, gr.Dropdown, gr.UploadButton]:
    gr.Markdown("### Model")
    backbone = gr.Dropdown(
        engine.backbones(),
        value=DEFAULT_BACKBONE,
        label="Backbone",
        info=None if LIMITS.public else SEARCHED,
        allow_custom_value=True,
        elem_id="backbone",
    )
    pair = gr.Dropdown(
        engine.offered_students(DEFAULT_BACKBONE), value=DEFAULT_PAIR, label="Student", elem_id="student"
    )
    size = gr.Radio(
        list(engine.SIZES),
        value=engine.SIZES[0],
        label="Size in pixels",
        info=engine.about_size(DEFAULT_BACKBONE),
        elem_id="size",
    )
    with gr.Accordion("Your own checkpoint", open=False, visible=not LIMITS.public, elem_id="own-checkpoint"):
        architecture = gr.Dropdown(
            list(engine.architectures()),
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
    return backbone, pair, size, gr.State([]), architecture, checkpoint


def _connect(column: Sidebar) -> None:
    # Not `queue=False`: Gradio reports a changed `gr.State` to the page only through the queue.
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shown = [column.photo, column.picture, column.catalogue]
    column.samples.select(_pick_sample, outputs=shown, **quick)
    column.catalogue.input(lambda name: (name, engine.photo_path(name)), column.catalogue, shown[:2], **quick)
    column.picture.input(lambda: (None, None), outputs=[column.photo, column.catalogue], **quick)

    written = [column.spec, column.text]
    controls = [column.operator, column.clip, *column.sliders]
    column.operator.input(choose_operator, column.operator, [*controls, column.severity, *written], **quick)
    for slider in column.sliders:
        slider.input(_from_sliders, controls, [column.severity, *written], **quick)
    column.clip.input(_from_sliders, controls, [column.severity, *written], **quick)
    column.severity.input(
        _from_severity, [column.operator, column.severity], [*column.sliders, column.clip, *written], **quick
    )
    column.text.submit(_from_text, column.text, written, **quick)
    column.backbone.change(lambda name: gr.Radio(info=engine.about_size(name)), column.backbone, column.size, **quick)
    _connect_corruptions(column, controls, written, quick)


def _connect_corruptions(column: Sidebar, controls: list[Any], written: list[Any], quick: dict[str, Any]) -> None:
    (accordion, sheet), opened = column.corruptions, gr.State(False)
    drawn = {**quick, "show_progress": "minimal"}
    accordion.expand(lambda: True, outputs=opened, **quick).then(
        draw_sheet, [column.picture, column.seed], sheet, **drawn
    )
    accordion.collapse(lambda: False, outputs=opened, **quick)
    column.picture.change(
        lambda open, *inputs: draw_sheet(*inputs) if open else gr.skip(),
        [opened, column.picture, column.seed],
        sheet,
        **drawn,
    )
    sheet.pick(choose_corruption, outputs=[*controls, column.severity, *written], **quick)


def take_checkpoint(file: str, architecture: str, size: int, own: list[str]) -> list[Any]:
    """The visitor's own backbones, the lists of backbones and students, after a checkpoint was brought."""
    try:
        with told():
            name = checkpoints.take_in(file, architecture, int(size))
    except ToldError as error:
        words = html.escape(str(error))  # the page takes it for HTML
        raise gr.Error(words, title="This checkpoint cannot be used", duration=None, print_exception=False) from error
    names = [name, *own]
    return [names, gr.Dropdown(engine.backbones(names), value=name), fit_students(name, [])]


def fit_students(backbone: str, own: list[str], pair: str | None = None) -> gr.Dropdown:
    """The students of a backbone, the visitor's own among them; `pair` is chosen, or else a shipped one."""
    choices = engine.offered_students(backbone, own)
    shipped = [name for _, name in choices if name not in own]
    return gr.Dropdown(choices, value=pair or (DEFAULT_PAIR if DEFAULT_PAIR in shipped else shipped[0]))


def choose_operator(name: str) -> list[Any]:
    """Controls and text for a newly chosen operator, at its defaults."""
    spec = ex.distortion(name).spec
    return [*operator_controls(name), spec, spec]


def choose_corruption(event: gr.EventData) -> list[Any]:
    """Controls and text for a corruption at a severity, as the sheet's previews name them."""
    name, severity = picked(event)
    spec = ex.distortion(f"{name}:{severity}").spec
    entry = ex.DISTORTIONS[name]
    assert entry.severities is not None, "the sheet shows no others"
    *controls, _ = operator_controls(name, entry.severities[severity], clip=True)
    return [*controls, gr.Radio(value=severity, visible=True), spec, spec]


def operator_controls(name: str, values: Mapping[str, float] | None = None, clip: bool = False) -> list[Any]:
    """Operator, clip, sliders and severity as they show an operator.

    Args:
        name: a key of `explorer.DISTORTIONS`, or "none".
        values: of its parameters; defaults where one is not given.
        clip: whether it is clipped afterwards.
    """
    entry = ex.DISTORTIONS.get(name)
    summary = "The picture as it is." if entry is None else entry.summary
    sliders = [gr.Slider(**_slider(entry, i, values)) for i in range(SLIDERS)]
    severity = gr.Radio(value=None, visible=entry is not None and entry.severities is not None)
    return [gr.Dropdown(value=name, info=summary), clip, *sliders, severity]


def _from_sliders(name: str, clip: bool, *values: float) -> list[Any]:
    if name == NO_DISTORTION:
        return [gr.skip(), name, name]
    parameters = ex.DISTORTIONS[name].parameters
    given = {parameter.name: _fitting(parameter, value) for parameter, value in zip(parameters, values, strict=False)}
    spec = ex.distortion(name, clip=clip or None, **given).spec
    return [None, spec, spec]


def _from_severity(name: str, severity: int | None) -> list[Any]:
    entry = ex.DISTORTIONS[name]
    if severity is None or entry.severities is None:
        return [gr.skip()] * (SLIDERS + 3)
    spec = ex.distortion(f"{name}:{severity}").spec
    values = entry.severities[severity]
    moved = [values[parameter.name] for parameter in entry.parameters]
    return [*moved, *[gr.skip()] * (SLIDERS - len(moved)), True, spec, spec]


def _from_text(text: str) -> tuple[str, str]:
    try:
        spec = ex.distortion(text).spec
    except ValueError as error:
        told = html.escape(str(error))  # the page takes it for HTML
        raise gr.Error(told, title="This distortion cannot be read", print_exception=False) from error
    return spec, spec


def _fitting(parameter: Parameter, value: float) -> float:
    """The nearest value that the parameter allows; a slider's number box takes anything."""
    value = min(max(value, parameter.low), parameter.high)
    if parameter.odd and int(value) % 2 == 0:
        value = int(value) + 1
    return int(value) if parameter.integer else value


def _slider(entry: Description | None, index: int, values: Mapping[str, float] | None = None) -> dict[str, Any]:
    """How the slider at `index` shows a parameter of this distortion; hidden where there is none."""
    if entry is None or index >= len(entry.parameters):
        return {"visible": False, "label": "unused", "minimum": 0, "maximum": 1, "value": 0}
    parameter = entry.parameters[index]
    return {
        "visible": True,
        "label": f"{parameter.name} ({parameter.unit})",
        "info": parameter.description,
        "minimum": parameter.low,
        "maximum": parameter.high,
        "step": parameter.step,
        "value": (values or {}).get(parameter.name, parameter.default),
    }


def _pick_sample(event: gr.SelectData) -> tuple[str, str, str]:
    name = SAMPLES[event.index]
    return name, engine.photo_path(name), name


def _default_spec() -> str:
    return ex.distortion(DEFAULT_DISTORTION).spec


def _photo_label(name: str) -> str:
    return name.split("/")[-1].removesuffix(".webp")


def _catalogue() -> list[tuple[str, str, str]]:
    photos = engine.photos()
    assert photos.labels is not None
    return [
        (name, photos.classes[label], _photo_label(name))
        for name, label in zip(photos.names, photos.labels, strict=True)
    ]
