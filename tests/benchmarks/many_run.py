"""Embeds a folder of pictures with a small ViT of random weights, and tells how it goes: for `many`.

    python tests/benchmarks/many_run.py PICTURES CACHE

Prints "pictures seconds MiB" after each tenth: seconds since the first batch, and anonymous memory of the process.
"""

import re
import sys
import time
from pathlib import Path

import torch

import explorer as ex

NAME, SIZE, BATCH = "vit_tiny_patch16_224", 32, 32


def backbone() -> ex.Backbone:
    """Over 2 x 2 patches, so that decoding and keeping count beside the forward pass."""
    return ex.load_backbone(NAME, image_size=SIZE, source="random", device="cpu")


def resident() -> float:
    """MiB that are the process's own; pages of memory-mapped files are the system's to take back."""
    found = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    """Embed what is not there yet."""
    folder, cache = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    images = ex.load_images(folder, size=SIZE)
    began, told = time.perf_counter(), 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done * 10 // total > told:
            told = done * 10 // total
            sys.stdout.write(f"{done} {time.perf_counter() - began} {resident()}\n")
            sys.stdout.flush()

    ex.embed(backbone(), images, batch_size=BATCH, cache=cache, progress=progress)
    sys.stdout.write(f"{len(images)} {time.perf_counter() - began} {resident()}\n")


if __name__ == "__main__":
    main()
