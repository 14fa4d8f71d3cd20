"""What is supported and what is not: every family against timm's own attention, and the shipped table against timm."""

import csv
import time
from pathlib import Path

import pytest

from explorer import ALIASES, UnsupportedModelError, list_backbones, load_backbone
from explorer.architectures import check_supported
from tests.architectures import FAMILIES, backbone, differences, shallow

TABLE = Path(__file__).parents[1] / "docs" / "backbones.csv"
ONE_WIDTH = ("vit_base_mci_224", "vitamin_small_224")
"""Their stems fix the width; the others are compared with four heads, which is quicker."""
PAGE = TABLE.with_suffix(".md")


def rows() -> dict[str, dict[str, str]]:
    with TABLE.open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def says(name: str) -> str:
    """ "yes", or why a model is refused, after its skeleton was built."""
    try:
        check_supported(name)
    except UnsupportedModelError as error:
        return str(error).partition("not supported: ")[2].partition(". Needed is")[0]
    return "yes"


@pytest.mark.parametrize("name", FAMILIES.values())
def test_maps_tokens_and_embedding_equal_timm_unfused(name: str) -> None:
    maps, outputs = differences(shallow(name, (3, 5), narrow=name not in ONE_WIDTH))
    assert maps < 1e-6
    assert outputs < 1e-6


def test_lists_are_filtered_and_quick() -> None:
    names = list_backbones()
    assert names[: len(ALIASES)] == list(ALIASES)
    assert len(set(names)) == len(names)
    assert list_backbones("CLIP-*") == ["clip-b16"]
    assert {"vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"} < set(list_backbones("*DINOv2*"))
    assert list_backbones("resnet*") == []
    weights = list_backbones("*dinov2*", pretrained=True)
    assert "vit_small_patch14_dinov2.lvd142m" in weights
    assert all("." in name for name in weights)
    begun = time.perf_counter()
    list_backbones("*", pretrained=True)
    assert time.perf_counter() - begun < 1.0


def test_a_pretrained_tag_brings_its_own_normalisation() -> None:
    plain, clip = (
        load_backbone(name, image_size=32, source="random", device="cpu")
        for name in ("vit_base_patch32_clip_224.laion2b", "vit_base_patch32_clip_224.openai")
    )
    assert plain.name == "vit_base_patch32_clip_224.laion2b"
    assert plain.mean == clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    other = load_backbone("vit_tiny_patch16_224.augreg_in21k", image_size=32, source="random", device="cpu")
    assert other.mean == (0.5, 0.5, 0.5)


def test_naflex_takes_any_size_and_two_parallel_attentions_are_twice_the_heads() -> None:
    wide = load_backbone("naflexvit_base_patch16_siglip", image_size=(64, 96), source="random", device="cpu")
    assert (wide.grid, wide.prefix, wide.query_kind) == ((4, 6), 0, "attention pooling")
    parallel = backbone("vit_small_patch16_18x2_224", image_size=32)
    assert (parallel.depth, parallel.heads, parallel.reader.calls.total(parallel.depth)) == (18, 12, 36)
