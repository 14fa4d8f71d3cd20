"""The students in assets/pairs: they load strictly, they are small, and they see through what they were trained on."""

import pytest

import explorer as ex
from explorer.models.backbones import Backbone
from explorer.system.files import asset_path
from tests.nightly import left

LIMIT_BYTES = 12_000_000
STUDENTS = ["clip-b16-mixture", "s14-blur", "s14-mask", "s14-mixture", "s14-noise"]


def test_they_are_there_and_small_together() -> None:
    assert ex.list_pairs() == STUDENTS
    assert sum(file.stat().st_size for file in asset_path("pairs").rglob("*") if file.is_file()) < LIMIT_BYTES


@pytest.mark.weights
@pytest.mark.parametrize("name", left(STUDENTS, to_the_night=("clip-b16-mixture", "s14-blur", "s14-mask")))
def test_on_photos_that_it_never_saw(name: str, request: pytest.FixtureRequest) -> None:
    teacher: Backbone = request.getfixturevalue("clip_b16" if name.startswith("clip") else "s14")
    pair = ex.load_pair(name, teacher=teacher)
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
