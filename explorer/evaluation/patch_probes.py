"""What each patch of a picture is, as a linear probe on patch features says it: `fit_patch_probe`, `load_patch_probe`.

Enters: a backbone and pictures with a class for each pixel, or a file that such a probe was saved to. Leaves: a
`PatchProbe`, which reads traces of any picture, of the backbone or of a student of it. How often it is right is not
asked here: `evaluate_dense` fits the very same probe, and measures it.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from explorer.data.masks import IGNORED, SegmentedSet, expect_segmented
from explorer.distortions import Distortion
from explorer.errors import InputError
from explorer.evaluation.features import Told
from explorer.evaluation.probe_files import read_probe, write_probe
from explorer.evaluation.probes import Probe, fit_on_features
from explorer.models.backbones import Backbone
from explorer.models.pairs import weights_of
from explorer.models.trace import Grid, Trace
from explorer.system.files import asset_path
from explorer.system.memory import Parts, pictures_at_once

REGULARISATION = 0.01
"""scikit-learn's C; stricter than the probe of whole pictures, as patches of one picture say much the same."""
_KEPT = ("backbone", "weights", "image_size", "layer", "counts", "pictures")


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchProbe:
    """Tells the class of each patch. Made by `fit_patch_probe` and `load_patch_probe`.

    Attributes:
        probe: reads the features of one patch after the other.
        backbone: the name of the one whose patches it was fitted on.
        weights: of that backbone: "description", "sha256", "seed".
        image_size: at which that was, (height, width) in px; it reads patches of pictures of any size.
        layer: the block whose features it reads, the backbone's last.
        counts: each class -> how many patches of it the probe was fitted on.
        pictures: how many these were of.
    """

    probe: Probe
    backbone: str
    weights: dict[str, Any]
    image_size: tuple[int, int]
    layer: int
    counts: dict[str, int]
    pictures: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(map(str, self.probe.classes))

    def predict(self, trace: Trace) -> Int[Tensor, "batch rows cols"]:
        """The likeliest class of each patch, as its place in `classes`.

        Args:
            trace: of the backbone that the probe was fitted on, or of a student of it; its last block is among its
                layers.

        Raises:
            ValueError: features of another size or another block, or with NaN or infinite values.
        """
        return self.probabilities(trace).argmax(dim=-1)

    def probabilities(self, trace: Trace) -> Float[Tensor, "batch rows cols class"]:
        """How likely each of `classes` is, patch by patch; they sum to 1.

        Raises:
            ValueError: as for `predict`.
        """
        patches, dim = trace.patches, len(self.probe.estimator[0].mean_)
        if patches.shape[-1] != dim or self.layer not in trace.layers:
            raise InputError(
                f"this probe reads {dim} numbers for each patch after block {self.layer} of {self.backbone}; "
                f"got {patches.shape[-1]} of blocks {', '.join(map(str, trace.layers))}: trace the backbone that it "
                f"was fitted on, or its student, with that block"
            )
        rows = rearrange(patches[:, trace.position(self.layer)].float().cpu(), "b p d -> (b p) d").numpy()
        likely = torch.from_numpy(self.probe.probabilities(rows))
        return rearrange(likely, "(b r c) k -> b r c k", r=trace.grid.rows, c=trace.grid.cols)

    def save(self, file: str | os.PathLike) -> Path:
        """Write the probe as one safetensors file, which `load_patch_probe` reads; replaced if it is there.

        Raises:
            OSError: it cannot be written.
        """
        about = {name: getattr(self, name) for name in _KEPT} | {"distortion": "none", "seed": 0}
        return write_probe(file, "patches", self.probe, about)


