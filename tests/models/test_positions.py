"""Positions of stored weights: resampled from the grid that they were trained in, which is never guessed."""

import copy
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer import WeightsError, load_backbone
from explorer.models.architectures import create
from explorer.models.positions import Positions
from explorer.models.trace import Grid

TINY = "vit_tiny_patch16_224"
Sides = tuple[int, int]


def resampled(stored: Tensor, old: Sides, new: Sides, prefix: int = 1) -> Tensor:
    """A position embedding on another grid, by torch alone."""
    planes = torch.stack([vector.reshape(old) for vector in stored[0, prefix:].T])[None]
    moved = F.interpolate(planes, new, mode="bicubic", antialias=True)[0].flatten(1).T
    return torch.cat([stored[0, :prefix], moved])[None]


def file_of(folder: Path, size: Sides) -> tuple[Path, dict[str, Tensor]]:
    """Somebody's own weights, trained at this size in pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = timm.create_model(TINY, img_size=size, num_classes=0).state_dict()
    safetensors.torch.save_file(state, folder / "own.safetensors")
    return folder / "own.safetensors", state


@pytest.mark.parametrize(
    ("trained", "opened"),
    [((2, 8), (4, 4)), ((4, 4), (2, 8)), ((7, 28), (14, 14)), ((3, 5), (4, 2)), ((7, 28), (7, 28)), ((3, 3), (2, 4))],
)
def test_a_grid_that_is_said_is_the_one_that_is_resampled(trained: Sides, opened: Sides, tmp_path: Path) -> None:
    file, state = file_of(tmp_path, (16 * trained[0], 16 * trained[1]))
    size = (16 * opened[0], 16 * opened[1])
    loaded = load_backbone(TINY, image_size=size, source=file, grid=trained, device="cpu")
    found = loaded.module.state_dict()
    expected = state["pos_embed"] if opened == trained else resampled(state["pos_embed"], trained, opened)
    torch.testing.assert_close(found["pos_embed"], expected, atol=1e-6, rtol=0)
    assert all(torch.equal(found[name], state[name]) for name in state if name != "pos_embed")


@pytest.mark.parametrize(
    ("trained", "size", "message"),
    [
        (
            (4, 4),
            32,
            r"'pos_embed' holds 16 positions, which do not make 14 x 14 or 2 x 2 patches.*grid=\(rows, cols\)",
        ),
        ((2, 8), 64, None),  # as many as the picture has: they are its own
        ((8, 18), 224, r"holds 144 positions, which do not make 14 x 14 patches.*grid="),
        ((7, 28), (112, 448), r"holds 196 positions, which fit both 14 x 14 and 7 x 28 patches.*grid="),
        ((14, 14), (112, 448), r"fit both 14 x 14 and 7 x 28"),
        ((14, 14), (64, 96), None),
    ],
)
def test_a_grid_that_is_not_said_is_asked_for(
    trained: Sides, size: int | Sides, message: str | None, tmp_path: Path
) -> None:
    file, _ = file_of(tmp_path, (16 * trained[0], 16 * trained[1]))
    if message is None:
        load_backbone(TINY, image_size=size, source=file, device="cpu")
        return
    with pytest.raises(WeightsError, match=message):
        load_backbone(TINY, image_size=size, source=file, device="cpu")


@pytest.mark.parametrize(
    ("source", "grid", "kind", "message"),
    [
        ("file", (4, 5), WeightsError, r"holds 16 positions, and grid=\(4, 5\) was said to be theirs"),
        ("file", (4, 0), ValueError, r"grid is \(rows, cols\).*got \(4, 0\)"),
        ("random", (4, 4), ValueError, "pass the file, source=…; got 'random'"),
    ],
)
def test_a_grid_that_cannot_be(source: str, grid: Sides, kind: type[Exception], message: str, tmp_path: Path) -> None:
    file = file_of(tmp_path, (64, 64))[0] if source == "file" else source
    with pytest.raises(kind, match=message):
        load_backbone(TINY, image_size=32, source=file, grid=grid, device="cpu")


def test_names_of_other_programs_may_count_a_class_token_and_never_hide_a_grid() -> None:
    """DINOv2's own files with registers hold a position for the class token, which timm's model has not."""
    whole = nn.Module()
    whole.pos_embed = nn.Parameter(torch.zeros(1, 16, 3))
    stored = {"pos_embed": torch.zeros(1, 17, 3)}
    foreign, exact = (
        Positions(tensors=stored, architecture="-", whole=whole, native=Grid(4, 4), exact=exact)
        for exact in (False, True)
    )
    assert foreign.grid(Grid(2, 3)) == Grid(4, 4)
    with pytest.raises(WeightsError, match="grid="):
        exact.grid(Grid(2, 3))
    with pytest.raises(WeightsError, match="not timm's"):
        foreign.check(Grid(2, 8))


@pytest.mark.parametrize(("old", "new"), [((2, 14), (5, 5)), ((2, 8), (4, 4)), ((5, 5), (2, 14)), ((2, 14), (2, 14))])
def test_relative_positions_keep_their_grid_too(old: Sides, new: Sides) -> None:
    """2 x 14 patches have 3 x 27 distances, as many as the 9 x 9 of a square; timm's model, which knows its own grid,
    is the oracle."""
    model = create("beit_base_patch16_224", img_size=(16 * old[0], 16 * old[1]), depth=2, embed_dim=16, num_heads=2)
    whole = create("beit_base_patch16_224", depth=2, embed_dim=16, num_heads=2)
    with torch.no_grad():
        for block in model.blocks:
            nn.init.normal_(block.attn.relative_position_bias_table)
    tensors = copy.deepcopy(model.state_dict())
    stored = Positions(tensors=tensors, architecture="beit", whole=whole, native=Grid(14, 14), exact=True)
    stored.check(Grid(*old))
    moved = stored.moved(Grid(*old), Grid(*new))
    model.set_input_size(img_size=(16 * new[0], 16 * new[1]))
    if old == (5, 5):
        assert not moved, "timm resamples a square rightly"
        return
    assert len(moved) == 2
    for name, table in moved.items():
        torch.testing.assert_close(table, model.state_dict()[name], atol=1e-6, rtol=0)
