"""How the picture is distorted, and with which seed."""

import random
from collections.abc import Mapping
from typing import Any

import gradio as gr

import explorer as ex
from explorer.distortions.parameters import Description, Parameter
from explorer_app.column.corruptions import build_corruption_sheet, connect_corruption_sheet
from explorer_app.events import AT_ONCE, QUICK, refused
from explorer_app.service.question import DEFAULT_DISTORTION, SEEDS

NO_DISTORTION = "none"
SLIDERS = max(len(entry.parameters) for entry in ex.DISTORTIONS.values())
_DEFAULT = ex.distortion(DEFAULT_DISTORTION).branches[0][0].name


def build_distortion(picture: gr.Image) -> dict[str, Any]:
    """An operator with its sliders, or any distortion as text; and the seed."""
    gr.Markdown("### Distortion")
    start = ex.DISTORTIONS[_DEFAULT]
    operator = gr.Dropdown(
        [*((entry.label, name) for name, entry in ex.DISTORTIONS.items()), ("None", NO_DISTORTION)],
        value=_DEFAULT,
        label="Distortion",
        info=start.summary,
        elem_id="operator",
    )
    sliders = [gr.Slider(elem_id=f"parameter-{i}", **_slider(start, i)) for i in range(SLIDERS)]
    severity = gr.Radio([1, 2, 3, 4, 5], label="ImageNet-C severity", info="Sets the sliders.", elem_id="severity")
    sheet = build_corruption_sheet()
    with gr.Row(elem_id="seed-row"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=SEEDS - 1, elem_id="seed", min_width=90)
        dice = gr.Button("Re-roll", elem_id="reroll", min_width=90, size="sm")
    with gr.Accordion("Combine, clip, write it as text", open=False):
        clip = gr.Checkbox(False, label="Clip to [0, 1] afterwards", elem_id="clip")
        text = gr.Textbox(
            DEFAULT_DISTORTION,
            label="Distortion as text",
            info="Press Enter to apply. Combine with +, for example: gaussian_blur(sigma=3) + pixel_mask(fraction=0.5)",
            elem_id="spec",
            max_lines=3,
        )
    spec, controls = gr.State(None), [operator, clip, *sliders]
    said = [severity, spec, text]
    dice.click(lambda: random.randrange(10_000), outputs=seed, **AT_ONCE)
    operator.input(choose_operator, operator, [*controls, *said], **QUICK)
    for control in (*sliders, clip):
        control.input(_from_sliders, controls, said, **QUICK)
    severity.input(_from_severity, [operator, severity], [*sliders, clip, spec, text], **QUICK)
    text.submit(_from_text, text, [spec, text], **QUICK)
    connect_corruption_sheet(*sheet, picture, seed).pick(choose_corruption, outputs=[*controls, *said], **QUICK)
    return {"spec": spec, "seed": seed, "controls": [*controls, *said]}


def choose_operator(name: str) -> list[Any]:
    """All controls for a newly chosen operator, at its defaults."""
    return show_distortion(ex.distortion(name))


def choose_corruption(event: gr.EventData) -> list[Any]:
    """All controls for a corruption at a severity, as the sheet's previews name them."""
    name, severity = str(event._data["name"]), int(event._data["severity"])
    *controls, _, spec, text = show_distortion(ex.distortion(f"{name}:{severity}"))
    return [*controls, gr.Radio(value=severity, visible=True), spec, text]


def show_distortion(damage: ex.Distortion) -> list[Any]:
    """All controls as they show a distortion; what sliders cannot show, the text tells."""
    steps = [step for branch in damage.branches for step in branch]
    fixed = {name: value for name, value in steps[0].values if not isinstance(value, tuple)} if steps else {}
    if not steps:
        controls = _controls(NO_DISTORTION)
    elif len(steps) > 1 or len(damage.branches) > 1 or len(fixed) < len(steps[0].values):
        controls = _controls(_DEFAULT)
    else:
        controls = _controls(steps[0].name, fixed, steps[0].clip)
    return [*controls, damage.spec, damage.spec]


def _controls(name: str, values: Mapping[str, float] | None = None, clip: bool = False) -> list[Any]:
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
    with refused(title="This distortion cannot be read"):
        spec = ex.distortion(text).spec
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
