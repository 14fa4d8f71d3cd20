"""What the package imagecorruptions-imaug makes of ten photos, in numbers: writes `imagenet_c_reference.json`.

    pip install imagecorruptions-imaug==1.1.5          # in an environment of its own: it brings OpenCV and numba
    python tests/distortions/imagenet_c_reference.py

The tests of the corruptions read the file, so they need neither the package nor this script's run. Only numpy and
Pillow are imported besides the package. Kept for each corruption and severity: the mean over the photos of PSNR to the
clean photo in dB and of the pixel value, one number for each seed; for a corruption without chance, one for each photo.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_suffix(".json")
SIDE = 224
SEEDS = 8
SEEDED_BY_ARGUMENT = ("impulse_noise", "glass_blur")  # the others read numpy's global random state
WITHOUT_CHANCE = (
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"),
    *("jpeg_compression", "gaussian_blur", "saturate"),
)


def photos() -> dict[str, np.ndarray]:
    """Name -> 224 x 224 x 3 uint8: the first photo of every category, squeezed to a square."""
    firsts = [
        sorted(folder.glob("*.webp"))[0] for folder in sorted((ROOT / "assets" / "photos").iterdir()) if folder.is_dir()
    ]
    return {
        path.relative_to(ROOT).as_posix(): np.asarray(
            Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        )
        for path in firsts
    }


def psnr(clean: np.ndarray, other: np.ndarray) -> float:
    """In dB, of uint8 pictures."""
    error = np.mean((clean.astype(np.float64) - other.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def measured(pictures: list[np.ndarray], results: list[np.ndarray]) -> tuple[list[float], list[float]]:
    """PSNR and mean pixel value in [0, 1] of each result."""
    return [psnr(a, b) for a, b in zip(pictures, results, strict=True)], [float(one.mean()) / 255 for one in results]


def main() -> None:
    """Measure the package and write the file."""
    import imagecorruptions

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pictures = photos()
    values = {
        name: {str(severity): _row(name, severity, list(pictures.values())) for severity in range(1, 6)}
        for name in imagecorruptions.get_corruption_names("all")
    }
    found = {
        "package": f"imagecorruptions-imaug {version('imagecorruptions-imaug')}",
        "photos": [*pictures],
        "values": values,
    }
    text = json.dumps(found, indent=0).replace(",\n", ", ").replace("[\n", "[").replace("\n]", "]")
    FILE.write_text(text.replace("}, ", "},\n") + "\n", encoding="utf-8")


def _row(name: str, severity: int, pictures: list[np.ndarray]) -> dict[str, list[float]]:
    if name in WITHOUT_CHANCE:
        decibel, mean = measured(pictures, [_corrupted(name, severity, one, 0) for one in pictures])
    else:
        runs = [
            measured(pictures, [_corrupted(name, severity, one, 100 * seed + i) for i, one in enumerate(pictures)])
            for seed in range(SEEDS)
        ]
        decibel, mean = ([float(np.mean(run[which])) for run in runs] for which in (0, 1))
    return {"psnr": [round(one, 3) for one in decibel], "mean": [round(one, 5) for one in mean]}


def _corrupted(name: str, severity: int, picture: np.ndarray, seed: int) -> np.ndarray:
    from imagecorruptions import corrupt

    np.random.seed(seed)
    more = {"seed": seed} if name in SEEDED_BY_ARGUMENT else {}
    return corrupt(picture, severity=severity, corruption_name=name, **more)


if __name__ == "__main__":
    main()
