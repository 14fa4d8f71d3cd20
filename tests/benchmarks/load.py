"""Ten programs and a browser at once: is every answer right, how long does it take, what memory does the app hold?

    python tests/benchmarks/load.py [--users 10] [--minutes 5] [--out docs/load.md]

The app runs in a process of its own, as a person starts it. The picture of its memory lies beside the report. Ends with
1 if any answer was wrong or missing.
"""

import argparse
import bisect
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import psutil
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "apps")]

from report import Section, Table, made_by, section_markdown  # noqa: E402
from serving import PYTHON, Served, serving  # noqa: E402
from visitors import ENDPOINTS, PAUSE, PICTURES, Answer, User, look_at, open_pages, together  # noqa: E402

import explorer as ex  # noqa: E402

MEBIBYTE = 2**20
TRAINING = "/distill, all steps"
PHASES = ("idle", "under load", "afterwards")


class Samples:
    """What the app's process holds, taken every second: seconds, mebibytes of memory and of temporary files."""

    def __init__(self, served: Served) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.phases: dict[str, tuple[float, float]] = {}
        self._process, self._folder = psutil.Process(served.process), served.log.parent
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def phase(self, name: str, work: Callable[[], None]) -> None:
        """Do this, and remember when."""
        begun = time.perf_counter()
        work()
        self.phases[name] = (begun, time.perf_counter())

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def during(self, name: str) -> np.ndarray:
        """The rows of a phase."""
        begun, ended = self.phases[name]
        return np.array([row for row in self.rows if begun <= row[0] <= ended])

    def processor(self) -> float:
        """Seconds of processor time that the app has used so far."""
        used = self._process.cpu_times()
        return used.user + used.system

    def _sample(self) -> None:
        while not self._ended.wait(1):
            memory = self._process.memory_info().rss / MEBIBYTE
            files = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file()) / MEBIBYTE
            self.rows.append((time.perf_counter(), memory, files))


