"""Results as Markdown: a `Section` for each benchmark, made of `Table`s and sentences. Measures nothing."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import log
from pathlib import Path
from statistics import linear_regression

Cell = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: a title, the names of its columns, rows of as many cells, and sentences below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one benchmark has to say."""

    title: str
    intro: str
    tables: tuple[Table, ...]


def markdown(parts: Mapping[str, str]) -> str:
    """The whole report, of the Markdown of its sections by title; before them one table of all aims."""
    return "\n".join(["# Benchmarks", "", _METHOD, "", *_aims(parts), *parts.values()]).rstrip() + "\n"


def section_markdown(section: Section, made: str) -> str:
    """One section; `made` says where and how its numbers were measured."""
    tables = [line for table in section.tables for line in _table(table)]
    return "\n".join([f"## {section.title}", "", made, "", section.intro, "", *tables])


def sections_of(report: str) -> dict[str, str]:
    """The sections of a report that was written before, by title."""
    _, *found = f"\n{report}".split("\n## ")
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in found}


def made_by(command: str, threads: int, quick: bool) -> str:
    """How and on what the numbers of a section were measured; nothing in it names a host."""
    names = ("torch", "torchvision", "timm", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    warning = "**Made with --quick: the smallest models and few rounds, to see that it runs. No number counts.** "
    return (
        f"{warning * quick}*Made by* `{command}`. *Machine: {platform.system()} {platform.machine()}, {_processor()}, "
        f"{os.cpu_count()} cores; torch used {threads} threads on the CPU; Python {platform.python_version()}, "
        f"{versions}. Load average at the start: {load} (0 is quiet).*"
    )


def aim(name: str, ratio: float, limit: float) -> str:
    """Whether an aim was reached, in a sentence."""
    verdict = "reached" if ratio <= limit else "MISSED"
    return f"Aim: {name} <= {limit:.2f}x, median of the paired ratio. Measured {ratio:.3f}x: {verdict}."


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The k of times ~ sizes^k that fits best, by least squares of the logarithms."""
    x, y = ([log(value) for value in values] for values in (sizes, times))
    return linear_regression(x, y).slope


_AIM = re.compile(r"Aim: (.+?)(?:, median of the paired ratio)?\. Measured (.+?): (reached|MISSED)")
_METHOD = (
    "`python tests/benchmarks/run.py --out docs/benchmarks.md` makes all of it again, with `--only NAME --update` one "
    "section in its place; each says how and where it was measured. All variants run in turn within each round, in an "
    "order drawn anew for each round, on the same weights. A *ratio* "
    "is a variant's time divided by the baseline's time of the same round; its median is what counts, its minimum "
    "flatters. Memory is measured in a fresh process for each variant. Kept in files of "
    "their own, made by the same program: [distillation](distillation.md), [corruptions](corruptions.md), "
    "[settings](settings.md)."
)


def _aims(parts: Mapping[str, str]) -> list[str]:
    """The aims of all sections, as they say themselves, in one table."""
    found = [
        (f"[{title.partition(':')[0]}](#{_anchor(title)}), {table.splitlines()[0]}", *stated.groups())
        for title, part in parts.items()
        for table in part.split("\n### ")[1:]
        for stated in _AIM.finditer(table)
    ]
    rows = [_row(cells) for cells in found]
    return ["All aims:", "", _row(("what", "aim", "measured", "")), _row(["---"] * 4), *rows, ""] if rows else []


def _anchor(title: str) -> str:
    """What GitHub makes of a heading for links."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _table(table: Table) -> list[str]:
    assert all(len(row) == len(table.columns) for row in table.rows)
    ruler = [
        "---:" if all(not isinstance(row[i], str) for row in table.rows) else "---" for i in range(len(table.columns))
    ]
    lines = [_row(table.columns), _row(ruler), *(_row([_text(cell) for cell in row]) for row in table.rows)]
    notes = [line for note in table.notes for line in (note, "")]
    return [f"### {table.title}", "", *lines, "", *notes]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        if cell == 0:
            return "0"
        return f"{cell:.1e}" if abs(cell) < 1e-3 else f"{cell:,.1f}" if abs(cell) >= 10 else f"{cell:.3f}"
    return str(cell)


def _processor() -> str:
    """The processor's model where the system tells (Linux), else its family."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"
