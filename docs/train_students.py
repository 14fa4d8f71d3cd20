"""Trains the students that are shipped in assets/pairs again: `python docs/train_students.py IMAGES RUNS [NAME …]`.

IMAGES is a folder of pictures that does not contain the embedded photos: these stay unseen, and the numbers in a
pair's card come from them. On a CPU with bfloat16 instructions, precision="bfloat16" takes half of the time.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import explorer as ex
from explorer.models.pairs import export_pair, import_pair


def student(distortion: str, **options: Any) -> ex.DistillConfig:
    """What all of them have in common."""
    return ex.DistillConfig(distortion=distortion, eval_every=50, precision="bfloat16", **options)


NOISE, BLUR, MASK = "gaussian_noise(sigma=0.3)", "gaussian_blur(kernel=21, sigma=5)", "pixel_mask(fraction=0.75)"
MIXTURE = "gaussian_noise(sigma=0.1..0.5) | gaussian_blur(kernel=21, sigma=1..5) | pixel_mask(fraction=0.3..0.8)"
STUDENTS = {
    "s14-noise": ("s14", student(NOISE, steps=550)),
    "s14-blur": ("s14", student(BLUR, steps=250)),
    "s14-mask": ("s14", student(MASK, steps=250)),
    "s14-mixture": ("s14", student(MIXTURE, steps=400)),
    "clip-b16-mixture": ("clip-b16", student(MIXTURE, steps=120, lr=1e-3)),
}


def train(name: str, images: Path, out: Path) -> None:
    """Train one student, or go on with it where it was stopped."""
    backbone, config = STUDENTS[name]
    pictures = ex.load_images(images, size=256)
    teacher = ex.load_backbone(backbone, image_size=config.image_size)
    bar = tqdm(ex.distill(teacher, pictures, config, out=out / name, resume=True), total=config.steps, desc=name)
    for record in bar:
        bar.set_postfix(loss=f"{record.losses['loss']:.3f}")
    shipped = Path(__file__).parents[1] / "assets" / "pairs" / name
    shutil.rmtree(shipped, ignore_errors=True)
    import_pair(export_pair(out / name, out / f"{name}.zip", half=True), shipped)


if __name__ == "__main__":
    source, target, *names = sys.argv[1:]
    for chosen in names or STUDENTS:
        train(chosen, Path(source), Path(target))
