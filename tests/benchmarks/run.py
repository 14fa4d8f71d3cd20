"""Measures vit-explorer side by side with what it is compared to, and writes one Markdown file.

    python tests/benchmarks/run.py [--quick] [--only NAME] [--out docs/benchmarks.md [--update]]

Each benchmark runs in a process of its own; this one imports no torch and stays small, see `memory`. Nothing is
downloaded. Takes about an hour on two cores that do nothing else; with --update it can be done in parts.
"""

import argparse
import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from report import Section, made_by, markdown, section_markdown, sections_of
from timing import in_fresh_process

NAMES = ("capture", "memory", "latency", "imports", "distillation", "extraction", "settings", "corruptions")
NAMES += ("checkpointing", "rivals", "lightly", "projection", "growth", "many", "app")


def main() -> None:
    """Run what was asked for and write the report."""
    options = _options()
    names = options.only or NAMES
    threads = in_fresh_process(_threads)
    parts, sections = {}, []
    if options.update and options.out.exists():
        parts = sections_of(options.out.read_text(encoding="utf-8"))
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        made = made_by(_command(options, name), threads, options.quick)
        sections.append(in_fresh_process(_measure, name, options.quick))
        parts[sections[-1].title] = section_markdown(sections[-1], made)
        if options.out is not None:  # at once: what was measured is not lost with what follows
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(markdown(parts), encoding="utf-8")
    if options.out is None:
        print(markdown(parts))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(section) for section in sections], indent=1), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smallest models, few rounds: only to see that it runs")
    parser.add_argument("--only", action="append", choices=NAMES, help="one benchmark; may be given several times")
    parser.add_argument("--out", type=Path, help="the Markdown file to write, such as docs/benchmarks.md; else printed")
    parser.add_argument("--update", action="store_true", help="replace only the measured sections of the file --out")
    parser.add_argument("--json", type=Path, help="also write the tables as JSON")
    options = parser.parse_args()
    if options.update and options.out is None:
        parser.error("--update needs the file to be updated: --out docs/benchmarks.md")
    return options


def _command(options: argparse.Namespace, name: str) -> str:
    """What makes this one section again."""
    target = f"--out {options.out or 'docs/benchmarks.md'} --update"
    return f"python tests/benchmarks/run.py{' --quick' * options.quick} --only {name} {target}"


def _measure(name: str, quick: bool) -> Section:
    section = import_module(name).run(quick)
    assert isinstance(section, Section)
    return section


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    main()
