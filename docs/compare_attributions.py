"""Which attribution method to believe, on clean and damaged pictures, of a teacher and of a student; writes
docs/attribution.md:

    python docs/compare_attributions.py COCO RUNS [--pictures 50] [--share 0/2] [--report]

COCO is a folder of pictures and masks as `vit-explorer evaluate-dense` takes it; only numbers of them are kept. RUNS
keeps what is finished; start it again, and it goes on.
"""

import argparse
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from measuring import kept_file, make_missing, sharing_options
from torch import Tensor

import explorer as ex
from explorer.data.masks import SegmentedSet, load_segmented
from explorer.inspection.attribution import VIEWS, attribute_views
from explorer.inspection.attribution_problem import Settings
from explorer.inspection.attribution_quality import RemovalCurves, points_at, removal_curves

STUDENT, SIZE, DAMAGE, CUTS, SEED = "s14-noise", 224, "gaussian_noise(sigma=0.3)", 6, 0
OBJECTS = ("person", "animal", "vehicle", "furniture", "food")
WINDOW = 28  # px, 2 x 2 patches
WAYS = {  # name -> method and its settings, as the app takes them
    "attn_lrp": ("attn_lrp", Settings()),
    "attn_lrp, gamma=0": ("attn_lrp", Settings(gamma=0)),
    "gradient_attention": ("gradient_attention", Settings()),
    "integrated_gradients": ("integrated_gradients", Settings(steps=16, baseline="blur")),
    "saliency": ("saliency", Settings()),
    "occlusion": ("occlusion", Settings(patch=WINDOW)),
}
CHANCE = "any order"
TABLES = {
    "pointing": "Pointing (higher is better)",
    "deletion": "Deletion (lower is better)",
    "insertion": "Insertion (higher is better)",
}
HEAD = f"""# Which attribution to believe

Made by `python docs/compare_attributions.py COCO RUNS --pictures {{pictures}}`: {{pictures}} pictures of COCO with
masks at {SIZE} px, clean and under `{DAMAGE}`. The teacher of `{STUDENT}` and this student are asked which patches
make a view resemble what the teacher sees in the clean picture, as in the app (`attribute_views`; integrated gradients
take 16 steps from a blur, occlusion hides 2 x 2 patches).

*Pointing*: how often the highest patch lies on an object ({", ".join(OBJECTS)}). *Deletion* and
*insertion* (`removal_curves`, {CUTS} cuts): the mean of the score (the cosine with what the teacher sees in the clean
picture, minus that of a picture of nothing but the mean colour) as patches are hidden in the map's order by that
colour, and as they are shown over it in this order. *{CHANCE.capitalize()}* draws an order for each picture, and points
at any patch. Brackets hold the standard error of the difference from it on the same pictures: what lies within two of
them of it is not told from chance.
"""
HERE = Path(__file__).parent

Found = dict[str, dict[str, dict[str, float]]]
"""Of one picture: view -> name of the way -> "deletion", "insertion" (below the curve, in units of the score, from the
baseline's up: a damaged picture may have less) and "pointing": 1 where the highest patch lies on an object."""


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("coco", type=Path, metavar="COCO")
    sharing_options(parser)
    parser.add_argument("--pictures", type=int, default=50, help="(50)")
    options = parser.parse_args()
    segmented = load_segmented(options.coco, SIZE)
    chosen = [place for place in range(len(segmented)) if _objects(segmented, place).any()][: options.pictures]
    files = {place: kept_file(options.runs, STUDENT).with_suffix(f".{place}.json") for place in chosen}
    make_missing(options, [(file, partial(found_of, segmented, place)) for place, file in files.items()])
    write([json.loads(file.read_text()) for file in files.values() if file.exists()])


def found_of(segmented: SegmentedSet, place: int) -> Found:
    """One picture in three views, explained in all ways and in an order by chance."""
    pair = _pair()
    clean, objects = segmented.images[place][0], _objects(segmented, place)
    damaged = ex.distortion(DAMAGE)(clean[None], seed=SEED, indices=[place])[0]
    toward = pair.teacher.trace(clean[None], layers=-1, attention=None).embedding[0]
    found: Found = {view: {} for view in VIEWS}
    for name, (method, settings) in {**WAYS, CHANCE: ("saliency", Settings())}.items():
        explained = attribute_views(pair.teacher, pair.student, clean, damaged, method=method, settings=settings)
        for view, backbone in zip(VIEWS, (pair.teacher, pair.teacher, pair.student), strict=True):
            one = replace(explained[view], toward=toward, settings=Settings())  # the same score for all methods
            if name == CHANCE:
                generator = torch.Generator().manual_seed(place)
                one = replace(one, heatmap=torch.rand(tuple(one.grid), generator=generator))
            curves = removal_curves(backbone, one, CUTS)
            found[view][name] = {
                "pointing": _share(one, objects) if name == CHANCE else float(points_at(one, objects)),
                "deletion": _area(curves, curves.deletion),
                "insertion": _area(curves, curves.insertion),
            }
    return found


def write(measured: list[Found]) -> None:
    """The page."""
    page = HEAD.format(pictures=len(measured))
    for kind, heading in TABLES.items():
        heads = " | ".join(view.replace("_", ", ") for view in VIEWS)
        page += f"\n## {heading}\n\n| method | {heads} |\n|---|{'---:|' * len(VIEWS)}\n"
        for name in (*WAYS, CHANCE):
            cells = [
                _beside(*([each[view][one][kind] for each in measured] for one in (name, CHANCE))) for view in VIEWS
            ]
            page += f"| {name} | {' | '.join(cells)} |\n"
    (HERE / "attribution.md").write_text(page, encoding="utf-8")


@cache
def _pair() -> ex.Pair:
    return ex.load_pair(STUDENT, image_size=SIZE)


def _area(curves: RemovalCurves, curve: Tensor) -> float:
    return curves.fall * torch.trapezoid(curve, curves.shares).item()


def _objects(segmented: SegmentedSet, place: int) -> Tensor:
    values = [value for value, name in segmented.classes.items() if name in OBJECTS]
    return torch.from_numpy(np.isin(segmented.mask(place), values))


def _share(explained: ex.Attribution, objects: Tensor) -> float:
    """Of the patches, those that lie on an object."""
    rows, cols = explained.grid
    each_highest = torch.eye(rows * cols).reshape(-1, rows, cols)
    return mean(points_at(replace(explained, heatmap=one), objects) for one in each_highest)


def _beside(values: list[float], drawn: list[float]) -> str:
    error = stdev(value - chance for value, chance in zip(values, drawn, strict=True)) / len(values) ** 0.5
    return f"{mean(values):.2f} ({error:.2f})" if error else f"{mean(values):.2f}"


if __name__ == "__main__":
    main()
