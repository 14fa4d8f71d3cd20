"""What is supported and what is not: every family against timm's own attention, and the shipped table against timm."""

import csv
import random
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from explorer import ALIASES, UnsupportedModelError, list_backbones, load_backbone
from explorer.models.architectures import Unfilled, check_supported, create, reason_against
from tests.architectures import FAMILIES, GROUPED, backbone, differences, shallow

TABLE = Path(__file__).parents[2] / "docs" / "backbones.csv"
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


@pytest.mark.parametrize("name", FAMILIES.values())
def test_undrawn_parameters_leave_all_else_as_it_is(name: str) -> None:
    """Buffers are those of a drawn model, and weights that are loaded over the parameters are all that it takes."""
    depth: dict[str, Any] = {"depth": 2} | ({"num_kv_heads": [2] * 2} if name in GROUPED else {})
    drawn = create(name, **depth)
    generator = torch.get_rng_state()
    with Unfilled():
        undrawn = create(name, **depth)
    if "rope_mixed" not in name:  # which computes its frequencies from drawn angles
        assert torch.equal(generator, torch.get_rng_state()), "something was drawn"
    for key, buffer in drawn.named_buffers():
        assert torch.equal(buffer, undrawn.get_buffer(key)), key
    undrawn.load_state_dict(drawn.state_dict())
    assert all(map(torch.equal, drawn.parameters(), undrawn.parameters()))


def test_families_and_the_page_agree() -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = rows()
    for family, name in FAMILIES.items():
        assert f"| {family} | `{name}` |" in page
        assert known[name.partition(".")[0]]["supported"] == "yes"


def test_the_table_is_true_for_a_sample_and_for_what_it_does_not_know() -> None:
    known, installed = rows(), timm.list_models()
    names = random.Random(0).sample([name for name in installed if name in known], 40)
    names += [name for name in installed if name not in known][:20]
    for name in names:
        listed = "yes" if reason_against(name) is None else str(reason_against(name))
        assert says(name) == listed, name
        if name in known:
            assert listed == (known[name]["why"] or known[name]["supported"]), name


def test_the_table_and_the_list_agree_on_every_name() -> None:
    known, listed = rows(), set(list_backbones())
    ours = {name for name, row in known.items() if row["supported"] == "yes"}
    both = set(timm.list_models()) & set(known)
    assert listed & both == ours & both
    assert len(ours) > 300
    assert all(float(known[name][field]) < 1e-6 for name in ours for field in ("map_difference", "output_difference"))


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
    clip = load_backbone("vit_base_patch32_clip_224.openai", image_size=32, source="random", device="cpu")
    assert clip.name == "vit_base_patch32_clip_224.openai"
    assert clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    other = load_backbone("vit_tiny_patch16_224.augreg_in21k", image_size=32, source="random", device="cpu")
    assert other.mean == (0.5, 0.5, 0.5)


def test_naflex_takes_any_size_and_two_parallel_attentions_are_twice_the_heads() -> None:
    wide = load_backbone("naflexvit_base_patch16_siglip", image_size=(64, 96), source="random", device="cpu")
    assert (wide.grid, wide.prefix, wide.query_kind) == ((4, 6), 0, "attention pooling")
    parallel = backbone("vit_small_patch16_18x2_224", image_size=32)
    assert (parallel.depth, parallel.heads, parallel.reader.calls.total(parallel.depth)) == (18, 12, 36)
