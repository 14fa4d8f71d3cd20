"""From the numbers of `compare_rivals.py` to docs/results.md, results.csv and results.png. Nothing is computed here."""

import csv
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from explorer.plots.style import COLOURS, QUIET, empty_figure, to_png

Numbers = dict[str, list[float]]
DATA = {
    "photos": "the embedded photos (207 in 10 classes; about half of each class is labelled, the rest tests)",
    "cifar10": "CIFAR-10 (3,000 labelled, 1,000 test pictures, resized from 32 px before they are distorted)",
}
ROWS = ("frozen + probe", "restored + probe", "fine-tuned", "contrastive student", "three-level student")
OTHERS = ("shipped student",)
CEILING = "clean teacher"
INKS = dict(zip(ROWS, (COLOURS["teacher"], "#56B4E9", "#999999", "#E69F00", COLOURS["student"]), strict=True))
INKS["shipped student"] = COLOURS["student"]
READING = Path(__file__).with_name("results_reading.md")


def write(numbers: Numbers, folder: Path) -> None:
    """The report, the table, and the plot of the linear probes with all labels."""
    head = Path(__file__).with_name("results_head.md").read_text(encoding="utf-8")
    sections = [head]
    if READING.exists():
        sections.append(READING.read_text(encoding="utf-8"))
    sections.append("![Accuracy of each row under each distortion](results.png)\n")
    for data in DATA:
        for backbone in ("s14", "clip-b16"):
            for fraction in (1.0, 0.1):
                sections.append(_section(numbers, data, backbone, fraction))
        sections.append(_clean(numbers, data))
    (folder / "results.md").write_text("\n".join(filter(None, sections)), encoding="utf-8")
    _table(numbers, folder / "results.csv")
    (folder / "results.png").write_bytes(to_png(_plot(numbers)))


def _section(numbers: Numbers, data: str, backbone: str, fraction: float) -> str:
    damages = _damages(numbers, data, backbone)
    if not damages:
        return ""
    rows = [row for row in (*ROWS, *OTHERS) if any(_cell(numbers, data, backbone, row, d, fraction) for d in damages)]
    lines = [f"## {backbone}, {DATA[data]}: {fraction:.0%} of the labels\n"]
    lines += [f"| | {' | '.join(f'`{damage}`' for damage in damages)} |", "|---|" + "---:|" * len(damages)]
    for row in rows:
        cells = [_text(_cell(numbers, data, backbone, row, damage, fraction)) for damage in damages]
        lines.append(f"| {row} | {' | '.join(_bold(row, cells, rows, numbers, data, backbone, damages, fraction))} |")
    ceiling = _cell(numbers, data, backbone, CEILING, "none", fraction)
    lines.append(f"| *{CEILING}* | " + " | ".join([f"*{_text(ceiling)}*"] * len(damages)) + " |")
    ours = "three-level student" if "three-level student" in rows else "shipped student"
    gaps = [_gap(numbers, data, backbone, ours, damage, fraction) for damage in damages]
    lines.append(f"| gap closed by the {ours} | {' | '.join(gaps)} |")
    return "\n".join(lines) + "\n"


def _clean(numbers: Numbers, data: str) -> str:
    """What learning one kind of damage costs on clean pictures."""
    found = [
        key.split(" / ") for key in numbers if key.startswith(f"{data} / ") and key.endswith(" / none / 1.0 / linear")
    ]
    if not found:
        return ""
    lines = [
        f"## Clean pictures, {DATA[data].partition(' (')[0]}, all labels\n",
        "| | s14 | clip-b16 |",
        "|---|---:|---:|",
    ]
    for row in dict.fromkeys(parts[2] for parts in found):
        cells = [_text(_cell(numbers, data, name, row, "none", 1.0)) for name in ("s14", "clip-b16")]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bold(
    row: str,
    cells: list[str],
    rows: list[str],
    numbers: Numbers,
    data: str,
    backbone: str,
    damages: list[str],
    fraction: float,
) -> list[str]:
    marked = []
    for cell, damage in zip(cells, damages, strict=True):
        values = {r: _cell(numbers, data, backbone, r, damage, fraction) for r in rows}
        best = max((statistics.mean(v) for v in values.values() if v), default=None)
        own = values[row]
        marked.append(f"**{cell}**" if own and statistics.mean(own) == best else cell)
    return marked


def _damages(numbers: Numbers, data: str, backbone: str) -> list[str]:
    start = f"{data} / {backbone} / "
    return [d for d in dict.fromkeys(key.split(" / ")[3] for key in numbers if key.startswith(start)) if d != "none"]


def _cell(numbers: Numbers, data: str, backbone: str, row: str, damage: str, fraction: float) -> list[float] | None:
    probe = "head" if row == "fine-tuned" else "linear"
    return numbers.get(" / ".join((data, backbone, row, damage, str(fraction), probe)))


def _gap(numbers: Numbers, data: str, backbone: str, row: str, damage: str, fraction: float) -> str:
    cells = [
        _cell(numbers, data, backbone, CEILING, "none", fraction),
        _cell(numbers, data, backbone, ROWS[0], damage, fraction),
        _cell(numbers, data, backbone, row, damage, fraction),
    ]
    if not all(cells):
        return ""
    ceiling, floor, student = (statistics.mean(cell) for cell in cells if cell)
    return f"{(student - floor) / (ceiling - floor):.0%}" if ceiling > floor else "no gap"


def _text(values: list[float] | None) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _table(numbers: Numbers, file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(
            ("data", "backbone", "row", "distortion", "label_fraction", "probe", "accuracy", "std", "draws")
        )
        for key, values in numbers.items():
            spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            writer.writerow((*key.split(" / "), f"{statistics.mean(values):.4f}", spread, len(values)))


def _plot(numbers: Numbers) -> Figure:
    shown = [(data, name) for data in DATA for name in ("s14", "clip-b16") if _damages(numbers, data, name)]
    figure = empty_figure((11.0, 2.9 * max(1, len(shown))))
    figure.set_layout_engine("constrained")
    for ax, (data, backbone) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        damages = _damages(numbers, data, backbone)
        columns = {
            row: [_cell(numbers, data, backbone, row, damage, 1.0) for damage in damages] for row in (*ROWS, *OTHERS)
        }
        rows = [row for row, cells in columns.items() if any(cells)]
        for place, row in enumerate(rows):
            points = [(x, statistics.mean(cell)) for x, cell in enumerate(columns[row]) if cell]
            across = [x + 0.13 * (place - (len(rows) - 1) / 2) for x, _ in points]
            ax.bar(across, [y for _, y in points], width=0.12, color=INKS[row], label=row)
        ceiling = _cell(numbers, data, backbone, CEILING, "none", 1.0)
        if ceiling:
            ax.axhline(statistics.mean(ceiling), color=QUIET, ls=":", label=CEILING)
        ax.set_xticks(
            range(len(damages)), [damage.replace("(", "\n(").replace(", ", ",\n") for damage in damages], size=7
        )
        ax.set(ylim=(0, 1), ylabel="accuracy")
        ax.set_title(f"{backbone}, {data}, linear probe, all labels", loc="left", size=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
