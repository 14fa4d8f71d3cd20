"""Trains the students that are shipped in assets/pairs again: `python docs/train_students.py IMAGES RUNS [NAME …]`.

IMAGES is a folder of pictures that does not contain the embedded photos: these stay unseen, and the numbers in a
pair's card come from them. On a CPU with bfloat16 instructions, precision="bfloat16" takes half of the time.
"""

import shutil
import sys
from pathlib import Path

from tqdm import tqdm

import explorer as ex
from explorer.pairs import export_pair, import_pair

STUDENTS = {
    "s14-noise": (
        "s14",
        ex.DistillConfig(distortion="gaussian_noise(sigma=0.3)", steps=300, eval_every=50, precision="bfloat16"),
    ),
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
