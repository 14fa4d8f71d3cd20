"""Trains the students that are shipped in assets/pairs again:

    python docs/train_students.py IMAGES RUNS [NAME …] [--minutes M]

IMAGES is a folder of pictures that does not contain the shipped photos: these stay unseen, and the numbers in a
pair's card come from them. Each student first learns from small pictures, which take a fifth of the time, then begins
anew as what came of that, at the size that it is shipped at. CLIP's learn at that size alone, at a higher rate and with
less weight on attention: after 60 steps on common corruptions the CLS cosine of 32 held-out pictures was 0.779 at
S/14's last rate and weight, 0.784 at 2e-3, and with a weight of 1 it was 0.811 after 40 of these steps. After all 640
less of that is left: clip-b16-mixture, measured as in docs/students.md, had 0.785 with S/14's, and has 0.793. Twice as
many steps are not worth their time: 640 more of clip-b16-mixture, from 1e-3 on and with a weight of 0.3, brought the
CLS cosine of 16 held-out pictures from 0.818 to 0.824 and the patch cosine from 0.703 to 0.711, and the attention's KL
from 0.642 to 0.670.

RUNS keeps the runs: start it again, and it goes on. Two students at once, each with OMP_NUM_THREADS=1, make the most of
two cores. On a CPU with bfloat16 instructions, precision="bfloat16" takes half of the time.

On a machine with a GPU that can reach nothing, take along what is needed in parts of at most 40 MiB, and train there:

    python docs/train_students.py IMAGES PACK [NAME …] --gpu
    python docs/train_students.py PACK RUNS [NAME …] --unpack [--minutes 9]

RUNS/NAME.zip are then the finished students, which `vit-explorer pairs import` takes; what is not finished goes on when
it is started again.
"""

import argparse
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

import explorer as ex
from explorer.data.image import to_pil
from explorer.models.pairs import export_pair, import_pair, read_pair, write_pair
from explorer.models.weights import fetch
from explorer.system.files import cache_dir

NOISE = "gaussian_noise(sigma=0.1..0.5)"
BLUR = "gaussian_blur(kernel=21, sigma=1..5)"
MASK = "pixel_mask(fraction=0.5..0.9)"
MIXTURE = "gaussian_noise(sigma=0.1..0.5) | gaussian_blur(kernel=21, sigma=1..5) | pixel_mask(fraction=0.3..0.8)"
COMMON = "random_corruption"  # every common corruption, severities from 1 to 5

SMALL, LARGE = 112, 224  # px
LOADED = {SMALL: 150, LARGE: 256}  # so that crops need not be enlarged
PART_BYTES = 40 << 20


class Stage(NamedTuple):
    """Steps of 16 pictures of one size at one rate."""

    image_size: int
    steps: int
    lr: float


class Recipe(NamedTuple):
    """How the students of a backbone learn."""

    stages: list[Stage]
    rank: int  # all students together are to stay small
    attention: float  # weight of that level


RECIPES = {
    "s14": Recipe([Stage(SMALL, 1900, 1e-3), Stage(LARGE, 300, 5e-4)], rank=16, attention=3.0),
    "clip-b16": Recipe([Stage(LARGE, 640, 1.5e-3)], rank=6, attention=1.0),
}
DISTORTIONS = {
    "s14-noise": NOISE,
    "s14-blur": BLUR,
    "s14-mask": MASK,
    "s14-mixture": MIXTURE,
    "s14-common": COMMON,
    "clip-b16-mixture": MIXTURE,
    "clip-b16-common": COMMON,
}


