"""Four views of many pictures: features, neighbours and distances as by hand, and one table for all."""

from pathlib import Path

import numpy as np
import pytest
from torch.nn.functional import cosine_similarity, normalize

from explorer.data.sets import ImageSet
from explorer.distortions import distortion
from explorer.evaluation.embedding import VIEWS, PairEmbedding, embed_pair, is_embedded
from explorer.models.pairs import Pair
from tests.small import NOISE, network, pair, picture_set


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def found(both: Pair, images: ImageSet) -> PairEmbedding:
    return embed_pair(both, images, seed=5, cache=False)


def test_each_view_is_what_its_network_makes_of_its_pictures(
    found: PairEmbedding, both: Pair, images: ImageSet
) -> None:
    clean = images.stack()
    damaged = distortion(NOISE)(clean, seed=5)
    assert tuple(found.features) == VIEWS
    for view, values in found.features.items():
        backbone = both.teacher if view.startswith("teacher") else both.student
        expected = backbone.trace(damaged if view.endswith("distorted") else clean).embedding
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_measures_are_those_of_a_naive_loop(found: PairEmbedding, both: Pair, images: ImageSet) -> None:
    reference = both.teacher.trace(images.stack()).embedding
    centred = reference - reference.mean(dim=0)
    table = found.measures.set_index("view")
    for view in VIEWS[1:]:
        values = found.features[view] - reference.mean(dim=0).numpy()
        moved = [1 - float(cosine_similarity(a, b, dim=0)) for a, b in zip(centred, map(_tensor, values), strict=True)]
        assert table.loc[view, "displacement"] == pytest.approx(np.mean(moved), abs=1e-5)
        cosines = normalize(_tensor(values), dim=1) @ normalize(centred, dim=1).T
        own = (cosines.argmax(dim=1).numpy() == np.arange(len(images))).mean()
        assert table.loc[view, "retrieval"] == pytest.approx(own)
        cosines.fill_diagonal_(-2)
        labels = np.array(images.labels)
        near = (labels[cosines.argmax(dim=1).numpy()] == labels).mean()
        assert table.loc[view, "nearest_label"] == pytest.approx(near)
    assert table.loc["teacher_clean", "displacement"] == 0
    assert np.isnan(table.loc["teacher_clean", "retrieval"])


def test_one_row_for_each_picture_and_view(found: PairEmbedding, images: ImageSet) -> None:
    table = found.frame()
    assert len(table) == 4 * len(images)
    assert {"x", "y", "view", "index", "label", "displacement", "name"} <= set(table.columns)
    one = table[(table["view"] == "student_clean") & (table["index"] == 7)].iloc[0]
    assert one["name"] == images.names[7]
    assert one["label"] == images.classes[images.labels[7]]  # type: ignore[index]


def test_an_untouched_student_sees_what_the_teacher_sees(both: Pair, images: ImageSet) -> None:
    same = Pair(teacher=both.teacher, student=both.teacher, distortion=distortion("none"), card={})
    found = embed_pair(same, images, NOISE, cache=False)
    assert found.features["student_distorted"] is found.features["teacher_distorted"]
    assert found.features["student_clean"] is found.reference


