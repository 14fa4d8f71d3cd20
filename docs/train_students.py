"""Trains the students that are shipped in assets/pairs again: `python docs/train_students.py IMAGES RUNS [NAME …]`.

IMAGES is a folder of pictures that does not contain the embedded photos: these stay unseen, and the numbers in a
pair's card come from them. Each student first learns from small pictures, which take a sixth of the time, then begins
anew as what came of that, at the size that it is shipped at. RUNS keeps the runs: start it again, and it goes on. Two
students at once, each with OMP_NUM_THREADS=1, make the most of two cores. On a CPU with bfloat16 instructions,
precision="bfloat16" takes half of the time.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import explorer as ex
from explorer.models.pairs import export_pair, import_pair

NOISE = "gaussian_noise(sigma=0.1..0.5)"
BLUR = "gaussian_blur(kernel=21, sigma=1..5)"
MASK = "pixel_mask(fraction=0.5..0.9)"
MIXTURE = "gaussian_noise(sigma=0.1..0.5) | gaussian_blur(kernel=21, sigma=1..5) | pixel_mask(fraction=0.3..0.8)"
COMMON = "random_corruption"  # every common corruption, severities from 1 to 5

SMALL, LARGE = 112, 224  # px
LOADED = {SMALL: 150, LARGE: 256}  # so that crops need not be enlarged
STEPS = {"s14": {SMALL: 1900, LARGE: 340}, "clip-b16": {SMALL: 560, LARGE: 100}}  # of 16 pictures
TRAINED: dict[str, dict[str, Any]] = {"s14": {"trainable": "lora:16"}, "clip-b16": {"trainable": "lora:6"}}
DISTORTIONS = {
    "s14-noise": NOISE,
    "s14-blur": BLUR,
    "s14-mask": MASK,
    "s14-mixture": MIXTURE,
    "s14-common": COMMON,
    "clip-b16-mixture": MIXTURE,
    "clip-b16-common": COMMON,
}


def train(name: str, images: Path, runs: Path) -> None:
    """Train one student, or go on with it where it was stopped; then ship it."""
    backbone = name.rpartition("-")[0]
    begin = None
    for size, steps in STEPS[backbone].items():
        run = runs / f"{name}-{size}"
        config = ex.DistillConfig(
            distortion=DISTORTIONS[name],
            steps=steps,
            image_size=size,
            begin=begin,
            precision="bfloat16",
            eval_every=50,
            **TRAINED[backbone],
        )
        pictures = ex.load_images(images, size=LOADED[size])
        teacher = ex.load_backbone(backbone, image_size=size)
        bar = tqdm(ex.distill(teacher, pictures, config, run, resume=True), total=steps, desc=run.name)
        for record in bar:
            bar.set_postfix(loss=f"{record.losses['loss']:.3f}")
        begin = run
    shipped = Path(__file__).parents[1] / "assets" / "pairs" / name
    shutil.rmtree(shipped, ignore_errors=True)
    import_pair(export_pair(run, runs / f"{name}.zip", half=True), shipped)


if __name__ == "__main__":
    source, target, *names = sys.argv[1:]
    for chosen in names or DISTORTIONS:
        train(chosen, Path(source), Path(target))
