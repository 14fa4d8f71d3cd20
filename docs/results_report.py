"""From docs/results.json, which `compare_rivals.py` fills, to results.md, results.csv and results.png:

    python docs/results_report.py

No models and no pictures are needed. What was not run yet is called so, and counts nowhere.
"""

import base64
import csv
import json
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from explorer.evaluation.intervals import PairedDifference, bootstrap_interval, compare_paired
from explorer.plots.style import COLOURS, QUIET, empty_figure, to_png
from explorer.system.files import atomic_path

HERE = Path(__file__).parent
CEILING, FLOOR, OURS = "clean teacher", "frozen + probe", "three-level student"
BLIND, ORACLE = "blind restoration + probe", "oracle restoration + probe"
HEAD, FINETUNED = "fine-tuned, own head", "fine-tuned + probe"
GLOBAL, CONTRASTIVE = "global-level student", "contrastive student"
JOINED = "three levels + contrastive student"  # ours with a term of one of the rivals: apart, and not the method's
RIVALS = {"s14": (FLOOR, BLIND, HEAD, FINETUNED, GLOBAL, CONTRASTIVE), "clip-b16": (FLOOR, BLIND, GLOBAL)}
SHORT = {
    FLOOR: "frozen",
    BLIND: "blind restoration",
    HEAD: "fine-tuned, own head",
    FINETUNED: "fine-tuned + probe",
    GLOBAL: "global level",
    CONTRASTIVE: "contrastive",
    OURS: "**three levels**",
    JOINED: "*three levels + contrastive*",
    ORACLE: "*oracle restoration*",
    CEILING: "*clean teacher*",
}
DATA = {"caltech101": "Caltech-101", "cifar10": "CIFAR-10"}
SHOWN = (("caltech101", "s14"), ("cifar10", "s14"), ("caltech101", "clip-b16"))
FRACTIONS = (1.0, 0.1)
PLAIN, WHITENED = ("linear", "knn"), ("linear-whitened", "knn-whitened")
PROBES = (*PLAIN, *WHITENED)
TESTED = {
    "noise": tuple(f"gaussian_noise(sigma={sigma})" for sigma in (0.1, 0.3, 0.5)),
    "mask": tuple(f"pixel_mask(fraction={fraction})" for fraction in (0.5, 0.75, 0.9)),
    "blur": tuple(f"gaussian_blur(kernel={kernel}, sigma={sigma})" for kernel, sigma in ((21, 5), (37, 9))),
}
DAMAGES = tuple(damage for damages in TESTED.values() for damage in damages)
NAMES = dict(
    zip(
        DAMAGES,
        ("noise 0.1", "noise 0.3", "noise 0.5", "mask 0.5", "mask 0.75", "mask 0.9", "blur 21, 5", "blur 37, 9"),
        strict=True,
    )
)
INKS = dict(
    zip(
        (FLOOR, BLIND, HEAD, FINETUNED, GLOBAL, CONTRASTIVE, OURS, JOINED, ORACLE),
        (
            *(COLOURS["teacher"], "#56B4E9", "#bbbbbb", "#777777", "#CC79A7", "#E69F00"),
            *(COLOURS["student"], COLOURS["student"], "#56B4E9"),
        ),
        strict=True,
    )
)
NOT_RUN = "not run yet"


def main() -> None:
    """The report of the committed numbers."""
    write(json.loads((HERE / "results.json").read_text(encoding="utf-8")), HERE)


def key_of(data: str, backbone: str, row: str, damage: str, fraction: float, probe: str, seed: int) -> str:
    """What a cell's answers are called in results.json."""
    return " / ".join((data, backbone, row, damage, f"{fraction:g}", probe, str(seed)))


def rivals(backbone: str, probe: str) -> tuple[str, ...]:
    """A trained head is linear: it has no place beside kNN probes."""
    return tuple(row for row in RIVALS[backbone] if row != HEAD or probe.startswith("linear"))


def write(kept: dict[str, Any], folder: Path) -> None:
    """results.json itself, the report, the table, the plot."""
    found = Results(kept)
    written = {
        "results.json": json.dumps(kept, indent=0).encode(),
        "results.md": _report(found).encode(),
        "results.png": to_png(_plot(found)),
    }
    for name, content in written.items():
        with atomic_path(folder / name) as part:
            part.write_bytes(content)
    with atomic_path(folder / "results.csv") as part:
        _table(found, part)


