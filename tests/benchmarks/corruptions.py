"""How fast each corruption of ImageNet-C is, on a batch; beside the package imagecorruptions-imaug if it is there.

The package lives in an environment of its own (it brings OpenCV and numba): name its interpreter in the environment
variable CORRUPTIONS_PYTHON. It is then started once and asked for its seconds in turn with ours, within the same
rounds. Without it only our own times are measured.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from report import Section, Table
from timing import Measure, Timing, paired, stopwatch

import explorer as ex
from explorer.distortions import COMMON_CORRUPTIONS
from explorer.system.files import asset_path

SIDE, BATCH, SEVERITY, ROUNDS = 224, 32, 3, 5
VARIABLE = "CORRUPTIONS_PYTHON"
EXTRAS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
OURS, THEIRS = "explorer", "imagecorruptions-imaug"
LIMIT, AIM = 1.0, 1 / 3  # of the package's time: never slower, and three times faster in the median

# Runs in the other interpreter: reads pictures once, then answers each line "name severity" with the seconds it took.
SERVER = """
import sys, time
import cv2, numpy as np
from imagecorruptions import corrupt
cv2.setNumThreads(int(sys.argv[2]))
pictures = np.load(sys.argv[1])
for line in sys.stdin:
    name, severity = line.split()
    start = time.perf_counter()
    for picture in pictures:
        corrupt(picture, severity=int(severity), corruption_name=name)
    print(time.perf_counter() - start, flush=True)
"""


def run(quick: bool) -> Section:
    """Measure all corruptions at one severity."""
    batch, rounds = (2, 1) if quick else (BATCH, ROUNDS)
    pictures = _pictures(batch)
    with _Reference(pictures) as reference:
        rows = [_row(name, pictures, rounds, reference.seconds) for name in (*COMMON_CORRUPTIONS, *EXTRAS)]
    return Section(
        title="Corruptions: ours and the reference package",
        intro=(
            f"{batch} photos of {SIDE} px at severity {SEVERITY}, median of {rounds} rounds after one to warm up, "
            f"milliseconds for one picture. Ours: `explorer.distortion('name:{SEVERITY}')` on a float batch on "
            f"the CPU, {torch.get_num_threads()} threads. {THEIRS}: `corrupt` on each picture in uint8, OpenCV with as "
            f"many threads, in its own environment (variable {VARIABLE}). *ratio*: our time as a share of theirs."
        ),
        tables=(_table(rows),),
    )


def _table(rows: list[tuple[str, float, float | None, float | None]]) -> Table:
    ratios = [ratio for *_, ratio in rows if ratio is not None]
    note = f"{THEIRS} was not measured: {VARIABLE} is not set."
    if ratios:
        slower = [name for name, *_, ratio in rows if ratio is not None and ratio > LIMIT]
        note = (
            f"Aim: never slower, and {1 / AIM:.0f}x faster in the median. Measured: slower are "
            f"{', '.join(slower) or 'none'}; the median ratio is {median(ratios):.3f}, "
            f"{'reached' if median(ratios) <= AIM else 'MISSED'}."
        )
    return Table(
        title="Corruptions", columns=("corruption", "ours ms", "theirs ms", "ratio"), rows=tuple(rows), notes=(note,)
    )


def _row(
    name: str, pictures: np.ndarray, rounds: int, reference: Callable[[str], float] | None
) -> tuple[str, float, float | None, float | None]:
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().contiguous() / 255
    measures: dict[str, Measure] = {OURS: stopwatch(partial(ex.distortion(f"{name}:{SEVERITY}"), images))}
    if reference is not None:
        measures[THEIRS] = partial(reference, name)
    found = paired(measures, baseline=THEIRS if reference else OURS, rounds=rounds)
    ours, theirs = found[OURS], found.get(THEIRS)
    if theirs is None:
        return name, _each(ours, pictures), None, None
    return name, _each(ours, pictures), _each(theirs, pictures), ours.median_ratio


def _each(timing: Timing, pictures: np.ndarray) -> float:
    return timing.median_ms / len(pictures)


def _pictures(count: int) -> np.ndarray:
    """batch x 224 x 224 x 3 in uint8."""
    paths = sorted(Path(asset_path("photos")).glob("*/*.webp"))[:count]
    images = [ex.load_image(path, size=SIDE).permute(1, 2, 0).mul(255).round() for path in paths]
    return torch.stack(images).to(torch.uint8).numpy()


class _Reference:
    """The package in its own interpreter; `seconds` is None where there is none."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.interpreter = os.environ.get(VARIABLE)
        self.pictures = pictures
        self.seconds: Callable[[str], float] | None = None

    def __enter__(self) -> "_Reference":
        if self.interpreter:
            self.folder = tempfile.TemporaryDirectory()
            file = Path(self.folder.name) / "pictures.npy"
            np.save(file, self.pictures)
            command = [self.interpreter, "-c", SERVER, str(file), str(torch.get_num_threads())]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.seconds = self._seconds
        return self

    def __exit__(self, *_error: object) -> None:
        if self.interpreter:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait()
            self.folder.cleanup()

    def _seconds(self, name: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name} {SEVERITY}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())
