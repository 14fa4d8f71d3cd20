"""Searches the recipe of a short run: what is trained, how fast, on what. Writes docs/recipe.md:

    python docs/search_recipe.py TRAIN TEST RUNS [--share 0/2] [--seeds 0] [--only NAME …]
    python docs/search_recipe.py --report RUNS

TRAIN and TEST are folders of pictures that have none in common. Every row has the same budget, 960 visits of pictures
by the student, at 112 px, and changes one thing of the base. Students are measured on TEST under draws of the
distortion that none has met. What is finished is kept in RUNS, a file a student; `--share 0/2` and `1/2` let two
processes work side by side (each with OMP_NUM_THREADS=1, which is the most for two cores).
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measuring import averages
from torch import Tensor
from tqdm import tqdm

import explorer as ex
from explorer.evaluation.probes import retrieval_at_1
from explorer.system.files import atomic_path

BACKBONE, SIZE, LOADED_SIZE, STEPS, BATCH = "s14", 112, 150, 60, 16
NEVER = 1 << 20
NOISE = "gaussian_noise(sigma=0.3)"
DRAWS = (1000, 1001)
MEASURED_BATCH = 10

Row = dict[str, Any]
BASE: Row = {
    "distortion": NOISE,
    "trainable": "lora:8",
    "lr": 2e-3,
    "attention": 1.0,
    "patch_layers": 1,
    "steps": STEPS,
    "batch_size": BATCH,
    "image_size": SIZE,
    "precision": "bfloat16",
    "probe": 1,
    "eval_every": NEVER,
    "checkpoint_every": NEVER,
}
# What each row changes: fields of DistillConfig; "pictures", how many there are to learn from; "ema", the decay of a
# running mean of the student's weights, which is measured in the student's place.
ROWS: dict[str, dict[str, Row]] = {
    "What is trained": {
        "lora:4": {"trainable": "lora:4"},
        "lora:16": {"trainable": "lora:16"},
        "lora:32": {"trainable": "lora:32"},
        "lora:64": {"trainable": "lora:64"},
        "lora:32, lr 1e-3": {"trainable": "lora:32", "lr": 1e-3},
        "lora:32, lr 4e-3": {"trainable": "lora:32", "lr": 4e-3},
        "all, lr 1e-4": {"trainable": "all", "lr": 1e-4},
        "all, lr 3e-4": {"trainable": "all", "lr": 3e-4},
        "last:4, lr 3e-4": {"trainable": "last:4", "lr": 3e-4},
    },
    "Learning rate": {
        "lr 1e-3": {"lr": 1e-3},
        "lr 4e-3": {"lr": 4e-3},
        "lr 8e-3": {"lr": 8e-3},
        "warm-up 2 %": {"warmup": 0.02},
        "warm-up 30 %": {"warmup": 0.3},
        "gradients up to 0.3": {"grad_clip": 0.3},
        "gradients without limit": {"grad_clip": None},
    },
    "Batch size against steps": {
        "4 x 240": {"batch_size": 4, "steps": 240},
        "8 x 120": {"batch_size": 8, "steps": 120},
        "8 x 120, lr 1e-3": {"batch_size": 8, "steps": 120, "lr": 1e-3},
        "8 x 120, lr 4e-3": {"batch_size": 8, "steps": 120, "lr": 4e-3},
        "32 x 30": {"batch_size": 32, "steps": 30},
    },
    "Levels": {
        "attention 0.1": {"attention": 0.1},
        "attention 0.3": {"attention": 0.3},
        "attention 3": {"attention": 3.0},
        "patch 3": {"patch": 3.0},
        "cls 3": {"cls": 3.0},
        "patches of 4 blocks": {"patch_layers": 4},
        "patches of 12 blocks": {"patch_layers": 12},
        "attention of 1 block": {"attention_layers": 1},
        "attention of 12 blocks": {"attention_layers": 12},
        "the class token's rows alone": {"rows": "own"},
        "contrastive 0.1": {"contrastive": 0.1},
        "squared errors 1": {"cls_mse": 1.0, "patch_mse": 1.0},
    },
    "Pictures": {
        "684 pictures": {"pictures": 684},
        "crops of 20 to 100 %": {"area": (0.2, 1.0)},
        "crops of 70 to 100 %": {"area": (0.7, 1.0)},
        "whole pictures": {"views": "fixed"},
        "sigma 0.1..0.5": {"distortion": "gaussian_noise(sigma=0.1..0.5)"},
        "sigma 0.2..0.4": {"distortion": "gaussian_noise(sigma=0.2..0.4)"},
    },
    "Together": {
        "lora:16, lr 1e-3": {"trainable": "lora:16", "lr": 1e-3},
        "attention 10": {"attention": 10.0},
        "attention 3 of 12 blocks": {"attention": 3.0, "attention_layers": 12},
        "lora:32, lr 1e-3, attention 3 of 12 blocks": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "attention_layers": 12,
        },
        "lora:16, lr 1e-3, attention 3": {"trainable": "lora:16", "lr": 1e-3, "attention": 3.0},
        "lora:16, lr 1e-3, attention 3, patches of 12 blocks": {
            "trainable": "lora:16",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 12,
        },
        "lora:32, lr 1e-3, attention 3": {"trainable": "lora:32", "lr": 1e-3, "attention": 3.0},
        "lora:32, lr 1e-3, attention 3, patches of 4 blocks": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 4,
        },
        "lora:32, lr 1e-3, attention 3, patches of 12 blocks": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 12,
        },
        "lora:32, lr 1e-3, attention 10, patches of 4 blocks": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 10.0,
            "patch_layers": 4,
        },
        "lora:16, lr 1e-3, attention 3, patches of 4 blocks, crops of 70 to 100 %": {
            "trainable": "lora:16",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 4,
            "area": (0.7, 1.0),
        },
        "lora:32, lr 1e-3, attention 3, patches of 4 blocks, crops of 70 to 100 %": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 4,
            "area": (0.7, 1.0),
        },
        "lora:32, lr 1e-3, attention 3, crops of 70 to 100 %": {
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "area": (0.7, 1.0),
        },
        "lora:64, lr 7e-4, attention 3": {"trainable": "lora:64", "lr": 7e-4, "attention": 3.0},
    },
    "Smaller batches, together": {
        "8 x 120, lora:32, lr 1e-3, attention 3, patches of 4 blocks": {
            "batch_size": 8,
            "steps": 120,
            "trainable": "lora:32",
            "lr": 1e-3,
            "attention": 3.0,
            "patch_layers": 4,
        },
        "8 x 120, lora:32, lr 7e-4, attention 3, patches of 4 blocks": {
            "batch_size": 8,
            "steps": 120,
            "trainable": "lora:32",
            "lr": 7e-4,
            "attention": 3.0,
            "patch_layers": 4,
        },
    },
    "Averaged weights": {
        "ema 0.8": {"ema": 0.8},
        "ema 0.95": {"ema": 0.95},
    },
}
UNTOUCHED = "untouched"
NUMBERS = {"cls": "CLS cosine", "patch": "patch cosine", "kl": "attention KL", "retrieval": "retrieval@1"}


HEAD = """# The recipe of a short run