# What was found.


@dataclass(frozen=True)
class Results:
    """The content of results.json."""

    kept: dict[str, Any]

    @cached_property
    def answers(self) -> dict[tuple[str, ...], dict[int, np.ndarray]]:
        """(data, backbone, row, damage, fraction, probe) -> training seed -> whether each test picture was right."""
        found: dict[tuple[str, ...], dict[int, np.ndarray]] = {}
        for unit in self.kept["units"].values():
            for key, bits in unit.get("right", {}).items():
                *cell, seed = key.split(" / ")
                pictures = self.kept["settings"]["pictures"][cell[0]][1]
                packed = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
                found.setdefault(tuple(cell), {})[int(seed)] = np.unpackbits(packed)[:pictures].astype(float)
        return found

    @property
    def search(self) -> dict[str, dict[str, float]]:
        """Of fine-tuning: "data / learning rate" -> step -> accuracy on validation pictures."""
        return self._joined("search")

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """Of CLIP's students: weight of attention -> "damage / probe" -> accuracy on validation pictures."""
        return self._joined("weights")

    def _joined(self, kind: str) -> dict[str, dict[str, float]]:
        parts = [unit[kind] for unit in self.kept["units"].values() if kind in unit]
        return {key: found for part in parts for key, found in part.items()}

    def right(self, data: str, backbone: str, row: str, damage: str, fraction: float, probe: str) -> np.ndarray | None:
        """How often each test picture was right, as a share of the training seeds."""
        seeds = self.seeds(data, backbone, row, damage, fraction, probe)
        return np.mean(list(seeds.values()), axis=0) if seeds else None

    def seeds(
        self, data: str, backbone: str, row: str, damage: str, fraction: float, probe: str
    ) -> dict[int, np.ndarray]:
        return self.answers.get((data, backbone, row, damage, f"{fraction:g}", probe), {})

    def cells(self, data: str, backbone: str, ours: str = OURS) -> "list[Cell]":
        """All of them, whether something was run or not: those of one share of labels and one probe together."""
        return [
            Cell(self, data, backbone, damage, fraction, probe, ours)
            for fraction in FRACTIONS
            for probe in PROBES
            for damage in DAMAGES
        ]


@dataclass(frozen=True)
class Cell:
    """One damage, share of labels and probe, with all rows."""

    results: Results
    data: str
    backbone: str
    damage: str
    fraction: float
    probe: str
    ours: str = OURS

    @cached_property
    def ceiling(self) -> float | None:
        right = self.results.right(self.data, self.backbone, CEILING, "none", self.fraction, self.probe)
        return None if right is None else float(right.mean())

    def right(self, row: str) -> np.ndarray | None:
        return self.results.right(self.data, self.backbone, row, self.damage, self.fraction, self.probe)

    def accuracy(self, row: str) -> float | None:
        right = self.right(row)
        return None if right is None else float(right.mean())

    def seed_accuracies(self, row: str) -> list[float]:
        seeds = self.results.seeds(self.data, self.backbone, row, self.damage, self.fraction, self.probe)
        return [float(right.mean()) for right in seeds.values()]

    @cached_property
    def best_rival(self) -> str | None:
        """Of the highest accuracy on the test pictures, which favours it; None before all of them are run."""
        found = {row: self.accuracy(row) for row in rivals(self.backbone, self.probe)}
        known = {row: accuracy for row, accuracy in found.items() if accuracy is not None}
        return max(known, key=lambda row: known[row]) if len(known) == len(found) else None

    def against(self, row: str | None) -> PairedDifference | None:
        """Ours minus a row, picture by picture."""
        ours, theirs = self.right(self.ours), None if row is None else self.right(row)
        return None if ours is None or theirs is None else compare_paired(ours, theirs)

    @cached_property
    def decided(self) -> PairedDifference | None:
        """Against the best rival."""
        return self.against(self.best_rival)

    @property
    def gap_closed(self) -> float | None:
        """None where something was not run, or where the damage costs nothing."""
        floor, ours = self.accuracy(FLOOR), self.accuracy(self.ours)
        if floor is None or ours is None or self.ceiling is None or self.ceiling <= floor:
            return None
        return (ours - floor) / (self.ceiling - floor)


# The report.


