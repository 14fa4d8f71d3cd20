"""{clean, distorted} x {teacher, student}: one picture seen four ways, and how far each view is from the reference.

Enters: a picture, a distortion, two backbones. Leaves: a `Comparison`, which holds everything that app, widgets,
plots and command line show, so that a change of layer, head or colour needs no further forward pass. The reference is
always the teacher on the clean picture.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from explorer.analysis import metrics
from explorer.analysis.maps import Head, attention_map, pca_rgb, rollout
from explorer.analysis.similarity import Alignment, alignment, patch_similarity
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.models.backbones import Backbone
from explorer.models.trace import Trace
from explorer.system.precision import outside_autocast

if TYPE_CHECKING:
    import pandas

FULL_ATTENTION_BYTES = 1 << 30
"""Beyond this the attention of all blocks of one picture is not held."""
VIEWS = ("teacher_clean", "teacher_distorted", "student_clean", "student_distorted")


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one backbone makes of one picture, small enough to keep.

    Attributes:
        trace: all blocks, of a batch of one, on the CPU; attention="cls".
        rollout: attention rollout from the picture's own row; None where full attention would not fit.
        rows: attention among patches (query, token), mean of heads, per block, float16; None where it would not fit.
        source: which weights saw it, in one line.
    """

    trace: Trace
    rollout: Float[Tensor, "rows cols"] | None
    rows: Float[Tensor, "layer patch patch"] | None
    source: str

    @property
    def bytes(self) -> int:
        """Memory taken by the tensors."""
        own = (self.trace.embedding, self.trace.cls, self.trace.patches, self.trace.attention, self.rollout, self.rows)
        return sum(tensor.nbytes for tensor in own if tensor is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One picture, one distortion, one teacher and one student.

    Attributes:
        clean, distorted: the pictures, RGB; the distorted one may leave [0, 1].
        views: a `View` for each name in `VIEWS`; the reference is "teacher_clean".
        alignments: "teacher", "student" (their distorted views) and "student_clean" -> agreement with the reference.
        distortion, seed: what damaged the picture.
        untouched: whether the student is still the untouched copy of the teacher.
    """

    clean: Float[Tensor, "3 height width"]
    distorted: Float[Tensor, "3 height width"]
    views: dict[str, View]
    alignments: dict[str, Alignment]
    distortion: Distortion
    seed: int
    untouched: bool

    @property
    def reference(self) -> View:
        """The teacher on the clean picture."""
        return self.views["teacher_clean"]

    @property
    def weights(self) -> tuple[str, str]:
        """Where the teacher's and the student's weights came from, a line each."""
        return self.reference.source, self.views["student_clean"].source

    def maps(self, layer: int = -1, head: Head = "mean") -> dict[str, Float[Tensor, "rows cols"]]:
        """The attention map of each view."""
        return {name: attention_map(view.trace, layer, head)[0] for name, view in self.views.items()}

    def heads(self, view: str = "student_distorted") -> Float[Tensor, "layer head rows cols"]:
        """The attention maps of all blocks and heads of one view.

        Raises:
            ValueError: no such view.
        """
        if view not in self.views:
            raise InputError(f"unknown view '{view}'; there are: {', '.join(self.views)}")
        trace = self.views[view].trace
        assert trace.attention is not None, "a View keeps attention"
        return rearrange(trace.attention[0, :, :, 0, trace.prefix :], "l h (r c) -> l h r c", r=trace.grid.rows)

    def similarity(self, row: int, col: int, layer: int = -1) -> dict[str, Float[Tensor, "rows cols"]]:
        """Cosine of one patch of the reference with every patch of each view."""
        wanted = self.reference.trace
        return {name: patch_similarity(wanted, (row, col), view.trace, layer)[0] for name, view in self.views.items()}

    def colours(self, layer: int = -1) -> dict[str, Float[Tensor, "rows cols 3"]]:
        """Joint PCA colours of the patches of each view: the same colour is the same kind of patch in all of them."""
        colours = pca_rgb(*(view.trace for view in self.views.values()), layer=layer)
        return {name: picture[0] for name, picture in zip(self.views, colours, strict=True)}

    def by_layer(self) -> "pandas.DataFrame":
        """How far each other view is from the reference, block by block.

        One row for each view and block, with the columns view, layer, attention_js (Jensen-Shannon divergence of the
        picture's own row in nats, mean of heads; 0 is equal) and patch_cosine (mean of patches; 1 is equal).
        """
        import pandas

        reference, tables = self.reference.trace, []
        for name, view in self.views.items():
            if name != "teacher_clean":
                pairs = {"view": name, "layer": reference.layers, **_layer_by_layer(reference, view.trace)}
                tables.append(pandas.DataFrame(pairs))
        return pandas.concat(tables, ignore_index=True)

    def numbers(self, layer: int = -1, head: Head = "mean") -> dict[str, Any]:
        """Everything that can be written as JSON: the student's agreement with the reference at the top level, both
        agreements by name, the maps as nested lists (rows of columns), and what they were made from."""
        maps = {name: values.tolist() for name, values in self.maps(layer, head).items()}
        trace = self.reference.trace
        return {
            **self.alignments["student"].as_json(),
            **{name: agreement.as_json() for name, agreement in self.alignments.items()},
            "clean_attention": maps["teacher_clean"],
            "teacher_attention": maps["teacher_distorted"],
            "student_attention": maps["student_distorted"],
            "student_clean_attention": maps["student_clean"],
            "grid": list(trace.grid),
            "layer": trace.layers[trace.position(layer)],
            "head": head,
            "query": trace.query_kind,
            "distortion": self.distortion.spec,
            "seed": self.seed,
            "untouched_student": self.untouched,
        }


def compare(
    teacher: Backbone,
    image: Float[Tensor, "3 height width"],
    distortion: str | Distortion,
    student: Backbone | None = None,
    seed: int = 0,
) -> Comparison:
    """See one picture four ways.

    Args:
        teacher: sees the clean picture as the reference.
        image: RGB in [0, 1], of the teacher's image size.
        distortion: a spec such as "gaussian_noise(sigma=0.3)", or a `Distortion`.
        student: None for the untouched copy of the teacher.
        seed: of the distortion.

    Raises:
        ValueError: a picture of another size, an unknown distortion, a student of another grid.
    """
    damage = parse_distortion(distortion)
    distorted = damage(image[None], seed=seed)[0]
    views = {"teacher_clean": look(teacher, image), "teacher_distorted": look(teacher, distorted)}
    if student is not None:
        views |= {"student_clean": look(student, image), "student_distorted": look(student, distorted)}
    return assemble(image, distorted, views, damage, seed)


def assemble(
    clean: Float[Tensor, "3 height width"],
    distorted: Float[Tensor, "3 height width"],
    views: dict[str, View],
    damage: Distortion,
    seed: int,
) -> Comparison:
    """A comparison from views that were made before; without a student's views the student is the untouched copy."""
    untouched = "student_clean" not in views
    if untouched:
        views = {**views, "student_clean": views["teacher_clean"], "student_distorted": views["teacher_distorted"]}
    reference = views["teacher_clean"].trace
    against = {"teacher": "teacher_distorted", "student": "student_distorted", "student_clean": "student_clean"}
    return Comparison(
        clean=clean,
        distorted=distorted,
        views={name: views[name] for name in VIEWS},
        alignments={name: alignment(reference, views[view].trace) for name, view in against.items()},
        distortion=damage,
        seed=seed,
        untouched=untouched,
    )


def look(backbone: Backbone, image: Float[Tensor, "3 height width"]) -> View:
    """Run one picture through one backbone once and keep what is shown of it.

    Where the attention matrices of all blocks together would take more than `FULL_ATTENTION_BYTES`, only the picture's
    own rows are taken; then there is no rollout, and nothing on what a single patch attends to.
    """
    tokens = backbone.prefix + backbone.grid.patches
    fits = 4 * backbone.depth * backbone.heads * tokens**2 <= FULL_ATTENTION_BYTES
    pooled = backbone.query_kind == "attention pooling"
    trace = backbone.trace(image[None], attention="full" if fits and not pooled else "cls")
    if not fits or pooled:
        return View(trace=trace.to("cpu"), rollout=None, rows=None, source=backbone.source)
    return _whole_view(trace, backbone.source)


@outside_autocast()
def _whole_view(trace: Trace, source: str) -> View:
    """What is kept of all attention matrices."""
    assert trace.attention is not None
    means = (reduce(block, "h q t -> q t", "mean") for block in trace.attention[0])  # by block: they stay in the cache
    return View(
        trace=replace(trace, attention=trace.own_rows().unsqueeze(3).clone()).to("cpu"),
        rollout=rollout(trace)[0].cpu(),
        rows=torch.stack([mean[trace.prefix :, trace.prefix :].to("cpu", torch.float16) for mean in means]),
        source=source,
    )


def _layer_by_layer(reference: Trace, other: Trace) -> dict[str, list[float]]:
    """The metrics take the blocks as their batch axis."""
    assert reference.attention is not None, "a View keeps attention"
    assert other.attention is not None, "a View keeps attention"
    return {
        "attention_js": metrics.js_divergence(reference.attention[0], other.attention[0]).tolist(),
        "patch_cosine": metrics.cosine(reference.patches[0], other.patches[0]).tolist(),
    }
