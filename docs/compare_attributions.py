"""Which attribution method to believe, on damaged pictures towards what the teacher sees in the clean ones; writes
docs/attribution.md:

    python docs/compare_attributions.py COCO [--pictures 20]

COCO is a folder of pictures and masks as `vit-explorer evaluate-dense` takes it; only numbers of them are kept.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import explorer as ex
from explorer.data.masks import SegmentedSet, load_segmented
from explorer.inspection.attribution import Settings, attribution
from explorer.inspection.attribution_quality import RemovalCurves, points_at, removal_curves

SIZE, DAMAGE, CUTS, SEED = 224, "gaussian_noise(sigma=0.3)", 6, 0
OBJECTS = ("person", "animal", "vehicle", "furniture", "food")
WINDOW = 28  # px, 2 x 2 patches
WAYS = {  # name -> method and its settings, as the app takes them
    "attn_lrp": ("attn_lrp", Settings()),
    "attn_lrp, gamma=0.25": ("attn_lrp", Settings(gamma=0.25)),
    "gradient_attention": ("gradient_attention", Settings()),
    "integrated_gradients": ("integrated_gradients", Settings(steps=16, baseline="blur")),
    "saliency": ("saliency", Settings()),
    "occlusion": ("occlusion", Settings(patch=WINDOW)),
}
CHANCE = "any order"
HEAD = """# Which attribution to believe

Made by `python docs/compare_attributions.py COCO --pictures {pictures}`: the teacher `{name}` at {size} px, which sees
a picture under `{damage}` and is asked what makes it resemble what it sees in the clean one.

*Deletion* and *insertion* (`removal_curves`, {cuts} cuts) of {photos} shipped photos: the mean of the score (a cosine,
minus that of a picture of nothing but the mean colour) as patches are hidden in the map's order by that colour, and as
they are shown over it in this order. *{any}* draws an order for each picture, and brackets hold the standard error of
the difference from it on the same pictures: what lies within two of them of it is not told from chance. *Pointing*: how
often the highest patch lies on an object ({objects}) in {coco} pictures of COCO with
masks, and its standard error; of a patch drawn by chance {chance:.2f} do. Integrated gradients take 16 steps from a
blur, occlusion hides 2 x 2 patches, as in the app.

| method | deletion (lower is better) | insertion (higher is better) | pointing |
|---|---:|---:|---:|
"""
HERE = Path(__file__).parent


class Areas(NamedTuple):
    """Below one picture's curves, in units of the score, from the baseline's up: a damaged picture may have less."""

    deletion: float
    insertion: float


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("coco", type=Path, metavar="COCO")
    parser.add_argument("--pictures", type=int, default=20, help="of each kind (20)")
    options = parser.parse_args()
    write(areas(options.pictures), *pointing(options.coco, options.pictures))


def areas(pictures: int) -> dict[str, list[Areas]]:
    """Deletion and insertion of each method on photos of all classes."""
    backbone, photos = ex.load_backbone("s14", image_size=SIZE), ex.load_images("photos", size=SIZE)
    places = np.linspace(0, len(photos) - 1, pictures).round().astype(int)
    found: dict[str, list[Areas]] = {}
    for place in tqdm(places):
        for name, explained in _explained(backbone, photos[place][0], place):
            curves = removal_curves(backbone, replace(explained, settings=Settings()), CUTS)
            found.setdefault(name, []).append(
                Areas(*(_area(curves, each) for each in (curves.deletion, curves.insertion)))
            )
    return found


def pointing(folder: Path, pictures: int) -> tuple[dict[str, list[bool]], float]:
    """Whether each method's highest patch lies on an object, and the share of patches that do."""
    backbone, segmented = ex.load_backbone("s14", image_size=SIZE), load_segmented(folder, SIZE)
    found: dict[str, list[bool]] = {}
    shares = []
    for place in tqdm(_with_objects(segmented)[:pictures]):
        mask = _objects(segmented, place)
        for name, explained in _explained(backbone, segmented.images[place][0], place):
            if name != CHANCE:
                found.setdefault(name, []).append(points_at(explained, mask))
        shares.append(mean(points_at(replace(explained, heatmap=one), mask) for one in _each_patch(explained.grid)))
    return found, mean(shares)


def write(measured: dict[str, list[Areas]], hits: dict[str, list[bool]], chance: float) -> None:
    """The page."""
    head = HEAD.format(
        pictures=len(measured[CHANCE]),
        name="s14",
        size=SIZE,
        damage=DAMAGE,
        cuts=CUTS,
        photos=len(measured[CHANCE]),
        objects=", ".join(OBJECTS),
        coco=len(hits["saliency"]),
        chance=chance,
        any=CHANCE.capitalize(),
    )
    rows = []
    for name, each in measured.items():
        cells = [_beside(curves, drawn) for curves, drawn in _pairs(each, measured[CHANCE])]
        cells.append(_with_error(mean(hits[name]), hits[name]) if name in hits else f"{chance:.2f}")
        rows.append(f"| {name} | {' | '.join(cells)} |\n")
    (HERE / "attribution.md").write_text(head + "".join(rows), encoding="utf-8")


def _explained(backbone: ex.Backbone, clean: Tensor, place: int) -> Iterator[tuple[str, ex.Attribution]]:
    """One damaged picture by each method, and in an order that is drawn."""
    seen = ex.distortion(DAMAGE)(clean[None], seed=SEED, indices=[int(place)])[0]
    toward = backbone.trace(clean[None], layers=-1, attention=None).embedding[0]
    for name, (method, settings) in WAYS.items():
        explained = attribution(backbone, seen, toward, method, settings)
        yield name, explained
    generator = torch.Generator().manual_seed(int(place))
    yield CHANCE, replace(explained, heatmap=torch.rand(tuple(backbone.grid), generator=generator))


def _area(curves: RemovalCurves, curve: Tensor) -> float:
    return curves.fall * torch.trapezoid(curve, curves.shares).item()


def _with_objects(segmented: SegmentedSet) -> list[int]:
    return [place for place in range(len(segmented)) if _objects(segmented, place).any()]


def _objects(segmented: SegmentedSet, place: int) -> Tensor:
    values = [value for value, name in segmented.classes.items() if name in OBJECTS]
    return torch.from_numpy(np.isin(segmented.mask(place), values))


def _each_patch(grid: tuple[int, int]) -> Tensor:
    """A map for each patch, highest there."""
    return torch.eye(grid[0] * grid[1]).reshape(-1, *grid)


def _pairs(each: list[Areas], drawn: list[Areas]) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Of each kind of area, all pictures' of a method and of the order by chance."""
    return zip(zip(*each, strict=True), zip(*drawn, strict=True), strict=True)


def _beside(values: tuple[float, ...], drawn: tuple[float, ...]) -> str:
    return _with_error(mean(values), [value - chance for value, chance in zip(values, drawn, strict=True)])


def _with_error(value: float, varying: Sequence[float]) -> str:
    error = stdev(map(float, varying)) / len(varying) ** 0.5
    return f"{value:.2f} ({error:.2f})" if error else f"{value:.2f}"


if __name__ == "__main__":
    main()
