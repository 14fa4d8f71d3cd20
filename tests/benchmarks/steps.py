"""The training steps that are measured, all on the very same student.

Enters: a case, what is trained, and a setting (see `distillation`). Leaves: a `Subject`, and for each variant a
function that computes the loss terms of one step; `Subject.update` does the rest, the same for all. The baseline is
written plainly in torch; the other variants are made of the library's own parts. The learning rate is next to nothing,
so that the variants may change the same weights in any order.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from distillation import BASELINE, CACHED, CLS, LEVELS, Case, Setting
from torch import Tensor, nn

import explorer as ex
from explorer import losses
from explorer.models.adapters import Trainable, prepare
from explorer.training.targets import Targets

Terms = Callable[[], dict[str, Tensor]]
_BYTES = 1 << 30  # kept targets of one batch take far less


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Teacher and student, one batch of clean and distorted pictures, and the same as the modules want them."""

    setting: Setting
    teacher: ex.Backbone
    student: ex.Backbone
    optimizer: torch.optim.Optimizer
    clean: Tensor
    distorted: Tensor

    def autocast(self) -> torch.autocast:
        """The setting's precision."""
        return torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.precision == "bfloat16")

    def normalised(self, images: Tensor) -> Tensor:
        """Pictures as the module wants them."""
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.teacher.mean, self.teacher.std))
        return (images - mean) / std

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for parameter in self.student.module.parameters() if parameter.requires_grad]

    def update(self, terms: dict[str, Tensor]) -> None:
        """Everything that follows the loss; ends when the device has done it."""
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.setting.device == "cuda":
            torch.cuda.synchronize()


def subject(case: Case, trainable: str, setting: Setting) -> Subject:
    """Seeded random weights and pictures: time depends on neither."""
    teacher = _teacher(case, setting)
    student = teacher.with_module(prepare(copy.deepcopy(teacher.module), Trainable.parse(trainable)))
    if setting.compile:  # as `explorer.distill` does
        module: Any = student.module
        module.forward_intermediates = torch.compile(module.forward_intermediates)
    trained = [parameter for parameter in student.module.parameters() if parameter.requires_grad]
    clean = torch.rand(case.batch, 3, *teacher.height_width, generator=torch.Generator().manual_seed(0))
    distorted = ex.distortion("gaussian_noise(sigma=0.3)")(clean, seed=0)
    return Subject(
        setting=setting,
        teacher=teacher,
        student=student,
        optimizer=torch.optim.AdamW(trained, lr=1e-7),
        clean=clean.to(setting.device),
        distorted=distorted.to(setting.device),
    )


def checked_levels(name: str, seen: Subject) -> int:
    """How many levels a step really learns from.

    Raises:
        AssertionError: a gradient that is not finite, or a library's CLS level that is not the baseline's.
        RuntimeError: a parameter without a gradient.
    """
    terms, gradients = _gradients(name, seen)
    assert all(torch.isfinite(gradient).all() for gradient in gradients), name
    plain, expected = _gradients(BASELINE, seen)
    half = seen.setting.precision == "bfloat16"
    assert torch.allclose(terms.get("cls", terms["loss"]), plain["loss"], rtol=0, atol=1e-2 if half else 1e-5), name
    if name in (CLS, f"{CACHED}, {CLS}") and not half:
        norm = _norm(expected)
        assert _norm([a - b for a, b in zip(gradients, expected, strict=True)]) < 1e-3 * norm, name
    return max(1, len(terms) - 1)


def build(name: str, seen: Subject) -> Callable[[], None]:
    """A function that does one whole step."""
    terms = VARIANTS[name](seen)
    return lambda: seen.update(terms())


@contextmanager
def runs(case: Case, setting: Setting, rows: list[tuple[str, str]], steps: int) -> Iterator[list[Iterator[ex.Record]]]:
    """Real runs of `explorer.distill`, one for each (trainable, views), in folders that are deleted at the end."""
    teacher = _teacher(case, setting)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = [_run(teacher, case, setting, row, steps, folder / str(number)) for number, row in enumerate(rows)]
        for records in started:
            stack.callback(records.close)  # type: ignore[attr-defined]
        yield started


