"""`fit_probe` and `load_probe` against scikit-learn's own pipeline, `evaluate`, and files that are something else."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from explorer import evaluate, fit_probe, load_image, load_images, load_probe
from explorer.data.image import ImageError, to_pil, to_uint8
from explorer.data.sets import ImageSet
from explorer.distortions import distortion
from explorer.evaluation.evaluation import draw_seed
from explorer.evaluation.predicting import PictureProbe, likeliest, read_about
from explorer.evaluation.probe_files import _digest
from explorer.models.backbones import Backbone
from explorer.models.loading import load_backbone
from explorer.models.pairs import load_pair
from tests.small import CLASSES, NOISE, SIZE, network, pair, picture_folder, picture_set


@pytest.fixture(scope="module")
def seer() -> Backbone:
    return network(1)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    return picture_set(tmp_path_factory.mktemp("pictures"), per_class=8).split(0.5)


@pytest.fixture(scope="module")
def probe(seer: Backbone, sets: tuple[ImageSet, ImageSet]) -> PictureProbe:
    return fit_probe(seer, sets[0], cache=False)


def embeddings(backbone: Backbone, pictures: Tensor) -> np.ndarray:
    return backbone.trace(pictures).embedding.numpy().astype(np.float64)


@pytest.mark.parametrize("spec", ["none", NOISE])
@pytest.mark.parametrize("classes", [("blue", "green", "red"), ("green", "red")])
def test_it_is_scikit_learn_s_own_pipeline(
    seer: Backbone, sets: tuple[ImageSet, ImageSet], spec: str, classes: tuple[str, ...]
) -> None:
    train, test = (
        images.select([place for place, label in enumerate(images.labels or ()) if CLASSES[label] in classes])
        for images in sets
    )
    found = fit_probe(seer, train, spec, seed=3, regularisation=0.5, cache=False)
    x = embeddings(seer, distortion(spec)(train.stack(), seed=draw_seed(3, 0, "train")))
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=2000))
    oracle.fit(x, [CLASSES[label] for label in train.labels or ()])
    seen = embeddings(seer, test.stack())
    assert found.classes == classes
    assert found.probabilities(test.stack()) == pytest.approx(oracle.predict_proba(seen), abs=1e-5)
    assert found.predict(test.stack()) == tuple(oracle.predict(seen))
    assert len(set(found.predict(test.stack()))) > 1
    assert found.counts == dict.fromkeys(classes, 4)


def test_it_is_the_probe_of_evaluate(sets: tuple[ImageSet, ImageSet]) -> None:
    both, (train, test) = pair(), sets
    expected = evaluate(both, train, test, "linear", seed=5, cache=False).right["student_distorted"][0]
    damaged = distortion(NOISE)(test.stack(), seed=draw_seed(5, 0, "test"))
    named = fit_probe(both.student, train, NOISE, seed=5, cache=False).predict(damaged)
    assert [name == CLASSES[label] for name, label in zip(named, test.labels or (), strict=True)] == expected.tolist()


def test_whatever_load_image_takes_one_or_many(probe: PictureProbe, tmp_path: Path) -> None:
    file = picture_folder(tmp_path / "pictures", per_class=1) / "red" / "0.png"
    whole = load_image(file)  # 40 px, where the backbone takes 32
    expected = probe.probabilities(file)
    assert expected.shape == (1, 3)
    assert expected.sum() == pytest.approx(1)
    content = file.read_bytes()
    for one in (str(file), content, io.BytesIO(content), to_pil(whole), to_uint8(whole)):
        assert np.array_equal(probe.probabilities(one), expected)
    assert probe.probabilities(whole) == pytest.approx(expected, abs=1e-3)  # floats are not rounded to bytes
    for many in ([file, content], (to_pil(whole), str(file)), np.stack([to_uint8(whole), to_uint8(whole)])):
        assert probe.probabilities(many) == pytest.approx(np.concatenate([expected, expected]), abs=1e-5)
    both = probe.probabilities(torch.stack([whole, whole]))
    assert both == pytest.approx(np.concatenate([expected, expected]), abs=1e-3)
    assert probe.predict(load_images(tmp_path / "pictures", size=None)) == probe.predict(
        [tmp_path / "pictures" / name / "0.png" for name in CLASSES]
    )


def test_more_pictures_than_fit_into_one_pass(probe: PictureProbe, sets: tuple[ImageSet, ImageSet]) -> None:
    pictures = sets[1].stack()
    assert len(pictures) == 12  # eight in a pass
    expected = np.concatenate([probe.probabilities(picture) for picture in pictures])
    assert probe.probabilities(pictures) == pytest.approx(expected, abs=1e-5)


def test_damaged_pictures_may_leave_the_range(probe: PictureProbe) -> None:
    damaged = torch.full((1, 3, SIZE, SIZE), 1.7)
    expected = probe.probe.probabilities(probe.backbone.trace(damaged).embedding)
    assert probe.probabilities(damaged[0]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ImageError, match="0"):
        probe.predict(torch.full((3, 50, 50), 1.7))


def test_the_likeliest_come_first(probe: PictureProbe, sets: tuple[ImageSet, ImageSet]) -> None:
    pictures = sets[1].stack()
    for shown, row, name in zip(
        probe.top(pictures, 2), probe.probabilities(pictures), probe.predict(pictures), strict=True
    ):
        assert [chance for _, chance in shown] == sorted(row, reverse=True)[:2]
        assert shown[0][0] == name
    assert likeliest(("a", "b", "c"), np.array([0.2, 0.4, 0.4]), 9) == [("b", 0.4), ("c", 0.4), ("a", 0.2)]
    with pytest.raises(ValueError, match="from 1 up; got 0"):
        probe.top(pictures, 0)


# What cannot be fitted, or looked at.


def test_labels_of_two_classes_are_needed(seer: Backbone, tmp_path: Path, sets: tuple[ImageSet, ImageSet]) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=1)
    train = sets[0]
    for images, message in [
        (
            load_images(folder / "red", size=SIZE),
            "these have none: put them into one folder for each class, or name a CSV",
        ),
        (train[:3], "these pictures show 'blue' alone; give pictures of two classes or more"),
        (train[:1], "these pictures show 'blue' alone"),
        (train[:0], "these pictures show none"),
        (replace(train, classes=("x", "x", "y")), "two classes of these pictures are called 'x'"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_probe(seer, images, cache=False)
    with pytest.raises(ValueError, match="unknown distortion 'fogg'"):
        fit_probe(seer, train, "fogg")


def test_nothing_to_look_at(probe: PictureProbe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one picture or several to say what they show; got none"):
        probe.predict([])
    with pytest.raises(ImageError, match=r"none\.png"):
        probe.predict(tmp_path / "none.png")


# The file.


@pytest.mark.parametrize("count", [2, 3])
def test_a_saved_probe_says_the_very_same(
    seer: Backbone, sets: tuple[ImageSet, ImageSet], tmp_path: Path, count: int
) -> None:
    train, test = sets
    few = train.select([place for place, label in enumerate(train.labels or ()) if label < count])
    fitted = fit_probe(seer, few, NOISE, seed=2, cache=False)
    file = fitted.save(tmp_path / "probe.safetensors")
    loaded = load_probe(file, network(1))
    assert np.array_equal(loaded.probabilities(test.stack()), fitted.probabilities(test.stack()))
    assert loaded.predict(test.stack()) == fitted.predict(test.stack())
    assert (loaded.classes, loaded.counts) == (CLASSES[:count], dict.fromkeys(CLASSES[:count], 4))
    assert (loaded.distortion, loaded.seed) == (NOISE, 2)
    assert loaded.save(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert set(safetensors.torch.load_file(file)) == {"weights", "bias", "mean", "scale", "sample"}
    about = read_about(file)
    assert (about["backbone"], about["image_size"]) == (seer.name, [SIZE, SIZE])
    assert about["weights"]["sha256"] == seer.sha256


def test_random_weights_are_drawn_again(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    drawn = load_backbone("vit_tiny_patch16_224", image_size=SIZE, source="random", device="cpu", seed=7)
    fitted = fit_probe(drawn, sets[0], cache=False)
    loaded = load_probe(fitted.save(tmp_path / "probe.safetensors"), device="cpu")
    assert np.array_equal(loaded.probabilities(sets[1].stack()), fitted.probabilities(sets[1].stack()))


@pytest.mark.weights
def test_the_student_of_a_shipped_pair_is_found(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    student = load_pair("s14-noise", image_size=28, device="cpu").student
    fitted = fit_probe(student, sets[0], cache=False)
    loaded = load_probe(fitted.save(tmp_path / "probe.safetensors"), device="cpu")
    assert loaded.backbone.source == student.source
    assert loaded.probabilities(sets[1]) == pytest.approx(fitted.probabilities(sets[1]), abs=1e-6)


def test_a_probe_is_never_put_on_another_backbone(probe: PictureProbe, seer: Backbone, tmp_path: Path) -> None:
    file = probe.save(tmp_path / "probe.safetensors")
    larger = load_backbone(seer.name, image_size=64, source="random", device="cpu", seed=1)
    for other, message in [
        (
            network(0),
            r"was fitted on 'vit_tiny_patch16_224', random weights \(seed 1\).* at 32 x 32 px .*; got .*seed 0",
        ),
        (replace(larger, sha256=seer.sha256), "at 32 x 32 px .*; got .* at 64 x 64 px"),
        (seer.with_module(network(0).module), "says to be that, but sees pictures otherwise"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_probe(file, other)
    own = replace(probe, backbone=replace(seer, name="my.Module")).save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"a module of somebody's own; wrap it with wrap_backbone"):
        load_probe(own)


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "is no probe that can be read"),
        (lambda content: content[:100], "is no probe that can be read"),
        (lambda _: b"", "is no probe that can be read"),
        (lambda _: b"file,label\n" * 100, "is no probe that can be read"),
        (lambda _: pickle.dumps({"weights": [1, 2]}), "is no probe that can be read"),
        (lambda _: safetensors.torch.save({"weights": torch.ones(3)}), "is no probe that can be read .KeyError"),
        (lambda content: _flipped(content, len(content) - 1), "is not as it was written"),
        (lambda content: content.replace(b"green", b"groan"), "is not as it was written"),
        (
            lambda content: content.replace(rb"\"format\": 1", rb"\"format\": 9"),
            "has the format 9; this version .* of 1",
        ),
    ],
)
def test_files_that_are_no_probes(
    probe: PictureProbe, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    file = probe.save(tmp_path / "probe.safetensors")
    content = file.read_bytes()
    assert damage(content) != content
    file.write_bytes(damage(content))
    with pytest.raises(ValueError, match=message) as caught:
        load_probe(file, probe.backbone)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["blue", "green"]},
        {"classes": ["blue", "green", "green"]},
        {"classes": ["blue", "green", 3]},
        {"image_size": [32]},
        {"weights": {}},
        {"seed": "x"},
        {"bias": torch.zeros(2, dtype=torch.float64)},
        {"scale": torch.zeros(192, dtype=torch.float64)},
        {"mean": torch.full((192,), torch.nan, dtype=torch.float64)},
        {"mean": torch.zeros(192)},
    ],
    ids=str,
)
def test_files_that_were_made_up(probe: PictureProbe, tmp_path: Path, change: dict[str, Any]) -> None:
    """Their digest fits, and what is in them does not."""
    file = probe.save(tmp_path / "probe.safetensors")
    about, tensors = read_about(file), safetensors.torch.load_file(file)
    for name, value in change.items():
        (tensors if isinstance(value, Tensor) else about)[name] = value
    about = {**about, "sha256": _digest(about, tensors)}
    file.write_bytes(safetensors.torch.save(tensors, metadata={"probe": json.dumps(about)}))
    with pytest.raises(ValueError, match="is not as it was written"):
        load_probe(file, probe.backbone)


def test_a_file_that_is_not_there(probe: PictureProbe, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_probe(tmp_path / "none.safetensors", probe.backbone)
