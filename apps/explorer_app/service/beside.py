"""Runs beside a run: what tells them apart, and what the recovery view shows of the others. No Gradio in here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

import explorer as ex
from explorer.errors import InputError
from explorer.scenes.common import Payload
from explorer_app.service.runs import RUNS, Run

LISTED = 12
_HELD_OUT = (("cls_cosine", "CLS"), ("patch_cosine", "patch"))
_FOLLOWS = ("eval_every",)  # what comes of other settings
_WORDS = {"image_size": "size", "batch_size": "batch", "trainable": "train"}

CHANGES: dict[str, Callable[[ex.DistillConfig], ex.DistillConfig]] = {
    "without the class token (weight 0)": lambda config: _without(config, "cls"),
    "without the patch features (weight 0)": lambda config: _without(config, "patch"),
    "without the attention maps (weight 0)": lambda config: _without(config, "attention"),
    "with the next seed": lambda config: replace(config, seed=config.seed + 1),
    "with twice the steps": lambda config: _twice(config),
    "with half the learning rate": lambda config: replace(config, lr=config.highest_lr / 2),
}
"""What one click changes of a run that is repeated."""


def listed(own: Iterable[str], shown: Run | None) -> list[tuple[str, str]]:
    """(label, name) of a visitor's runs that could stand beside the one that is shown, the latest first."""
    if shown is None:
        return []
    others = [run for name in own if name != shown.name and (run := RUNS.remembered(name)) is not None]
    return [(_label(run, shown), run.name) for run in others if run.ended and run.history][:LISTED]


def payload_of(run: Run) -> Payload:
    """What the recovery view shows of a run, with those beside it."""
    found = (RUNS.remembered(name) for name in run.beside)
    others = [other for other in found if other is not None]
    payload = run.payload(RUNS.ahead(run))
    if not others:
        return payload
    names = _names(run, others)
    differs = [[setting, values] for setting, values in differences([run, *others])]
    return {**payload, "differs": differs, "beside": [_of(*pair, run) for pair in zip(names, others, strict=True)]}


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ, each with its value in all of them."""
    each = [_settings(run) for run in runs]
    rows = [(_WORDS.get(name, name), [settings[name] for settings in each]) for name in each[0]]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _settings(run: Run) -> dict[str, str]:
    """In words; without what only follows from others."""
    told: dict[str, Any] = {"model": run.backbone, **run.config.as_dict(), "lr": f"{run.config.highest_lr:.3g}"}
    told["pictures"] = run.learned_from
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in told.items()
        if name not in _FOLLOWS
    }


def _names(run: Run, others: Sequence[Run]) -> list[str]:
    """What each is called beside this run: by what differs, where that is short."""
    told = [_sets_apart(other, run) for other in others]
    names = [words if 0 < len(words) <= 24 else _number(other) for words, other in zip(told, others, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} ({_number(other)})"
        for name, other in zip(names, others, strict=True)
    ]


def _sets_apart(run: Run, shown: Run) -> str:
    """The settings of a run that are not those of the one that is shown."""
    return ", ".join(f"{setting} {values[1]}" for setting, values in differences([shown, run]))


def _number(run: Run) -> str:
    """As in the list of students."""
    return run.name[4:8]


def _label(run: Run, shown: Run) -> str:
    told = _sets_apart(run, shown) or "the same settings"
    last = _evaluated(run)[-1:]
    numbers = "".join(f" · {short} {record['alignment'][key]:.3f}" for record in last for key, short in _HELD_OUT)
    unfinished = "" if run.step >= run.config.steps else f" ({run.step} of {run.config.steps} steps)"
    return f"{_number(run)}: {told}{unfinished}{numbers}"


def _of(name: str, other: Run, run: Run) -> Payload:
    """Its curves, and its moments where they are of the same picture, seen by the same teacher."""
    why = _apart(other, run)
    shown = {"why": why} if why else {"moments": other.moments}
    return {"name": name, "before": other.before, "records": _evaluated(other), **shown}


def _evaluated(run: Run) -> list[dict[str, Any]]:
    """The steps after which the held-out pictures were looked at."""
    return [record for record in run.history if record.get("alignment")]


def _apart(other: Run, run: Run) -> str | None:
    """Why the maps of another run do not stand beside those of this one."""
    one, two = run.recovery, other.recovery
    if one is None:
        return "this run has no maps any more"
    if two is None:
        return "its maps were not kept"
    if one.weights != two.weights:
        return "it has another teacher"
    if one.grid != two.grid:
        return "its pictures have another size"
    alike = torch.equal(one.clean, two.clean) and torch.equal(one.distorted, two.distorted)
    return None if alike else "it watched another picture, or other damage"


def _without(config: ex.DistillConfig, level: str) -> ex.DistillConfig:
    if getattr(config, level) == 0:
        raise InputError(f"the run has no weight of '{level}' already: choose another change")
    return ex.DistillConfig.from_dict({**config.as_dict(), level: 0.0})


def _twice(config: ex.DistillConfig) -> ex.DistillConfig:
    return replace(config, steps=2 * config.steps, eval_every=2 * config.eval_every)