def _report(found: Results) -> str:
    parts = [(HERE / "results_head.md").read_text(encoding="utf-8"), _settings(found)]
    reading = HERE / "results_reading.md"
    if reading.is_file():  # written by hand, from the numbers
        parts.append(reading.read_text(encoding="utf-8"))
    cells = {pair: found.cells(*pair) for pair in SHOWN}
    joined = {pair: found.cells(*pair, ours=JOINED) for pair in SHOWN}
    best, term = "against the best rival of each cell", f"The row *{JOINED}* against the same best rivals"
    parts += [
        _verdicts(cells, PLAIN, "Ahead, level, behind", f"Our student {best}"),
        _verdicts(cells, WHITENED, "Ahead, level, behind: whitened features", f"The same, all rows whitened, {best}"),
        _each_rival(cells, PLAIN, "Against each rival by itself"),
        _each_rival(cells, WHITENED, "Against each rival by itself: whitened features"),
        _verdicts(joined, PLAIN, "With a contrastive term", term),
        _verdicts(joined, WHITENED, "With a contrastive term: whitened features", term),
        "![Accuracy of each row under each damage, with intervals](results.png)\n",
        *(_section(pair, cells[pair], fraction, probe) for pair in SHOWN for fraction in FRACTIONS for probe in PROBES),
        *(_clean(found, *pair) for pair in SHOWN),
        _search(found),
        _weights(found),
    ]
    return "\n".join(parts)


def _settings(found: Results) -> str:
    settings = found.kept["settings"]
    recipe = settings["recipe"]
    pictures = ", ".join(f"{DATA[data]} {train:,} + {test:,}" for data, (train, test) in settings["pictures"].items())
    lines = [
        f"Pictures, training + test: {pictures}. Students: {recipe['steps']} steps of {recipe['batch_size']} at "
        f"{recipe['image_size']} px, `{recipe['trainable']}`, levels {recipe['cls']:g}, {recipe['patch']:g} and "
        f"{recipe['attention']:g}, {recipe['precision']}; fine-tuning: {settings['finetune_steps']} steps of "
        f"{recipe['batch_size']}. All of it took {sum(_hours(found).values()):.1f} core hours so far.\n"
    ]
    if settings["per_class"] is not None:
        lines.append(f"**Cut: a try with {settings['per_class']} pictures of each class.**\n")
    return "\n".join(lines)


def _hours(found: Results) -> dict[str, float]:
    return {name: unit["cpu_seconds"] / 3600 for name, unit in found.kept["units"].items()}