def test_all_blocks_can_be_kept_at_once(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    several = embed_pair(both, images, kind="mean patch", layer=4, keep="all", cache=tmp_path)
    alone = embed_pair(both, images, kind="mean patch", layer=4, cache=False)
    np.testing.assert_allclose(several.reference, alone.reference, atol=1e-6)
    before = len(list(tmp_path.iterdir()))
    embed_pair(both, images, kind="cls", layer=-2, keep="all", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == before == 4


def test_whether_it_is_ready(both: Pair, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    assert not is_embedded(both, images, NOISE)
    embed_pair(both, images, NOISE)
    assert is_embedded(both, images, NOISE)
    assert not is_embedded(both, images, NOISE, 1)
    assert not is_embedded(both, images, NOISE, kind="cls")


def test_progress_runs_over_all_views(both: Pair, images: ImageSet) -> None:
    told: list[tuple[int, int]] = []
    embed_pair(both, images, batch_size=9, cache=False, progress=lambda *now: told.append(now))
    assert told == [(9 * step, 72) for step in range(1, 9)]


@pytest.fixture(scope="module")
def others(both: Pair) -> dict[str, Pair]:
    """Students of one teacher, one of them untouched, who learned the same."""
    students = {"teacher's pet": both.student, "mixture_2": network(2), "untouched": both.teacher}
    return {
        name: Pair(teacher=both.teacher, student=student, distortion=both.distortion, card={})
        for name, student in students.items()
    }


def test_several_students_stand_beside_one_teacher(
    found: PairEmbedding, others: dict[str, Pair], images: ImageSet
) -> None:
    together = embed_pair(others, images, seed=5, cache=False)
    assert together.students == tuple(others)
    assert together.several
    assert not found.several
    assert not together.untouched
    assert list(together.features) == [
        *VIEWS[:2],
        *(f"{name}_{kind}" for name in others for kind in ("distorted", "clean")),
    ]
    for view in VIEWS:
        name = view.replace("student", "teacher's pet")
        np.testing.assert_allclose(together.features[name], found.features[view], atol=1e-6)
    damaged = distortion(NOISE)(images.stack(), seed=5)
    expected = others["mixture_2"].student.trace(damaged).embedding
    np.testing.assert_allclose(together.features["mixture_2_distorted"], expected, atol=1e-5)
    assert together.features["untouched_clean"] is together.reference
    assert together.weights == (found.weights[0], *(one.student.source for one in others.values()))
    table, alone = together.measures.set_index("view"), found.measures.set_index("view")
    assert list(table.index) == list(together.features)
    for column in table.columns:
        assert table.loc["teacher's pet_distorted", column] == pytest.approx(alone.loc["student_distorted", column])
    assert len(together.frame()) == len(images) * len(together.features)
    np.testing.assert_allclose(
        together.project().coordinates["teacher_distorted"], found.project().coordinates["teacher_distorted"], atol=1e-5
    )


def test_several_students_are_ready_together(
    both: Pair, others: dict[str, Pair], images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    embed_pair(both, images, NOISE)
    assert not is_embedded(others, images, NOISE)
    told: list[tuple[int, int]] = []
    embed_pair(others, images, NOISE, progress=lambda *now: told.append(now))
    assert told[-1] == (36, 36), "the two views of one student, which nobody had seen"
    assert is_embedded(others, images, NOISE)


def test_students_that_learned_different_damage_need_one_to_be_named(
    both: Pair, others: dict[str, Pair], images: ImageSet
) -> None:
    fog = Pair(teacher=both.teacher, student=network(3), distortion=distortion("fog:3"), card={})
    with pytest.raises(ValueError, match=r"mixture_2, untouched, fog were trained on different damage: .*distortion="):
        embed_pair({**others, "fog": fog}, images, cache=False)
    assert embed_pair({"a": fog, "b": fog}, images, cache=False).distortion == fog.distortion


def test_names_and_teachers_are_checked(both: Pair, images: ImageSet) -> None:
    other = Pair(teacher=network(7), student=network(8), distortion=both.distortion, card={})
    with pytest.raises(ValueError, match=r"that of 'a' is random weights .* and that of 'b'"):
        embed_pair({"a": both, "b": other}, images)
    with pytest.raises(ValueError, match="got 'a_clean': give it another name"):
        embed_pair({"a_clean": both}, images)
    with pytest.raises(ValueError, match="1 to 4 students by name; got none"):
        embed_pair({}, images)


@pytest.mark.usefixtures("unchecked")
def test_a_student_by_name_comes_in_a_pair(both: Pair, images: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"expected a Pair for the student 'a'.*; got Backbone"):
        embed_pair({"a": both.student}, images)  # type: ignore[dict-item]


def test_neighbours_need_two_pictures(both: Pair, images: ImageSet) -> None:
    with pytest.raises(ValueError, match="at least two pictures; got 1"):
        embed_pair(both, images[:1])


def test_two_pictures_are_measured_though_they_make_no_map(both: Pair, images: ImageSet) -> None:
    two = embed_pair(both, images[:2], seed=5, cache=False)
    table = two.measures.set_index("view")
    centre = two.reference.mean(axis=0)
    moved = [
        1 - float(cosine_similarity(_tensor(a - centre), _tensor(b - centre), dim=0))
        for a, b in zip(two.features["student_distorted"], two.reference, strict=True)
    ]
    assert table.loc["student_distorted", "displacement"] == pytest.approx(np.mean(moved), abs=1e-5)
    with pytest.raises(ValueError, match="at least 3 pictures"):
        two.project()


def test_identical_pictures_are_told(both: Pair, tmp_path: Path) -> None:
    images = picture_set(tmp_path / "pictures", per_class=2)
    first = images.path(0)
    assert first is not None
    for number in range(1, len(images)):
        images.path(number).write_bytes(first.read_bytes())  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"[Ii]dentical|equal|same"):
        embed_pair(both, images, cache=False).project()


def _tensor(values: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(np.asarray(values))
