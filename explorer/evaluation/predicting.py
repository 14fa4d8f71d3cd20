"""What a picture shows, as a linear probe on a frozen backbone says it: `fit_probe`, and `load_probe` from a file.

Enters: a backbone and labelled pictures, or a file that such a probe was saved to. Leaves: a `PictureProbe`, which
gives the class of any picture, with probabilities. It is kept as one safetensors file, never a pickle. The backbone is
not in that file: it is told by its weights' SHA-256, by its image size and by what it makes of one fixed picture, and a
probe is never put on another one. Deliberately ignored: how often a probe is right, which `evaluate` measures.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.data.image import Source, at_size
from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError, seed_number
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.features import Told, close, embed
from explorer.evaluation.probe_files import read_probe, write_probe
from explorer.evaluation.probes import Probe, fit_on_features
from explorer.models.architectures import is_known
from explorer.models.backbones import Backbone, expect_backbone
from explorer.models.loading import load_backbone
from explorer.models.pairs import list_pairs, load_pair, read_card, weights_of
from explorer.system.memory import Parts, pictures_at_once
from explorer.system.precision import autocast

Pictures = Source | Sequence[Source] | ImageSet


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureProbe:
    """A linear probe and the backbone whose embeddings it reads. Made by `fit_probe` and `load_probe`.

    Attributes:
        backbone: sees the pictures.
        probe: reads their embeddings; `attribute(…, toward=(probe, label))` takes it, and the whole, too.
        distortion: what damaged the pictures that it was fitted on, as a spec.
        seed: of that damage.
        counts: each class -> how many pictures of it the probe was fitted on.
    """

    backbone: Backbone
    probe: Probe
    distortion: str
    seed: int
    counts: dict[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of `probabilities`."""
        return tuple(map(str, self.probe.classes))

    def predict(self, pictures: Pictures) -> tuple[str, ...]:
        """The likeliest class of each picture; for a single one, a tuple of one name.

        Args:
            pictures: one picture, as anything that `load_image` takes, or several of them: a list, an `ImageSet`, a
                tensor "picture 3 height width" or an array "picture height width 3". Each is cut to the backbone's
                size; float tensors that have it already may leave [0, 1], as damaged pictures do.

        Raises:
            ValueError: there are no pictures.
            ImageError: one of them is no picture, or a damaged file.
        """
        return tuple(map(str, self.probe.predict(self._embedded(pictures))))

    def probabilities(self, pictures: Pictures) -> Float[np.ndarray, "picture class"]:
        """How likely each of `classes` is, in one row for each picture; for a single one, too. Rows sum to 1.

        Args:
            pictures: as for `predict`.

        Raises:
            ValueError: as for `predict`.
        """
        return self.probe.probabilities(self._embedded(pictures))

    def top(self, pictures: Pictures, count: int = 5) -> list[list[tuple[str, float]]]:
        """For each picture the likeliest classes with their probabilities, the likeliest first.

        Args:
            pictures: as for `predict`.
            count: how many classes, at most.

        Raises:
            ValueError: as for `predict`, or a count below 1.
        """
        return [likeliest(self.classes, row, count) for row in self.probabilities(pictures)]

    def save(self, file: str | os.PathLike) -> Path:
        """Write the probe as one safetensors file, which `load_probe` reads; replaced if it is there.

        Raises:
            OSError: it cannot be written.
        """
        about = {
            "backbone": self.backbone.name,
            "weights": weights_of(self.backbone),
            "image_size": list(self.backbone.height_width),
            "counts": self.counts,
            "distortion": self.distortion,
            "seed": self.seed,
        }
        return write_probe(file, "pictures", self.probe, about, sample=_sample(self.backbone))

    def _embedded(self, pictures: Pictures) -> Float[np.ndarray, "picture dim"]:
        if isinstance(pictures, ImageSet):
            return embed(self.backbone, pictures).embedding
        sources = _several(pictures)
        if not len(sources):
            raise InputError("expected one picture or several to say what they show; got none")
        at_once = pictures_at_once(None, self.backbone.device)
        parts = Parts("a forward pass", "take a smaller picture size or a smaller backbone", size=at_once)
        return np.concatenate([rows for _, rows in parts(partial(self._look, sources), len(sources))])

    @torch.inference_mode()
    def _look(self, sources: Sequence[Source], part: slice) -> Float[np.ndarray, "picture dim"]:
        device = self.backbone.device
        batch = torch.stack([at_size(source, self.backbone.height_width).to(device) for source in sources[part]])
        with autocast("float32", device):
            return self.backbone.trace(batch, layers=-1, attention=None).embedding.float().cpu().numpy()


