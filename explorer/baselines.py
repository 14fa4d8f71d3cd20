"""Rivals of a distilled student at equal supervision: restore the picture, or fine-tune on distorted ones with labels.

Enters: distorted pictures and what was done to them (`restore`), or a backbone and pictures with labels (`finetune`).
Leaves: pictures for a backbone that was never told of distortions, or a `Classifier`. Ravula et al. 2021 compare with
both. Restoring needs scikit-image, which is imported when it is first used. Deliberately ignored: restoration by
trained networks, training by several processes, and writing to a folder.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from explorer.adapters import Trainable, prepare
from explorer.backbones import Backbone
from explorer.data import ImageSet
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.pipeline import Step
from explorer.views import Batches, Stream, View, Views, collate, whole

# The recipe of `explorer.DistillConfig`, so that a comparison is one of supervision.
WARMUP, GRAD_CLIP = 0.1, 1.0
LR = {"lora": 2e-3, "all": 1e-4, "last": 1e-4}
_BALANCE = 1e-4  # see `deblur`
_EVALUATED = 16  # pictures in a forward pass without gradients


def restore(
    images: Float[Tensor, "batch 3 height width"], distortion: str | Distortion
) -> Float[Tensor, "batch 3 height width"]:
    """Undo a distortion as well as classical restoration can, operator by operator, the last one first.

    An oracle: it is told the operator and its parameters, which nobody who receives a damaged picture knows. So the
    rival "restore, then classify" is made stronger by it, not weaker. Mean PSNR in dB of ten of the project's photos at
    112 px, before and after: gaussian_noise(sigma=0.3) 10.5, 23.2; gaussian_blur(kernel=21, sigma=5) 20.8, 24.5;
    pixel_mask(fraction=0.75) 5.9, 26.1; patch_mask(fraction=0.75) 5.9, 18.5; square_mask(size=56) 10.6, 24.1.

    Args:
        images: distorted pictures, RGB; values outside of [0, 1] may come in.
        distortion: what was done to them, the same for all: one operator or a chain "a + b" of operators in
            `RESTORERS`, with fixed parameters.

    Returns:
        New pictures in [0, 1], of the same dtype and on the same device.

    Raises:
        ValueError: alternatives, ranges, operators that have no restorer, or a mask that later operators hide.
        ImportError: scikit-image is not installed.
    """
    steps = _fixed_steps(parse_distortion(distortion))
    _check_images(images)
    pictures = rearrange(images.detach().to("cpu", torch.float64), "batch c h w -> batch h w c").numpy()
    restored = np.empty_like(pictures)
    for number, picture in enumerate(pictures):
        restored[number] = _undone(picture, steps)
    return rearrange(torch.from_numpy(restored), "batch h w c -> batch c h w").clamp(0, 1).to(images).contiguous()


def _undone(picture: Float[np.ndarray, "height width 3"], steps: Sequence[Step]) -> Float[np.ndarray, "height width 3"]:
    noise = 0.0
    for step in reversed(steps):
        values = dict(step.values)
        picture = RESTORERS[step.name](picture, values, noise)
        noise = math.hypot(noise, float(values["sigma"])) if step.name == "gaussian_noise" else noise  # type: ignore[arg-type]
    return picture


# Restorers of one picture: it, the operator's parameters, and the sigma of noise that was added later (undone by now).

Values = Mapping[str, Any]


def denoise(
    picture: Float[np.ndarray, "height width 3"], values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Non-local means with the known sigma.

    PSNR at sigma 0.1, 0.3 and 0.5: 28.3, 23.4 and 20.9 dB on six photos at 112 px. Total variation with the best of
    three weights came to 27.4, 22.9 and 21.0, wavelets to 25.8, 21.3 and 19.4, OpenCV's means (8 bits) to less.
    """
    sigma = float(values["sigma"])
    if sigma == 0:
        return picture
    return _restoration().denoise_nl_means(
        picture, patch_size=5, patch_distance=6, h=0.5 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )


