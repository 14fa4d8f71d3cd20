"""How large tokens are, and which of them stand out: `token_norms`, `norm_outliers`.

Large transformers turn patches that tell little into a memory of their own: tokens of high norm, which draw attention
and have lost what they stood for (Darcet et al. 2024, "Vision Transformers Need Registers"). There the limit was put by
eye, between the two hills of a model's histogram. Here a rule finds it, for models of any size: Tukey's for what lies
far out, the upper quartile plus three interquartile ranges, of the patches of a reference (the clean teacher), block by
block, and the same limit for all that is held against it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.errors import InputError
from explorer.models.trace import Trace, expect_traces

if TYPE_CHECKING:
    import pandas

FAR_OUT = 3.0
"""So many interquartile ranges above the upper quartile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenNorms:
    """L2 norms of tokens after each traced block, before the model's final norm. Made by `norm_outliers`.

    Attributes:
        patches: those of patches.
        prefix: those of the tokens before them (class token, registers).
        thresholds: above which a patch stands out, fitted on the reference.
        outliers: which patches do.
        overlap: patches that stand out here and in the reference, as a share of those that do in either; NaN where none
            does.
        layers: the block of each entry of the layer axis.
    """

    patches: Float[Tensor, "batch layer rows cols"]
    prefix: Float[Tensor, "batch layer prefix"]
    thresholds: Float[Tensor, " layer"]
    outliers: Bool[Tensor, "batch layer rows cols"]
    overlap: Float[Tensor, "batch layer"]
    layers: tuple[int, ...]

    @property
    def share(self) -> Float[Tensor, "batch layer"]:
        """Of the patches, those that stand out."""
        return self.outliers.float().mean(dim=(2, 3))

    def frame(self) -> "pandas.DataFrame":
        """One row for each picture and block: image, layer, median and largest (norm of a patch), threshold, outliers
        (share), overlap, and a column for each token before the patches: prefix_0, which is the class token where there
        is one, and so on."""
        import pandas

        flat = self.patches.flatten(start_dim=2)
        columns = {
            "median": flat.median(dim=2).values,
            "largest": flat.amax(dim=2),
            "threshold": self.thresholds.expand(flat.shape[:2]),
            "outliers": self.share,
            "overlap": self.overlap,
            **{f"prefix_{place}": norms for place, norms in enumerate(self.prefix.unbind(dim=2))},
        }
        places = pandas.MultiIndex.from_product([range(len(flat)), self.layers], names=["image", "layer"])
        return pandas.DataFrame(
            {name: values.flatten().tolist() for name, values in columns.items()}, places
        ).reset_index()


def token_norms(trace: Trace) -> Float[Tensor, "batch layer patch"]:
    """The L2 norm of each patch's token after each traced block, before the model's final norm, row by row.

    Raises:
        ValueError: a trace without norms.
    """
    return _norms(trace)[1]


def norm_outliers(trace: Trace, reference: Trace | None = None) -> TokenNorms:
    """How large the tokens of pictures are, and which patches stand out.

        reference = teacher.trace(clean)
        norm_outliers(student.trace(distorted), reference).frame()

    Args:
        reference: on whose patches the threshold of each block is fitted, such as the teacher's trace of the clean
            pictures, the same ones in the same order; None: the trace itself.

    Raises:
        ValueError: a trace without norms, or traces of different batches, grids or blocks.
    """
    fitted = trace if reference is None else reference
    expect_traces(trace, fitted)
    if (len(fitted), fitted.grid, fitted.layers) != (len(trace), trace.grid, trace.layers):
        raise InputError(
            f"outliers are held against the same pictures, grid and blocks; got {len(trace)} of {tuple(trace.grid)} in "
            f"the blocks {list(trace.layers)}, and for the reference {len(fitted)} of {tuple(fitted.grid)} in "
            f"{list(fitted.layers)}"
        )
    prefix, patches = _norms(trace)
    _, expected = _norms(fitted)
    lower, upper = rearrange(expected, "b l p -> l (b p)").quantile(torch.tensor([0.25, 0.75]).to(expected), dim=1)
    thresholds = upper + FAR_OUT * (upper - lower)
    ours, theirs = (norms > thresholds[:, None] for norms in (patches, expected))
    overlap = (ours & theirs).sum(dim=2) / (ours | theirs).sum(dim=2)
    rows = trace.grid.rows
    return TokenNorms(
        patches=rearrange(patches, "b l (r c) -> b l r c", r=rows),
        prefix=prefix,
        thresholds=thresholds,
        outliers=rearrange(ours, "b l (r c) -> b l r c", r=rows),
        overlap=overlap,
        layers=trace.layers,
    )


def _norms(trace: Trace) -> tuple[Float[Tensor, "batch layer prefix"], Float[Tensor, "batch layer patch"]]:
    expect_traces(trace)
    if trace.norms is None:
        raise InputError("this trace holds no norms of tokens: backbone.trace(images) keeps them")
    norms = trace.norms.float()
    return norms[:, :, : trace.prefix], norms[:, :, trace.prefix :]
