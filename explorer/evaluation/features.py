"""What a backbone makes of many pictures, kept on disk: `embed`.

Enters: a backbone, an `ImageSet`, a distortion and its seed. Leaves: `Features`, one row for each picture, written
batch by batch and memory-mapped, so that any number of pictures fits. The second time they are read from the cache,
whose key is made of content: the weights' bytes, the pictures' bytes, size, distortion, seed and blocks, no names. What
was stopped is gone on with.
Under `accelerate launch` each process computes its share of the batches. Deliberately ignored: labels, and what the
features are good for.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader

from explorer.data.image import ImageError
from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, seed_number
from explorer.models.backbones import Backbone, Layers, expect_backbone
from explorer.models.trace import Trace
from explorer.models.weights import state_digest
from explorer.system.files import (
    CACHE_VARIABLE,
    asset_path,
    cache_dir,
    claimed,
    file_digest,
    last_used,
    scratch_folder,
)
from explorer.system.malloc import freed_memory_kept
from explorer.system.memory import Parts, pictures_at_once
from explorer.system.precision import autocast
from explorer.system.processes import Processes
from explorer.system.tables import Columns, Table

Kind = Literal["embedding", "cls", "mean patch"]
KINDS: tuple[Kind, ...] = ("embedding", "cls", "mean patch")
CACHE_BYTES = 8 << 30
"""What was not used for the longest time goes first where the cache would take more."""

_FORMAT = 1
_ABOUT = "about.json"
_OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.part")  # what may be removed from a folder that a user named
_CLOSE = 5e-3  # cosine distance; half precision and another processor's arithmetic stay far below

Precision = Literal["float32", "bfloat16"]
Told = Callable[[int, int], object]
"""Is told (pictures done, pictures in all) as the work goes on."""
_log = logging.getLogger(__name__)


class CacheError(OSError):
    """Features could not be kept in a folder (read-only, full, no folder). The message says which, and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of pictures, in their order. Made by `embed`; float32, memory-mapped where they come from the disk.

    Attributes:
        embedding: the global embedding, as `Trace.embedding`.
        cls: the class token after each kept block; None without kept blocks, and for models without class token.
        patches: the mean of the patch features after each kept block; None without kept blocks.
        layers: the blocks that were kept.
        key: SHA-256 of all that decides them.
    """

    embedding: Float[np.ndarray, "image dim"]
    cls: Float[np.ndarray, "image layer dim"] | None
    patches: Float[np.ndarray, "image layer dim"] | None
    layers: tuple[int, ...]
    key: str

    def __len__(self) -> int:
        return len(self.embedding)

    def of(self, kind: Kind = "embedding", layer: int = -1) -> Float[np.ndarray, "image dim"]:
        """One kind of features.

        Args:
            kind: "embedding", "cls" or "mean patch".
            layer: of the latter two; a block's number, or negative from the last kept one.

        Raises:
            ValueError: no such kind, or a block that was not kept.
        """
        if kind not in KINDS:
            raise InputError(f"features are one of {', '.join(map(repr, KINDS))}; got {kind!r}")
        if kind == "embedding":
            return self.embedding
        kept = self.cls if kind == "cls" else self.patches
        if kept is None and self.layers:
            raise InputError("this model has no class token; take 'embedding' or 'mean patch'")
        if kept is None or (layer not in self.layers and not -len(self.layers) <= layer < 0):
            raise InputError(f"block {layer} was not kept; there are {list(self.layers)}: embed(…, layers=…)")
        return kept[:, self.layers.index(layer) if layer in self.layers else layer]


def embed(
    backbone: Backbone,
    images: ImageSet | PictureData,
    distortion: str | Distortion = "none",
    seed: int = 0,
    *,
    layers: Layers | None = None,
    batch_size: int | None = None,
    precision: Precision = "float32",
    workers: int = 0,
    cache: bool | str | os.PathLike = True,
    progress: Told | None = None,
) -> Features:
    """Features of many pictures.

    Picture i is resized to the backbone's size, then distorted as number i with `seed`, whatever the batch size and
    however many processes there are. With a cache, work that was stopped, in whatever way, is gone on with when it is
    asked for again, but for the last seconds of it.

    Args:
        images: an `ImageSet`, or what `load_images` makes one of.
        distortion: a spec such as "gaussian_noise(sigma=0.3)", or a `Distortion`.
        seed: of the distortion.
        layers: blocks whose class token and mean patch are kept, too: "all", a number or several; None for the global
            embedding alone.
        batch_size: pictures in a forward pass; None for 8 on processors, where more are slower, and 32 on GPUs. Fewer,
            with a warning, where they need more memory than there is.
        precision: "float32", or "bfloat16" autocast, two to three times faster on processors and GPUs that have it.
        workers: processes that decode pictures.
        cache: True for the user's cache, False for none (kept in memory, by a single process), or another folder. A
            distortion of your own is never kept: its name does not say what its function does today. Where the user's
            cache cannot be written to, a warning is logged, and they are kept in memory.
        progress: is told (pictures done, pictures in all) as the work goes on.

    Raises:
        ValueError: no pictures, an unknown distortion or block, several processes without a cache.
        ImageError: a picture is damaged; the message names it. Where the head of its file shows it, before any work;
            `load_images(…, on_error="skip")` leaves such pictures out.
        CacheError: the folder named by `cache` cannot be written to, or several processes have none that can.
        MemoryError: not even a single picture fits.
    """
    expect_backbone(backbone, "embedding")
    images = image_set(images)
    if not len(images):
        raise InputError("there are no pictures to embed")
    if workers < 0:
        raise InputError(f"workers is a number of processes, 0 for none beside this one; got {workers}")
    job = _Job(backbone, images, parse_distortion(distortion), seed_number(seed), layers, precision, batch_size)
    if cache is False or job.damage.own or backbone.altered:
        job.images.check()
        return job.in_memory(workers, progress)
    root = cache_dir() / "features" if cache is True else Path(cache)
    found = _kept(root / job.key, job.key) or job.shipped()
    if found is not None:
        if progress is not None:
            progress(len(images), len(images))
        return found
    job.images.check()
    try:
        return job.on_disk(root, workers, progress)
    except CacheError as error:
        if cache is not True or job.processes.count > 1:
            raise
        _log.warning("%s. They are computed without being kept", error)
        return job.in_memory(workers, progress)


def share_of(progress: Told | None, before: int, total: int) -> Told | None:
    """Progress on one of several sets of pictures, told as a share of all of them."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def is_embedded(
    backbone: Backbone,
    images: ImageSet,
    distortion: str | Distortion = "none",
    seed: int = 0,
    *,
    layers: Layers | None = None,
    precision: Precision = "float32",
) -> bool:
    """Whether `embed` with the user's cache would need no forward passes, or hardly any."""
    job = _Job(backbone, images, parse_distortion(distortion), seed, layers, precision)
    return (cache_dir() / "features" / job.key / _ABOUT).is_file() or job.shipped_file() is not None


