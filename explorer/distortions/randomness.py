"""One stream of random numbers per image, so that an image is distorted alike alone and in any batch.

A stream is named by (seed, index of the image, position of the operator in the spec, purpose). Nothing here reads or
moves the global random state of torch or numpy.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

# What a stream is for. A parameter that is drawn from a range uses PARAMETER + its place among the parameters, so
# that noise of a given image is the same pattern whether its strength was fixed or drawn.
PIXELS, BRANCH, PARAMETER = 0, 1, 2


def stream_seed(seed: int, index: int, position: int, purpose: int) -> int:
    """The 64-bit seed of one stream.

    SeedSequence mixes 32-bit words and pads with zeros: every number takes a fixed count of words here, or
    (seed=2**32, index=0) and (seed=0, index=1) could meet.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32, index & 0xFFFFFFFF, index >> 32, position, purpose]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def uniform_number(seed: int, index: int, position: int, purpose: int) -> float:
    """One number in [0, 1) of a stream, with 53 random bits; the same on every device."""
    return (stream_seed(seed, index, position, purpose) >> 11) * 2.0**-53


class Draw:
    """The random numbers of an operator: every method returns one independent draw per image of the batch.

    On a CPU and on a GPU the same stream gives different numbers, since torch's generators differ there.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)

    @classmethod
    def for_images(cls, seed: int, indices: Sequence[int], position: int, device: torch.device) -> "Draw":
        """Streams at their beginning, for the operator at `position` of the spec."""
        seeds = (stream_seed(seed, index, position, PIXELS) for index in indices)
        return cls([torch.Generator(device).manual_seed(number) for number in seeds])

    def __len__(self) -> int:
        return len(self.generators)

    def __getitem__(self, image: int) -> "Draw":
        """The stream of one image, as a batch of one; it goes on where it stands."""
        return self.of([image])

    def of(self, images: Sequence[int]) -> "Draw":
        """The streams of some images, in this order; they go on where they stand."""
        return Draw([self.generators[image] for image in images])

    def normal(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers, float32."""
        numbers = self._empty(*shape)
        for row, generator in zip(numbers, self.generators, strict=True):
            row.normal_(generator=generator)
        return numbers

    def uniform(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Numbers in [0, 1), float32."""
        numbers = self._empty(*shape)
        for row, generator in zip(numbers, self.generators, strict=True):
            row.uniform_(generator=generator)
        return numbers

    def poisson(self, rates: Float32[Tensor, "batch ..."]) -> Float32[Tensor, "batch ..."]:
        """Counts of Poisson processes, as float32, with these means, which may not be negative."""
        return torch.stack(
            [torch.poisson(rate, generator=generator) for rate, generator in zip(rates, self.generators, strict=True)]
        )

    def permutation(self, count: int) -> Int64[Tensor, "batch count"]:
        """The numbers 0 to count - 1 in random order."""
        return torch.stack([torch.randperm(count, generator=one, device=one.device) for one in self.generators])

    def _empty(self, *shape: int) -> Float[Tensor, "batch ..."]:
        return torch.empty(len(self), *shape, dtype=torch.float32, device=self.generators[0].device)
