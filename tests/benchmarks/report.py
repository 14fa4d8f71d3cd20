"""Results as Markdown: a `Section` for each benchmark, made of `Table`s and sentences. Measures nothing."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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


def markdown(sections: Sequence[Section], machine: str, command: str, quick: bool) -> str:
    """The whole report."""
    head = ["# Benchmarks", "", f"Made by `{command}`. {machine}", ""]
    if quick:
        head += [
            "**Made with --quick: the smallest models and few rounds, to see that it runs. No number counts.**",
            "",
        ]
    head += [_METHOD, ""]
    return "\n".join(head + [line for section in sections for line in _section(section)]).rstrip() + "\n"


def machine(threads: int) -> str:
    """One sentence on what ran the benchmarks; nothing in it names a host."""
    names = ("torch", "torchvision", "timm", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    cores = os.cpu_count()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"Machine: {platform.system()} {platform.machine()}, {_processor()}, {cores} cores; torch used {threads} "
        f"threads on the CPU; Python {platform.python_version()}, {versions}. Load average at the start: {load} "
        f"(0 is quiet)."
    )


def aim(name: str, ratio: float, limit: float) -> str:
    """Whether an aim was reached, in a sentence."""
    verdict = "reached" if ratio <= limit else "MISSED"
    return f"Aim: {name} <= {limit:.2f}x, median of the paired ratio. Measured {ratio:.3f}x: {verdict}."


_METHOD = (
    "All variants run in turn within each round, in an order drawn anew for each round, on the same weights. A *ratio* "
    "is a variant's time divided by the baseline's time of the same round; its median is what counts, its minimum "
    "flatters. Memory is measured in a fresh process for each variant."
)


def _section(section: Section) -> list[str]:
    tables = [line for table in section.tables for line in _table(table)]
    return [f"## {section.title}", "", section.intro, "", *tables]


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
