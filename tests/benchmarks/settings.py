"""What makes forward passes and training faster, and what does not: settings of torch, and how pictures are read."""

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import safetensors.torch
import torch
from PIL import Image
from report import Section, Table
from threadpoolctl import ThreadpoolController
from timing import Case, paired, stopwatch

import explorer as ex
from explorer.models import loading
from explorer.system.files import asset_path
from explorer.system.threads import SPINS
from explorer.training import distillation

BASELINE = "as the library does it: float32, no_grad"
AGAIN = "decoded at each visit"
CASE = Case(label="ViT-S/14 at 224 px", name="s14", image_size=224, batch=8, rounds=9)
QUICK = Case(label="test_vit at 160 px", name="test_vit", image_size=160, batch=2, rounds=2)
DRAWN = "parameters drawn, then loaded over"
ALL_CORES = "each with all cores"
MEGAPIXELS = (4000, 3000)
TOGETHER = 3
WAITING = {
    "as libgomp does it": {},
    f"GOMP_SPINCOUNT={SPINS}, as the app and the command line do it": {"GOMP_SPINCOUNT": SPINS},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
PASSES = """
import statistics, sys, time
import torch
import explorer as ex
name, size, passes = sys.argv[1], *map(int, sys.argv[2:])
backbone = ex.load_backbone(name, image_size=size, source="random", device="cpu")
image, seconds = torch.rand(1, 3, size, size), []
backbone.trace(image)
began = time.process_time()
for _ in range(passes):
    start = time.perf_counter()
    backbone.trace(image)
    seconds.append(time.perf_counter() - start)
print(1000 * statistics.median(seconds), 1000 * (time.process_time() - began) / passes)
"""


def run(quick: bool) -> Section:
    """The tables."""
    case = QUICK if quick else CASE
    return Section(
        title="Settings: what pays on a CPU",
        intro=(
            "Random seeded weights. *Forward passes* are `trace(attention=None, layers=-1)` on a batch that is ready; "
            "torch.compile has compiled before the clock starts. *Training* is `explorer.distill`, three levels, from "
            "record to record after every picture was met; the pictures are photos of the project enlarged to "
            f"{MEGAPIXELS[0]} x {MEGAPIXELS[1]} px JPEGs, as a phone makes them. *Two at once* are two threads that "
            f"look at {TOGETHER} pictures each, one at a time, with all attention. *How threads wait* is `trace` "
            "in new processes, in turns. *Loading* is `load_backbone` from a file in the disk's cache."
        ),
        tables=(_forward(case, quick), _together(case), _waiting(case, quick), _loading(case), _training(case, quick)),
    )


def _forward(case: Case, quick: bool) -> Table:
    backbone = ex.load_backbone(case.name, image_size=case.image_size, source="random", device="cpu")
    images = torch.rand(case.batch, 3, case.image_size, case.image_size, generator=torch.Generator().manual_seed(0))
    last = backbone.with_module(copy.deepcopy(backbone.module).to(memory_format=torch.channels_last))
    trace = partial(_trace, backbone, images)
    ways: dict[str, Callable[[], object]] = {
        BASELINE: trace,
        "inference_mode": torch.inference_mode()(trace),
        "channels_last": partial(_trace, last, images.to(memory_format=torch.channels_last)),
        "one thread": partial(_with_threads, 1, trace),
        "one picture at a time": lambda: [_trace(backbone, image[None]) for image in images],
        "bfloat16 autocast": torch.autocast("cpu", torch.bfloat16)(trace),
    }
    if not quick:  # takes a C++ compiler and a minute
        compiled = copy.deepcopy(backbone.module)
        compiled.forward_intermediates = torch.compile(compiled.forward_intermediates)  # type: ignore[assignment,arg-type]
        ways["torch.compile"] = partial(_trace, backbone.with_module(compiled), images)
    return _table(f"Forward passes: {case.label}, batch {case.batch}", ways, BASELINE, case, case.batch)


def _trace(backbone: ex.Backbone, images: torch.Tensor) -> ex.Trace:
    return backbone.trace(images, layers=-1, attention=None)


def _with_threads(count: int, work: Callable[[], object]) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


def _together(case: Case) -> Table:
    backbone = ex.load_backbone(case.name, image_size=case.image_size, source="random", device="cpu")
    images = torch.rand(TOGETHER, 3, case.image_size, case.image_size, generator=torch.Generator().manual_seed(0))
    pools, cores = ThreadpoolController().select(user_api="openmp"), torch.get_num_threads()

    def look(threads: int) -> None:
        torch.get_num_threads()  # torch sets a new thread's number when it is first asked
        with pools.limit(limits=threads):
            for image in images:
                backbone.trace(image[None])

    def both(threads: int) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(look, [threads] * 2))

    ways = {
        ALL_CORES: partial(both, cores),
        "each with half of them, as in the app": partial(both, max(1, cores // 2)),
        "one after the other, with all": lambda: [look(cores) for _ in range(2)],
    }
    return _table(f"Two at once: {case.label}", ways, ALL_CORES, case, 2 * TOGETHER)


def _waiting(case: Case, quick: bool) -> Table:
    """Each measurement in a process of its own, as libgomp reads its settings once; in turns."""
    rounds, passes = (1, 3) if quick else (3, 15)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in WAITING}
    for _ in range(rounds):
        for name, variables in WAITING.items():
            alone = _passes_of(case, passes, variables)
            with _busy(os.cpu_count() or 1):
                found[name].append((*alone, *_passes_of(case, passes, variables)))
    rows = [(name, *(median(column) for column in zip(*each, strict=True))) for name, each in found.items()]
    return Table(
        title=f"How threads wait: {case.label}, one picture, alone and beside a busy process for each core",
        columns=("way", "ms", "processor's ms", "ms beside others", "processor's ms beside others"),
        rows=tuple(rows),
    )


def _passes_of(case: Case, passes: int, variables: dict[str, str]) -> tuple[float, float]:
    """Median milliseconds of a pass, and mean milliseconds of processor time."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", PASSES, case.name, str(case.image_size), str(passes)]
    done = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=True)
    milliseconds, busy = map(float, done.stdout.split())
    return milliseconds, busy


@contextmanager
def _busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _loading(case: Case) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        module = ex.load_backbone(case.name, image_size=case.image_size, source="random", device="cpu").module
        safetensors.torch.save_file(module.state_dict(), file)
        load = partial(ex.load_backbone, case.name, case.image_size, file, "cpu")

        def drawn() -> None:
            usual, loading.Unfilled = loading.Unfilled, nullcontext  # type: ignore[misc,assignment]
            try:
                load()
            finally:
                loading.Unfilled = usual  # type: ignore[misc]

        ways: dict[str, Callable[[], object]] = {DRAWN: drawn, "left as allocated, as the library does it": load}
        return _table(f"Loading: {case.label}", ways, DRAWN, case, None)


def _training(case: Case, quick: bool) -> Table:
    backbone = ex.load_backbone(case.name, image_size=case.image_size, source="random", device="cpu")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        photos = _large_photos(folder / "photos", 2 * case.batch, (400, 300) if quick else MEGAPIXELS)
        images = ex.load_images(photos, size=round(case.image_size * 4 / 3))
        runs = {
            AGAIN: stack.enter_context(_steps(backbone, images, case, folder / "again", kept=0)),
            "decoded by one worker": stack.enter_context(_steps(backbone, images, case, folder / "worker", workers=1)),
            "decoded once": stack.enter_context(_steps(backbone, images, case, folder / "once")),
        }
        return _table(f"Training: {case.label}, batch {case.batch}", runs, AGAIN, case, case.batch)


@contextmanager
def _steps(
    backbone: ex.Backbone, images: ex.ImageSet, case: Case, out: Path, workers: int = 0, kept: int | None = None
) -> Iterator[Callable[[], object]]:
    """A run that has met all pictures; each call is one more step of it."""
    never = 1 << 20
    config = ex.DistillConfig(
        image_size=case.image_size,
        batch_size=case.batch,
        steps=never,
        probe=1,
        eval_every=never,
        checkpoint_every=never,
        workers=workers,
    )
    usual = distillation._DECODED_BYTES
    distillation._DECODED_BYTES = usual if kept is None else kept
    records = ex.distill(backbone, images, config, out)
    try:
        for _ in range(2):
            next(records)
    finally:
        distillation._DECODED_BYTES = usual
    yield partial(next, records)
    records.close()  # type: ignore[attr-defined]


def _large_photos(folder: Path, count: int, size: tuple[int, int]) -> Path:
    folder.mkdir()
    for path in sorted(asset_path("photos").glob("*/*.webp"))[:count]:
        Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{path.stem}.jpg")
    return folder


def _table(title: str, ways: dict[str, Callable[[], object]], baseline: str, case: Case, images: int | None) -> Table:
    """One row for each way; `images` is how many one call sees."""
    timings = paired({name: stopwatch(way) for name, way in ways.items()}, baseline=baseline, rounds=case.rounds)
    rows = [
        (
            name,
            timing.best_ms,
            timing.median_ms,
            None if images is None else 1000 * images / timing.median_ms,
            timing.best_ratio,
            timing.median_ratio,
        )
        for name, timing in timings.items()
    ]
    columns = ("setting", "best ms", "median ms", "images/s", "least ratio", "median ratio")
    return Table(title=title, columns=columns, rows=tuple(rows), notes=(f"{case.rounds} rounds.",))
