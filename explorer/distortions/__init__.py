"""Seeded distortions of image batches, on any device: `distortion(spec)` makes one, `DISTORTIONS` says what there is.

Reading order: `randomness` (one stream of random numbers per image), `parameters` (what may be set, within which
ranges), `batching` and `fields` (what operators share), `noise`, `blur`, `weather` (with `relief`), `digital` and
`masks` (the image operations), `operators` (their table), `parsing` (text to terms), `pipeline` (terms to a
`Distortion`, which is called on images), `own` (distortions that a user adds), `given`
(damage that came with a picture).
"""

from explorer.distortions.given import Given
from explorer.distortions.operators import COMMON_CORRUPTIONS, DISTORTIONS
from explorer.distortions.own import check_own, own_record, register_distortion
from explorer.distortions.pipeline import Distortion, distortion

__all__ = [
    "COMMON_CORRUPTIONS",
    "DISTORTIONS",
    "Distortion",
    "Given",
    "check_own",
    "distortion",
    "own_record",
    "register_distortion",
]
