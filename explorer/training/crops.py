"""Seeded crops of pictures for training: crop, flip, and the order in which pictures come.

Enters: a set of pictures. Leaves: crops that teacher and student share, each a function of (seed, picture, visit)
alone, so that a run that was stopped goes on with the very same crops. Deliberately ignored: distortions, which are
applied to a batch of finished crops on the device, and normalisation, which is the backbone's.
"""

from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from explorer.data.image import ImageError, load_image
from explorer.data.sets import ImageSet
from explorer.data.tables import WITNESSES
from explorer.errors import InputError
from explorer.training.choices import Views

_Record = TypeVar("_Record")
_ORDER, _CROP = 1, 2  # what a stream of random numbers is for
_ASPECT = (3 / 4, 4 / 3)  # Inception's, which RandomResizedCrop and Ravula et al. 2021 use


@runtime_checkable
class Pictures(Protocol):
    """Any map-style data set of (picture, anything), or of pictures; a picture is what `load_image` takes."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def picture(pictures: Pictures, index: int) -> Float[Tensor, "3 _height _width"]:
    """One picture of somebody's own data set; floats keep their type.

    Raises:
        ImageError: it is none, or its values are not in the range that their type stands for (0 to 255 as floats,
            normalised …); the message names it.
    """
    item = pictures[index]
    source = item[0] if isinstance(item, tuple | list) else item
    try:
        image = load_image(source)
    except ImageError as error:
        raise ImageError(f"picture {index} of {type(pictures).__name__.lstrip('_')}: {error}") from error
    floats = isinstance(source, Tensor) and source.is_floating_point() and source.shape == image.shape
    return source.detach() if floats else image


class Tensors(Dataset):
    """Pictures in one tensor as a data set."""

    def __init__(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"expected pictures as a tensor 'picture 3 height width'; got shape {tuple(images.shape)}")
        self.images = images.detach().cpu()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, None]:
        return self.images[index], None

    def witness(self) -> str:
        """SHA-256 (hex) of a few of them: nothing else says which pictures a tensor holds, and in which order."""
        few = np.linspace(0, len(self) - 1, WITNESSES).round().astype(int)
        return sha256(self.images[few].float().cpu().numpy().tobytes()).hexdigest()


class Twins(Dataset):
    """Damaged pictures and their clean twins in one: six channels, the clean ones first, so that both are cropped
    alike. A damaged picture of another size is resized to its twin's.
    """

    def __init__(self, images: ImageSet) -> None:
        assert images.clean is not None
        self.damaged, self.clean, self.names, self.size = images, images.clean, images.names, images.size

    def __len__(self) -> int:
        return len(self.damaged)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "6 height width"], None]:
        clean, damaged = self.clean[index][0], self.damaged[index][0]
        height, width = clean.shape[1:]
        return torch.cat([clean, whole(damaged, (height, width))]), None


class Chosen(Dataset):
    """Some pictures of a data set.

    Args:
        keep: how many bytes of decoded pictures are kept for their next visits; of an `ImageSet` alone, for any other
            data set may hand out something else each time.
    """

    def __init__(self, pictures: Pictures, indices: list[int], keep: int = 0) -> None:
        self.pictures, self.indices = pictures, indices
        self.own = not isinstance(pictures, ImageSet | Twins)  # somebody's own data set
        self.room = 0 if self.own else keep
        self.kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        if index in self.kept:
            return self.kept[index]
        chosen = self.indices[index]
        item = (picture(self.pictures, chosen), None) if self.own else self.pictures[chosen]
        if self.room > 0 and item[0].nbytes <= self.room:
            self.room -= item[0].nbytes
            self.kept[index] = item
        return item


class Crop(NamedTuple):
    """One crop: its picture (three channels, or six of `Twins`), where it stands in the run's stream, and which of the
    repeating crops it is (or -1)."""

    image: Float[Tensor, "channel height width"]
    sample: int
    slot: int


class Stream(Dataset):
    """The endless sequence of training crops; `stream[n]` is the n-th one.

    Every picture comes once an epoch, in a new order each time.

    Args:
        pictures: RGB in [0, 1].
        size: (height, width) of the crops, in pixels.
        views: "fixed", the picture as it is (its central part, where its shape is another); K, so many random crops
            for each picture, which come in turn and then repeat; "fresh", a new random crop at every visit.
        area: the smallest and largest share of the picture that a crop covers.
        seed: of order, crops and flips.
    """

    def __init__(
        self, pictures: Pictures, size: tuple[int, int], views: Views, area: tuple[float, float], seed: int
    ) -> None:
        self.pictures, self.size, self.views, self.area, self.seed = pictures, size, views, area, seed

    @property
    def slots(self) -> int | None:
        """How many different crops there are; None if there is no end to them."""
        if self.views == "fresh":
            return None
        return len(self.pictures) * (1 if self.views == "fixed" else int(self.views))

    def __getitem__(self, sample: int) -> Crop:
        epoch, place = divmod(sample, len(self.pictures))
        index = int(_order(self.seed, epoch, len(self.pictures))[place])
        image = self.pictures[index][0]
        if self.views == "fixed":
            return Crop(whole(image, self.size), sample, index)
        visit = epoch if self.views == "fresh" else epoch % self.views
        cut = crop(image, self.size, self.area, _generator(self.seed, _CROP, visit, index))
        return Crop(cut, sample, -1 if self.views == "fresh" else index * self.views + visit)


class Batches:
    """The samples of each forward pass from one on: a batch sampler. Process `rank` of `count` takes its share."""

    def __init__(self, first: int, end: int, size: int, rank: int = 0, count: int = 1) -> None:
        self.first, self.end, self.size, self.rank, self.count = first, end, size, rank, count

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.end):
            start = batch * self.size
            yield list(range(start + self.rank, start + self.size, self.count))


def whole(image: Float[Tensor, "channel _h _w"], size: tuple[int, int]) -> Float[Tensor, "channel height width"]:
    """The largest central part of the wanted shape, resized; the picture itself where it has that size."""
    height, width = image.shape[1:]
    if (height, width) == size:
        return image
    scale = min(height / size[0], width / size[1])
    rows, cols = (max(1, round(side * scale)) for side in size)
    return _resized(image, (height - rows) // 2, (width - cols) // 2, rows, cols, size)


def crop(
    image: Float[Tensor, "channel _h _w"], size: tuple[int, int], area: tuple[float, float], draw: np.random.Generator
) -> Float[Tensor, "channel height width"]:
    """A random rectangle of the picture, mirrored half of the time, resized.

    torchvision's RandomResizedCrop with an own generator. Its ten attempts are one here: a rectangle that would not fit
    is cut down to the picture.
    """
    height, width = image.shape[1:]
    share = draw.uniform(*area) * height * width
    # The aspect is that of the crop times a factor, drawn evenly on a logarithmic scale.
    aspect = size[1] / size[0] * np.exp(draw.uniform(*np.log(_ASPECT)))
    rows = min(height, max(1, round(float(np.sqrt(share / aspect)))))
    cols = min(width, max(1, round(float(np.sqrt(share * aspect)))))
    top, left = (int(draw.integers(0, spare + 1)) for spare in (height - rows, width - cols))
    cut = _resized(image, top, left, rows, cols, size)
    return cut.flip(-1) if draw.random() < 0.5 else cut


def _resized(image: Tensor, top: int, left: int, rows: int, cols: int, size: tuple[int, int]) -> Tensor:
    part = image[:, top : top + rows, left : left + cols]
    if (rows, cols) == size:
        return part.contiguous()
    import torchvision.transforms.v2.functional as tvf  # late: it takes longer than torch itself

    bicubic = tvf.InterpolationMode.BICUBIC
    return tvf.resize(part, list(size), interpolation=bicubic, antialias=True).clamp(0, 1)  # bicubic overshoots


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return _generator(seed, _ORDER, epoch, 0).permutation(count)


def _generator(seed: int, purpose: int, visit: int, index: int) -> np.random.Generator:
    # Two words for each number: SeedSequence pads with zeros, so that other streams could meet.
    words = [part for number in (seed, visit, index) for part in (number & 0xFFFFFFFF, number >> 32)]
    return np.random.default_rng([purpose, *words])


def collate(crops: list[Crop]) -> tuple[Float[Tensor, "batch channel height width"], list[int], list[int]]:
    """Pictures as one batch, sample numbers, slots."""
    return torch.stack([one.image for one in crops]), [one.sample for one in crops], [one.slot for one in crops]


def loader(
    crops: Dataset, batches: Batches, collate: Callable[[list[Any]], Any], workers: int, device: torch.device
) -> DataLoader:
    """Batches of crops, decoded by so many processes (0: this one), soon on a device."""
    return DataLoader(
        crops,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else the loader would move the global one
    )


def with_gradients(records: Generator[_Record, None, None]) -> Generator[_Record, None, None]:
    """A training's records, each step of it as outside of `no_grad` and `inference_mode`, which return between them."""
    try:
        while True:
            with torch.inference_mode(False):
                record = next(records, None)
            if record is None:
                return
            yield record
    finally:
        with torch.inference_mode(False):
            records.close()