def fit_probe(
    backbone: Backbone,
    images: ImageSet | PictureData,
    distortion: str | Distortion = "none",
    seed: int = 0,
    *,
    regularisation: float = 0.1,
    batch_size: int | None = None,
    cache: bool = True,
    progress: Told | None = None,
) -> PictureProbe:
    """Fit a linear probe on what a backbone makes of labelled pictures, to say what others show.

    It is the probe of `evaluate(…, probe="linear")`: logistic regression on standardised embeddings. A student may be
    given clean pictures, or damaged ones as in the protocol of Ravula et al. 2021.

    Args:
        backbone: a teacher or a student; it is not trained.
        images: labelled pictures, such as `load_images` makes of one folder for each class, or of a folder and a CSV
            file of labels.
        distortion: what damages the pictures first: a spec or a `Distortion`.
        seed: of the damage. It is drawn as for the training pictures of `evaluate`, and so never in the way in which
            the same seed damages a picture that is looked at.
        regularisation: scikit-learn's C, where less is stricter.
        batch_size: pictures in a forward pass, as in `embed`.
        cache: whether features are kept on disk.
        progress: is told (pictures done, pictures in all) as the work goes on.

    Raises:
        ValueError: no pictures, no labels, one class only, an unknown distortion.
        ImageError: a picture is damaged, as in `embed`.
    """
    images, damage = image_set(images), parse_distortion(distortion)
    names = class_names(images)
    seed = seed_number(seed)
    seen = draw_seed(seed, 0, "train")
    features = embed(backbone, images, damage, seen, batch_size=batch_size, cache=cache, progress=progress)
    return probe_of(backbone, features.embedding, names, damage, seed, regularisation)


def probe_of(
    backbone: Backbone,
    embeddings: Float[np.ndarray, "picture dim"],
    names: Sequence[str],
    distortion: str | Distortion = "none",
    seed: int = 0,
    regularisation: float = 0.1,
) -> PictureProbe:
    """As `fit_probe`, of pictures that a backbone has looked at already.

    Args:
        names: the class of each picture.
    """
    probe = fit_on_features("linear", embeddings, names, regularisation=regularisation)
    spec = parse_distortion(distortion).spec
    return PictureProbe(backbone=backbone, probe=probe, distortion=spec, seed=seed, counts=dict(Counter(names)))


def load_probe(
    file: str | os.PathLike, backbone: Backbone | None = None, device: str | torch.device = "auto"
) -> PictureProbe:
    """A probe that `PictureProbe.save` wrote.

    Args:
        file: may come from anybody: it is safetensors, and nothing in it is run.
        backbone: the one that it was fitted on, at the same image size. None: it is loaded, where its name tells it,
            or it is the student of a shipped pair.
        device: as in `load_backbone`, for a backbone that is not given.

    Raises:
        ValueError: this is no probe, or a damaged one, or it was fitted on another backbone.
        OSError: the file cannot be read.
        WeightsError: the backbone's weights cannot be had.
    """
    about, probe, tensors = read_probe(file, "pictures")
    if backbone is None:
        backbone = _backbone_of(about, device)
    expect_backbone(backbone, "probe")
    _check_backbone(file, about, tensors["sample"], backbone)
    chosen = {name: about[name] for name in ("distortion", "seed", "counts")}
    return PictureProbe(backbone=backbone, probe=probe, **chosen)


def read_about(file: str | os.PathLike) -> dict[str, Any]:
    """What a probe's file says of it: classes, backbone, weights, image_size and so on; no backbone is loaded.

    Raises:
        ValueError: this is no probe, or a damaged one.
        OSError: the file cannot be read.
    """
    return read_probe(file, "pictures")[0]