Made by `python docs/search_recipe.py TRAIN TEST RUNS` and `python docs/search_recipe.py --report RUNS`;
`docs/gather_pictures.py` lays out TRAIN and TEST. TRAIN were
3,620 photos without labels (1,600 of ImageNet's classes, 2,020 of Caltech-101's training part), TEST 100 photos of
ImageNet's classes that no run saw. S/14 at 112 px, `gaussian_noise(sigma=0.3)`, bfloat16. Every student visits 960
pictures, in 60 steps of 16 unless a row says otherwise: that is the equal budget. Measured on TEST at 112 px, the mean
of two draws of the noise that no run met; ± is the standard deviation over training seeds, where there are several.
Each row changes one thing of the base, which is what `DistillConfig` had before: `lora:8`, 2e-3, weight 1 for all
levels, patches of the last block, attention of the last four. *untouched* is the teacher's copy before training.
"""
READING = """
## What it says

- **Attention pulls the others along.** Its weight is what brings most: three times as much of it makes *every* number
  better, CLS and patch cosine, too; a third as much makes every number worse. Ten times as much gives little more.
- **Patches of four blocks instead of one** help the embedding and attention, without a price. Twelve help these still
  more, and the last block's patches less. Attention of twelve blocks, or of one, is worse than of the last four.
- **Rank and learning rate go together.** Rank 32 is worse than rank 8 at its learning rate, 2e-3, and better at half of
  it. Training everything, or the last four blocks, is behind every adapter in so short a run.
- **Many small steps.** The same 960 visits in 120 steps of 8 are better than in 60 of 16, with the old recipe and with
  the new one, and those better than 30 of 32.
- **Nothing comes of** averaged weights, longer or shorter warm-up, another limit of gradients, or more pictures: 684
  are as good as 3,620 as long as none is met more than twice. Crops of at least 70 % are a little better for so short a
  run; with the new recipe the difference is gone. A range of strengths costs a little at the one strength measured.
- **Worse**: a contrastive or a squared-error term beside the three levels; the class token's attention rows alone.

`DistillConfig` has since: `lora:32`, 1e-3, attention weight 3 for `s14`, patches of the last four blocks. Batches of 16
stay its default, since larger steps use a machine better; where only the number of pictures counts, take 8.

