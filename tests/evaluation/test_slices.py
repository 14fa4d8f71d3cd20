"""Slices of an embedding: which pictures are in them, and what was measured of them, as a naive loop finds it."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.data.sets import ImageSet
from explorer.evaluation.embedding import VIEWS, PairEmbedding, embed_pair
from explorer.evaluation.slices import slice_table, slices_of
from explorer.models.pairs import Pair
from tests.small import network, pair, picture_set


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def found(images: ImageSet) -> PairEmbedding:
    """The student sees other noise, so that it is now better, now worse than the teacher."""
    generator = np.random.default_rng(0)
    embedding = embed_pair(pair(), images, cache=False)
    reference, scale = embedding.reference, embedding.reference.std(axis=0)
    amounts = {"teacher_distorted": 1.1, "student_distorted": 0.9, "student_clean": 0.2}
    noisy = {
        view: (reference + amount * scale * generator.normal(size=reference.shape)).astype(np.float32)
        for view, amount in amounts.items()
    }
    return replace(embedding, features={view: noisy.get(view, reference) for view in VIEWS})


def cosines(found: PairEmbedding, view: str) -> np.ndarray:
    """[picture, clean picture], one by one."""
    centre = np.asarray(found.reference, float).mean(axis=0)
    table = np.zeros((len(found.images), len(found.images)))
    for row, query in enumerate(np.asarray(found.features[view], float) - centre):
        for col, item in enumerate(np.asarray(found.reference, float) - centre):
            table[row, col] = query @ item / (np.linalg.norm(query) * np.linalg.norm(item))
    return table


def test_slices_hold_the_pictures_that_they_say(found: PairEmbedding, images: ImageSet) -> None:
    cuts = {cut.key: cut.pictures.tolist() for cut in slices_of(found)}
    for label, name in enumerate(images.classes):
        assert cuts[f"label:{name}"] == [place for place, own in enumerate(images.labels or ()) if own == label]
    for place in range(len(found.clusters.names)):
        assert cuts[f"cluster:{place}"] == [index for index, own in enumerate(found.clusters.of) if own == place]
    teacher, student = (cosines(found, f"{who}_distorted") for who in ("teacher", "student"))
    everyone = range(len(images))
    assert cuts["worse:student"] == [index for index in everyone if student[index, index] < teacher[index, index]]
    assert cuts["found:student"] == [index for index in everyone if student[index].argmax() == index]
    assert cuts["lost:student"] == [index for index in everyone if student[index].argmax() != index]
    assert all(cuts[f"{key}:student"] for key in ("worse", "found", "lost")), "else nothing was tested"


def test_measures_of_slices_are_those_of_a_naive_loop(found: PairEmbedding, images: ImageSet) -> None:
    table = slice_table(found).set_index(["key", "view"])
    labels = np.array(images.labels)
    for view in VIEWS:
        near = cosines(found, view)
        others = near.copy()
        np.fill_diagonal(others, -2)
        for cut in slices_of(found):
            row = table.loc[(cut.key, view)]
            assert row["pictures"] == len(cut.pictures)
            assert row["displacement"] == pytest.approx(1 - np.mean([near[i, i] for i in cut.pictures]), abs=1e-9)
            alike = [labels[others[i].argmax()] == labels[i] for i in cut.pictures]
            assert row["nearest_label"] == pytest.approx(np.mean(alike))
            again = np.nan if view == VIEWS[0] else np.mean([near[i].argmax() == i for i in cut.pictures])
            assert row["retrieval"] == pytest.approx(again, nan_ok=True)


def test_slices_without_labels_and_without_pictures(found: PairEmbedding, images: ImageSet) -> None:
    features = found.features | {"student_distorted": found.reference}
    plain = replace(found, features=features, images=replace(images, labels=None, classes=()))
    cuts = {cut.key: cut for cut in slices_of(plain)}
    assert not [cut for cut in cuts.values() if cut.kind == "label"]
    assert len(cuts["worse:student"].pictures) == len(cuts["lost:student"].pictures) == 0
    table = slice_table(plain).set_index(["key", "view"])
    assert table.loc[("worse:student", "teacher_distorted")].isna()["displacement"]
    assert table["nearest_label"].isna().all()


def test_each_student_has_outcomes_of_its_own(images: ImageSet) -> None:
    both = pair()
    others = {"pet": both, "two": Pair(teacher=both.teacher, student=network(2), distortion=both.distortion, card={})}
    outcomes = [cut for cut in slices_of(embed_pair(others, images, cache=False)) if cut.kind == "outcome"]
    assert [cut.key for cut in outcomes] == [f"{key}:{who}" for who in others for key in ("worse", "found", "lost")]
    assert outcomes[3].name == "two worse than the teacher"
