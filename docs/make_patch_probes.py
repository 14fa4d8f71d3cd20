"""Fits the patch probe that comes with the project, on pictures with masks: python docs/make_patch_probes.py COCO

COCO holds train/, as `vit-explorer evaluate-dense` takes it, with masks of coarse classes. docs/dense.md has the
numbers of this probe on other pictures: column "clean teacher" of "Linear". Writes assets/patch_probes/s14.safetensors.
"""

import sys
from pathlib import Path

from tqdm import tqdm

import explorer as ex

NAME, SIZE = "s14", 224
OUT = Path(__file__).parents[1] / "assets" / "patch_probes"


def main() -> None:
    """Fit it and write it."""
    pictures = ex.load_segmented(Path(sys.argv[1]) / "train")
    with tqdm(total=len(pictures)) as bar:
        backbone = ex.load_backbone(NAME, image_size=SIZE, device="cpu")
        probe = ex.fit_patch_probe(backbone, pictures, progress=lambda done, _: bar.update(done - bar.n))
    OUT.mkdir(exist_ok=True)
    probe.save(OUT / f"{NAME}.safetensors")


if __name__ == "__main__":
    main()
