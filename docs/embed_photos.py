"""Embeds the 207 photos for the shipped students, so that the first look at them in the app takes seconds:

    python docs/embed_photos.py

Writes assets/features: global embeddings in half precision, for each student the four views under the distortion that
it was trained on, and under the one with which the app begins. What is there already is kept: a file's name tells
weights, photos and damage. All of it takes a quarter of an hour on two cores.
"""

import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from tqdm import tqdm

import explorer as ex
from explorer.evaluation.features import shipped_name

OUT = Path(__file__).parents[1] / "assets" / "features"
SIZE, SEED, FIRST = 224, 0, "gaussian_noise(sigma=0.3)"


def main() -> None:
    """One file for each backbone, student and distortion."""
    OUT.mkdir(exist_ok=True)
    photos = ex.load_images("photos", size=SIZE)
    wanted = set()
    with tempfile.TemporaryDirectory() as scratch:
        for name in tqdm(ex.list_pairs()):
            pair = ex.load_pair(name, image_size=SIZE)
            for backbone in (pair.teacher, pair.student):
                for damage in ("none", pair.distortion.spec, FIRST):
                    file = OUT / shipped_name(backbone, photos, damage, SEED)
                    if not file.exists():
                        features = ex.embed(backbone, photos, damage, SEED, cache=scratch)
                        safetensors.numpy.save_file({"embedding": features.embedding.astype(np.float16)}, file)
                    wanted.add(file)
    for file in set(OUT.iterdir()) - wanted:
        file.unlink()


if __name__ == "__main__":
    main()