def likeliest(
    classes: Sequence[str], probabilities: Float[np.ndarray, " class"], count: int
) -> list[tuple[str, float]]:
    """The `count` likeliest classes with their probabilities, best first; of equal ones, in the order of `classes`.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise InputError(f"expected a number of classes to be shown, from 1 up; got {count}")
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(classes[place], float(probabilities[place])) for place in order]


def class_names(images: ImageSet) -> tuple[str, ...]:
    """The class of each picture, where they show several.

    Raises:
        ValueError: no labels, one class only, or two classes of one name.
    """
    if images.labels is None:
        raise InputError(
            "a probe is fitted on pictures with labels, and these have none: put them into one folder for each class, "
            "or name a CSV file with the columns file and label (load_images(…, labels=…), in a command --labels)"
        )
    shown = [images.classes[label] for label in sorted(set(images.labels))]
    if len(shown) < 2:
        raise InputError(
            f"a probe tells classes apart, and these pictures show {repr(shown[0]) + ' alone' if shown else 'none'}; "
            f"give pictures of two classes or more"
        )
    if len(set(shown)) < len(shown):
        twice = next(name for name in shown if shown.count(name) > 1)
        raise InputError(f"two classes of these pictures are called {twice!r}; give each class a name of its own")
    return tuple(images.classes[label] for label in images.labels)


def _several(pictures: Source | Sequence[Source]) -> Sequence[Source]:
    """One picture is a list of one; a batch is what it holds."""
    if isinstance(pictures, Tensor | np.ndarray):
        return tuple(pictures) if pictures.ndim == 4 else (pictures,)
    return pictures if isinstance(pictures, list | tuple) else (pictures,)


# The backbone that belongs to it.


def _backbone_of(about: dict[str, Any], device: str | torch.device) -> Backbone:
    """By its name; a student's digest is looked for among the shipped pairs."""
    (height, width), name = about["image_size"], about["backbone"]
    digest, seed = about["weights"]["sha256"], about["weights"].get("seed")
    shipped = next((one for one in list_pairs() if read_card(one)["student_sha256"] == digest), None)
    if shipped is not None:
        return load_pair(shipped, image_size=(height, width), device=device).student
    if not is_known(name):
        raise InputError(
            f"this probe was fitted on '{name}', a module of somebody's own; wrap it with wrap_backbone, and pass it: "
            f"load_probe(file, backbone)"
        )
    drawn = {} if seed is None else {"source": "random", "seed": seed}
    return load_backbone(name, image_size=(height, width), device=device, **drawn)


def _check_backbone(
    file: str | os.PathLike, about: dict[str, Any], sample: Float[Tensor, " dim"], backbone: Backbone
) -> None:
    weights, size = about["weights"], tuple(about["image_size"])
    if backbone.sha256 == weights["sha256"] and backbone.height_width == size:
        if close(sample.double().numpy(), _sample(backbone).double().numpy()):
            return
        raise InputError(
            f"'{os.fspath(file)}' was fitted on '{backbone.name}', {backbone.source}; the backbone at hand says to be "
            f"that, but sees pictures otherwise: its module was trained or changed. Load it anew"
        )
    raise InputError(
        f"'{os.fspath(file)}' was fitted on '{about['backbone']}', {weights['description']}, at {_told(size)} (SHA-256 "
        f"{weights['sha256'][:12]}); got '{backbone.name}', {backbone.source}, at {_told(backbone.height_width)} "
        f"({backbone.sha256[:12]}): load that one, or fit a probe on this one"
    )


def _told(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} px"


@torch.inference_mode()
def _sample(backbone: Backbone) -> Float[Tensor, " dim"]:
    """The embedding of one picture of ramps and waves, which is the same on every machine."""
    height, width = backbone.height_width
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    cols = torch.linspace(0, 1, width).expand(height, width)
    waves = (1 + torch.sin(40 * rows) * torch.sin(40 * cols)) / 2
    with autocast("float32", backbone.device):
        trace = backbone.trace(torch.stack([rows, cols, waves])[None], layers=-1, attention=None)
    return trace.embedding[0].float().cpu().clone()
