"""Which clean pictures a picture resembles: counted again by hand, and found again by a shipped student."""

import numpy as np
import pytest
from torch import Tensor

import explorer as ex
from explorer.data.sets import ImageSet
from tests.real_damage import dim


@pytest.fixture(scope="module")
def gallery() -> ImageSet:
    return ex.load_images("photos", size=64, limit=12)


@pytest.fixture(scope="module")
def tiny() -> ex.Backbone:
    return ex.load_backbone("vit_tiny_patch16_224", image_size=64, source="random", device="cpu")


def test_the_nearest_are_those_of_the_highest_centred_cosine(tiny: ex.Backbone, gallery: ImageSet) -> None:
    compared = ex.compare(tiny, None, dim(gallery[3][0]))
    told: list[tuple[int, int]] = []
    found = ex.nearest_pictures(tiny, compared, gallery, k=3, progress=lambda *each: told.append(each))
    assert list(found) == list(compared.views) == ["teacher_distorted", "student_distorted"]
    assert told[-1] == (12, 12)
    embedded = ex.embed(tiny, gallery, cache=False).embedding
    centre = embedded.mean(axis=0)
    query = compared.reference.trace.embedding[0].numpy() - centre
    cosines = (embedded - centre) @ query / np.linalg.norm(embedded - centre, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines)[:3]
    assert [each.index for each in found["teacher_distorted"]] == best.tolist()
    assert gallery.labels is not None
    for each in found["teacher_distorted"]:
        assert each.cosine == pytest.approx(cosines[each.index], abs=1e-5)
        assert (each.name, each.label) == (gallery.names[each.index], gallery.classes[gallery.labels[each.index]])
    assert found["student_distorted"] == found["teacher_distorted"], "the untouched copy"


def test_a_gallery_without_labels_and_smaller_than_k(tiny: ex.Backbone) -> None:
    pictures = [(image, 0) for image, _ in ex.load_images("photos", size=64, limit=2)]
    compared = ex.compare(tiny, pictures[0][0], "none")
    nearest = ex.nearest_pictures(tiny, compared, pictures)["teacher_clean"]
    assert [each.index for each in nearest] == [0, 1]
    assert nearest[0].cosine == pytest.approx(1, abs=1e-5)


def test_what_is_refused(tiny: ex.Backbone, gallery: ImageSet) -> None:
    compared = ex.compare(tiny, gallery[0][0], "none")
    with pytest.raises(ValueError, match="at least 1; got 0"):
        ex.nearest_pictures(tiny, compared, gallery, k=0)
    other = ex.load_backbone("vit_tiny_patch16_224", image_size=64, source="random", device="cpu", seed=1)
    with pytest.raises(ValueError, match="the teacher of the comparison is"):
        ex.nearest_pictures(other, compared, gallery)


@pytest.mark.slow
@pytest.mark.weights
def test_a_student_finds_the_clean_picture_that_its_teacher_misses(photos: Tensor) -> None:
    both, images = ex.load_pair("s14-noise"), ex.load_images("photos", size=224)
    hits = {"teacher_distorted": 0, "student_distorted": 0}
    for index in range(0, len(images), 40):
        damaged = ex.distortion("gaussian_noise(sigma=0.4)")(images[index][0][None], seed=0)[0]
        found = ex.nearest_pictures(both.teacher, ex.compare(both.teacher, None, damaged, both.student), images, k=1)
        for view in hits:
            hits[view] += found[view][0].index == index
    assert hits["student_distorted"] >= 5
    assert hits["teacher_distorted"] < hits["student_distorted"]
