"""`distortion(spec)` makes a `Distortion`, which is called on a batch of images.

A `Distortion` is a value: frozen, hashable, picklable, written by `str` as a spec that makes an equal one. It knows
names and numbers only; the operators are looked up in `DISTORTIONS` when it is called.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.distortions.operators import COMMON_CORRUPTIONS, DISTORTIONS, NONE, RANDOM_CORRUPTION
from explorer.distortions.parameters import SEVERITY, Description, Value, unknown_name
from explorer.distortions.parsing import EXAMPLES, Term, parse
from explorer.distortions.randomness import BRANCH, Draw, uniform_number
from explorer.errors import InputError, seed_number, whole_number
from explorer.system.precision import outside_autocast


@dataclass(frozen=True)
class Step:
    """One operator with all its parameters, and whether its result is clipped to [0, 1]."""

    name: str
    values: tuple[tuple[str, Value], ...]
    clip: bool = False

    def __str__(self) -> str:
        arguments = [f"{name}={_text(value)}" for name, value in self.values] + ["clip=True"] * self.clip
        return f"{self.name}({', '.join(arguments)})" if arguments else self.name

    @property
    def label(self) -> str:
        """A short name for people: the operator, and how strong it is."""
        entry = _describe(self.name)
        for name, value in self.values:
            if name in (entry.strength, SEVERITY):
                numbers = "..".join(f"{end:g}" for end in (value if isinstance(value, tuple) else (value,)))
                return f"{entry.label}, severity {numbers}" if name == SEVERITY else f"{entry.label} {numbers}"
        return entry.label

    def span(self, parameter: str) -> tuple[int | float, int | float] | None:
        """Between which values a parameter, or the severity, lies; None if this is not said."""
        given = dict(self.values)
        if parameter in given:
            value = given[parameter]
            return value if isinstance(value, tuple) else (value, value)
        if SEVERITY not in given or parameter not in [one.name for one in _describe(self.name).parameters]:
            return None
        low, high = given[SEVERITY]  # type: ignore[misc]  # a single severity has become parameters
        corners = [low, *range(math.ceil(low), math.floor(high) + 1), high]  # straight lines between them
        values = [_describe(self.name).at_severity(severity)[parameter] for severity in corners]
        return min(values), max(values)

    def apply(
        self, images: Float[Tensor, "batch 3 height width"], seed: int, indices: Sequence[int], position: int
    ) -> Float[Tensor, "batch 3 height width"]:
        """The operator on images that are float32 or float64; `position` is its place in the branch."""
        description = _describe(self.name)
        values = description.per_image(self.values, seed, indices, position)
        out = description.operator(images, Draw.for_images(seed, indices, position, images.device), **values)
        return out.clamp_(0.0, 1.0) if self.clip else out  # operators return new tensors


@dataclass(frozen=True, repr=False)
class Distortion:
    """What is done to pictures. Made by `distortion`; called on a batch.

    Attributes:
        branches: alternatives of which each image draws one, uniformly; a branch is a tuple of steps in order of
            application, and empty for "none".
    """

    branches: tuple[tuple[Step, ...], ...]

    @property
    def spec(self) -> str:
        """The canonical spec: all parameters written out; `distortion(d.spec) == d`."""
        return " | ".join(" + ".join(map(str, branch)) or NONE.name for branch in self.branches)

    @property
    def label(self) -> str:
        """A short name for people, such as "Gaussian blur 3 + Pixel mask 0.5"."""
        return " or ".join(" + ".join(step.label for step in branch) or "no damage" for branch in self.branches)

    @property
    def stochastic(self) -> bool:
        """Whether another seed can give another result: random operators, ranges or a choice of branches."""
        steps = [step for branch in self.branches for step in branch]
        ranges = any(isinstance(value, tuple) for step in steps for _, value in step.values)
        return len(self.branches) > 1 or ranges or any(_describe(step.name).stochastic for step in steps)

    @property
    def own(self) -> tuple[Description, ...]:
        """The operators that a user registered, in the order in which they first appear."""
        names = dict.fromkeys(step.name for branch in self.branches for step in branch)
        return tuple(entry for entry in map(_describe, names) if entry.own)

    def told(self, seed: int) -> str:
        """What damaged a picture, in one line: the spec and the seed."""
        return f"{self.spec}, seed {seed}"

    def __str__(self) -> str:
        return self.spec

    def __repr__(self) -> str:
        return f"distortion({self.spec!r})"

    @outside_autocast()
    def __call__(
        self,
        images: Float[Tensor, "batch 3 height width"],
        seed: SupportsIndex = 0,
        indices: Iterable[SupportsIndex] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Distorted copies of the images: same shape, dtype and device, contiguous.

        Image i depends on (seed, indices[i]) alone, bit for bit, whatever else is in the batch: `d(x[2:3], 0, [2])`
        equals `d(x, 0)[2:3]`. Results repeat on the same kind of device and version of torch; a GPU draws other
        numbers than a CPU. Half precision is computed in float32 and rounded once, at the end.

        Args:
            images: float RGB, meant for [0, 1]; values outside are neither refused nor clipped.
            seed: from 0 to 2**64 - 1.
            indices: a number for each image, such as its place in a data set; the place in the batch by default.

        Raises:
            ValueError: images of another shape or dtype, a bad seed or bad indices, or pictures that are too small
                for an operator.
        """
        _check_images(images)
        whole_seed = seed_number(seed)
        numbers = _check_indices(indices, len(images))
        work = images.contiguous() if images.dtype in (torch.float32, torch.float64) else images.float().contiguous()
        return self._distort(work, whole_seed, numbers).to(images.dtype)

    def _distort(
        self, images: Float[Tensor, "batch 3 height width"], seed: int, indices: Sequence[int]
    ) -> Float[Tensor, "batch 3 height width"]:
        if len(self.branches) == 1 or not len(images):
            return _run(self.branches[0], images, seed, indices)
        choices = [int(uniform_number(seed, index, 0, BRANCH) * len(self.branches)) for index in indices]
        out = torch.empty_like(images)
        for number, branch in enumerate(self.branches):
            members = [place for place, choice in enumerate(choices) if choice == number]
            if members:
                out[members] = _run(branch, images[members], seed, [indices[place] for place in members])
        return out