def main() -> None:
    """Train and ship, or pack for another machine, or train there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="IMAGES, or PACK")
    parser.add_argument("target", type=Path, help="RUNS, or PACK")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(DISTORTIONS)}; all unless given")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; go on another time")
    parser.add_argument("--gpu", action="store_true", help="pack what is needed elsewhere")
    parser.add_argument("--unpack", action="store_true", help="train from a pack")
    parser.add_argument("--steps", type=int, help="so few at each size, to try it")
    options = parser.parse_args()
    if options.gpu:
        pack(options.source, options.target, {name.rpartition("-")[0] for name in options.names or DISTORTIONS})
        return
    images = unpack(options.source, options.target) if options.unpack else options.source
    end = time.monotonic() + 60 * options.minutes
    for name in options.names or DISTORTIONS:
        finished = train(name, images, options.target, end, options.steps)
        if finished and not options.unpack:
            ship(name, finished)


def train(name: str, images: Path, runs: Path, end: float, few: int | None = None) -> Path | None:
    """Train one student, or go on with it where it was stopped, until a time: the finished one, as a file."""
    backbone = name.rpartition("-")[0]
    recipe = RECIPES[backbone]
    begin = None
    for number, stage in enumerate(recipe.stages):
        if time.monotonic() > end:
            return None
        run = runs / f"{name}-{number}-{stage.image_size}"
        config = ex.DistillConfig(
            distortion=DISTORTIONS[name],
            steps=few or stage.steps,
            image_size=stage.image_size,
            begin=begin,
            trainable=f"lora:{recipe.rank}",
            lr=stage.lr,
            attention=recipe.attention,
            precision="bfloat16",
            eval_every=50,
            workers=8 if torch.cuda.is_available() else 0,
        )
        pictures = ex.load_images(images, size=LOADED[stage.image_size])
        teacher = ex.load_backbone(backbone, image_size=stage.image_size)
        records = ex.distill(teacher, pictures, config, run, resume=True)
        bar = tqdm(records, total=config.steps, desc=run.name)
        for record in bar:
            bar.set_postfix(loss=f"{record.losses['loss']:.3f}")
            if time.monotonic() > end and record.step < record.steps:
                records.close()  # type: ignore[attr-defined]
                return None
        begin = run
    return export_pair(run, runs / f"{name}.zip", half=True)


def ship(name: str, student: Path) -> None:
    """Put a finished student in the place of the one before; of its history a fifth, and all that was measured."""
    shipped = Path(__file__).parents[1] / "assets" / "pairs" / name
    shutil.rmtree(shipped, ignore_errors=True)
    import_pair(student, shipped)
    card, tensors, history = read_pair(shipped)
    write_pair(shipped, tensors, card, [step for step in history if step["alignment"] or step["step"] % 5 == 0])


def pack(images: Path, folder: Path, backbones: set[str]) -> None:
    """Pictures at the size that they are loaded at, and the teachers' weights, byte for byte: a student is bound to
    them by their digest."""
    folder.mkdir(parents=True)
    pictures = ex.load_images(images, size=LOADED[LARGE])
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "pack.tar.gz")
        with tarfile.open(archive, "w:gz") as tar:
            for number in tqdm(range(len(pictures)), desc="pictures"):
                small = Path(scratch, "small.jpg")
                to_pil(pictures[number][0]).save(small, quality=85)
                tar.add(small, f"images/{number:05}.jpg")
            for backbone in backbones:
                weights = fetch(backbone)
                tar.add(weights, f"weights/{weights.name}")
        with archive.open("rb") as whole:
            for number, part in enumerate(iter(lambda: whole.read(PART_BYTES), b"")):
                (folder / f"part-{number:03}").write_bytes(part)


def unpack(folder: Path, runs: Path) -> Path:
    """The folder of the pictures of a pack; its weights are put into the cache."""
    images = runs / "images"
    if not images.exists():
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch, "pack.tar.gz")
            with archive.open("wb") as whole:
                for part in sorted(folder.glob("part-*")):
                    whole.write(part.read_bytes())
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
            shutil.copytree(Path(scratch, "weights"), cache_dir() / "weights", dirs_exist_ok=True)
            shutil.copytree(Path(scratch, "images"), images)
    return images


if __name__ == "__main__":
    main()