def shipped_name(backbone: Backbone, images: ImageSet, distortion: str | Distortion, seed: int) -> str:
    """What the file with these features is called where they come with the project, below `assets/features`.

    It goes by what the weights are said to be: merging an adapter differs in the last bit between processors.
    """
    return _Job(backbone, images, parse_distortion(distortion), seed, None, "float32").shipped_name


class _Job:
    def __init__(
        self,
        backbone: Backbone,
        images: ImageSet,
        damage: Distortion,
        seed: int,
        layers: Layers | None,
        precision: Precision,
        batch_size: int | None = None,
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise InputError(f"precision is 'float32' or 'bfloat16'; got {precision!r}")
        self.processes = Processes()
        self.backbone = backbone.to(self.processes.placed(backbone.device))
        self.images = images.resized(backbone.image_size)
        self.damage, self.seed, self.precision = damage, seed, precision
        self.batch_size = pictures_at_once(batch_size, self.backbone.device)
        self.layers = () if layers is None else backbone.blocks(layers)
        self.parts = Parts("a forward pass", "take a smaller picture size or a smaller backbone")
        self.key = self._key(state_digest(backbone.module.state_dict()))

    def _key(self, weights: str) -> str:
        random = self.damage.stochastic
        parts = {
            "format": _FORMAT,
            "weights": weights,
            "pictures": self.images.digest,
            "size": list(self.backbone.height_width),
            "distortion": self.damage.spec,
            "seed": self.seed if random else None,
            "generator": self.backbone.device.type if random else None,  # a GPU draws other numbers
            "layers": list(self.layers),
        }
        if ways := self.backbone.ways:
            parts["ways"] = ways
        if self.precision != "float32":
            parts["precision"] = self.precision
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def shipped_name(self) -> str:
        return f"{self._key(self.backbone.sha256)[:16]}.safetensors"

    def shipped_file(self) -> Path | None:
        try:
            return asset_path(f"features/{self.shipped_name}")
        except FileNotFoundError:
            return None

    def shipped(self) -> Features | None:
        """Features that come with the project, if they are what this very backbone gives: two pictures are tried."""
        file = self.shipped_file()
        if file is None:
            return None
        try:
            tensors = safetensors.numpy.load_file(file)
        except (SafetensorError, OSError) as error:
            _log.warning("the features in %s cannot be read (%s): they are computed", file, error)
            return None
        arrays = {name: values.astype(np.float32) for name, values in tensors.items()}
        tried = [0, len(self.images) - 1]
        now = self._computed(self.images.stack(tried), tried)
        same = all(close(arrays[name][tried], now[name]) for name in now)
        return _features(arrays, self.layers, self.key) if same else None

    def in_memory(self, workers: int, progress: Told | None) -> Features:
        if self.processes.count > 1:
            raise InputError(
                "several processes share features through a folder: leave cache=True, or name one; features under a "
                "distortion of your own are not kept, and made by one process"
            )
        parts = [values for _, values in self._batches(workers, progress, np.zeros(len(self.images), dtype=bool))]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return _features(arrays, self.layers, self.key)

    def on_disk(self, root: Path, workers: int, progress: Told | None) -> Features:
        """Written by all processes into one folder, which takes its final name when it is complete."""
        with ExitStack() as stack:
            mine = None
            if self.processes.first:
                with _unkept(root):
                    folder = stack.enter_context(_unfinished(root, self.key))
                    mine = folder, Table(folder, len(self.images)).done()
            scratch, done = self.processes.agreed(mine)
            table = Table(scratch, len(self.images))
            stack.callback(table.save)
            begun = False
            for rows, values in self._batches(workers, progress, done):
                if not begun:
                    self._begin(table, values, root)
                    begun = True
                table.write(rows, values)
            table.save()
            self.processes.wait()
            if self.processes.first:
                with _unkept(root):
                    table.finish()
                    digests = {file.name: file_digest(file) for file in sorted(scratch.glob("*.npy"))}
                    about = {"key": self.key, "layers": list(self.layers), "sha256": digests}
                    (scratch / _ABOUT).write_text(json.dumps(about))
                try:
                    os.rename(scratch, root / self.key)
                except OSError:  # another program was faster, with the very same features
                    shutil.rmtree(scratch, ignore_errors=True)
                _prune(root, keep=self.key)
            self.processes.wait()
        kept = _kept(root / self.key, self.key)
        if kept is None:
            raise CacheError(
                f"the features that were written to '{root}' just now cannot be read; is the disk healthy?"
            )
        return kept

    def _begin(self, table: Table, example: Columns, root: Path) -> None:
        """The first process makes the files; the others go on when they are there."""
        if self.processes.first:
            with _unkept(root):
                table.begin(example)
        self.processes.wait()

    def _batches(
        self, workers: int, progress: Told | None, kept: Bool[np.ndarray, " image"]
    ) -> Iterator[tuple[range, Columns]]:
        """This process's batches: their rows and arrays. The same batches, however many processes share them; without
        those whose rows are all kept."""
        count = len(self.images)
        starts = range(0, count, self.batch_size)
        whole = [range(start, min(start + self.batch_size, count)) for start in starts]
        batches = [rows for rows in whole if not kept[rows.start : rows.stop].all()] or whole[-1:]
        # every process takes part in making the files, so that each needs a batch: the last ones may be done twice
        mine = batches[self.processes.rank :: self.processes.count] or batches[-1:]
        loader = DataLoader(
            self.images,
            batch_sampler=mine,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_stacked,
            pin_memory=self.backbone.device.type == "cuda",
            generator=torch.Generator(),  # else the loader would move the global one
        )
        before = count - sum(map(len, batches))
        if before and progress is not None:
            progress(before, count)
        done = 0
        with freed_memory_kept():
            for rows, pictures in zip(mine, loader, strict=True):
                found = [values for _, values in self.parts(partial(self._part, pictures, rows), len(rows))]
                yield rows, {name: np.concatenate([values[name] for values in found]) for name in found[0]}
                done += len(rows)
                if progress is not None:
                    progress(min(count, before + done * self.processes.count), count)

    def _part(self, pictures: Float[Tensor, "batch 3 height width"], rows: range, part: slice) -> dict[str, np.ndarray]:
        return self._computed(pictures[part], rows[part])

    @torch.inference_mode()
    def _computed(
        self, pictures: Float[Tensor, "batch 3 height width"], numbers: range | list[int]
    ) -> dict[str, np.ndarray]:
        damaged = self.damage(pictures.to(self.backbone.device, non_blocking=True), seed=self.seed, indices=numbers)
        with autocast(self.precision, damaged.device):
            trace = self.backbone.trace(damaged, layers=self.layers or -1, attention=None)
        return _arrays(trace, inner=bool(self.layers))


def _arrays(trace: Trace, inner: bool) -> dict[str, np.ndarray]:
    tensors = {"embedding": trace.embedding}
    if inner:
        tensors["patches"] = trace.patches.mean(dim=2)
    if inner and trace.cls is not None:
        tensors["cls"] = trace.cls
    return {name: tensor.float().cpu().numpy() for name, tensor in tensors.items()}


def _stacked(items: list[tuple[Tensor, int | None]]) -> Float[Tensor, "batch 3 height width"]:
    return torch.stack([image for image, _ in items])


def _features(arrays: dict[str, np.ndarray], layers: tuple[int, ...], key: str) -> Features:
    return Features(
        embedding=arrays["embedding"], cls=arrays.get("cls"), patches=arrays.get("patches"), layers=layers, key=key
    )


def close(kept: Float[np.ndarray, "*picture dim"], now: Float[np.ndarray, "*picture dim"]) -> bool:
    """Whether the same backbone saw the same pictures, maybe in another precision or on another processor."""
    norms = np.linalg.norm(kept, axis=-1) * np.linalg.norm(now, axis=-1)
    return kept.shape == now.shape and bool(np.all((kept * now).sum(axis=-1) > (1 - _CLOSE) * norms))


# The folder of kept features: one sub-folder for each key.


@contextmanager
def _unkept(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"features cannot be kept in '{root}' ({error.strerror or error}); free some space there, or choose "
            f"another folder: {CACHE_VARIABLE}, or embed(..., cache=...)"
        ) from error


@contextmanager
def _unfinished(root: Path, key: str) -> Iterator[Path]:
    """A folder for features that are being made, with what an earlier process left; an empty one of its own, which goes
    with it, while another program makes the very same."""
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f".{key}.part"
    with ExitStack() as stack:
        try:
            stack.enter_context(claimed(folder))
        except TimeoutError:
            folder = stack.enter_context(scratch_folder(root, "features"))
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except ImageError:  # nobody goes on with pictures of which one is damaged
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            with suppress(OSError):  # nothing was kept there
                folder.rmdir()


def _kept(folder: Path, key: str) -> Features | None:
    """What a folder holds; None where it is missing or damaged, so that it is made again."""
    try:
        about = json.loads((folder / _ABOUT).read_text())
        if "sha256" not in about:  # written before digests were kept: no damage
            shutil.rmtree(folder, ignore_errors=True)
            return None
        if about["key"] != key or "embedding.npy" not in about["sha256"]:
            raise InputError("not what its name says")
        if any(file_digest(folder / name) != digest for name, digest in about["sha256"].items()):
            raise InputError("not what was written")
        arrays = {Path(name).stem: np.load(folder / name, mmap_mode="r") for name in about["sha256"]}
        with suppress(OSError):  # it was used: see `_prune`; a cache may be read-only
            os.utime(folder)
        return _features(arrays, tuple(about["layers"]), key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        if folder.is_dir():
            _log.warning("the kept features %s are damaged (%s); they are made again", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _prune(root: Path, keep: str) -> None:
    """Remove what nobody used for the longest time, until the rest fits."""
    known = []
    for path in root.iterdir():
        if _OURS.fullmatch(path.name):
            with suppress(OSError):  # another program prunes, too
                known.append((last_used(path), sum(file.stat().st_size for file in path.iterdir()), path))
    total = sum(size for _, size, _ in known)
    for _, size, path in sorted(known):
        if total > CACHE_BYTES and path.name != keep:
            with suppress(OSError), claimed(path):  # nobody is filling it
                shutil.rmtree(path, ignore_errors=True)
                total -= size