def distortion(spec: str | Distortion, *, clip: bool | None = None, **params: Value) -> Distortion:
    """A distortion from its description in text.

        distortion("gaussian_noise", sigma=0.3)      # the same as "gaussian_noise(sigma=0.3)"
        distortion("gaussian_noise:3")               # ImageNet-C severity 1..5, with fractions between them
        distortion("fog:1..5")                       # each image draws its own severity, uniformly
        distortion("gaussian_blur + pixel_mask")     # in this order
        distortion("gaussian_noise(sigma=0.1..0.3)") # each image draws its own sigma, uniformly; or sigma=(0.1, 0.3)
        distortion("none | gaussian_noise")          # each image draws one branch, uniformly; + binds tighter than |
        distortion("random_corruption")              # each image draws one of ImageNet-C's 15, and its severity
        distortion("random_corruption:1..3")         # of these severities

    Nothing is clipped (Ravula et al. 2021), except where clip=True is written and in the severity form, which clips to
    [0, 1] as ImageNet-C does. ImageNet-C's other steps (rounding to 8 bits, JPEG) are left out.

    Args:
        spec: text as above, "none" for no distortion, or a Distortion, which comes back unchanged.
        clip: clip the result to [0, 1]: overrides what the spec says of the last operator (of every branch).
        params: parameters of the operator, where the spec names exactly one; see `DISTORTIONS`.

    Raises:
        ValueError: a spec that cannot be read, unknown names, values out of range, or a parameter given twice.
    """
    if isinstance(spec, Distortion):
        if params or clip is not None:
            raise InputError(f"a Distortion takes no further parameters; write a new spec instead of '{spec}'")
        return spec
    if not isinstance(spec, str):
        raise InputError(f"expected a distortion as text or a Distortion, got {spec!r}; examples: {EXAMPLES}")
    if clip is not None and not isinstance(clip, bool):
        raise InputError(f"clip must be True or False, got {clip!r}")
    terms = [branch for chain in parse(spec) for branch in _alternatives(chain)]
    if params:
        terms = [[_with_params(terms, params, spec)]]
    return Distortion(tuple(_branch(chain, clip) for chain in terms))


