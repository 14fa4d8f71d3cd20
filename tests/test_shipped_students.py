"""The students in assets/pairs: they load strictly, they are small, and they see through what they were trained on."""

import pytest
import torch

import explorer as ex
from explorer.evaluation.probes import retrieval_at_1
from explorer.models.backbones import Backbone
from explorer.system.files import asset_path
from tests.nightly import left

LIMIT_BYTES = 16_000_000
REACHED = {
    "clip-b16-common": (None, 0.84, 0.55),
    "clip-b16-mixture": (None, 0.78, 0.62),
    "s14-blur": ("gaussian_blur(kernel=21, sigma=5)", 0.93, 0.8),
    "s14-common": (None, 0.945, 0.85),
    "s14-mask": ("pixel_mask(fraction=0.75)", 0.9, 0.65),
    "s14-mixture": (None, 0.915, 0.73),
    "s14-noise": ("gaussian_noise(sigma=0.3)", 0.935, 0.9),
}
"""Student -> damage (None: all that it was trained on), and a little less than docs/students.md has: CLS cosine, and
the share of the lost originals that are found again."""


def test_they_are_there_and_small_together() -> None:
    assert ex.list_pairs() == list(REACHED)
    assert sum(file.stat().st_size for file in asset_path("pairs").rglob("*") if file.is_file()) < LIMIT_BYTES


@pytest.mark.weights
@pytest.mark.parametrize("name", left(REACHED, to_the_night=set(REACHED) - {"s14-mixture", "s14-noise"}))
def test_on_photos_that_it_never_saw(name: str, request: pytest.FixtureRequest) -> None:
    pair = loaded(name, request)
    assert pair.card["data"]["held_out"]
    clean = ex.load_images("photos", size=224, limit=10).stack()
    distorted = pair.distortion(clean, seed=3)
    layers = range(-4, 0)
    reference = pair.teacher.trace(clean, layers=layers)
    before = ex.alignment(reference, pair.teacher.trace(distorted, layers=layers))
    after = ex.alignment(reference, pair.student.trace(distorted, layers=layers))
    assert 1 - after.cls_cosine < 0.8 * (1 - before.cls_cosine)
    assert 1 - after.patch_cosine < 0.8 * (1 - before.patch_cosine)
    assert after.attention_kl is not None
    assert before.attention_kl is not None
    assert after.attention_kl < 0.8 * before.attention_kl
    assert pair.student.sha256 != pair.teacher.sha256


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("name", REACHED)
def test_as_good_as_it_was_measured(name: str, request: pytest.FixtureRequest) -> None:
    pair = loaded(name, request)
    spec, cosine, gap_closed = REACHED[name]
    damage = ex.distortion(spec or pair.distortion.spec)
    photos = ex.load_images("photos", size=224, limit=100)
    looks: dict[str, list[torch.Tensor]] = {"clean": [], "teacher": [], "student": []}
    for start in range(0, len(photos), 10):
        indices = range(start, start + 10)
        clean = photos.stack(indices)
        distorted = damage(clean, seed=2000, indices=indices)
        for who, backbone, images in (
            ("clean", pair.teacher, clean),
            ("teacher", pair.teacher, distorted),
            ("student", pair.student, distorted),
        ):
            looks[who].append(backbone.trace(images, layers=-1, attention=None).embedding)
    reference, before, after = (torch.cat(each) for each in looks.values())
    assert torch.nn.functional.cosine_similarity(reference, after).mean() > cosine
    lost = 1 - retrieval_at_1(reference, before)
    assert (lost - (1 - retrieval_at_1(reference, after))) / lost > gap_closed


def loaded(name: str, request: pytest.FixtureRequest) -> ex.Pair:
    """The pair, with the teacher that all tests share."""
    teacher: Backbone = request.getfixturevalue("clip_b16" if name.startswith("clip") else "s14")
    return ex.load_pair(name, teacher=teacher)
