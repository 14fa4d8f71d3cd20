"""A sweep: the same numbers as `alignment` strength by strength, whole or in batches, and what it varies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer import DISTORTIONS, ImageError, alignment, distortion, evaluate, sweep
from explorer.analysis.measures import AGREEMENT
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.errors import InputError
from explorer.evaluation.embedding import embed_pair
from explorer.evaluation.sweeping import strengths_of, sweep_steps
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.scenes.evaluation import sweep_scene
from tests.small import break_some, network, pair, picture_folder, picture_set

VALUES = (0.0, 0.2, 0.6)


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"), per_class=4)


def test_numbers_are_those_of_alignment(both: Pair, images: ImageSet) -> None:
    found = sweep(both, images, "gaussian_noise", VALUES, seed=3, batch_size=5)
    clean = images.stack()
    reference = both.teacher.trace(clean)
    for place, value in enumerate(VALUES):
        damaged = distortion("gaussian_noise", sigma=value)(clean, seed=3)
        for name, backbone in (("teacher", both.teacher), ("student", both.student)):
            expected = alignment(reference, backbone.trace(damaged)).as_dict()
            assert {key: found.rows[name][place][key] for key in AGREEMENT} == pytest.approx(expected, abs=1e-5)
    assert found.rows["teacher"][0]["cls_cosine"] == pytest.approx(1)
    assert found.rows["teacher"][0]["retrieval"] == 1
    assert found.rows["teacher"][0]["nearest_label"] == found.ceiling


def test_batches_do_not_change_the_result(both: Pair, images: ImageSet) -> None:
    one, many = (sweep(both, images, "pixel_mask", (0.3, 0.9), seed=1, batch_size=size) for size in (12, 5))
    for name in ("teacher", "student"):
        for a, b in zip(one.rows[name], many.rows[name], strict=True):
            assert a == pytest.approx(b, abs=1e-5)


def test_every_step_is_a_sweep_of_the_pictures_so_far(both: Pair, images: ImageSet) -> None:
    steps = list(sweep_steps(both, images, strengths_of("gaussian_noise", (0.4,)), batch_size=5))
    assert [(step.pictures, step.total) for step in steps] == [(5, 12), (10, 12), (12, 12)]
    first = sweep(both, images[:5], "gaussian_noise", (0.4,), batch_size=5)
    assert steps[0].rows["student"][0] == pytest.approx(first.rows["student"][0], abs=1e-6)


def test_the_table_marks_what_was_trained_on(both: Pair, images: ImageSet) -> None:
    trained = Pair(
        teacher=both.teacher,
        student=both.student,
        distortion=distortion("gaussian_noise(sigma=0.1..0.3) | gaussian_blur(sigma=2)"),
        card={},
    )
    found = sweep(trained, images, "gaussian_noise", (0.05, 0.1, 0.3, 0.4))
    assert found.trained_range == (0.1, 0.3)
    assert not found.never_trained
    table = found.frame()
    assert list(table[table["network"] == "student"]["trained_on"]) == [False, True, True, False]
    assert len(table) == 8
    assert sweep(trained, images[:2], "gaussian_blur", (1, 2)).trained_range == (2, 2)
    masked = sweep(trained, images[:2], "pixel_mask", (0.5,))
    assert masked.never_trained
    assert masked.trained_range is None


def test_neighbours_in_a_gallery_are_those_of_a_naive_loop(both: Pair, images: ImageSet) -> None:
    chosen = images.select([1, 4, 5, 9, 11])
    found = sweep(both, chosen, "gaussian_noise", (0.2,), seed=2, gallery=images, batch_size=2)
    gallery = both.teacher.trace(images.stack()).embedding.numpy()
    queries = both.student.trace(distortion("gaussian_noise(sigma=0.2)")(chosen.stack(), seed=2)).embedding.numpy()
    centre, right, own = gallery.mean(axis=0), 0, 0
    for place, query in zip([1, 4, 5, 9, 11], queries, strict=True):
        a, b = query - centre, gallery - centre
        cosines = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        own += cosines.argmax() == place
        cosines[place] = -2
        right += images.labels[cosines.argmax()] == images.labels[place]  # type: ignore[index]
    assert found.gallery == 12
    assert found.rows["student"][0]["nearest_label"] == pytest.approx(right / 5)
    assert found.rows["student"][0]["retrieval"] == pytest.approx(own / 5)
    with pytest.raises(ValueError, match="1 are not in it"):
        sweep(both, chosen, gallery=images[:-1])


def test_what_has_no_labels_has_no_accuracy(both: Pair, tmp_path: Path) -> None:
    flat = load_images(picture_folder(tmp_path / "some") / "red", size=32)
    found = sweep(both, flat, "gaussian_noise", (0.2,))
    assert found.rows["teacher"][0]["nearest_label"] is None
    assert found.rows["teacher"][0]["retrieval"] is not None
    alone = sweep(both, flat[:1], "gaussian_noise", (0.2,))
    assert alone.rows["student"][0]["retrieval"] is None
    assert np.isfinite(alone.rows["student"][0]["cls_cosine"])


def test_an_untouched_student_has_the_teachers_curve(both: Pair, images: ImageSet) -> None:
    same = Pair(teacher=both.teacher, student=both.teacher, distortion=distortion("none"), card={})
    found = sweep(same, images[:3], "gaussian_noise", (0.2,))
    assert found.rows["student"] == found.rows["teacher"]
    assert found.never_trained


@pytest.mark.parametrize("name", DISTORTIONS)
def test_every_operator_has_seven_strengths_that_grow(name: str) -> None:
    found = strengths_of(name)
    assert len(found.values) == 7
    assert list(found.values) == sorted(set(found.values))
    assert len({damage.spec for damage in found.distortions}) == 7


def test_what_is_varied() -> None:
    wide = strengths_of("gaussian_blur(kernel=37)", (1, 2))
    assert [damage.spec for damage in wide.distortions] == [
        "gaussian_blur(kernel=37, sigma=1.0)",
        "gaussian_blur(kernel=37, sigma=2.0)",
    ]
    kernels = strengths_of("gaussian_blur(sigma=2)", (3, 9), "kernel")
    assert kernels.distortions[1].spec == "gaussian_blur(kernel=9, sigma=2.0)"
    levels = strengths_of("gaussian_noise", parameter="severity")
    assert levels.values == (1, 2, 3, 4, 5)
    assert levels.distortions[2] == distortion("gaussian_noise:3")
    assert strengths_of("gaussian_noise", (0.5, 0.1, 0.5)).values == (0.1, 0.5)
    clipped = strengths_of("gaussian_noise(sigma=0.1, clip=True)", (0.5,))
    assert clipped.distortions[0].spec == "gaussian_noise(sigma=0.5, clip=True)"


def test_what_is_refused(both: Pair, images: ImageSet) -> None:
    for bad, message in [
        (lambda: sweep(both, images, "gaussian_noise + pixel_mask"), "exactly one operator"),
        (lambda: sweep(both, images, "none"), "exactly one operator"),
        (lambda: sweep(both, images, "none | gaussian_noise"), "exactly one operator"),
        (lambda: sweep(both, images, "gaussian_noise", (0.1, -1)), "must lie from 0.0 to 2.0"),
        (lambda: sweep(both, images, "gaussian_noise", ()), "got none"),
        (lambda: sweep(both, images, "gaussian_noise", (1,), parameter="sgma"), "did you mean 'sigma'"),
        (lambda: sweep(both, images, "gaussian_blur", parameter="kernel"), "expected strengths for kernel"),
        (lambda: sweep(both, images, "pixel_mask", (1,), parameter="severity"), "not in ImageNet-C"),
        (lambda: sweep(both, images, "motion_blur(radius=3)", (1,), parameter="severity"), "leave its parameters out"),
        (lambda: sweep(both, images[:0]), "no pictures"),
        (lambda: sweep(both, images, batch_size=0), "at least 1; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()


def test_a_broken_file_stops_before_the_first_pass(both: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=2)
    break_some(folder)
    images = load_images(folder, size=32)
    monkeypatch.setattr(Backbone, "trace", None)
    with pytest.raises(ImageError, match=r"2a\.jpg.*text.*\(1 more of 9 are broken\)"):
        sweep_steps(both, images, strengths_of("gaussian_noise", VALUES), batch_size=2)


def test_a_sweep_without_what_is_broken(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=4)
    break_some(folder)
    found = sweep(both, load_images(folder, size=32, on_error="skip"), values=(0.3,), batch_size=5)
    assert found.rows == sweep(both, images, values=(0.3,), batch_size=5).rows


def test_data_sets_are_measured_as_what_load_images_makes_of_them(both: Pair, images: ImageSet) -> None:
    """Also by `evaluate` and `embed_pair`, with the same check of each picture."""
    listed = [(image, images.labels[place]) for place, (image, _) in enumerate(images)]  # type: ignore[index]
    found, expected = (sweep(both, held, "gaussian_noise", (0.4,), batch_size=5) for held in (listed, images))
    assert found.rows["student"][0] == pytest.approx(expected.rows["student"][0], abs=1e-6)
    np.testing.assert_allclose(
        embed_pair(both, listed, cache=False).reference, embed_pair(both, images, cache=False).reference, atol=1e-5
    )
    scores = [
        evaluate(both, train, test, k=1, cache=False).frame()["accuracy"]
        for train, test in ((listed[::2], listed[1::2]), (images[::2], images[1::2]))
    ]
    assert scores[0].tolist() == scores[1].tolist()
    bright = [(image * 255, label) for image, label in listed]
    for measure in (
        lambda: sweep(both, bright, "gaussian_noise", (0.4,)),
        lambda: embed_pair(both, bright, cache=False),
        lambda: evaluate(both, bright, listed, k=1, cache=False),
    ):
        with pytest.raises(ImageError, match=r"picture 0 of list: .*expected \[0, 1\]"):
            measure()


def test_severities_that_were_trained_on_are_found_by_their_strength(both: Pair, images: ImageSet) -> None:
    learned = replace(both, distortion=distortion("gaussian_noise(sigma=0.1..0.2) | pixel_mask"))
    found = sweep(learned, images[:2], "gaussian_noise", (1, 2, 3, 5), parameter="severity")  # .08, .12, .18, .38
    assert found.trained_range == pytest.approx((1.5, 3.25), abs=0.01)
    assert list(found.frame()["trained_on"]) == [False, True, True, False] * 2
    weaker = replace(both, distortion=distortion("gaussian_noise(sigma=0.01..0.02)"))
    assert sweep(weaker, images[:2], "gaussian_noise", (1, 5), parameter="severity").trained_range is None


def test_several_students_stand_beside_one_teacher(both: Pair, images: ImageSet) -> None:
    learned = distortion("gaussian_noise(sigma=0.2..0.6)")
    other = Pair(teacher=both.teacher, student=network(5), distortion=learned, card={})
    untouched = Pair(teacher=both.teacher, student=both.teacher, distortion=distortion("none"), card={})
    several = sweep({"a": both, "b": other, "copy": untouched}, images, "gaussian_noise", VALUES, seed=3)
    assert list(several.rows) == ["teacher", "a", "b", "copy"]
    for name, one in (("a", both), ("b", other)):
        alone = sweep(one, images, "gaussian_noise", VALUES, seed=3)
        assert several.rows[name] == alone.rows["student"]
        assert several.rows["teacher"] == alone.rows["teacher"]
        assert several.range_of(name) == alone.trained_range
    assert several.rows["copy"] == several.rows["teacher"]
    assert several.range_of("b") == (0.2, 0.6)
    assert len(several.weights) == 4
    table = several.frame().set_index(["network", "value"])["trained_on"]
    assert list(table["b"]) == [False, True, True]
    scene = sweep_scene(several)
    assert [each["name"] for each in scene["learned"]] == ["a", "b", "copy"]
    assert scene["learned"][1] == {"name": "b", "spec": learned.spec, "low": 0.2, "high": 0.6}
    assert scene["trained"] is scene["series"][0]["student"] is None
    assert scene["series"][0]["students"]["b"] == [row["cls_cosine"] for row in several.rows["b"]]
    assert not scene["never_trained"]
    assert [name for name, _ in scene["about"]][1:5] == ["Teacher", "Student a", "Student b", "Student copy"]
    with pytest.raises(InputError, match="one teacher"):
        sweep({"a": both, "b": replace(other, teacher=network(9))}, images, "gaussian_noise", VALUES)
    with pytest.raises(InputError, match="name"):
        sweep({"teacher": both}, images, "gaussian_noise", VALUES)


def test_single_networks_are_measured_as_they_are_together(both: Pair, images: ImageSet) -> None:
    strengths = strengths_of("gaussian_noise", (0.3,))
    *_, whole = sweep_steps(both, images, strengths)
    for name in ("teacher", "student"):
        *_, alone = sweep_steps(both, images, strengths, only=[name])
        assert alone.rows == {name: whole.rows[name]}
    same = Pair(teacher=both.teacher, student=both.teacher, distortion=distortion("none"), card={})
    *_, copy = sweep_steps(same, images, strengths, only=["student"])
    assert copy.rows == {"student": whole.rows["teacher"]}
