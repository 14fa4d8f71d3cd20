"""What browsers get of a map and of a sweep: the very numbers, as JSON, and few enough of them."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explorer import distortion, sweep
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.evaluation.benchmarking import MEASURED, benchmark_steps
from explorer.evaluation.embedding import VIEWS, PairEmbedding, embed_pair
from explorer.evaluation.slices import slice_table, slices_of
from explorer.models.pairs import Pair
from explorer.scenes import evaluation as map_scene
from explorer.scenes.evaluation import benchmark_scene, embedding_scene, sprite, sweep_scene
from tests.small import NOISE, network, pair, picture_folder, picture_set


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def embedding(images: ImageSet) -> PairEmbedding:
    return embed_pair(pair(), images, cache=False)


def array(spec: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(spec["data"]), spec["dtype"]).reshape(spec["shape"])


def test_the_scene_holds_the_numbers_of_the_map(embedding: PairEmbedding, images: ImageSet) -> None:
    projection = embedding.project(components=3)
    scene = json.loads(json.dumps(embedding_scene(embedding, projection, sprite(images), chosen=images.names[4])))
    assert [view["id"] for view in scene["views"]] == list(VIEWS)
    assert scene["components"] == 3
    assert scene["chosen"] == 4
    assert scene["pictures"] == {
        "names": list(images.names),
        "labels": list(images.labels or ()),
        "classes": list(images.classes),
    }
    measures = embedding.measures.set_index("view")
    for view in scene["views"]:
        np.testing.assert_allclose(array(view["points"]), projection.coordinates[view["id"]], rtol=1e-5)
        nearest, cosines = embedding.neighbours(view["id"], 6)
        np.testing.assert_array_equal(array(view["neighbours"]), nearest)
        np.testing.assert_allclose(array(view["cosines"]), cosines, atol=1e-6)
        assert view["mean_displacement"] == pytest.approx(measures.loc[view["id"], "displacement"])
    reference, *others = scene["views"]
    assert reference["reference"]
    assert reference["retrieval"] is reference["own_rank"] is None
    for view in others:
        assert (array(view["own_rank"]) == 0).mean() == pytest.approx(view["retrieval"])


def test_students_have_their_names_in_the_scene(images: ImageSet) -> None:
    both = pair()
    pairs = {"a_b": both, "c": Pair(teacher=both.teacher, student=network(2), distortion=both.distortion, card={})}
    embedding = embed_pair(pairs, images, cache=False)
    scene = json.loads(json.dumps(embedding_scene(embedding, embedding.project())))
    told = [(view["id"], view["who"], view["view"], view["title"]) for view in scene["views"]]
    assert told[1:4] == [
        ("teacher_distorted", "teacher", "distorted", "Teacher · distorted"),
        ("a_b_distorted", "a_b", "distorted", "a_b · distorted"),
        ("a_b_clean", "a_b", "clean", "a_b · clean"),
    ]
    assert [term for term, _ in scene["about"]][:4] == ["Reference", "Teacher", "Student a_b", "Student c"]
    assert not scene["untouched_student"]
    for view in scene["views"]:
        np.testing.assert_array_equal(array(view["neighbours"]), embedding.neighbours(view["id"], 6)[0])


def test_thumbnails_stand_where_the_view_looks_for_them(images: ImageSet) -> None:
    made = sprite(images, side=16)
    assert made is not None
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["image"].partition(",")[2]))), dtype=float)
    for place in (0, 7, 17):
        row, col = divmod(place, made["columns"])
        tile = sheet[16 * row : 16 * row + 16, 16 * col : 16 * col + 16].mean(axis=(0, 1)) / 255
        np.testing.assert_allclose(tile, images[place][0].mean(dim=(1, 2)), atol=0.05)


def test_many_pictures_are_thinned_and_counted(
    embedding: PairEmbedding, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_scene, "MOST_DRAWN", 7)
    monkeypatch.setattr(map_scene, "MOST_THUMBNAILS", 7)
    scene = embedding_scene(embedding, embedding.project(), sprite(images))
    assert (scene["shown"], scene["total"]) == (7, 18)
    assert scene["sprite"] is None
    for view in scene["views"]:
        assert array(view["points"]).shape == (7, 2)
        assert view["neighbours"] is None
    projection = embedding.project()
    kept = [images.names.index(name) for name in scene["pictures"]["names"]]
    np.testing.assert_allclose(
        array(scene["views"][2]["points"]), projection.coordinates["student_distorted"][kept], rtol=1e-5
    )


def test_clusters_and_slices_come_along(embedding: PairEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedding_scene(embedding, embedding.project())
    monkeypatch.setattr(map_scene, "MOST_DRAWN", 7)
    scene = json.loads(json.dumps(embedding_scene(embedding, embedding.project()), allow_nan=False))
    kept = [embedding.images.names.index(name) for name in scene["pictures"]["names"]]
    np.testing.assert_array_equal(array(scene["clusters"]["of"]), embedding.clusters.of[kept])
    assert scene["clusters"]["names"] == list(embedding.clusters.names)
    table = slice_table(embedding).set_index(["key", "view"])
    for cut, drawn_whole, of in zip(scene["slices"], whole["slices"], slices_of(embedding), strict=True):
        np.testing.assert_array_equal(array(drawn_whole["indices"]), of.pictures)
        assert [kept[place] for place in array(cut["indices"])] == [index for index in kept if index in of.pictures]
        assert cut["count"] == len(of.pictures)
        for view in VIEWS:
            for name, value in cut["measures"][view].items():
                expected = table.loc[(cut["id"], view), name]
                assert value is None if np.isnan(expected) else value == pytest.approx(expected)


def test_a_sweep_that_goes_on_and_one_that_has_ended(images: ImageSet) -> None:
    found = sweep(pair(), images, "gaussian_noise", (0.1, 0.3))
    scene = json.loads(json.dumps(sweep_scene(found, chosen=1, running=True, caption="here")))
    assert scene["progress"] == {"done": 18, "total": 18}
    assert scene["trained"] == {"name": "student", "spec": NOISE, "low": 0.3, "high": 0.3}
    assert not scene["never_trained"]
    assert [series["id"] for series in scene["series"]] == [
        "cls_cosine",
        "patch_cosine",
        "attention_js",
        "nearest_label",
    ]
    for series in scene["series"]:
        for who in ("teacher", "student"):
            assert series[who] == [row[series["id"]] for row in found.rows[who]]
    assert scene["series"][3]["reference"] == found.ceiling
    assert sweep_scene(found)["progress"] is None


def test_a_benchmark_that_goes_on_and_one_that_has_ended(images: ImageSet) -> None:
    steps = list(benchmark_steps(pair("fog:2"), images, ("fog", "snow"), (2, 5), cache=False))
    scene = json.loads(json.dumps(benchmark_scene(steps[1], running=True, caption="here"), allow_nan=False))
    assert scene["progress"] == {"done": 2, "total": 4}
    assert [shown["values"]["cls_cosine"][1] for shown in scene["networks"]] == [[None, None]] * 2
    assert [shown["error"] for shown in scene["networks"]] == [None, None]
    scene = json.loads(json.dumps(benchmark_scene(steps[-1]), allow_nan=False))
    assert scene["progress"] is None
    assert scene["networks"][1]["learned"] == [[True, False], [False, False]]
    assert scene["networks"][1]["error"] == pytest.approx(steps[-1].mean_error["student"])
    assert [measure["id"] for measure in scene["measures"]] == list(MEASURED)
    for shown in scene["networks"]:
        for name in MEASURED:
            np.testing.assert_allclose(shown["values"][name], steps[-1].sheet(shown["name"], name), atol=6e-5)


def test_an_untouched_student_has_no_curve(images: ImageSet) -> None:
    teacher = pair().teacher
    same = Pair(teacher=teacher, student=teacher, distortion=distortion("none"), card={})
    scene = sweep_scene(sweep(same, images, "pixel_mask", (0.5,)), untouched=True)
    assert all(series["student"] is None for series in scene["series"])
    assert not scene["never_trained"]
    assert embedding_scene(found := embed_pair(same, images, NOISE, cache=False), found.project())["untouched_student"]


def test_pictures_without_labels(tmp_path: Path) -> None:
    flat = load_images(picture_folder(tmp_path / "some") / "red", size=32)
    embedding = embed_pair(pair(), flat, cache=False)
    scene = json.loads(json.dumps(embedding_scene(embedding, embedding.project()), allow_nan=False))
    assert scene["pictures"]["labels"] is None
    assert scene["views"][1]["nearest_label"] is None
    series = sweep_scene(sweep(pair(), flat, "gaussian_noise", (0.1,)))["series"][3]
    assert series["why"] == "these pictures have no labels"
