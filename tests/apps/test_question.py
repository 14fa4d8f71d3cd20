"""What the left column asks: read once, refused in words, and never the answer to another question."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image

import explorer as ex
from explorer.data.image import to_uint8
from explorer.errors import InputError
from explorer.inspection.comparison import Comparison
from explorer_app.column.picture import crop_of
from explorer_app.service import models, pictures, question
from explorer_app.service.cache import BoundedCache
from explorer_app.service.question import Question
from explorer_app.tabs.shared import settings

OWL = "farm_animal/owl.webp"


def test_a_link_asks_the_same_question():
    asked = Question.read(pictures.photo_path(OWL), OWL, "gaussian_blur(sigma=3) + none", "s14", "s14-noise", 336, 7)
    link = asked.link()
    assert link is not None
    assert Question.of_link(link) == asked
    assert Question.of_link({"pair": models.UNTOUCHED, "layer": "3"}).layer == 3
    assert Question.of_link({"backbone": "clip-b16"}).student == "clip-b16-common"
    own = Question.read("mine.png", None, "none", "s14", "", 224, None).link()
    assert "a picture of your own" in own, "nobody else has it, and that is said"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"distortion": None}, "reload it"),
        ({"size": "big"}, "size is a whole number; got 'big'"),
        ({"size": 225}, "size is one of 224, 336, 448 px; got 225"),
        ({"seed": -1}, "seed is a whole number from 0 to"),
        ({"seed": "x"}, "seed is a whole number; got 'x'"),
        ({"crop": 1.5}, "crop is a number from 0 to 1; got 1.5"),
    ],
)
def test_a_bad_value_is_refused_where_it_is_read(changed, words):
    good = {"picture": None, "photo": None, "distortion": "none", "backbone": "s14", "student": None, "size": 224}
    with pytest.raises(InputError, match=words):
        Question.read(**{**good, "seed": 0, **changed})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"pair": "somebody"}, "'s14' has no student 'somebody'"),
        ({"seed": str(2**31)}, "seed is a whole number from 0 to 2147483647"),
        ({"layer": "last"}, "layer is a whole number; got 'last'"),
    ],
)
def test_a_bad_link_is_refused(query, words):
    with pytest.raises(InputError, match=words):
        Question.of_link(query)


def test_models_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch):
    name, load = "vit_tiny_patch16_224", ex.load_backbone
    weights = sum(each.nbytes for each in load(name, source="random", device="cpu").module.parameters())
    monkeypatch.setattr(ex, "load_backbone", lambda *args, **given: load(*args, **given, source="random", device="cpu"))
    monkeypatch.setattr(models._models, "limit", 2.5 * weights)
    monkeypatch.setattr(models._models, "kept", OrderedDict())
    first = models.load_backbone(name, 224)
    assert models._models.size(first) == weights
    for size in (336, 224, 448):
        models.load_backbone(name, size)
    assert list(models._models.kept) == [(name, 224), (name, 448)]
    assert models.load_backbone(name, 224) is first


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> ex.Backbone:
    """A small untrained model in place of all others, and an empty cache of views."""
    small = ex.load_backbone("vit_tiny_patch16_224", source="random", device="cpu")
    monkeypatch.setattr(models, "load_backbone", lambda name, size: small)
    monkeypatch.setattr(question, "_views", BoundedCache(question.VIEW_CACHE_BYTES, lambda view: view.bytes))
    return small


def asked(picture: str | None, distortion: str, student: str = models.UNTOUCHED, seed: int = 0) -> Comparison:
    return Question.read(picture, None, distortion, "tiny", student, 224, seed).comparison()


def test_a_view_is_kept_by_what_was_seen(backbone, monkeypatch):
    looked: list[float] = []
    look = question.look
    monkeypatch.setattr(question, "look", lambda model, image: looked.append(float(image.mean())) or look(model, image))  # type: ignore[func-returns-value]
    owl, panda = (pictures.photo_path(name) for name in (OWL, "wild_animal/panda.webp"))
    first = asked(owl, "gaussian_noise(sigma=0.3)")
    assert len(looked) == 2
    other = asked(panda, "gaussian_noise(sigma=0.3)")
    assert len(looked) == 4
    asked(owl, "gaussian_noise(sigma=0.3)", seed=1)
    assert len(looked) == 5, "another seed is another picture, the clean one is known"
    asked(owl, "none")
    assert len(looked) == 5, "an undistorted picture is known"
    again = asked(owl, "gaussian_noise(sigma=0.3)")
    assert len(looked) == 5
    assert again.numbers() == first.numbers() != other.numbers()
    assert again.numbers() == ex.compare(backbone, ex.load_image(owl, size=224), "gaussian_noise(sigma=0.3)").numbers()


def test_the_file_of_another_visitor_is_not_named(backbone, monkeypatch):
    """The same weights may have come from files of several names."""
    mine, yours = (replace(backbone, source=f"{whose}.safetensors") for whose in ("mine", "yours"))
    for model in (mine, yours):
        monkeypatch.setattr(models, "load_backbone", lambda name, size, model=model: model)
        assert set(asked(pictures.photo_path(OWL), "none").weights) == {model.source}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"picture": None}, "there is no picture"),
        ({"picture": "/nowhere/owl.webp"}, "this picture is not kept any more"),
        ({"distortion": "gaussian_nois"}, "gaussian_noise"),
        ({"student": "somebody"}, "unknown student 'somebody'"),
    ],
)
def test_what_cannot_be_compared_is_refused(backbone, changed, words):
    with pytest.raises(ValueError, match=words):
        asked(**{"picture": pictures.photo_path(OWL), "distortion": "none", **changed})


ALWAYS = [models.UNTOUCHED, models.RESTORED]


def test_students_are_offered_for_their_own_backbone_alone(backbone):
    for known in ("s14", "clip-b16"):
        names = [name for _, name in models.offered_students(known)]
        assert names == [*(name for name in ex.list_pairs() if name.startswith(known)), *ALWAYS]
    assert [name for _, name in models.offered_students("tiny")] == ALWAYS
    with pytest.raises(ValueError, match="was trained from 's14'"):
        models.load_student("s14-noise", backbone)
    with pytest.raises(ValueError, match="unknown student"):
        models.load_student("assets/pairs/s14-noise", backbone)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "farm_animal/owl", "", "farm_animal/../farm_animal/owl.webp"])
def test_only_embedded_photos_have_a_path(name):
    with pytest.raises(ValueError, match="no shipped photo"):
        pictures.photo_path(name)


def test_the_square_of_an_own_picture_is_moved_and_a_photo_is_seen_as_ever(tmp_path):
    wide, file = noise(224, 500), tmp_path / "wide.png"
    file.write_bytes(encoded(wide))
    place = ("none", "s14", models.UNTOUCHED, 224, 0, None)
    for crop, start in ((0, 0), (0.5, 138), (1, 276)):
        own = Question.read(str(file), None, *place, crop)
        assert np.array_equal(to_uint8(own.seen()[0]), wide[:, start : start + 224])
        assert settings(own) == settings(replace(own, crop=0.3)), "a set of pictures does not depend on it"
    photo = pictures.photo_path(OWL)
    assert Question.read(photo, OWL, *place, 0.9) == Question.read(photo, OWL, *place)
    assert Question.read(str(file), None, *place, 0.9) != Question.read(str(file), None, *place)


def test_the_crop_is_offered_where_an_own_picture_has_room_for_it(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    shown = {}
    for name, size, more in (("wide", (8, 20), {}), ("tall", (20, 8), {}), ("turned", (8, 20), {"exif": turned})):
        (tmp_path / name).write_bytes(encoded(noise(*size), **more))
        slider = crop_of(str(tmp_path / name))
        assert (slider.value, slider.visible) == (0.5, True)
        shown[name] = slider.label
    assert shown == {"wide": "Crop: left … right", "tall": "Crop: top … bottom", "turned": "Crop: top … bottom"}
    (tmp_path / "square").write_bytes(encoded(noise(8, 8)))
    (tmp_path / "notes").write_text("this is not a picture")
    assert not any(crop_of(path).visible for path in (None, str(tmp_path / "square"), str(tmp_path / "notes")))


def test_a_size_that_is_not_offered_is_refused():
    with pytest.raises(ValueError, match="224, 336, 448"):
        Question.read(None, None, "none", "s14", models.UNTOUCHED, 10_000, 0)


def test_a_refused_picture_is_named_without_its_folder(tmp_path):
    (tmp_path / "notes.png").write_text("this is not a picture")
    with pytest.raises(ValueError, match=r"notes\.png") as refused:
        pictures.load_picture(str(tmp_path / "notes.png"), 224)
    assert str(tmp_path) not in str(refused.value)
