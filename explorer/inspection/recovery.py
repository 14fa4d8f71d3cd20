"""One picture as a student sees it while it learns: `Recovery`, recorded step by step.

Enters: a teacher, a picture, a distortion, and the student at any time of its training. Leaves: `Moment`s, small enough
to keep dozens of them, from which attention maps and similarity maps are drawn beside the teacher's. The reference is
the teacher on the clean picture. Deliberately ignored: training (`explorer.AttentionWatch` follows one), and how things
are drawn.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from explorer.analysis import metrics
from explorer.analysis.similarity import ATTENTION_LAYERS, Alignment, alignment
from explorer.data.image import Source, load_image
from explorer.distortions import Distortion, Given
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.operators import NONE
from explorer.errors import InputError, seed_number
from explorer.models.backbones import Backbone
from explorer.models.trace import Grid, Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What a backbone makes of one picture at one time, on the CPU.

    Attributes:
        step: of the training; 0 before it.
        attention: the picture's own attention row in the last block, without prefix tokens.
        patches: patch features of the last block.
        agreement: with the reference.
    """

    step: int
    attention: Float[Tensor, "head patch"]
    patches: Float[Tensor, "patch dim"]
    agreement: Alignment


class Recovery:
    """How a student learns to see one picture through its damage.

        recovery = Recovery(teacher, image, "gaussian_noise(sigma=0.3)")
        for record in distill(teacher, images, config, out="runs/noise"):
            recovery.add(record.step, record.student)
        recovery.attention()  # "view rows cols": the reference, the untouched copy, then one for each step

    Args:
        teacher: sees the clean picture.
        image: RGB in [0, 1], of the teacher's image size; or what else `load_image` takes, fitted to that size.
        distortion: a spec such as "gaussian_noise(sigma=0.3)", or a `Distortion`; "none": the student, too, sees the
            clean picture. Or the damaged picture itself, of the same size.
        seed: of the distortion.
        student: as it is before it learns; None: an untouched copy of the teacher.
        called: what the teacher and the student are called where they are shown.

    Attributes:
        clean, distorted: the pictures; the distorted one may leave [0, 1].
        reference: the teacher on the clean picture.
        moments: in the order in which they were added; the first is the student before it learned, at step 0.
        grid: of the patches.
        distortion, seed: what damaged the picture.
        weights: those of the teacher, in one line.
    """

    def __init__(
        self,
        teacher: Backbone,
        image: Source,
        distortion: str | Distortion | Float[Tensor, "3 height width"],
        seed: int = 0,
        *,
        student: Backbone | None = None,
        called: tuple[str, str] = ("teacher", "student"),
    ) -> None:
        image = image if isinstance(image, Tensor) else load_image(image, teacher.height_width)
        self.clean, self.called = image, called
        self.seed, self.weights = seed_number(seed), teacher.source
        self.distortion: Distortion = Given()
        if isinstance(distortion, Tensor):
            self.distorted = distortion
        else:
            self.distortion = parse_distortion(distortion)
            self.distorted = self.distortion(image[None], seed=seed)[0]
        self.grid: Grid = teacher.grid
        self._seen = _look(teacher, self.clean)
        self.reference = self._moment(0, self._seen)
        self.moments = [self._moment(0, _look(student or teacher, self.distorted))]

    def add(self, step: int, student: Backbone) -> Moment:
        """Show the student the distorted picture, and keep what it sees.

        Raises:
            ValueError: the step does not come after the last one.
        """
        if step <= self.moments[-1].step:
            raise InputError(f"step {step} does not come after step {self.moments[-1].step}, the last one here")
        self.moments.append(self._moment(step, _look(student, self.distorted)))
        return self.moments[-1]

    def rewind(self, step: int) -> None:
        """Forget the moments after a step: a run that is resumed goes on from its last checkpoint."""
        self.moments = [moment for moment in self.moments if moment.step <= max(0, step)]

    def attention(self) -> Float[Tensor, "view rows cols"]:
        """Where the reference looks, then each moment's student: its own row of the last block, mean of heads."""
        rows = torch.stack([moment.attention.mean(dim=0) for moment in (self.reference, *self.moments)])
        return rearrange(rows, "v (r c) -> v r c", r=self.grid.rows)

    def similarity(self, row: int, col: int) -> Float[Tensor, "view rows cols"]:
        """Cosine of one patch of the reference with every patch of the reference, then of what each student sees.

        Raises:
            ValueError: there is no such patch.
        """
        query = self.reference.patches[self.grid.position(row, col)]
        seen = [moment.patches for moment in (self.reference, *self.moments)]
        maps = torch.stack([metrics.cosine(query.expand_as(patches), patches) for patches in seen])
        return rearrange(maps, "v (r c) -> v r c", r=self.grid.rows)

    @property
    def view(self) -> str:
        """Which picture the student sees: "distorted", or "clean" where nothing is done to it."""
        return "clean" if self.distortion.spec == NONE.name else "distorted"

    @property
    def busiest(self) -> tuple[int, int]:
        """Row and column of the patch that the reference looks at most."""
        row, col = divmod(int(self.reference.attention.mean(dim=0).argmax()), self.grid.cols)
        return row, col

    def _moment(self, step: int, seen: Trace) -> Moment:
        return Moment(
            step=step,
            attention=seen.own_rows()[0, -1, :, seen.prefix :].clone(),
            patches=seen.patches[0, -1].clone(),
            agreement=alignment(self._seen, seen),
        )


def _look(backbone: Backbone, image: Float[Tensor, "3 height width"]) -> Trace:
    """What alignment is measured on, and no more."""
    layers = range(max(0, backbone.depth - ATTENTION_LAYERS), backbone.depth)
    return backbone.trace(image[None], layers, "cls").to("cpu")
