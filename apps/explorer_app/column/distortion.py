"""How the picture is distorted: how strongly, and folded away, in which other ways and with which seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

import explorer as ex
from explorer.distortions.parameters import Description, Parameter
from explorer_app.column.corruptions import build_corruption_sheet, connect_corruption_sheet
from explorer_app.events import PRIVATE, QUICK, refused
from explorer_app.service.question import DEFAULT_DISTORTION, SEEDS

NO_DISTORTION, WRITTEN = "none", "as written"
SLIDERS = max(len(entry.parameters) for entry in ex.DISTORTIONS.values())
_DEFAULT = ex.distortion(DEFAULT_DISTORTION).branches[0][0].name
_OTHERS = {NO_DISTORTION: "The picture as it is.", WRITTEN: "What the text below says."}


@dataclass(frozen=True)
class DamageControls:
    """What is shown of the damage, in two places of the column."""

    operator: gr.Dropdown
    strength: gr.Slider
    severity: gr.Radio


def build_damage() -> DamageControls:
    """An operator, and how strong it is."""
    start = ex.DISTORTIONS[_DEFAULT]
    return DamageControls(
        gr.Dropdown(
            [
                *((entry.label, name) for name, entry in ex.DISTORTIONS.items()),
                ("None", NO_DISTORTION),
                ("As written below", WRITTEN),
            ],
            value=_DEFAULT,
            label="Damage",
            elem_id="operator",
        ),
        gr.Slider(elem_id="parameter-0", **_slider(start, 0)),
        gr.Radio([1, 2, 3, 4, 5], label="ImageNet-C severity", elem_id="severity"),
    )


def build_distortion(damage: DamageControls, file: gr.State, crop: gr.Slider) -> dict[str, Any]:
    """Folded away: all corruptions on a sheet; other parameters, the seed, and any distortion as text."""
    start, operator, severity = ex.DISTORTIONS[_DEFAULT], damage.operator, damage.severity
    sheet = build_corruption_sheet()
    with gr.Accordion("More damage: seed, combinations", open=False, elem_id="more-damage"):
        summary = gr.Markdown(start.summary, elem_id="damage-summary")
        others = [gr.Slider(elem_id=f"parameter-{i}", **_slider(start, i)) for i in range(1, SLIDERS)]
        with gr.Row(elem_id="seed-row"):
            seed = gr.Number(
                0,
                label="Seed",
                info="Of everything random in it.",
                precision=0,
                minimum=0,
                maximum=SEEDS - 1,
                elem_id="seed",
                min_width=90,
            )
            dice = gr.Button("Re-roll", elem_id="reroll", min_width=90, size="sm")
        clip = gr.Checkbox(False, label="Clip to [0, 1] afterwards", elem_id="clip")
        text = gr.Textbox(
            DEFAULT_DISTORTION,
            label="Damage as text",
            info="Press Enter to apply. Combine with +, for example: gaussian_blur(sigma=3) + pixel_mask(fraction=0.5)",
            elem_id="spec",
            max_lines=3,
        )
    sliders = [damage.strength, *others]
    spec, controls = gr.State(None), [operator, summary, clip, *sliders]
    said = [severity, spec, text]
    dice.click(None, outputs=seed, js="() => Math.floor(10_000 * Math.random())", **PRIVATE)
    operator.input(choose_operator, operator, [*controls, *said], **QUICK)
    for control in (*sliders, clip):
        control.input(_from_sliders, [operator, clip, *sliders], said, **QUICK)
    severity.input(_from_severity, [operator, severity], [*sliders, clip, spec, text], **QUICK)
    text.submit(_from_text, text, [*controls, *said], **QUICK)
    sheet[1].pick(choose_corruption, outputs=[*controls, *said], **QUICK)
    later = [lambda: connect_corruption_sheet(*sheet, file, seed, crop)]
    return {"spec": spec, "seed": seed, "controls": [*controls, *said], "later": later}


def choose_operator(name: str) -> list[Any]:
    """All controls for a newly chosen operator, at its defaults; the text stays as it is where it is what counts."""
    if name == WRITTEN:
        return [*_controls(WRITTEN), gr.skip(), gr.skip()]
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
        controls = _controls(WRITTEN)
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
    summary = entry.summary if entry is not None else _OTHERS[name]
    sliders = [gr.Slider(**_slider(entry, i, values)) for i in range(SLIDERS)]
    severity = gr.Radio(value=None, visible=entry is not None and entry.severities is not None)
    return [name, summary, clip, *sliders, severity]


def _from_sliders(name: str, clip: bool, *values: float) -> list[Any]:
    if name in _OTHERS:
        return [gr.skip()] * 3
    parameters = _ordered(ex.DISTORTIONS[name])
    given = {parameter.name: _fitting(parameter, value) for parameter, value in zip(parameters, values, strict=False)}
    spec = ex.distortion(name, clip=clip or None, **given).spec
    return [None, spec, spec]


def _from_severity(name: str, severity: int | None) -> list[Any]:
    entry = ex.DISTORTIONS[name]
    if severity is None or entry.severities is None:
        return [gr.skip()] * (SLIDERS + 3)
    spec = ex.distortion(f"{name}:{severity}").spec
    values = entry.severities[severity]
    moved = [values[parameter.name] for parameter in _ordered(entry)]
    return [*moved, *[gr.skip()] * (SLIDERS - len(moved)), True, spec, spec]


def _from_text(text: str) -> list[Any]:
    with refused(title="This distortion cannot be read"):
        return show_distortion(ex.distortion(text))


def _ordered(entry: Description) -> tuple[Parameter, ...]:
    """Its parameters, the one that says how strong it is first."""
    return tuple(sorted(entry.parameters, key=lambda parameter: parameter.name != entry.strength))


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
    parameter = _ordered(entry)[index]
    return {
        "visible": True,
        "label": f"{parameter.name} ({parameter.unit})",
        "info": parameter.description,
        "minimum": parameter.low,
        "maximum": parameter.high,
        "step": parameter.step,
        "value": (values or {}).get(parameter.name, parameter.default),
    }