def deblur(
    picture: Float[np.ndarray, "height width 3"], values: Values, noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Wiener's filter with the known kernel and Laplacian regularisation.

    The blur reflects the picture at its borders. So the blurred picture, reflected likewise, is one period of a
    circular convolution, and nothing rings at the borders. The regularisation is the best power of ten for pictures of
    8 bits; a weaker one would invert the blur almost exactly (44 dB instead of 24 at sigma 5), from digits of float
    pictures that no picture file has.

    Raises:
        ValueError: the kernel is larger than the period.
    """
    height, width = picture.shape[:2]
    kernel = _gaussian(int(values["kernel"]), float(values["sigma"]))
    if len(kernel) > 2 * min(height, width) - 2:
        raise ValueError(
            f"a kernel of {len(kernel)} px can be undone in pictures of {len(kernel) // 2 + 2} px a side or more; "
            f"got {height} x {width} px"
        )
    period = np.pad(picture, ((0, height - 2), (0, width - 2), (0, 0)), mode="reflect")
    balance = _BALANCE + 10 * noise  # what denoising left over would be amplified
    channels = [_restoration().wiener(period[..., c], kernel, balance, clip=False) for c in range(3)]
    return np.stack(channels, axis=-1)[:height, :width]


def _gaussian(size: int, sigma: float) -> Float[np.ndarray, "size size"]:
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def inpaint_pixels(
    picture: Float[np.ndarray, "height width 3"], _values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Biharmonic inpainting: the smoothest surface, the best for scattered pixels.

    What is black in all channels counts as missing: that is what a mask leaves. A picture all black stays black.
    """
    missing = _missing(picture)
    if not _can_fill(missing):
        return picture
    return _restoration().inpaint_biharmonic(picture, missing, channel_axis=-1)


def inpaint_areas(
    picture: Float[np.ndarray, "height width 3"], _values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Harmonic inpainting: every missing pixel is the mean of its neighbours.

    In larger areas that is better than biharmonic inpainting, which overshoots there (18.2 instead of 16.5 dB on six
    photos with three quarters of the patches missing), and than OpenCV's (17.4). Missing is what is black.
    """
    missing = _missing(picture)
    if not _can_fill(missing):
        return picture
    from scipy.sparse.linalg import LaplacianNd, spsolve  # scikit-image brings scipy

    laplacian = LaplacianNd(missing.shape, boundary_conditions="neumann", dtype=np.float64).tosparse().tocsc()
    unknown, known = missing.ravel(), ~missing.ravel()
    flat = rearrange(picture, "h w c -> (h w) c").copy()
    rows = laplacian[unknown]
    flat[unknown] = spsolve(rows[:, unknown].tocsc(), -rows[:, known] @ flat[known])
    return flat.reshape(picture.shape)


def _missing(picture: Float[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    return (picture == 0).all(axis=-1)


def _can_fill(missing: Bool[np.ndarray, "height width"]) -> bool:
    return bool(missing.any() and not missing.all())


def _restoration() -> ModuleType:
    try:
        from skimage import restoration
    except ImportError as error:
        raise ImportError(
            'restoring pictures needs scikit-image, which is not installed: pip install "vit-explorer[baselines]"'
        ) from error
    return restoration


def _fixed_steps(damage: Distortion) -> tuple[Step, ...]:
    """The operators in order of application.

    Raises:
        ValueError: they are not fixed, or cannot be undone.
    """
    steps = tuple(step for step in damage.branches[0] if step.name != "none")  # it may stand there to clip
    if len(damage.branches) > 1 or any(isinstance(value, tuple) for step in steps for _, value in step.values):
        raise ValueError(
            f"a restoration needs one fixed distortion, without alternatives (|) and ranges (..); got '{damage}'"
        )
    unknown = [step.name for step in steps if step.name not in RESTORERS]
    if unknown:
        raise ValueError(f"'{unknown[0]}' cannot be undone; these can: {', '.join(RESTORERS)}")
    masked = next((number for number, step in enumerate(steps) if step.name in _MASKS), len(steps))
    hiding = [step.name for step in steps[masked:] if step.name not in _MASKS]
    if hiding:
        raise ValueError(
            f"'{hiding[0]}' comes after '{steps[masked].name}', so that missing pixels are not 0 any more and cannot "
            f"be told from others; a mask can be undone where it is the last operator; got '{damage}'"
        )
    return steps


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"expected a float tensor 'batch 3 height width' with values in [0, 1]; got {images.dtype} "
            f"{tuple(images.shape)}"
        )


# Supervised fine-tuning.


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a backbone and a linear head are trained with labels. Names mean what they mean in `DistillConfig`.

    Attributes:
        distortion: a spec or a `Distortion`: what the pictures go through, newly drawn at every visit.
        steps: updates of the weights.
        batch_size: pictures in each of them.
        lr: the highest learning rate of the backbone; None: 2e-3 for an adapter, 1e-4 for anything else.
        head_lr: the highest learning rate of the linear head, which begins at zero.
        trainable: "lora:8" (adapter of rank 8), "all", or "last:2" (the last two blocks and the final norm).
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
    trainable: str = "lora:8"
    views: Views = "fresh"
    area: tuple[float, float] = (0.4, 1.0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "distortion", parse_distortion(self.distortion).spec)
        Trainable.parse(self.trainable)
        for name, low in {"steps": 1, "batch_size": 1, "workers": 0, "seed": 0}.items():
            _check_whole(name, getattr(self, name), low)
        for name in ("head_lr",) if self.lr is None else ("lr", "head_lr"):
            _check_rate(name, getattr(self, name))
        _check_views(self.views, self.area)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"precision must be 'auto', 'float32' or 'bfloat16'; got {self.precision!r}")

    @property
    def highest_lr(self) -> float:
        """The backbone's learning rate after warm-up."""
        return self.lr if self.lr is not None else LR[Trainable.parse(self.trainable).kind]

    def lr_share(self, step: int) -> float:
        """Learning rate of a step, counted from 1, as a share of the highest: a linear rise, then half a cosine."""
        rising = round(WARMUP * self.steps)
        if step <= rising:
            return step / rising
        return (1 + math.cos(math.pi * (step - rising - 1) / (self.steps - rising))) / 2


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

    def accuracy(self, images: ImageSet, distortion: str | Distortion = "none", seed: int = 0) -> float:
        """Share of pictures whose class is found, each distorted by (seed, its place in the set).

        Pictures of another size are resized to the backbone's, by their central part.

        Raises:
            ValueError: no pictures, no labels, or other classes than those learned.
        """
        labels = _labels(images)
        if images.classes != self.classes:
            raise ValueError(
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


def finetune(backbone: Backbone, images: ImageSet, config: FinetuneConfig) -> Iterator[FinetuneRecord]:
    """Train a copy of a backbone, and a linear head, to name the classes of distorted pictures, step by step.

        for record in finetune(backbone, images, FinetuneConfig(distortion="gaussian_noise(sigma=0.3)")):
            print(record.step, record.loss)
        print(record.classifier.accuracy(others, "gaussian_noise(sigma=0.3)"))

    The recipe is that of `explorer.distill`: AdamW, the same schedule, the same views in the same order, the distortion
    after the crop; a cross-entropy with the label takes the teacher's place.

    Args:
        backbone: not changed; pictures are trained at its size.
        images: with labels of at least two classes; fewer than a batch come again within it.
        config: how it is trained.

    Raises:
        ValueError: pictures without labels, or of one class; more is trained than the backbone has.
        FloatingPointError: the loss is not finite.
    """
    labels = _labels(images)
    if len(labels.unique()) < 2:
        name = images.classes[int(labels[0])]
        raise ValueError(f"to tell classes apart takes pictures of two or more; all {len(images)} are '{name}'")
    return _steps(_beginning(backbone, images.classes, config), _batches(backbone, images, labels, config), config)


def _beginning(backbone: Backbone, classes: tuple[str, ...], config: FinetuneConfig) -> Classifier:
    """An untrained head on a copy of the backbone."""
    module = prepare(copy.deepcopy(backbone.module).eval(), Trainable.parse(config.trainable), config.seed)
    like = next(module.parameters())
    # Its initial numbers are replaced by zeros: made without storage, they take nothing from torch's generator.
    head = nn.Linear(backbone.dim, len(classes), device="meta", dtype=like.dtype).to_empty(device=like.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Classifier(backbone=backbone.with_module(module), head=head, classes=classes)


def _steps(
    classifier: Classifier, batches: Iterable[tuple[Tensor, list[int], Tensor]], config: FinetuneConfig
) -> Iterator[FinetuneRecord]:
    damage = parse_distortion(config.distortion)
    optimizer = _optimizer(classifier, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: config.lr_share(done + 1))
    seconds: deque[float] = deque(maxlen=20)
    start = time.perf_counter()
    for step, (clean, samples, labels) in enumerate(batches, start=1):
        device = classifier.backbone.device
        distorted = damage(clean.to(device), seed=config.seed, indices=samples)
        loss = _update(classifier, optimizer, distorted, labels.to(device), config)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of step {step} is {loss}; try a lower lr (it was {config.highest_lr:g})"
            )
        schedule.step()
        seconds.append(time.perf_counter() - start)
        speed = config.batch_size * len(seconds) / sum(seconds)
        yield FinetuneRecord(step=step, steps=config.steps, loss=loss, images_per_second=speed, classifier=classifier)
        start = time.perf_counter()


def _update(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    images: Float[Tensor, "batch 3 height width"],
    labels: Int64[Tensor, " batch"],
    config: FinetuneConfig,
) -> float:
    """One update of the weights, none if the loss is not finite; the loss before it."""
    half = config.precision == "bfloat16"
    if config.precision == "auto":
        half = images.device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
        logits = classifier.logits(images, grad=True)
    loss = F.cross_entropy(logits.float(), labels)
    if torch.isfinite(loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], GRAD_CLIP)
        optimizer.step()
    return loss.item()


def _optimizer(classifier: Classifier, config: FinetuneConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in classifier.backbone.module.parameters() if parameter.requires_grad]
    groups = [
        {"params": trained, "lr": config.highest_lr},
        {"params": list(classifier.head.parameters()), "lr": config.head_lr},
    ]
    return torch.optim.AdamW(groups, weight_decay=0.0)


# Pictures with their labels.


def _batches(
    backbone: Backbone, images: ImageSet, labels: Int64[Tensor, " picture"], config: FinetuneConfig
) -> DataLoader:
    return DataLoader(
        _Labelled(images, labels, backbone.height_width, config),
        batch_sampler=Batches(0, config.steps, config.batch_size),
        collate_fn=_collate,
        num_workers=config.workers,
        pin_memory=backbone.device.type == "cuda",
        generator=torch.Generator(),  # else the loader would move the global one
    )


class _Labelled(Dataset):
    """A stream of views with the label of each."""

    def __init__(
        self, images: ImageSet, labels: Int64[Tensor, " picture"], size: tuple[int, int], config: FinetuneConfig
    ) -> None:
        self.views = Stream(images, size, config.views, config.area, config.seed)
        # The order depends on the seed and the count alone, and the slot of a fixed view is its picture.
        self.order = Stream(_Blank(len(images)), (1, 1), "fixed", config.area, config.seed)
        self.labels = labels

    def __getitem__(self, sample: int) -> tuple[View, Tensor]:
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
    items: list[tuple[View, Tensor]],
) -> tuple[Float[Tensor, "batch 3 height width"], list[int], Int64[Tensor, " batch"]]:
    """Pictures as one batch, sample numbers, labels."""
    images, samples, _ = collate([view for view, _ in items])
    return images, samples, torch.stack([label for _, label in items])


def _labels(images: ImageSet) -> Int64[Tensor, " picture"]:
    if images.labels is None or not len(images):
        what = "pictures without labels" if len(images) else "no pictures"
        raise ValueError(
            f"expected pictures with labels, such as a folder with one sub-folder for each class; got {what}"
        )
    return torch.tensor(images.labels)


# Checks.


def _check_whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 1 << 63:
        raise ValueError(f"{name} is a whole number, at least {low}; got {value!r}")


def _check_rate(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is a number above 0; got {value!r}")


def _check_views(views: object, area: object) -> None:
    if views not in ("fixed", "fresh") and (type(views) is not int or views < 1):
        raise ValueError(
            f"views must be 'fresh', 'fixed', or how many crops each picture has, at least 1; got {views!r}"
        )
    valid = isinstance(area, tuple) and len(area) == 2 and all(isinstance(one, int | float) for one in area)
    if not valid or not 0 < area[0] <= area[1] <= 1:  # type: ignore[index]
        raise ValueError(f"area is the smallest and largest share of a picture, within (0, 1]; got {area!r}")


RESTORERS: dict[str, Callable[[np.ndarray, Values, float], np.ndarray]] = {
    "gaussian_noise": denoise,
    "gaussian_blur": deblur,
    "pixel_mask": inpaint_pixels,
    "patch_mask": inpaint_areas,
    "square_mask": inpaint_areas,
}
_MASKS = ("pixel_mask", "patch_mask", "square_mask")