def _run(
    teacher: ex.Backbone, case: Case, setting: Setting, row: tuple[str, str], steps: int, out: Path
) -> Iterator[ex.Record]:
    trainable, views = row
    # Pictures that come once are not worth keeping; one picture is held out as the probe.
    count = case.batch * (1 if views == CACHED else steps) + 1
    image = torch.rand(1, 3, *teacher.height_width, generator=torch.Generator().manual_seed(0))
    config = ex.DistillConfig(
        steps=steps,
        batch_size=case.batch,
        image_size=case.image_size,
        trainable=trainable,
        views="fixed",
        precision=setting.precision,
        compile=setting.compile,
        checkpointing=setting.checkpointing,
        probe=1,
        eval_every=steps,
        checkpoint_every=steps,
    )
    return ex.distill(teacher, image.expand(count, -1, -1, -1), config, out=out)


def _teacher(case: Case, setting: Setting) -> ex.Backbone:
    return ex.load_backbone(case.name, image_size=case.image_size, source="random", device=setting.device)


def _gradients(name: str, seen: Subject) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Loss terms and gradients of one step that is not taken."""
    terms = VARIANTS[name](seen)()
    gradients = torch.autograd.grad(terms["loss"], seen.parameters())
    return {key: value.detach() for key, value in terms.items()}, list(gradients)


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def _plain(seen: Subject) -> Terms:
    """CLS embeddings from fused forward passes, and nothing else."""
    teacher: Any = seen.teacher.module
    student: Any = seen.student.module
    features = torch.compile(student.forward_features) if seen.setting.compile else student.forward_features
    clean, distorted = seen.normalised(seen.clean), seen.normalised(seen.distorted)

    def terms() -> dict[str, Tensor]:
        with torch.no_grad(), seen.autocast():
            target = teacher.forward_head(teacher.forward_features(clean), pre_logits=True)
        with seen.autocast():
            embedding = student.forward_head(features(distorted), pre_logits=True)
        return {"loss": 1 - F.cosine_similarity(embedding.float(), target.float(), dim=-1).mean()}

    return terms


def _library(seen: Subject, *, rows: losses.Rows | None, cached: bool) -> Terms:
    """Three levels with these attention rows, or the CLS level alone (None)."""
    attention: Any = None if rows is None else {"all": "full", "own": "cls"}[rows]
    layers = [-1] if rows is None else range(-losses.ATTENTION_LAYERS, 0)
    weights = {"patch": 0.0, "attention": 0.0} if rows is None else {}
    slots = list(range(len(seen.clean)))

    def see(clean: Tensor) -> ex.Trace:
        with seen.autocast():
            return seen.teacher.trace(clean, layers, attention)

    targets = Targets(see, len(slots) if cached else None, _BYTES, Path(tempfile.gettempdir()))

    def terms() -> dict[str, Tensor]:
        reference = targets(seen.clean, slots)
        with seen.autocast():
            student = seen.student.trace(seen.distorted, layers, attention, grad=True)
        return losses.combine(reference, student, rows=rows or "all", **weights)

    return terms


VARIANTS: Mapping[str, Callable[[Subject], Terms]] = {
    BASELINE: _plain,
    CLS: lambda seen: _library(seen, rows=None, cached=False),
    f"{LEVELS}, own rows": lambda seen: _library(seen, rows="own", cached=False),
    LEVELS: lambda seen: _library(seen, rows="all", cached=False),
    f"{CACHED}, {CLS}": lambda seen: _library(seen, rows=None, cached=True),
    f"{CACHED}, {LEVELS}, own rows": lambda seen: _library(seen, rows="own", cached=True),
    f"{CACHED}, {LEVELS}": lambda seen: _library(seen, rows="all", cached=True),
}
