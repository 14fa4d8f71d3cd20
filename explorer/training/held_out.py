"""Pictures that nobody learns from, and how well a student agrees on them with its teacher.

Enters: how many pictures there are; the held-out ones, whole, and the models. Leaves: which are held out, an
`Alignment`, or what is broken in a student.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.maps import attention_map
from explorer.analysis.similarity import ATTENTION_LAYERS, Alignment, alignment
from explorer.distortions import distortion
from explorer.models.backbones import Backbone
from explorer.models.trace import Trace
from explorer.system.precision import outside_autocast
from explorer.training import losses
from explorer.training.config import DistillConfig
from explorer.training.records import not_finite
from explorer.training.trackers import Sight

_SAMPLES = 1 << 40  # sample numbers of their distortions; no run gets that far
_BATCH = 4
_REFERENCE_BYTES = 256 << 20  # the teacher's view of them is kept up to this size


def split(count: int, probe: int) -> tuple[list[int], list[int]]:
    """Held out and training; the same whatever the seed, so that runs can be compared. One picture is both."""
    if count == 1:
        return [0], [0]
    held_out = sorted(np.random.default_rng(0).permutation(count)[: min(probe, max(1, count // 5))].tolist())
    return held_out, sorted(set(range(count)) - set(held_out))


class HeldOut:
    """A run's held-out pictures.

    Args:
        pictures: RGB in [0, 1], of the teacher's size; six channels of `explorer.training.crops.Twins`.
        teacher: what is aimed at.
        config: of the run; the pictures are distorted as its training pictures are, always in the same way.
    """

    def __init__(
        self, pictures: Float[Tensor, "picture channel height width"], teacher: Backbone, config: DistillConfig
    ) -> None:
        self._pictures, self._teacher, self._config = pictures[:, :3], teacher, config
        self._damaged = pictures[:, -3:]  # the same three, where they have no twins
        self._damage = distortion(config.distortion)
        layers = range(max(0, teacher.depth - ATTENTION_LAYERS), teacher.depth)
        self._traced: dict[str, Any] = {"layers": layers, "attention": "full" if config.rows == "all" else "cls"}
        self._references: list[Trace] = []

    @outside_autocast()
    def alignment(self, student: Backbone) -> Alignment:
        """How well the student on the distorted pictures agrees with the teacher on the clean ones."""
        indices = range(_SAMPLES, _SAMPLES + len(self._pictures))
        parts = []
        for number, start in enumerate(range(0, len(self._pictures), _BATCH)):
            clean = self._pictures[start : start + _BATCH].to(self._teacher.device)
            damaged = self._damaged[start : start + _BATCH].to(self._teacher.device)
            distorted = self._damage(damaged, seed=self._config.seed, indices=indices[start : start + _BATCH])
            parts.append(alignment(self._reference(number, clean), student.trace(distorted, **self._traced)))
        per_image = {name: torch.cat([part.per_image[name] for part in parts]) for name in parts[0].per_image}
        averages = {name: float(values.mean()) for name, values in per_image.items()}
        return replace(parts[0], **averages, per_image=per_image)

    @outside_autocast()
    def first(self, student: Backbone) -> list[Sight]:
        """The first picture as the teacher sees it clean, then as the student sees it distorted."""
        clean, damaged = (part[:1].to(self._teacher.device) for part in (self._pictures, self._damaged))
        distorted = self._damage(damaged, seed=self._config.seed, indices=[_SAMPLES])
        traces = [self._teacher.trace(clean, -1).to("cpu"), student.trace(distorted, -1).to("cpu")]
        maps = [attention_map(trace)[0] for trace in traces]
        return list(zip([clean[0].cpu(), distorted[0].cpu()], maps, strict=True))

    def fault(self, student: Backbone) -> str | None:
        """What is broken in a student, in words: weights that are not finite, or losses on a few clean pictures."""
        for name, parameter in student.module.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                return f"'{name}' is not finite"
        traced = self._config.traced(self._teacher.depth)
        # grad=True leaves NaN to the losses, whose names say more
        traces = [one.trace(self._pictures[:_BATCH], **traced, grad=True).detach() for one in (self._teacher, student)]
        attends = float(self._config.weights["attention"] > 0)
        terms = losses.combine(*traces, attention=attends, attention_layers=1, rows=self._config.rows)
        return not_finite({name: value.item() for name, value in terms.items()})

    def _reference(self, number: int, clean: Tensor) -> Trace:
        """The teacher's trace of one group of pictures; kept if all of them together are small."""
        if number < len(self._references):
            return self._references[number]
        trace = self._teacher.trace(clean, **self._traced)
        size = trace.patches.nbytes + (trace.attention.nbytes if trace.attention is not None else 0)
        if number == len(self._references) and size * len(self._pictures) / len(clean) <= _REFERENCE_BYTES:
            self._references.append(trace)
        return trace
