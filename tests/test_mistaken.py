"""What is easily mistaken for something else, where the library's own words have to come: a pair for one of its
networks, a network for a pair, and numbers of other kinds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import explorer as ex
from tests.small import SIZE, network, pair, picture_set

pytestmark = pytest.mark.usefixtures("unchecked")
PAIR, PHOTO = pair("gaussian_noise(sigma=0.3)"), torch.rand(3, SIZE, SIZE)
TEACHER, STUDENT = PAIR.teacher, PAIR.student
TRACE = TEACHER.trace(PHOTO[None], attention="full")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ex.ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


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


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    assert TEACHER.trace(PHOTO[None], layers=np.int64(3)).layers == (3,)
    assert TEACHER.trace(PHOTO[None], layers=np.array([1, -1])).layers == (1, 11)
    assert torch.equal(ex.attention_map(TRACE, head=np.int64(1)), ex.attention_map(TRACE, head=1))
    assert network(0).grid.position(np.int64(1), np.int64(1)) == 3
    drawn = ex.load_backbone("vit_tiny_patch16_224", np.int64(SIZE), source="random", device="cpu")
    assert drawn.height_width == (SIZE, SIZE)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: TEACHER.trace(PHOTO[None], layers=None), r"has the blocks 0 to 11 .*; got \[None\]"),
        (lambda: TEACHER.trace(PHOTO[None], layers=1.0), r"has the blocks 0 to 11 .*; got \[1\.0\]"),
        (lambda: TEACHER.trace(PHOTO[None], layers=True), r"has the blocks 0 to 11 .*; got \[True\]"),
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
    ],
)
def test_what_is_none_of_the_kind_is_told(ask: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ask()