What it does not say: anything about other damage or models, and about runs of other lengths. For CLIP an attention
weight of 3 is too much ([results.md](results.md)); `DistillConfig` takes 1 for all backbones but `s14`. Adapters with
the patch embedding and norms beside them, growing pictures and a rising strength were not searched here. On 100
pictures retrieval@1 moves by 0.03 from seed to seed, and only large differences of it count.
"""


class Test:
    """Unseen pictures, and what the teacher sees in them."""

    def __init__(self, pictures: ex.ImageSet, teacher: ex.Backbone) -> None:
        self.damage = ex.distortion(NOISE)
        self.parts = []
        for start in range(0, len(pictures), MEASURED_BATCH):
            indices = range(start, min(start + MEASURED_BATCH, len(pictures)))
            clean = pictures.stack(indices)
            self.parts.append((indices, clean, self.see(teacher, clean)))
        self.gallery = torch.cat([reference.embedding for *_, reference in self.parts])

    def see(self, backbone: ex.Backbone, pictures: Tensor) -> ex.Trace:
        """What is compared."""
        return backbone.trace(pictures, layers=range(-4, 0), attention="full")

    def numbers(self, student: ex.Backbone) -> dict[str, float]:
        """Means over all pictures and draws."""
        agreed: list[ex.Alignment] = []
        found = []
        for draw in DRAWS:
            seen = [self.see(student, self.damage(clean, seed=draw, indices=i)) for i, clean, _ in self.parts]
            agreed += [ex.alignment(part[2], one) for part, one in zip(self.parts, seen, strict=True)]
            found.append(retrieval_at_1(self.gallery, torch.cat([one.embedding for one in seen])))
        return dict(zip(NUMBERS, [*averages(agreed), statistics.mean(found)], strict=True))


def trained(teacher: ex.Backbone, pictures: ex.ImageSet, options: Row, seed: int) -> ex.Backbone:
    """The student of one row."""
    fields = {name: value for name, value in options.items() if name not in ("ema", "pictures")}
    config = ex.DistillConfig(**{**BASE, **fields}, seed=seed)
    chosen = pictures.subset(fraction=options["pictures"] / len(pictures)) if "pictures" in options else pictures
    decay, mean = options.get("ema", 0.0), dict[str, Tensor]()
    with tempfile.TemporaryDirectory() as scratch:
        for record in ex.distill(teacher, chosen, config, Path(scratch, "run")):
            for name, weights in record.student.module.named_parameters():
                if weights.requires_grad and decay:
                    kept = mean.setdefault(name, weights.detach().clone())
                    kept.lerp_(weights.detach(), 1 - min(decay, (record.step + 1) / (record.step + 10)))
        student = record.student
        with torch.no_grad():
            for name, weights in student.module.named_parameters():
                weights.copy_(mean.get(name, weights))
        return student


def rows() -> dict[str, Row]:
    """All rows by name."""
    return {"base": {}} | {name: options for group in ROWS.values() for name, options in group.items()}


def search(options: argparse.Namespace) -> None:
    """Train and measure what is missing of this process's share."""
    teacher = ex.load_backbone(BACKBONE, image_size=SIZE)
    pictures = ex.load_images(options.train, size=LOADED_SIZE)
    test = Test(ex.load_images(options.test, size=SIZE), teacher)
    untouched = options.runs / f"{UNTOUCHED}-0.json"
    if not untouched.exists():
        untouched.write_text(json.dumps({"name": UNTOUCHED, "seed": 0, **test.numbers(teacher)}))
    part, count = map(int, options.share.split("/"))
    wanted = [(name, seed) for seed in options.seeds for name in options.only or rows()]
    for name, seed in wanted[part::count]:
        file = options.runs / f"{name.replace(' ', '_')}-{seed}.json"
        if file.exists():
            continue
        numbers = test.numbers(trained(teacher, pictures, rows()[name], seed))
        with atomic_path(file) as new:
            new.write_text(json.dumps({"name": name, "seed": seed, **numbers, "pictures": len(pictures)}))
        tqdm.write(f"{name} {seed} { {key: round(value, 4) for key, value in numbers.items()} }")


def tables(runs: Path) -> str:
    """Markdown, a table a group, with the base as its first row."""
    found: dict[str, list[Row]] = {}
    for file in sorted(runs.glob("*.json")):
        row = json.loads(file.read_text())
        found.setdefault(row["name"], []).append(row)
    lines = []
    for group, members in ROWS.items():
        lines += [f"## {group}", "", f"| | seeds | {' | '.join(NUMBERS.values())} |", "|---|" + "---:|" * 5]
        for name in (UNTOUCHED, "base", *members):
            if name in found:
                lines.append(_line(name, found[name]))
        lines.append("")
    return "\n".join(lines)


def _line(name: str, students: list[Row]) -> str:
    cells = [name, str(len(students))]
    for key in NUMBERS:
        values = [one[key] for one in students]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.3f}{spread}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Search, or write the report."""
    if sys.argv[1] == "--report":
        Path(__file__).with_name("recipe.md").write_text(
            f"{HEAD}{READING}\n{tables(Path(sys.argv[2]))}", encoding="utf-8"
        )
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--share", default="0/1", help="which of how many processes this is")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(rows()), help="these rows alone")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    search(options)


if __name__ == "__main__":
    main()