def _verdicts(cells: "dict[tuple[str, str], list[Cell]]", probes: tuple[str, ...], title: str, what: str) -> str:
    lines = [
        f"## {title}\n",
        f"{what}; *gap closed* is the median over cells.\n",
        "| | labels | probe | cells | ahead | level | behind | gap closed |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for pair, own in cells.items():
        for fraction in FRACTIONS:
            for probe in probes:
                part = [cell for cell in own if (cell.fraction, cell.probe) == (fraction, probe)]
                lines.append(f"| {_title(*pair)} | {fraction:.0%} | {probe} | {_counted(part)} |")
    everything = [cell for own in cells.values() for cell in own if cell.probe in probes]
    lines.append(f"| **all** | | | {_counted(everything)} |")
    return "\n".join(lines) + "\n"


def _counted(cells: "list[Cell]") -> str:
    verdicts = Counter(cell.decided.verdict for cell in cells if cell.decided is not None)
    gaps = [cell.gap_closed for cell in cells if cell.decided is not None and cell.gap_closed is not None]
    total = sum(verdicts.values())
    share = f"{total} of {len(cells)}" if total else NOT_RUN
    numbers = [str(verdicts[name]) if total else "" for name in ("ahead", "level", "behind")]
    return " | ".join((share, *numbers, f"{statistics.median(gaps):.0%}" if gaps else ""))


def _each_rival(cells: "dict[tuple[str, str], list[Cell]]", probes: tuple[str, ...], title: str) -> str:
    lines = [
        f"## {title}\n",
        "Cells in which our student is ahead / level / behind.\n",
        f"| | {' | '.join(_title(*pair) for pair in cells)} |",
        "|---|" + "---:|" * len(cells),
    ]
    for row in (*RIVALS["s14"], ORACLE):
        columns = []
        for (_, backbone), own in cells.items():
            compared = [cell.against(row) for cell in own if cell.probe in probes]
            verdicts = Counter(one.verdict for one in compared if one is not None)
            counts = " / ".join(str(verdicts[name]) for name in ("ahead", "level", "behind"))
            wanted = row in (*RIVALS[backbone], ORACLE)
            columns.append(counts if verdicts else NOT_RUN if wanted else "")
        lines.append(f"| {f'*{row}*, told the damage: no rival' if row == ORACLE else row} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _section(pair: tuple[str, str], cells: "list[Cell]", fraction: float, probe: str) -> str:
    rows = (*rivals(pair[1], probe), OURS)
    lines = [
        f"## {_title(*pair)}: {fraction:.0%} of the labels, {probe} probe\n",
        f"| | {' | '.join(SHORT[row] for row in rows)} | ours - best rival | verdict | gap closed | "
        f"{SHORT[JOINED]} | {SHORT[ORACLE]} | {SHORT[CEILING]} |",
        "|---|" + "---:|" * len(rows) + "---:|---|---:|---:|---:|---:|",
    ]
    part = [cell for cell in cells if (cell.fraction, cell.probe) == (fraction, probe)]
    if not any(cell.accuracy(row) is not None for cell in part for row in rows):
        return f"{lines[0]}\n{NOT_RUN}\n"
    for cell in part:
        accuracies = [_accuracy(cell, row) for row in rows]
        gap = "" if cell.gap_closed is None else f"{cell.gap_closed:.0%}"
        ceiling = NOT_RUN if cell.ceiling is None else f"*{cell.ceiling:.3f}*"
        ends = [*_difference(cell), gap, _accuracy(cell, JOINED), _accuracy(cell, ORACLE), ceiling]
        lines.append(f"| {NAMES[cell.damage]} | {' | '.join((*accuracies, *ends))} |")
    return "\n".join(lines) + "\n"


def _accuracy(cell: Cell, row: str) -> str:
    accuracy, seeds = cell.accuracy(row), cell.seed_accuracies(row)
    if accuracy is None:
        return NOT_RUN
    text = f"{accuracy:.3f}" + (f" ± {statistics.stdev(seeds):.3f}" if len(seeds) > 1 else "")
    if row in (JOINED, ORACLE):
        return f"*{text}*"
    known = [cell.accuracy(other) or 0.0 for other in (*rivals(cell.backbone, cell.probe), OURS)]
    return f"**{text}**" if cell.decided and accuracy == max(known) else text


def _difference(cell: Cell) -> tuple[str, str]:
    """Ours minus the best rival, and the verdict."""
    if cell.decided is None:
        return "", "not decided yet"
    found, rival = cell.decided, SHORT[cell.best_rival or ""]
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] ({rival})", found.verdict


def _clean(found: Results, data: str, backbone: str) -> str:
    """What learning one kind of damage does to clean pictures."""
    title = f"## Clean pictures, {_title(data, backbone)}: all labels\n"
    heads = "".join(f" {probe} | minus clean teacher |" for probe in PROBES)
    lines = [title, f"| |{heads}", "|---|" + "---:|---:|" * len(PROBES)]
    students = [row for row in (OURS, *RIVALS[backbone]) if row not in (FLOOR, BLIND, HEAD)]
    for row in (CEILING, *(f"{row} of {kind}" for kind in TESTED for row in students)):
        texts = [_clean_text(found, data, backbone, row, probe) for probe in PROBES]
        if any(texts):
            lines.append(f"| {row} | {' | '.join(text or f'{NOT_RUN} | ' for text in texts)} |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else f"{title}\n{NOT_RUN}\n"


def _clean_text(found: Results, data: str, backbone: str, row: str, probe: str) -> str:
    right, teacher = (found.right(data, backbone, one, "none", 1.0, probe) for one in (row, CEILING))
    if right is None:
        return ""
    if teacher is None or row == CEILING:
        return f"{right.mean():.3f} | "
    compared = compare_paired(right, teacher)
    return f"{right.mean():.3f} | {compared.difference:+.3f} [{compared.low:+.3f}, {compared.high:+.3f}]"


def _search(found: Results) -> str:
    """How fine-tuning's learning rate was chosen, and whether it had steps enough."""
    title = "## Fine-tuning: accuracy on validation pictures, which are training pictures held out\n"
    if not found.search:
        return f"{title}\n{NOT_RUN}\n"
    steps = list(next(iter(found.search.values())))
    lines = [title, f"| | learning rate | {' | '.join(f'step {step}' for step in steps)} |"]
    lines.append("|---|---:|" + "---:|" * len(steps))
    for key, curve in found.search.items():
        data, rate = key.split(" / ")
        lines.append(f"| {DATA[data]} | {rate} | {' | '.join(f'{curve[step]:.3f}' for step in steps)} |")
    return "\n".join(lines) + "\n"


def _weights(found: Results) -> str:
    """How the weight of attention was chosen for CLIP's students."""
    title = "## CLIP: the weight of the attention level, accuracy on validation pictures\n"
    if not found.weights:
        return f"{title}\n{NOT_RUN}\n"
    lines = [title, f"| weight | {' | '.join(PROBES)} | mean |", "|---:|" + "---:|" * (len(PROBES) + 1)]
    for weight in sorted(found.weights, key=float, reverse=True):
        right = found.weights[weight]
        means = [statistics.mean(right[key] for key in right if key.endswith(f"/ {probe}")) for probe in PROBES]
        lines.append(f"| {weight} | {' | '.join(f'{value:.3f}' for value in (*means, statistics.mean(means)))} |")
    return "\n".join(lines) + "\n"


def _title(data: str, backbone: str) -> str:
    return f"{DATA[data]}, `{backbone}`"


# The table and the plot.


def _table(found: Results, file: Path) -> None:
    """A line for each accuracy with its interval; ours has the paired difference from the best rival besides."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(
            (
                *("data", "backbone", "row", "distortion", "label_fraction", "probe", "seeds", "pictures"),
                *(
                    "accuracy",
                    "low",
                    "high",
                    "best_rival",
                    "difference",
                    "difference_low",
                    "difference_high",
                    "verdict",
                ),
            )
        )
        for (data, backbone, row, damage, fraction, probe), seeds in found.answers.items():
            right = np.mean(list(seeds.values()), axis=0)
            numbers = (right.mean(), *bootstrap_interval(right))
            line = [data, backbone, row, damage, fraction, probe, len(seeds), len(right), *map(_rounded, numbers)]
            cell = Cell(found, data, backbone, damage, float(fraction), probe, row)
            if row in (OURS, JOINED) and cell.decided is not None:
                paired = cell.decided
                line += [cell.best_rival, *map(_rounded, (paired.difference, paired.low, paired.high)), paired.verdict]
            writer.writerow(line)


def _rounded(value: float) -> str:
    return f"{value:.4f}"


def _plot(found: Results) -> Figure:
    """Linear probes: for each damage all rows with their intervals over test pictures."""
    figure = empty_figure((13.0, 2.9 * len(SHOWN)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(SHOWN), len(FRACTIONS), sharex=True, sharey="row", squeeze=False)
    for line, (data, backbone) in zip(axes, SHOWN, strict=True):
        for ax, fraction in zip(line, FRACTIONS, strict=True):
            cells = [Cell(found, data, backbone, damage, fraction, "linear") for damage in DAMAGES]
            _draw(ax, cells)
            ax.set_title(f"{DATA[data]}, {backbone}, {fraction:.0%} of the labels", loc="left", size=9)
        line[0].set_ylabel("accuracy, linear probe", size=8)
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center", ncols=5, frameon=False, fontsize=8
        )
    return figure


def _draw(ax: Any, cells: "list[Cell]") -> None:
    for place, row in enumerate(INKS):
        for number, cell in enumerate(cells):
            right = cell.right(row)
            if right is None:
                continue
            low, high = bootstrap_interval(right)
            x = number + 0.11 * (place - (len(INKS) - 1) / 2)
            ax.plot([x, x], [low, high], color=INKS[row], lw=1.2, alpha=0.6)
            face = "white" if row in (JOINED, ORACLE) else INKS[row]
            ax.plot(
                x, right.mean(), "o", ms=4.5, color=INKS[row], mfc=face, label=row if row != ORACLE else f"{row} (told)"
            )
    if not ax.lines:
        ax.text(0.5, 0.5, NOT_RUN, color=QUIET, ha="center", va="center", transform=ax.transAxes)
    if cells[0].ceiling is not None:
        ax.axhline(cells[0].ceiling, color=QUIET, ls=":", label=CEILING)
    for border in range(1, len(cells)):
        ax.axvline(border - 0.5, color="#e6e6e6", lw=0.8, zorder=0)
    ax.set_xticks(range(len(cells)), [NAMES[cell.damage] for cell in cells], size=8)
    ax.set_xlim(-0.5, len(cells) - 0.5)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