def fit_patch_probe(
    backbone: Backbone,
    pictures: SegmentedSet,
    *,
    regularisation: float = REGULARISATION,
    batch_size: int | None = None,
    progress: Told | None = None,
) -> PatchProbe:
    """Fit a linear probe on the patches of pictures whose pixels have classes.

    It is the "linear" one of `evaluate_dense` on clean pictures: logistic regression on standardised features of the
    last block (Oquab et al. 2023, DINOv2, "linear"; here scikit-learn's). A patch has the class of most of its pixels.

    Args:
        backbone: a teacher, whose students' patches the probe reads as well; it is not trained.
        pictures: made by `load_segmented`; they are cut to the backbone's size.
        regularisation: scikit-learn's C, where less is stricter.
        batch_size: pictures in a forward pass, as in `embed`.
        progress: is told (pictures done, pictures in all) as the work goes on.

    Raises:
        ValueError: no pictures, or masks that show fewer than two classes.
        ImageError: a picture or a mask is damaged.
    """
    expect_segmented(pictures)
    if not len(pictures):
        raise InputError("a probe is fitted on pictures with a class for each pixel; got none")
    pictures = pictures.resized(backbone.height_width)
    pictures.images.check()  # all of them, before the work on any
    labels = patch_labels(pictures, backbone.grid)
    rows = []
    for done, patches in enumerate(patches_of(backbone, pictures, batch_size=batch_size), start=1):
        rows.append(patches)
        if progress is not None:
            progress(done, len(pictures))
    known = labels != IGNORED
    names = [pictures.classes[value] for value in labels[known].tolist()]
    if len(set(names)) < 2:
        raise InputError(
            f"a probe tells classes apart, and the masks of these pictures show {' and '.join(set(names)) or 'none'}: "
            f"expected two at least of {', '.join(pictures.classes.values())}"
        )
    probe = fit_on_features("linear", np.concatenate(rows)[known], names, regularisation=regularisation)
    return PatchProbe(
        probe=probe,
        backbone=backbone.name,
        weights=weights_of(backbone),
        image_size=backbone.height_width,
        layer=backbone.depth - 1,
        counts=dict(sorted(Counter(names).items())),
        pictures=len(pictures),
    )


def load_patch_probe(file: str | os.PathLike, backbone: Backbone | None = None) -> PatchProbe:
    """A probe that `PatchProbe.save` wrote.

    Args:
        file: may come from anybody: it is safetensors, and nothing in it is run.
        backbone: whose patches it is to read, or whose student's. None: nothing is compared, and none is loaded.

    Raises:
        ValueError: this is no probe of patches, or a damaged one, or it was fitted on another backbone.
        OSError: the file cannot be read.
    """
    about, probe, _ = read_probe(file, "patches")
    if backbone is not None and backbone.sha256 != about["weights"]["sha256"]:
        raise InputError(
            f"'{file}' was fitted on '{about['backbone']}', {about['weights']['description']}; got '{backbone.name}', "
            f"{backbone.source}: load that one, or fit a probe on this one"
        )
    kept = {name: about[name] for name in _KEPT} | {"image_size": tuple(about["image_size"])}
    return PatchProbe(probe=probe, **kept)


@lru_cache(maxsize=8)
def shipped_patch_probe(sha256: str) -> PatchProbe | None:
    """The one that comes with the project for a backbone of these weights, if there is one."""
    files = sorted(asset_path("patch_probes").glob("*.safetensors"))
    probes = (load_patch_probe(file) for file in files)
    return next((probe for probe in probes if probe.weights["sha256"] == sha256), None)


def patches_of(
    backbone: Backbone,
    pictures: SegmentedSet,
    damage: Distortion | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Float[np.ndarray, "patch dim"]]:
    """The features of each picture's patches after the last block, damaged or as it is."""
    at_once = pictures_at_once(batch_size, backbone.device)
    parts = Parts("a forward pass", "take a smaller picture size or a smaller backbone", at_once)

    @torch.inference_mode()
    def look(part: slice) -> Float[np.ndarray, "picture patch dim"]:
        numbers = range(part.start, part.stop)
        images = pictures.images.stack(numbers).to(backbone.device)
        if damage is not None:
            images = damage(images, seed=seed, indices=numbers)
        return backbone.trace(images, layers=-1, attention=None).patches[:, -1].float().cpu().numpy()

    for _, found in parts(look, len(pictures)):
        yield from found


def patch_labels(pictures: SegmentedSet, grid: Grid) -> UInt8[np.ndarray, " patch"]:
    """The class of most pixels of each patch, picture by picture; `IGNORED` where most have none."""
    return np.concatenate([_majority(pictures.mask(index), grid) for index in range(len(pictures))])


def _majority(mask: UInt8[np.ndarray, "height width"], grid: Grid) -> UInt8[np.ndarray, " patch"]:
    rows, cols = (np.arange(length) * patches // length for length, patches in zip(mask.shape, grid, strict=True))
    counts = np.zeros((grid.patches, IGNORED + 1), dtype=np.int64)
    np.add.at(counts, (rows[:, None] * grid.cols + cols, mask), 1)
    return counts.argmax(axis=1).astype(np.uint8)
