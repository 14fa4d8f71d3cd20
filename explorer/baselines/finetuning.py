"""A rival of the distilled student at equal supervision: fine-tuning on distorted pictures with labels, `finetune`.

Enters: a backbone and pictures with labels. Leaves: a `Classifier`. The recipe is that of `explorer.distill`; Ravula et
al. 2021 compare with it. Deliberately ignored: training by several processes, and writing to a folder.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import Dataset

from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.evaluation.probes import Probe
from explorer.models.adapters import Trainable, prepare
from explorer.models.backbones import Backbone
from explorer.system.precision import autocast, outside_autocast
from explorer.training import recipe
from explorer.training.choices import Precision, Views, check_number, check_views, check_word, settle_whole
from explorer.training.config import DistillConfig
from explorer.training.crops import Batches, Crop, Stream, collate, loader, whole, with_gradients
from explorer.training.records import DivergedError

_EVALUATED = 16  # pictures in a forward pass without gradients


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a backbone and a linear head are trained with labels. Names mean what they mean in `DistillConfig`.

    Attributes:
        distortion: a spec or a `Distortion`: what the pictures go through, newly drawn at every visit.
        steps: updates of the weights.
        batch_size: pictures in each of them.
        lr: the highest learning rate of the backbone; None: the one for what is trained, as there.
        head_lr: the highest learning rate of the linear head.
        trainable: "lora:32" (adapter of rank 32), "all", or "last:2" (the last two blocks and the final norm).
        views: "fresh", a new random crop and flip at every visit; K, so many for each picture, which repeat; "fixed",
            the pictures as they are.
        area: the smallest and largest share of a picture that a crop covers.
        precision: "auto" (bfloat16 autocast on a GPU that has it), "float32" or "bfloat16".
        workers: processes that decode pictures; 0: none but this one.
        seed: of everything random, from 0 to 2**63 - 1.
    """

    distortion: str | Distortion = "none"
    steps: int = 100
    batch_size: int = 16
    lr: float | None = None
    head_lr: float = 2e-3
    trainable: str = recipe.TRAINABLE
    views: Views = "fresh"
    area: tuple[float, float] = (0.4, 1.0)
    precision: Precision = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "distortion", parse_distortion(self.distortion).spec)
        Trainable.parse(self.trainable)
        settle_whole(self, {"steps": 1, "batch_size": 1, "workers": 0})
        for name, value in {"lr": self.highest_lr, "head_lr": self.head_lr}.items():
            check_number(name, value, positive=True)
        check_views(self.views, self.area)
        check_word("precision", self.precision, get_args(Precision))

    @property
    def highest_lr(self) -> float:
        """The backbone's learning rate after warm-up."""
        return recipe.highest_lr(self.lr, self.trainable)

    def lr_share(self, step: int) -> float:
        """Learning rate of a step, counted from 1, as a share of the highest: a linear rise, then half a cosine."""
        return recipe.lr_at(step, self.steps, 1.0, DistillConfig.warmup)


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A backbone and a linear head on its global embedding.

    Attributes:
        backbone: fine-tuned; an adapter is still beside its weights.
        head: from the embedding to one score a class.
        classes: names, in the order of the scores.
    """

    backbone: Backbone
    head: nn.Linear
    classes: tuple[str, ...]

    def logits(self, images: Float[Tensor, "batch 3 height width"], grad: bool = False) -> Float[Tensor, "batch class"]:
        """Scores, not normalised.

        Args:
            images: RGB in [0, 1], of the backbone's size; distortions may leave the range.
            grad: whether the scores can be differentiated.
        """
        with torch.set_grad_enabled(grad):
            return self.head(self.backbone.trace(images, layers=-1, attention=None, grad=grad).embedding)

    def predict(self, images: Float[Tensor, "batch 3 height width"]) -> Int64[Tensor, " batch"]:
        """The class of each picture, an index into `classes`."""
        return self.logits(images).argmax(dim=1)

    def accuracy(self, images: ImageSet | PictureData, distortion: str | Distortion = "none", seed: int = 0) -> float:
        """Share of pictures whose class is found, each distorted by (seed, its place in the set).

        Pictures of another size are resized to the backbone's, by their central part.

        Raises:
            ValueError: no pictures, no labels, or other classes than those learned.
        """
        images = image_set(images)
        labels = _labels(images)
        if images.classes != self.classes:
            raise InputError(
                f"expected pictures of the classes {', '.join(self.classes)}; got {', '.join(images.classes)}. "
                f"Take them from the same data set"
            )
        damage, right = parse_distortion(distortion), 0
        for start in range(0, len(images), _EVALUATED):
            places = range(start, min(start + _EVALUATED, len(images)))
            clean = torch.stack([whole(images[place][0], self.backbone.height_width) for place in places])
            found = self.predict(damage(clean.to(self.backbone.device), seed=seed, indices=places))
            right += int((found.cpu() == labels[start : start + len(places)]).sum())
        return right / len(images)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneRecord:
    """What happened in one step.

    Attributes:
        step, steps: this step, counted from 1, and how many there are.
        loss: cross-entropy before the step, mean over its pictures.
        images_per_second: over the last steps, without the time that whoever takes the records spends.
        classifier: as it is now, not a copy: the next step changes it. The last record's is the result.
    """

    step: int
    steps: int
    loss: float
    images_per_second: float
    classifier: Classifier


@torch.inference_mode(False)  # gradients are needed, whatever is switched off around
def finetune(
    backbone: Backbone, images: ImageSet | PictureData, config: FinetuneConfig, probe: Probe | None = None
) -> Iterator[FinetuneRecord]:
    """Train a copy of a backbone, and a linear head, to name the classes of distorted pictures, step by step.

        for record in finetune(backbone, images, FinetuneConfig(distortion="gaussian_noise(sigma=0.3)")):
            print(record.step, record.loss)
        print(record.classifier.accuracy(others, "gaussian_noise(sigma=0.3)"))

    The recipe is that of `explorer.distill`: AdamW, the same schedule, the same crops in the same order, the distortion
    after the crop; a cross-entropy with the label takes the teacher's place.

    Args:
        backbone: not changed; pictures are trained at its size.
        images: with labels of at least two classes; fewer than a batch come again within it.
        config: how it is trained.
        probe: a linear probe of the same classes on this backbone's embeddings, as which the head begins (Kumar et al.
            2022: an untrained head distorts the features that it is put on); None: the head begins at zero.

    Raises:
        ValueError: pictures without labels, or of one class; more is trained than the backbone has; a probe that is not
            linear, or of other classes.
        ImageError: a picture is damaged, as in `distill`.
        DivergedError: the loss is not finite.
    """
    images = image_set(images)
    labels = _labels(images)
    if len(labels.unique()) < 2:
        name = images.classes[int(labels[0])]
        raise InputError(f"to tell classes apart takes pictures of two or more; all {len(images)} are '{name}'")
    images.check()
    classifier = _beginning(backbone, images.classes, config)
    if probe is not None:
        _begin_as(classifier.head, probe)
    crops = _Labelled(images, labels, backbone.height_width, config)
    batches = Batches(0, config.steps, config.batch_size)
    loaded = loader(crops, batches, _collate, config.workers, backbone.device)
    return with_gradients(_steps(classifier, loaded, config))


def _beginning(backbone: Backbone, classes: tuple[str, ...], config: FinetuneConfig) -> Classifier:
    """An untrained head on a copy of the backbone."""
    module = prepare(copy.deepcopy(backbone.module).eval(), Trainable.parse(config.trainable), config.seed)
    like = next(module.parameters())
    # Its initial numbers are replaced by zeros: made without storage, they take nothing from torch's generator.
    head = nn.Linear(backbone.dim, len(classes), device="meta", dtype=like.dtype).to_empty(device=like.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Classifier(backbone=backbone.with_module(module), head=head, classes=classes)


@torch.no_grad()
def _begin_as(head: nn.Linear, probe: Probe) -> None:
    """Scores of a standardised logistic regression, written as one linear map."""
    expected = tuple(range(head.out_features))
    if probe.kind != "linear" or probe.classes != expected or len(expected) < 3:
        raise InputError(
            f"expected a linear probe fitted on the labels 0 to {expected[-1]}, of three classes or more; got a "
            f"{probe.kind} probe of {probe.classes}"
        )
    scaler, regression = (step for _, step in probe.estimator.steps)
    weight = regression.coef_ / scaler.scale_
    head.weight.copy_(torch.from_numpy(weight))
    head.bias.copy_(torch.from_numpy(regression.intercept_ - weight @ scaler.mean_))


def _steps(
    classifier: Classifier, batches: Iterable[tuple[Tensor, list[int], Tensor]], config: FinetuneConfig
) -> Generator[FinetuneRecord, None, None]:
    damage = parse_distortion(config.distortion)
    trained = [parameter for parameter in classifier.backbone.module.parameters() if parameter.requires_grad]
    groups = [
        {"params": trained, "lr": config.highest_lr},
        {"params": list(classifier.head.parameters()), "lr": config.head_lr},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=DistillConfig.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: config.lr_share(done + 1))
    seconds: deque[float] = deque(maxlen=20)
    start = time.perf_counter()
    for step, (clean, samples, labels) in enumerate(batches, start=1):
        device = classifier.backbone.device
        distorted = damage(clean.to(device, non_blocking=True), seed=config.seed, indices=samples)
        loss = _update(classifier, optimizer, distorted, labels.to(device), config)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss of step {step} is {loss}; try a lower lr (it was {config.highest_lr:g})")
        schedule.step()
        seconds.append(time.perf_counter() - start)
        speed = config.batch_size * len(seconds) / sum(seconds)
        yield FinetuneRecord(step=step, steps=config.steps, loss=loss, images_per_second=speed, classifier=classifier)
        start = time.perf_counter()


@outside_autocast()
def _update(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    images: Float[Tensor, "batch 3 height width"],
    labels: Int64[Tensor, " batch"],
    config: FinetuneConfig,
) -> float:
    """One update of the weights, none if the loss is not finite; the loss before it."""
    classifier.backbone.check_mode()
    with autocast(config.precision, images.device):
        logits = classifier.logits(images, grad=True)
    loss = F.cross_entropy(logits.float(), labels)
    if torch.isfinite(loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, DistillConfig.grad_clip or math.inf)
        optimizer.step()
    return loss.item()


# Pictures with their labels.


class _Labelled(Dataset):
    """A stream of crops with the label of each."""

    def __init__(
        self, images: ImageSet, labels: Int64[Tensor, " picture"], size: tuple[int, int], config: FinetuneConfig
    ) -> None:
        self.views = Stream(images, size, config.views, config.area, config.seed)
        # The order depends on the seed and the count alone, and the slot of a fixed crop is its picture.
        self.order = Stream(_Blank(len(images)), (1, 1), "fixed", config.area, config.seed)
        self.labels = labels

    def __getitem__(self, sample: int) -> tuple[Crop, Tensor]:
        return self.views[sample], self.labels[self.order[sample].slot]


class _Blank(Dataset):
    """As many pictures of one pixel."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, _index: int, /) -> tuple[Tensor, None]:
        return torch.zeros(3, 1, 1), None


def _collate(
    items: list[tuple[Crop, Tensor]],
) -> tuple[Float[Tensor, "batch 3 height width"], list[int], Int64[Tensor, " batch"]]:
    """Pictures as one batch, sample numbers, labels."""
    images, samples, _ = collate([crop for crop, _ in items])
    return images, samples, torch.stack([label for _, label in items])


def _labels(images: ImageSet) -> Int64[Tensor, " picture"]:
    if images.labels is None or not len(images):
        what = "pictures without labels" if len(images) else "no pictures"
        raise InputError(
            f"expected pictures with labels, such as a folder with one sub-folder for each class; got {what}"
        )
    return torch.tensor(images.labels)
