"""Small labelled pictures in class folders, others with masks, and an untrained pair for them: quick to look at, and
told apart."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.distortions import distortion
from explorer.models.backbones import Backbone
from explorer.models.loading import load_backbone
from explorer.models.pairs import STUDENT, Pair
from explorer.training.checkpoint import OPTIMIZER
from explorer.training.config import DistillConfig
from explorer.training.distillation import distill
from tests.architectures import peaked

SIZE = 32
CLASSES = ("blue", "green", "red")
NOISE = "gaussian_noise(sigma=0.3)"


def picture_folder(folder: Path, per_class: int = 6) -> Path:
    """A folder for each colour; every picture differs."""
    for place, name in enumerate(reversed(CLASSES)):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.random.default_rng((place, number)).integers(0, 90, (40, 40, 3), dtype=np.uint8)
            pixels[..., place] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def break_some(folder: Path) -> tuple[str, ...]:
    """Put files that are broken into such a folder, first, last and in between: empty, text, and one whose head is
    sound. Returns their names."""
    whole = (folder / "red" / "0.png").read_bytes()
    broken = {"blue/-.png": whole[: len(whole) // 2], "green/2a.jpg": b"<html>not found</html>", "red/z.png": b""}
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return tuple(broken)


def picture_set(folder: Path, per_class: int = 6) -> ImageSet:
    """The same, loaded."""
    return load_images(picture_folder(folder, per_class), size=SIZE)


def segmented_folder(folder: Path, pictures: int = 6, seed: int = 0) -> Path:
    """images/, masks/ and classes.csv: four squares in each picture, with the colours of their classes."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(pictures):
        random = np.random.default_rng((seed, number))
        mask = np.kron(random.integers(0, 3, (2, 2), dtype=np.uint8), np.ones((20, 20), dtype=np.uint8))
        pixels = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
        pixels[np.arange(40)[:, None], np.arange(40), 2 - mask] += 150
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    rows = [f"{value},{name}" for value, name in enumerate(CLASSES)]
    (folder / "classes.csv").write_text("\n".join(["value,name", *rows, "255,ignored"]))
    return folder


def pair(trained_on: str = NOISE) -> Pair:
    """Teacher and student with different random weights."""
    return Pair(teacher=network(0), student=network(1), distortion=distortion(trained_on), card={})


def network(seed: int) -> Backbone:
    """A tiny ViT over 2 x 2 patches, with attention that is far from uniform."""
    loaded = load_backbone("vit_tiny_patch16_224", image_size=SIZE, source="random", device="cpu", seed=seed)
    peaked(loaded.module, factor=4.0, seed=seed)
    return loaded


def learned(images: Any, out: Path, steps: int = 4, resume: bool = False) -> bytes:
    """The student's and the optimizer's files after a short run."""
    config = DistillConfig(image_size=SIZE, steps=4, batch_size=4, trainable="last:1", probe=2, eval_every=4)
    records = distill(network(0), images, config, out, resume=resume)
    for _ in range(steps):
        next(records)
    records.close()  # type: ignore[attr-defined]
    return (out / STUDENT).read_bytes() + (out / OPTIMIZER).read_bytes()