def main() -> int:
    """Measure and write the report; the exit code."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder, serving(*PYTHON, VIT_EXPLORER_RUNS=f"{folder}/runs") as served:
        pictures = _pictures(options.users)
        library = look_at([each for own in pictures for each in own])
        samples, answers = Samples(served), list[Answer]()
        idle = _idle(samples, options.rest)
        users = [
            User(served.url, number, own, library, Path(folder, f"user-{number}"))
            for number, own in enumerate(pictures)
        ]
        until = time.perf_counter() + 60 * options.minutes
        works = [partial(_use, user, until, options.steps, answers.append) for user in users]
        if options.browser:
            works.append(partial(open_pages, served.url, until, answers.append))
        samples.phase("under load", partial(together, works))
        for user in users:
            user.client.close()
        samples.phase("afterwards", partial(time.sleep, options.rest))
        samples.end()
    _write(options, answers, samples, idle)
    return int(any(answer.problem for answer in answers))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=10, help="programs that ask at once")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of the training run, which the first user asks for")
    parser.add_argument("--rest", type=float, default=20, help="seconds of rest that are measured before and after")
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True, help="open pages, too")
    parser.add_argument("--out", type=Path, help="the Markdown file to write, such as docs/load.md; else printed")
    return parser.parse_args()


def _pictures(users: int) -> list[list[Path]]:
    """Photos of its own for each user."""
    photos = ex.load_images("photos")
    apart = len(photos) // (users * PICTURES)
    if apart < 1:
        raise SystemExit(f"load.py: expected at most {len(photos) // PICTURES} users; got {users}")
    paths = [photos.path(apart * place) for place in range(users * PICTURES)]
    return [paths[PICTURES * user : PICTURES * (user + 1)] for user in range(users)]


def _idle(samples: Samples, seconds: float) -> float:
    """The share of a core that the app takes while nobody asks, once it is warm."""
    time.sleep(30)  # when nobody has asked for a while, it compiles UMAP
    deadline = time.perf_counter() + 120
    while time.perf_counter() < deadline:
        before = samples.processor()
        time.sleep(3)
        if samples.processor() - before < 1:
            break
    before = samples.processor()
    samples.phase("idle", partial(time.sleep, seconds))
    return (samples.processor() - before) / seconds


def _use(user: User, until: float, steps: int, tell: Callable[[Answer], None]) -> None:
    if user.number == 0:
        begun = time.perf_counter()
        problem = user.distill(steps, tell)
        tell(Answer(endpoint=TRAINING, asked=begun, seconds=time.perf_counter() - begun, problem=problem))
    user.work(until, tell)


def _write(options: argparse.Namespace, answers: list[Answer], samples: Samples, idle: float) -> None:
    for answer in answers:
        if answer.problem:
            print(f"{answer.endpoint}: {answer.problem}", file=sys.stderr)
    seconds = samples.phases["under load"][1] - samples.phases["under load"][0]
    tables = (_latencies(answers, seconds), _memory(samples, idle))
    section = Section(title="Ten at once", intro=_intro(options), tables=tables)
    made = made_by(_command(options), torch.get_num_threads(), quick=False)
    report = f"# The app under load\n\n{section_markdown(section, made)}"
    if options.out is None:
        print(report)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture = options.out.with_suffix(".png")
    _draw(answers, samples, picture)
    held = samples.during("under load")[:, 1]
    alt = (
        f"The app's resident memory by second: {held[0]:.0f} MiB when the load begins, {held.max():.0f} at its highest"
    )
    options.out.write_text(f"{report}\n![{alt}]({picture.name})\n", encoding="utf-8")


def _command(options: argparse.Namespace) -> str:
    given = f"--users {options.users} --minutes {options.minutes:g}"
    given += f" --steps {options.steps}" * (options.steps != 60) + " --no-browser" * (not options.browser)
    return f"python tests/benchmarks/load.py {given} --out {options.out or 'docs/load.md'}"


def _intro(options: argparse.Namespace) -> str:
    shares = ", ".join(f"`{name}` {share}" for name, share in ENDPOINTS.items())
    browser = " A browser opens a page, chooses another picture and closes the page, again and again." * options.browser
    return (
        f"{options.users} users of `gradio_client` for {options.minutes:g} minutes, each in turn asking and thinking "
        f"({PAUSE:g} s on average); drawn in these shares: {shares}. Each has {PICTURES} photos of its own; every "
        "`/compare` is damaged in a way that was not asked for before, and `/patch_similarity` is of what the user "
        "compared last; programs are served two at a time, and pages in a queue of their own. Eight of ten questions "
        "go to S/14 at 224 px, one to S/14 at 336 px, one to CLIP B/16; students are drawn from those that are "
        f"shipped. The first user trains a student, too.{browser} App and users share "
        "the machine. Every answer is held against what the library computes of that user's own picture: its pixels, "
        "the clean teacher's attention or similarity, the damage and the seed. *wrong* counts answers of another "
        "picture, errors, and answers that did not come."
    )


def _latencies(answers: list[Answer], seconds: float) -> Table:
    training = next((each for each in answers if each.endpoint == TRAINING), None)
    rows = []
    for name in dict.fromkeys(sorted(each.endpoint for each in answers)):
        own = [each for each in answers if each.endpoint == name]
        took = sorted(each.seconds for each in own)
        besides = [e.seconds for e in own if training and training.asked <= e.asked < training.asked + training.seconds]
        alone = name.startswith("/distill")
        rows.append(
            (
                f"`{name}`" if name[0] == "/" and "," not in name else name,
                len(own),
                sum(each.problem is not None for each in own),
                median(took),
                quantiles(took, n=20, method="inclusive")[-1] if len(took) > 1 else took[0],
                took[-1],
                None if alone or not besides else median(besides),
            )
        )
    wrong = sum(each.problem is not None for each in answers)
    return Table(
        title="Answers",
        columns=("asked", "answers", "wrong", "p50 s", "p95 s", "longest s", "p50 s during training"),
        rows=tuple(rows),
        notes=(f"{len(answers)} answers in {seconds:.0f} s, {wrong} of them wrong.",),
    )


def _memory(samples: Samples, idle: float) -> Table:
    rows = []
    for name in PHASES:
        _, memory, files = samples.during(name).T
        rows.append((name, float(memory[0]), float(memory.max()), float(memory[-1]), float(files[-1])))
    times, memory, _ = samples.during("under load").T
    half = bisect.bisect(times, times.mean())
    slope = np.polyfit(times[half:] / 60, memory[half:], 1)[0]
    return Table(
        title="Memory of the app",
        columns=("", "first MiB", "highest MiB", "last MiB", "temporary files MiB"),
        rows=tuple(rows),
        notes=(
            f"In the second half of the load the memory changes by {slope:+.0f} MiB a minute (a straight line fitted). "
            f"While nobody asks, the app takes {100 * idle:.1f} % of a core.",
        ),
    )


def _draw(answers: list[Answer], samples: Samples, path: Path) -> None:
    from matplotlib.figure import Figure

    times, memory, _ = np.array(samples.rows).T
    begun, ended = samples.phases["under load"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds since the load began", ylabel="resident memory, MiB")
    axes.axvspan(0, ended - begun, color="#0f766e", alpha=0.08, label="users at work")
    for answer in answers:
        if answer.endpoint == TRAINING:
            start = answer.asked - begun
            axes.axvspan(start, start + answer.seconds, color="#b54708", alpha=0.12, label="a student is trained")
    axes.plot(times - begun, memory, color="#0f766e", linewidth=1.5)
    axes.set_ylim(0)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
