"""Whether time and memory stay flat over many pictures, what a kill costs, and what a second process brings."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from report import Section, Table, aim
from timing import in_fresh_process

SCRIPT = Path(__file__).with_name("many_run.py")
PICTURES, SHARED = 100_000, 20_000
NOISE = "gaussian_noise(sigma=0.3)"
Line = tuple[int, float, float]


def run(quick: bool) -> Section:
    """All tables, of one folder of synthetic pictures."""
    count, shared = (320, 320) if quick else (PICTURES, SHARED)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _make_pictures(folder / "all", count)
        (folder / "some").mkdir()
        for file in sorted((folder / "all").iterdir())[:shared]:
            os.link(file, folder / "some" / file.name)
        whole, growth = _growth(folder)
        tables = (growth, _stopped(folder, whole), _processes(folder), *in_fresh_process(_later, place, count))
    return Section(
        title="Many pictures: time, memory, stops and processes",
        intro=(
            f"{count:,} synthetic JPEGs of 64 x 64 px through a ViT-Ti/16 of random weights at 32 px, so that reading, "
            "decoding and keeping count; one thread a process, batches of 32, features kept on the disk as float32. "
            "*memory*: anonymous memory of the process, without pages of memory-mapped files."
        ),
        tables=tables,
    )


def _make_pictures(folder: Path, count: int) -> None:
    """Smooth random colours, each another picture."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        colours = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        colours.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:06}.jpg", quality=85)


def _start(folder: Path, cache: Path, **more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, str(SCRIPT), str(folder), str(cache)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _lines(process: "subprocess.Popen[str]") -> list[Line]:
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{SCRIPT.name} failed with {process.returncode}")
    return [_line(text) for text in printed.splitlines()]


def _line(text: str) -> Line:
    done, seconds, memory = text.split()
    return int(done), float(seconds), float(memory)


def _growth(folder: Path) -> tuple[float, Table]:
    lines = _lines(_start(folder / "all", folder / "cache"))[:-1]
    starts = [(0, 0.0, 0.0), *lines]
    each = [1000 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(starts, lines, strict=False)]
    rows = [(f"{done:,}", ms, memory) for (done, _, memory), ms in zip(lines, each, strict=True)]
    first, last = each[1], each[-1]  # the first tenth has the start in it
    return lines[-1][1], Table(
        title="One process, tenth by tenth",
        columns=("pictures done", "ms a picture of this tenth", "memory MiB"),
        rows=tuple(rows),
        notes=(
            aim("time of the last tenth against the second", last / first, 1.1),
            aim("memory after the last tenth against the second", lines[-1][2] / lines[1][2], 1.1),
        ),
    )


def _stopped(folder: Path, whole: float) -> Table:
    """Killed at half, and gone on with."""
    process = _start(folder / "all", folder / "killed")
    assert process.stdout is not None
    while (line := _line(process.stdout.readline()))[0] * 2 < _count(folder / "all"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    began = time.perf_counter()
    _lines(_start(folder / "all", folder / "killed"))
    rest = time.perf_counter() - began
    one, other = (np.load(next((folder / cache).glob("*/embedding.npy"))) for cache in ("cache", "killed"))
    return Table(
        title="Killed (SIGKILL) at half, and asked for again",
        columns=("what", "seconds"),
        rows=(
            ("all at once", whole),
            ("until the kill", line[1]),
            ("the rest, with the start of the process", rest),
            ("features that differ from those made at once", float(np.count_nonzero(one != other))),
        ),
    )


def _processes(folder: Path) -> Table:
    """One, then two that share the work as under `accelerate launch`."""
    began = time.perf_counter()
    (_, one, _) = _lines(_start(folder / "some", folder / "one"))[-1]
    alone, began = time.perf_counter() - began, time.perf_counter()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together["CUDA_VISIBLE_DEVICES"] = ""
    both = [_start(folder / "some", folder / "two", **together, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    two = max(_lines(process)[-1][1] for process in both)
    return Table(
        title=f"{_count(folder / 'some'):,} pictures, one process and two, each with one thread",
        columns=("processes", "seconds", "with the start of the process"),
        rows=(("one", one, alone), ("two", two, time.perf_counter() - began)),
        notes=(aim("two against one", two / one, 0.6),),
    )


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _later(place: str, count: int) -> tuple[Table, ...]:
    """What is done with features: neighbours, a map and what the browser gets, for a tenth of the pictures and all."""
    import json

    import many_run

    import explorer as ex
    from explorer.evaluation.embedding import embed_pair
    from explorer.evaluation.probes import nearest
    from explorer.scenes.evaluation import embedding_scene
    from explorer.widgets.base import as_pairs

    images = ex.load_images(Path(place) / "all", size=many_run.SIZE)
    backbone, cache = many_run.backbone(), Path(place) / "cache"
    rows: list[tuple[Any, ...]] = []
    for size in (count // 10, count):
        features = ex.embed(backbone, images[:size], batch_size=many_run.BATCH, cache=cache).embedding
        began = time.perf_counter()
        nearest(features, features[: count // 10], k=10)
        searched = time.perf_counter() - began
        began = time.perf_counter()
        ex.project({"clean": features, "other": features[::-1]})
        mapped = time.perf_counter() - began
        rows.append((f"{size:,}", searched, mapped, many_run.resident()))
    del features
    embedding = embed_pair(as_pairs(backbone), images[: count // 10], NOISE, batch_size=many_run.BATCH, cache=cache)
    began = time.perf_counter()
    scene = embedding_scene(embedding, embedding.project())
    sent = len(json.dumps(scene)) / 1e6
    drawn = (f"{scene['shown']:,} of {scene['total']:,}", time.perf_counter() - began, sent)
    return (
        Table(
            title="Then, of features that are memory-mapped",
            columns=("pictures", f"10 nearest of {count // 10:,}, s", "PCA of two views, s", "memory MiB"),
            rows=tuple(rows),
        ),
        Table(title="The map", columns=("pictures drawn", "seconds", "MB sent"), rows=(drawn,)),
    )
