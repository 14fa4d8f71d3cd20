"""What a person waits for in the app: the first picture after its start, each tab, and every click until it is painted;
and what it takes while nobody does anything.

The real app in a process of its own and the system's chromium, as the tests use them. Times in the page are taken by
the page: from the event's own time stamp until the view has painted.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from report import Section, Table

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS.parent), str(TESTS), str(TESTS / "apps")]

from browsing import chromium  # noqa: E402
from serving import PYTHON, serving  # noqa: E402
from visiting import VIEWS, Visit  # noqa: E402

from explorer.models.weights import ALIASES  # noqa: E402
from explorer_app.tabs import TABS  # noqa: E402

PATIENCE_MS = 120_000
FRAME_MS = 16
STARTS, PAGES, MOVES, CHANGES, REQUESTS = 3, 5, 60, 30, 12
AIMS = {"the server answers": 4.0, "the first maps are painted": 6.0}  # s
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # as pip leaves modules, whatever the settings here
TAB_AIM_MS, LAB_AIM_MS, REST_AIM, REST_SECONDS, QUIET_SECONDS = 1000, 1500, 0.01, 30, 45
# Clicks a tab; milliseconds until it shows something of its own, and that is painted.
SPEAKS = """(tab) => new Promise((done) => {
  const began = performance.now();
  tab.click();
  const speaking = (node) => node.checkVisibility() && node.innerText.trim();
  const seen = (what) => [...document.querySelectorAll(what)].some(speaking);
  const look = () => {
    const speaks = tab.ariaSelected === "true" && seen(".vx-body, #probe-mark");
    requestAnimationFrame(speaks ? () => done(performance.now() - began) : look);
  };
  look();
})"""
# Notes when the next event of a kind comes, and when the view has painted after it; `other`: where other words stand.
ARM = """([id, kind, other]) => {
  const root = document.querySelector(`${id} .vx-mount`);
  const words = () => other && document.querySelector(`${id} ${other}`).innerText;
  const before = words();
  window.acted = window.painted = null;
  addEventListener(kind, (event) => { window.acted = event.timeStamp; }, { capture: true, once: true });
  const watch = new MutationObserver(() => {
    if (window.acted === null || !root.dataset.repaintMs || (other && words() === before)) return;
    window.painted = performance.now();
    watch.disconnect();
  });
  watch.observe(root, { attributes: true, attributeFilter: ["data-repaint-ms"] });
}"""
TAKEN = """(id) => [window.painted - window.acted,
  Number(document.querySelector(`${id} .vx-mount`).dataset.repaintMs)]"""
NUMBERS = ".vx-table tbody"
Times = list[tuple[float, float]]


def run(quick: bool) -> Section:
    """Start the app, and use it."""
    tables: tuple[Table, ...] = ()
    missing = (
        "" if ALIASES["s14"].cached_file.is_file() else " **Not measured: the weights of s14 are not in the cache.**"
    )
    if not missing:
        with chromium() as browser:
            _start(browser)  # which compiles what has not been imported yet
            starts = [_start(browser) for _ in range(1 if quick else STARTS)]
            tables = (_start_table(starts), *_use(browser, quick))
    return Section(
        title="App: from click to picture",
        intro=(
            "`python apps/compare.py` as a person starts it (files in the system's cache), 's14' at 224 px with its "
            "student for noise, headless chromium at 1440 x 1000 without a GPU, on the same cores as the app. *until "
            "painted*: from the event's time stamp to the end of the repaint that shows it, waiting for the browser's "
            f"next frame included. *repaint*: the work of the view itself; a frame has {FRAME_MS} ms.{missing}"
        ),
        tables=tables,
    )


def _start(browser: Any) -> tuple[float, ...]:
    """Seconds from the start of the process until it answers, its page is there, shows maps, and shows its own."""
    with serving(*PYTHON, **COMPILED) as served:
        visit = _visit(browser, served.url)
        moments = [perf_counter()]
        visit.page.goto(served.url)
        for wait in (visit.page.get_by_role("tab", name="Attention").wait_for, visit.wait_for_maps, visit.wait_for_own):
            wait()
            moments.append(perf_counter())
        visit.close()
    return tuple(moment - served.started for moment in moments)


def _start_table(starts: list[tuple[float, ...]]) -> Table:
    names = ("the server answers", "the page is there", "the first maps are painted", "they are its own")
    rows = [(name, min(taken), median(taken)) for name, taken in zip(names, zip(*starts, strict=True), strict=True)]
    return Table(
        title=f"Cold start, {len(starts)} times, in seconds",
        columns=("until", "best s", "median s"),
        rows=tuple(rows),
        notes=tuple(
            f"Aim: {name} <= {AIMS[name]:.0f} s. Measured {taken:.2f} s: {_verdict(taken <= AIMS[name])}."
            for name, _, taken in rows
            if name in AIMS
        ),
    )


def _use(browser: Any, quick: bool) -> Iterator[Table]:
    moves, changes, requests = (3, 3, 2) if quick else (MOVES, CHANGES, REQUESTS)
    with serving(*PYTHON) as served:
        visit = _visit(browser, served.url).open()
        yield _rest(visit, served.process)
        visit.close()
        yield _tabs(browser, served.url, 1 if quick else PAGES)
        visit = _visit(browser, served.url).open()
        rows = [
            _row("another layer (keyboard)", _layers(visit, changes)),
            _row("another head", _heads(visit, changes)),
            _row("a new strength of the distortion (server)", _strengths(visit, requests)),
            _row("a new seed (server)", _seeds(visit, requests)),
            _row("another sample picture, seen for the first time (server)", _samples(visit, min(requests, 10))),
            _row("pointer to another patch, four panes", _patches(visit, moves)),
            _row("another part replaced in the lab (server)", _parts(visit, requests)),
        ]
        complaints = visit.complaints
        visit.close()
    assert not complaints, complaints
    work, answer = rows[-2][4], rows[-1][2]
    assert isinstance(work, float)
    assert isinstance(answer, float)
    yield Table(
        title="Until it is painted, in milliseconds",
        columns=("what is done", "times", "median until painted", "95 % until painted", "median repaint"),
        rows=tuple(rows),
        notes=(
            f"Aim: the pointer's repaint within one frame, {FRAME_MS} ms. "
            f"Measured {work:.2f} ms: {_verdict(work <= FRAME_MS)}.",
            f"Aim: another part replaced in the lab <= {LAB_AIM_MS} ms. "
            f"Measured {answer:.0f} ms: {_verdict(answer <= LAB_AIM_MS)}.",
        ),
    )


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def _rest(visit: Visit, server: int) -> Table:
    """The share of a core that server and browser take with a page open, when the server has got all ready."""
    visit.page.wait_for_timeout(QUIET_SECONDS * 1000)
    processes = {"server": {server, *_below(server)}}
    processes["browser"] = {*_below(os.getpid())} - processes["server"]
    began, before = perf_counter(), {name: _seconds(each) for name, each in processes.items()}
    visit.page.wait_for_timeout(REST_SECONDS * 1000)
    passed = perf_counter() - began
    shares = {name: (_seconds(each) - before[name]) / passed for name, each in processes.items()}
    total = sum(shares.values())
    return Table(
        title=f"At rest, a page open, over {REST_SECONDS} s, in shares of a core",
        columns=("who", "share of a core"),
        rows=tuple(shares.items()),
        notes=(f"Aim: both <= {REST_AIM:.2f} cores. Measured {total:.4f} cores: {_verdict(total <= REST_AIM)}.",),
    )


def _below(process: int) -> Iterator[int]:
    """A process's children, theirs, and so on."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _below(child)