def _alternatives(chain: list[Term]) -> list[list[Term]]:
    """The chain, or one for each corruption that "random_corruption" may become in it."""
    return [list(terms) for terms in itertools.product(*map(_meanings, chain))]


def _meanings(term: Term) -> list[Term]:
    if term.name != RANDOM_CORRUPTION:
        return [term]
    if term.arguments:
        raise InputError(f"'{RANDOM_CORRUPTION}' takes severities alone, such as '{RANDOM_CORRUPTION}:1..3'")
    return [Term(name, severity=(1, 5) if term.severity is None else term.severity) for name in COMMON_CORRUPTIONS]


def _with_params(terms: list[list[Term]], params: dict[str, Value], spec: str) -> Term:
    if len(terms) != 1 or len(terms[0]) != 1:
        raise InputError(f"'{spec}' names several operators: write their parameters inside, like 'a(x=1) + b(y=2)'")
    term = terms[0][0]
    by_severity = [] if term.severity is None else [one.name for one in _describe(term.name).parameters]
    twice = [name for name in params if name in (*term.arguments, *by_severity)]
    if twice:
        raise InputError(f"{twice[0]} is given twice: by '{spec}' and as a keyword; keep one of them")
    return Term(term.name, term.severity, {**term.arguments, **params})


def _branch(terms: list[Term], clip: bool | None) -> tuple[Step, ...]:
    last = len(terms) - 1
    steps = [_step(term, clip if number == last else None) for number, term in enumerate(terms)]
    return tuple(step for step in steps if step.name != NONE.name or step.clip)


def _step(term: Term, clip: bool | None) -> Step:
    """The term with defaults filled in; `clip` overrides what it says."""
    description = _describe(term.name)
    given = dict(term.arguments)
    clipped = given.pop("clip", term.severity is not None)
    if not isinstance(clipped, bool):
        raise InputError(f"{term.name}: clip must be True or False, got {clipped!r}")
    if term.severity is not None:
        given[SEVERITY] = term.severity
    return Step(term.name, description.check(given), clipped if clip is None else clip)


def _describe(name: str) -> Description:
    if name == NONE.name:
        return NONE
    if name not in DISTORTIONS:
        raise unknown_name("distortion", name, [*DISTORTIONS, RANDOM_CORRUPTION, NONE.name])
    return DISTORTIONS[name]


def _run(
    branch: tuple[Step, ...], images: Float[Tensor, "batch 3 height width"], seed: int, indices: Sequence[int]
) -> Float[Tensor, "batch 3 height width"]:
    if not branch or not len(images):
        return images.clone()
    for position, step in enumerate(branch):
        images = step.apply(images, seed, indices, position)
    return images


def _text(value: Value) -> str:
    return f"{value[0]}..{value[1]}" if isinstance(value, tuple) else str(value)


def _check_images(images: object) -> None:
    if not isinstance(images, Tensor):
        raise InputError(f"expected a torch tensor of images, batch x 3 x height x width, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        hint = "; add the batch axis with image[None]" if images.ndim == 3 and images.shape[0] == 3 else ""
        raise InputError(f"expected images of shape (batch, 3, height, width), got {tuple(images.shape)}{hint}")
    if not images.is_floating_point():
        raise InputError(
            f"expected float images with values in [0, 1], got {images.dtype}; explorer.load_image makes them"
        )


def _check_indices(indices: object, batch: int) -> list[int]:
    if indices is None:
        return list(range(batch))
    numbers = indices.tolist() if hasattr(indices, "tolist") else indices
    if not isinstance(numbers, Iterable):
        raise InputError(f"indices must be a sequence with one whole number for each image, got {indices!r}")
    checked = [whole_number("an index", number, bits=64) for number in numbers]
    if len(checked) != batch:
        raise InputError(f"expected one index for each of the {batch} images, got {len(checked)}")
    return checked
