"""What is easily mistaken for something else, where the library's own words have to come: a pair for one of its
networks, a network for a pair, and numbers of other kinds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import explorer as ex
from tests.small import SIZE, network, pair, picture_set

pytestmark = pytest.mark.usefixtures("unchecked")
PAIR, PHOTO = pair("gaussian_noise(sigma=0.3)"), torch.rand(3, SIZE, SIZE)
TEACHER, STUDENT = PAIR.teacher, PAIR.student
CONFIG = ex.DistillConfig(steps=1)
PART = ex.Part("mlp", 3)
TRACE = TEACHER.trace(PHOTO[None], attention="full")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ex.ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


def saved_probe(images: ex.ImageSet) -> Path:
    file = images.path(0).with_name("probe.safetensors")
    ex.fit_probe(TEACHER, images, cache=False).save(file)
    return file


@pytest.mark.parametrize(
    "ask",
    [
        lambda _: ex.compare(PAIR, PHOTO, "fog:3"),
        lambda _: ex.compare("s14", PHOTO, "fog:3"),
        lambda _: ex.compare(TEACHER, PHOTO, "fog:3", PAIR),
        lambda _: ex.compare(TEACHER, PHOTO, "fog:3", [STUDENT]),
        lambda _: ex.compare(TEACHER, PHOTO, "fog:3", {"mine": PAIR}),
        lambda images: ex.embed(PAIR, images, cache=False),
        lambda images: ex.fit_probe(PAIR, images),
        lambda _: ex.attribute(PAIR, PHOTO),
        lambda _: ex.restored_pair(PAIR),
        lambda images: ex.load_probe(saved_probe(images), PAIR),
        lambda images: next(iter(ex.distill("s14", images, ex.DistillConfig(), "run"))),
    ],
)
def test_something_else_than_a_backbone_is_told(images: ex.ImageSet, ask: Callable[[ex.ImageSet], Any]) -> None:
    with pytest.raises(ValueError, match=r"expected a Backbone for the .*, such as load_backbone gives it.*; got "):
        ask(images)


@pytest.mark.parametrize(
    "ask",
    [
        lambda images: ex.sweep(TEACHER, images),
        lambda images: ex.sweep("s14-noise", images),
        lambda images: ex.sweep([PAIR], images),
        lambda images: ex.benchmark(TEACHER, images, cache=False),
        lambda images: ex.evaluate(TEACHER, images, images),
        lambda images: ex.evaluate({"mine": PAIR}, images, images),
        lambda _: ex.export_student(STUDENT, "student.safetensors"),
    ],
)
def test_something_else_than_a_pair_is_told(images: ex.ImageSet, ask: Callable[[ex.ImageSet], Any]) -> None:
    with pytest.raises(ValueError, match="expected a Pair, as load_pair gives it; got "):
        ask(images)


@pytest.mark.parametrize(
    "ask",
    [
        lambda images: ex.evaluate_dense(PAIR, images, images),
        lambda images: ex.fit_patch_probe(TEACHER, images),
    ],
)
def test_pictures_without_masks_are_told(images: ex.ImageSet, ask: Callable[[ex.ImageSet], Any]) -> None:
    with pytest.raises(ValueError, match=r"with a class for each pixel, as load_segmented\(folder\) .*; got ImageSet"):
        ask(images)


def test_a_run_learns_from_what_has_a_name(images: ex.ImageSet, tmp_path: Path) -> None:
    config = ex.DistillConfig(steps=1, image_size=SIZE, batch_size=2, probe=1)
    folder = images.path(0).parent.parent
    runs = {"name": folder, "set": ex.load_images(folder, size=None)}
    for name, pictures in runs.items():
        list(ex.distill(TEACHER, pictures, config, tmp_path / name))
    first, second = (ex.load_pair(tmp_path / name, teacher=TEACHER).card for name in runs)
    assert first["student_sha256"] == second["student_sha256"]
    assert first["data"] == second["data"]


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    assert TEACHER.trace(PHOTO[None], layers=np.int64(3)).layers == (3,)
    assert TEACHER.trace(PHOTO[None], layers=np.array([1, -1])).layers == (1, 11)
    assert torch.equal(ex.attention_map(TRACE, head=np.int64(1)), ex.attention_map(TRACE, head=1))
    assert network(0).grid.position(np.int64(1), np.int64(1)) == 3
    drawn = ex.load_backbone("vit_tiny_patch16_224", np.int64(SIZE), source="random", device="cpu")
    assert drawn.height_width == (SIZE, SIZE)


def test_numpys_numbers_are_written_as_json(images: ex.ImageSet, tmp_path: Path) -> None:
    seed = np.int64(3)
    assert json.loads(json.dumps(ex.compare(TEACHER, PHOTO, "fog:3", seed=seed).numbers()))["seed"] == 3
    assert json.loads(json.dumps(ex.DistillConfig(seed=seed, steps=np.int32(2)).as_dict()))["steps"] == 2
    ex.benchmark(PAIR, images, "fog", (3,), seed=seed, cache=tmp_path).save(tmp_path / "fog.json")
    assert ex.load_benchmark(tmp_path / "fog.json").seed == 3
    with_numpy, plain = (ex.embed(TEACHER, images, "fog:3", one, cache=tmp_path) for one in (seed, 3))
    assert np.array_equal(with_numpy.embedding, plain.embedding)


def test_one_strength_and_a_path_are_taken_as_they_are_meant(images: ex.ImageSet) -> None:
    one, several = (ex.sweep(PAIR, images, "gaussian_noise", values) for values in (0.3, (0.3,)))
    assert one.frame().equals(several.frame())
    assert torch.equal(ex.Recovery(TEACHER, images.path(0), "fog:3").clean, images.stack([0])[0])


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ((1, 3, 2), "the smallest strength has to lie below the largest; got 3 and 2"),
        ((1, 0, "2"), "three numbers"),
        ((0.5, 0, float("inf")), "three numbers"),
    ],
)
def test_bounds_that_are_none(bounds: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ex.register_distortion(lambda picture, _, **__: picture, {"strength": bounds}, name="mistaken")


def test_a_function_that_fails_is_told() -> None:
    def broken(picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return picture / undefined  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ValueError, match=r"'broken' failed on a picture .*: NameError: name 'undefined'"):
        ex.register_distortion(broken)
    assert "broken" not in ex.DISTORTIONS


def test_pictures_are_not_their_own_clean_twins(images: ex.ImageSet) -> None:
    folder = images.path(0).parents[1]
    with pytest.raises(ValueError, match="clean= names the pictures themselves"):
        ex.load_images(folder, SIZE, clean=folder)


@pytest.mark.parametrize("wrong", [{"mean": (127, 116, 104)}, {"mean": 0.5}, {"std": (0, 1, 1)}, {"grid": 4}])
def test_what_a_wrapped_module_cannot_have(wrong: dict[str, Any]) -> None:
    fits: dict[str, Any] = {"blocks": "blocks", "norm": "norm", "image_size": SIZE, "grid": (2, 2), "prefix": 1}
    fits |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    with pytest.raises(ValueError, match=r"one number for each of red, green and blue, .*|grid is"):
        ex.wrap_backbone(network(2).module, **{**fits, **wrong})
    for name, value in {"embed": "cls", "name": 5}.items():
        with pytest.raises(ValueError, match="name is text, and embed a function"):
            ex.wrap_backbone(network(2).module, **fits, **{name: value})


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: TEACHER.trace(PHOTO[None], layers=None), r"has the blocks 0 to 11 .*; got \[None\]"),
        (lambda: TEACHER.trace(PHOTO[None], layers=1.0), r"has the blocks 0 to 11 .*; got \[1\.0\]"),
        (lambda: TEACHER.trace(PHOTO[None], layers=True), r"has the blocks 0 to 11 .*; got \[True\]"),
        (lambda: ex.attention_map(PHOTO), "expected a Trace, as backbone.trace\\(images\\) gives it; got Tensor"),
        (lambda: ex.patch_matches(PHOTO, TRACE), "expected a Trace, .*; got Tensor"),
        (lambda: ex.load_image(PHOTO[None].numpy(), size=SIZE), r"expected one picture; got a batch, \(1, 3, 32, 32\)"),
        (lambda: ex.rollout(None), "expected a Trace, .*; got NoneType"),
        (lambda: ex.alignment(TRACE, PHOTO), "expected a Trace, .*; got Tensor"),
        (lambda: ex.attention_map(TRACE, query=(1,)), r"a patch is given as \(row, col\), .*; got \(1,\)"),
        (lambda: ex.patch_similarity(TRACE, query=3), r"a patch is given as \(row, col\), .*; got 3"),
        (lambda: ex.attention_map(TRACE, head=True), "head True does not exist"),
        (lambda: ex.attention_map(TRACE, head=2.0), r"head 2\.0 does not exist"),
        (lambda: ex.attention_map(TRACE, query=(0.5, 0)), r"patch \(row=0\.5, col=0\) lies outside of the grid"),
        (
            lambda: ex.patch_matches(TRACE, TRACE, points=[(0.5, 0)]),
            r"patch \(row=0\.5, col=0\) lies outside of the grid",
        ),
        (lambda: ex.load_backbone("s14", image_size=True), "image_size is a whole number of pixels.*; got True"),
        (lambda: ex.load_backbone("s14", device="gpu"), "device 'gpu' cannot be used here"),
        (lambda: ex.load_backbone(None), "a backbone has a name, such as 's14'; got None"),
        (lambda: ex.load_pair(PAIR), "a pair has a name, or is a folder; got Pair"),
        (lambda: ex.load_images(""), "got an empty name"),
        (lambda: next(iter(ex.distill(TEACHER, PHOTO[None], {}, "run"))), r"expected DistillConfig\(…\).*; got {}"),
        (
            lambda: next(iter(ex.distill(TEACHER, iter([PHOTO]), CONFIG, "run"))),
            "pictures that can be counted",
        ),
        (lambda: ex.DistillConfig(begin=""), "begin is the name or the folder of a pair, or None; got ''"),
        (lambda: ex.DistillConfig(seed=1.5), r"seed is a whole number from 0 to 2\*\*63 - 1; got 1\.5"),
        (lambda: ex.load_backbone("s14", source=""), "source is 'auto', 'random', or the path .*; got ''"),
        (lambda: ex.load_backbone("s14", source="random", seed=None), r"seed is a whole number .*; got None"),
        (lambda: ex.compare(TEACHER, PHOTO, "fog:3", seed=-1), "seed is a whole number .*; got -1"),
        (
            lambda: ex.Recovery(TEACHER, PHOTO, "fog:3", seed=2**70),
            "seed is a whole number .*; got 11805",
        ),
        (lambda: ex.intervene(TEACHER, PART, seed=0.5).__enter__(), r"seed is a whole number .*; got 0\.5"),
        (lambda: ex.intervene(TEACHER, "mlp").__enter__(), "expected a Part, or several, .*; got mlp"),
        (lambda: ex.Part("patches", 3, None, (1, 1)), r"patches are given as \(row, col\), .*; got \(1, 1\)"),
        (lambda: ex.patch_matches(TRACE, TRACE, moved=(1,)), r"moved is how far \(rows, cols\) .*; got \(1,\)"),
        (lambda: ex.animate_recovery(ex.Recovery(TEACHER, PHOTO, "fog:3"), row=1), "row and col, both or neither"),
        (lambda: ex.page(PHOTO), "a page shows a Comparison, .*; got tensor"),
        (lambda: ex.load_image(PHOTO[None], size=SIZE), r"expected one picture; got a batch, \(1, 3, 32, 32\)"),
        (lambda: ex.activation_patching(TEACHER, "cat.jpg", "cat.png"), "two pictures as load_image .*; got 'cat.jpg'"),
        (lambda: ex.project(PHOTO), "expected named views, such as .*; got Tensor"),
        (lambda: ex.AttentionWatch(PAIR, PHOTO), "expected a Backbone, or one of timm's .*; got Pair"),
        (lambda: ex.distill(TEACHER, "photos", CONFIG, ""), "out is the folder .*; got an empty name"),
        (lambda: ex.load_image(".", size=SIZE), "is a folder, not a picture: give one of the files in it"),
    ],
)
def test_what_is_none_of_the_kind_is_told(ask: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ask()