def _seconds(processes: set[int]) -> float:
    """What they took of a core so far."""
    ticks = 0
    for process in processes:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _tabs(browser: Any, url: str, pages: int) -> Table:
    """Each tab, opened for the first time on a page of its own."""
    rows = []
    for tab in TABS[1:-1]:  # the first is open, the last is text
        times = []
        for _ in range(pages):
            visit = _visit(browser, url).open()
            times.append(visit.page.get_by_role("tab", name=tab.label).evaluate(SPEAKS))
            visit.close()
        rows.append((tab.label, min(times), median(times), max(times)))
    slowest = max(rows, key=lambda row: row[2])
    return Table(
        title=f"A tab opened for the first time, {pages} pages, in milliseconds until it shows something of its own",
        columns=("tab", "best", "median", "worst"),
        rows=tuple(rows),
        notes=(
            f"Aim: each <= {TAB_AIM_MS} ms. "
            f"Measured {slowest[2]:.0f} ms ({slowest[0]}): {_verdict(slowest[2] <= TAB_AIM_MS)}.",
        ),
    )


def _row(name: str, times: Times) -> tuple[str | int | float, ...]:
    waited, worked = ([each[part] for each in times] for part in (0, 1))
    return name, len(times), median(waited), quantiles(waited, n=20, method="inclusive")[-1], median(worked)


