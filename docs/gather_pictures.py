"""Lays out the pictures that the shipped students learn from, and those that they never see:

    python docs/gather_pictures.py SAMPLE MORE CALTECH OUT

SAMPLE holds 700 photos of ImageNet's classes, one of each, MORE 1,000 others, CALTECH the training part of Caltech-101
as class folders. OUT/test gets every seventh photo of SAMPLE, in the order of their names; OUT/train all others.
"""

import shutil
import sys
from pathlib import Path


def main() -> None:
    """Copy them under names that tell where they came from."""
    sample, more, caltech, out = map(Path, sys.argv[1:])
    for part in ("train", "test"):
        (out / part).mkdir(parents=True)
    for number, file in enumerate(sorted(sample.glob("*.jpg"))):
        shutil.copy(file, out / ("test" if number % 7 == 6 else "train"))
    for file in more.iterdir():
        shutil.copy(file, out / "train")
    for file in caltech.glob("*/*"):
        shutil.copy(file, out / "train" / f"c_{file.parent.name}_{file.name}")


if __name__ == "__main__":
    main()
