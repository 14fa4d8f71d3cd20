"""Tries every model that timm has, and writes docs/backbones.csv and docs/backbones.md:

    python docs/sweep_backbones.py

Each model is built without storage and judged. A supported one is then built with random weights, two blocks and four
heads (those that are built in one width alone: one block, all heads) over 3 x 5 patches, or its own size where it takes
no other, and every attention map, the embedding and the tokens are compared with those of timm's unfused attention, in
float64. With names as arguments: only those, to the terminal.
"""

import csv
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from explorer.models.architectures import UnsupportedModelError, check_supported, list_backbones, reason_against
from explorer.models.loading import _wrap
from explorer.models.trace import Grid
from explorer.models.weights import LoadedWeights
from tests.architectures import FAMILIES, differences, shallow

HERE = Path(__file__).parent
GRID = (3, 5)
WIDE = 1200
FIELDS = ("name", "supported", "why", "patch_px", "own_size_px", "prefix", "blocks", "heads", "dim", "own_row")
FIELDS += ("checked_with", "map_difference", "output_difference")


def row(name: str) -> dict[str, Any]:
    """What is known of a timm name after it was tried."""
    try:
        whole = check_supported(name)
    except UnsupportedModelError as error:
        why = str(error).partition("not supported: ")[2].partition(". Needed is")[0]
        return {"name": name, "supported": "no", "why": why}
    model = _wrap(name, whole, LoadedWeights(tensors={}, description="", sha256="-"), None)
    patch = (model.height_width[0] // model.grid.rows, model.height_width[1] // model.grid.cols)
    facts = {
        "name": name,
        "supported": "yes",
        "patch_px": patch[0],
        "own_size_px": model.image_size,
        "prefix": model.prefix,
        "blocks": model.depth,
        "heads": model.heads,
        "dim": model.dim,
        "own_row": model.query_kind,
    }
    return facts | checked(name, model.grid, whole)


def checked(name: str, own: Grid, whole: Any) -> dict[str, Any]:
    """How far maps and outputs are from timm's own, at another grid where the model takes one."""
    for grid, narrow in ((GRID, True), (GRID, False), (tuple(own), True), (tuple(own), False)):
        try:
            small = shallow(
                name, grid, depth=2 if narrow or whole.num_features <= WIDE else 1, narrow=narrow, whole=whole
            )
            maps, outputs = differences(small)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            failed = error
            continue
        built = f"{grid[0]} x {grid[1]} patches, {small.depth} blocks, {small.heads} heads"
        return {"checked_with": built, "map_difference": maps, "output_difference": outputs}
    raise failed


def table(rows: list[dict[str, Any]]) -> str:
    """The page: families, one line each, and the reasons against the others."""
    supported = {one["name"]: one for one in rows if one["supported"] == "yes"}
    lines = [HEAD.format(timm=timm.__version__, all=len(rows), supported=len(supported), pretrained=PRETRAINED)]
    lines += ["| family | for example | patch | own size | before the patches | own row |", "|---|---|---|---|---|---|"]
    for family, name in FAMILIES.items():
        one = supported[name.partition(".")[0]]
        kind = one["own_row"]
        lines.append(
            f"| {family} | `{name}` | {one['patch_px']} px | {one['own_size_px']} px | {one['prefix']} | {kind} |"
        )
    worst = max(supported.values(), key=lambda one: one["map_difference"])
    lines.append(MIDDLE.format(worst=worst["map_difference"], name=worst["name"]))
    for why, count in Counter(one["why"] for one in rows if one["supported"] == "no").most_common():
        example = next(one["name"] for one in rows if one.get("why") == why)
        lines.append(f"| {why} | {count} | `{example}` |")
    return "\n".join(lines) + "\n" + FOOT


PRETRAINED = len(list_backbones(pretrained=True))

HEAD = """\
# Backbones

Written by `docs/sweep_backbones.py`, which tries every name; [backbones.csv](backbones.csv) has a line for each.
timm {timm} names {all} models: {supported} are supported, with {pretrained} sets of weights (aliases counted).

A backbone keeps its own name, mean, std and size. `vit-explorer backbones "*dinov2*"` searches them, as
`explorer.list_backbones("*dinov2*", pretrained=True)` does. "Own row" is what `trace(images, attention="cls")` gives:
the class token's row; of models without one the row of their attention pooling, or the mean of all patches' rows.
"""

MIDDLE = """
Every supported model was compared with timm's own unfused attention: all maps, tokens and the embedding, with random
weights, in float64. The largest difference of a map is {worst:.0e} (`{name}`).

## What is refused, and why

| reason | models | for example |
|---|---|---|"""

FOOT = """
## Weights of your own

`load_backbone("vit_small_patch14_dinov2", source="mine.safetensors")` takes a safetensors file, a
`model.safetensors.index.json` beside several of them, or a folder with one of both. Pickles are refused.

- Names that are timm's, and those that timm translates (DINOv2's and DINOv3's own, with registers and chunked blocks;
  open_clip's, EVA's, AIMv2's …), are loaded by timm. Hugging Face's for ViT, DeiT, MAE, DINOv2, DINOv3, CLIP and
  SigLIP, and torchvision's for ViT, are translated.
- A prefix before any of these, such as `module._orig_mod.`, `teacher.backbone.` or `visual.trunk.`, is taken off, if
  the whole backbone is there after it. Heads, decoders, mask tokens and networks beside the backbone are left out, and
  counted in `Backbone.source`.
- Of a student and its teacher in one file the teacher is taken; of other networks that all fit you are asked for one.
- A peft adapter, with `adapter_config.json` beside it, is merged into the backbone's own weights:
  `load_backbone("s14", source="adapter")`.
- Positions that are neither those of the architecture's own size nor of the `image_size` that is asked for need
  `grid=(rows, cols)`, that in which they were trained: 144 of them may be 12 x 12 or 8 x 18, which no file tells.
- The rest is refused: by its format where it is known ("Hugging Face's names for ConvNeXt"), else with what is missing
  and unknown.

Names and shapes tell neither the number of heads nor the activation: they are those of the architecture that you name
(`vit_base_patch16_clip_quickgelu_224` for OpenAI's CLIP, not `vit_base_patch16_clip_224`).

## A module of your own

`explorer.wrap_backbone` gives any Vision Transformer the same face, if each of its blocks calls
`F.scaled_dot_product_attention` or `nn.MultiheadAttention` once, over all tokens:

```python
backbone = ex.wrap_backbone(
    model,                      # called with normalised pictures
    blocks="layers",            # where its blocks are held, or the blocks themselves
    norm="norm",                # the norm after the last block, or None
    image_size=224,
    grid=(14, 14),              # rows and columns of patches
    prefix=1,                   # tokens before the patches
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
maps = ex.attention_map(backbone.trace(images), layer=-1)
```

`trace`, `compare`, `embed`, `attribute` and `distill` take it like any other. A student of it is trained with
`trainable="all"`; `"last:N"` needs its blocks to be held in `blocks`, and `"lora:N"` also timm's names of the matrices
in them (`qkv`, `proj`, `fc1`, `fc2`). Pass the wrapped teacher to `load_pair(..., teacher=backbone)`: its name alone
brings no weights. It has one image size, and `compile=True` is for timm's models.
"""


def main() -> None:
    """Try all names, or those that are given."""
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    chosen = sys.argv[1:]
    rows = []
    for name in chosen or timm.list_models():
        rows.append(row(name))
        print(*rows[-1].values(), sep=" | ", flush=True)  # noqa: T201
        assert (rows[-1]["supported"] == "yes") == (reason_against(name) is None), name
    if not chosen:
        write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """The table and the page."""
    with (HERE / "backbones.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for one in rows:
            numbers = {key: f"{one[key]:.0e}" for key in FIELDS[-2:] if key in one}
            writer.writerow(one | numbers)
    (HERE / "backbones.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