def _visit(browser: Any, url: str) -> Visit:
    visit = Visit(browser, url)
    visit.context.set_default_timeout(PATIENCE_MS)
    return visit


def _timed(visit: Visit, kind: str, act: Callable[[], object], view: str = "attention", other: str = "") -> Any:
    """Milliseconds until painted, and of the repaint alone."""
    visit.page.evaluate(ARM, [VIEWS[view], kind, other])
    act()
    visit.page.wait_for_function("() => window.painted !== null")
    taken = visit.page.evaluate(TAKEN, VIEWS[view])
    if other:
        visit.settle()
    return tuple(taken)


def _layers(visit: Visit, count: int) -> Times:
    visit.page.locator("#attention-view").get_by_label("Layer", exact=True).focus()
    keys = [key for _ in range(count) for key in ("ArrowLeft", "ArrowRight")][:count]
    return [_timed(visit, "keydown", lambda key=key: visit.page.keyboard.press(key)) for key in keys]  # type: ignore[misc]


def _heads(visit: Visit, count: int) -> Times:
    head = visit.page.locator("#attention-view").get_by_label("Head", exact=True)
    return [
        _timed(visit, "change", lambda number=number: head.select_option(str(number % 6)))  # type: ignore[misc]
        for number in range(count)
    ]


def _strengths(visit: Visit, count: int) -> Times:
    visit.page.get_by_role("slider", name="range slider for sigma").focus()
    press = lambda: visit.page.keyboard.press("ArrowRight")  # noqa: E731
    return [_timed(visit, "keydown", press, other=NUMBERS) for _ in range(count)]


def _seeds(visit: Visit, count: int) -> Times:
    visit.unfold("more-damage")
    return [_timed(visit, "click", visit.page.locator("#reroll").click, other=NUMBERS) for _ in range(count)]


def _samples(visit: Visit, count: int) -> Times:
    thumbnails = visit.page.locator("#samples .thumbnail-item")
    return [_timed(visit, "click", thumbnails.nth(number).click, other=NUMBERS) for number in range(1, count + 1)]


def _patches(visit: Visit, count: int) -> Times:
    visit.page.get_by_role("tab", name="Patches").click()
    visit.wait_for_maps("patches")
    visit.settle()
    pane = visit.box("teacher_clean", "patches")
    pane.scroll_into_view_if_needed()
    area = pane.bounding_box()
    assert area is not None
    times = []
    for step in range(1, count + 1):
        x, y = (
            area[corner] + (jump * step % 16 + 0.5) / 16 * area[side]  # type: ignore[literal-required]
            for corner, side, jump in (("x", "width", 3), ("y", "height", 5))
        )
        times.append(_timed(visit, "pointermove", lambda x=x, y=y: visit.page.mouse.move(x, y), "patches"))  # type: ignore[misc]
    return times


def _parts(visit: Visit, count: int) -> Times:
    visit.page.get_by_role("tab", name="Lab").click()
    visit.wait_for_maps("lab")
    visit.settle()
    visit.page.locator("#lab-view").get_by_role("slider", name="Of block").focus()
    press = lambda: visit.page.keyboard.press("ArrowLeft")  # noqa: E731
    return [_timed(visit, "keydown", press, "lab", other=".vx-saying") for _ in range(min(count, 8))]
