"""A picture that is damaged already, with its clean twin and without: what is compared, told and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from explorer import alignment, compare, distortion, load_image, load_pair, plots, save_page
from explorer.data.image import to_pil
from explorer.distortions import Given
from explorer.inspection.comparison import NO_REFERENCE, SWAPPED, Comparison
from explorer.models.backbones import Backbone
from explorer.scenes.inspection import attention_scene, patch_scene
from tests.architectures import backbone, peaked
from tests.real_damage import cut, dim, small

SIZE = 96


def single(seed: int | None = None) -> Backbone:
    model = backbone("vit_tiny_patch16_224", image_size=SIZE)
    model = model.with_module(model.module.float())
    if seed is not None:
        peaked(model.module, factor=1.1, seed=seed)
    return model


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return single()


@pytest.fixture(scope="module")
def student() -> Backbone:
    return single(seed=5)


@pytest.fixture(scope="module")
def clean(photos: Tensor) -> Tensor:
    return load_image(cut(photos[2], 192), size=SIZE)


@pytest.fixture(scope="module")
def files(photos: Tensor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A photo; the same scene in the dark, another size, a few pixels aside; another scene; another aspect."""
    folder = tmp_path_factory.mktemp("pairs")
    pictures = {
        "day.png": cut(photos[2], 192),
        "night.jpg": load_image(cut(dim(photos[2]), 192, 8, -12), size=150),
        "other.png": cut(photos[9], 192),
        "wide.png": photos[2, :, :100],
    }
    for name, picture in pictures.items():
        to_pil(picture).save(folder / name)
    (folder / "words.png").write_text("no picture")
    return {name: folder / name for name in (*pictures, "words.png")}


@pytest.fixture(scope="module")
def pair(teacher: Backbone, student: Backbone, files: dict[str, Path]) -> Comparison:
    return compare(teacher, files["day.png"], files["night.jpg"], student)


@pytest.fixture(scope="module")
def alone(teacher: Backbone, student: Backbone, files: dict[str, Path]) -> Comparison:
    return compare(teacher, None, files["night.jpg"], student)


def test_a_real_pair_is_laid_together_and_seen_four_ways(
    pair: Comparison, teacher: Backbone, files: dict[str, Path]
) -> None:
    assert pair.clean is not None
    assert pair.shift == (4, -6)  # 8 and -12 of 192 px
    assert pair.distortion == Given(shift=(4, -6))
    night = load_image(files["night.jpg"], SIZE)
    assert torch.equal(pair.distorted[:, 4:, :-6], night[:, :-4, 6:])
    expected = alignment(teacher.trace(pair.clean[None]), teacher.trace(pair.distorted[None]))
    assert pair.alignments["teacher"].cls_cosine == pytest.approx(expected.cls_cosine, abs=1e-5)
    numbers = json.loads(json.dumps(pair.numbers(), allow_nan=False))
    assert (numbers["distortion"], numbers["shift_px"], numbers["reference"]) == (
        "your picture",
        [4, -6],
        "teacher_clean",
    )
    assert ["Distortion", "your picture, moved 4 px down and 6 px left onto the clean one"] in attention_scene(pair)[
        "about"
    ]


def test_a_pair_that_looks_swapped_is_compared_and_told(teacher: Backbone, photos: Tensor) -> None:
    clean = load_image(cut(photos[2], SIZE), size=SIZE)
    right, wrong = compare(teacher, clean, small(clean)), compare(teacher, small(clean), clean)
    assert (right.note, right.numbers()["note"], attention_scene(right)["message"]) == (None, None, None)
    assert (wrong.note, wrong.numbers()["note"], attention_scene(wrong)["message"]) == (SWAPPED, SWAPPED, SWAPPED)


def test_a_view_says_by_how_much_a_picture_was_moved(pair: Comparison, teacher: Backbone, clean: Tensor) -> None:
    assert attention_scene(pair)["moved"] == f"The damaged picture is {pair.distortion.moved}."
    assert "moved" not in attention_scene(compare(teacher, clean, dim(clean)))


def test_alignment_can_be_refused(teacher: Backbone, files: dict[str, Path]) -> None:
    as_it_lies = compare(teacher, files["day.png"], files["night.jpg"], align=False)
    assert as_it_lies.shift is None
    assert torch.equal(as_it_lies.distorted, load_image(files["night.jpg"], SIZE))
    other = compare(teacher, files["day.png"], files["other.png"], align=False)  # nobody checks what it shows
    assert other.alignments["teacher"].cls_cosine < 1


def test_any_kind_of_picture_is_taken(teacher: Backbone, clean: Tensor, files: dict[str, Path]) -> None:
    path = files["night.jpg"]
    with Image.open(path) as image:
        kinds = [path, str(path), path.read_bytes(), image, np.asarray(image), load_image(path)]
        found = [compare(teacher, clean, kind) for kind in kinds]
    for comparison in found:
        assert comparison.shift == (4, -6)
        torch.testing.assert_close(comparison.distorted, found[0].distorted, atol=0.02, rtol=0)


def test_pictures_that_are_given_are_what_a_distortion_makes(
    teacher: Backbone, student: Backbone, clean: Tensor
) -> None:
    spec = "gaussian_noise(sigma=0.2)"
    made = compare(teacher, clean, spec, student, seed=3)
    given = compare(teacher, clean, distortion(spec)(clean[None], seed=3)[0], student)
    assert given.shift == (0, 0)
    for name, agreement in made.alignments.items():
        assert given.alignments[name].as_dict() == pytest.approx(agreement.as_dict())
    assert made.shift is None


def test_without_a_clean_picture_student_is_compared_with_teacher(
    alone: Comparison, teacher: Backbone, student: Backbone, files: dict[str, Path]
) -> None:
    assert alone.clean is None
    assert list(alone.views) == ["teacher_distorted", "student_distorted"]
    night = load_image(files["night.jpg"], SIZE)[None]
    expected = alignment(teacher.trace(night), student.trace(night))
    assert list(alone.alignments) == ["student"]
    assert alone.alignments["student"].patch_cosine == pytest.approx(expected.patch_cosine, abs=1e-5)
    numbers = json.loads(json.dumps(alone.numbers(), allow_nan=False))
    assert (numbers["reference"], numbers["note"]) == (None, NO_REFERENCE)
    assert not [name for name in numbers if "clean" in name]
    frame = alone.by_layer()
    assert set(frame["view"]) == {"student_distorted"}
    assert 0 < frame["attention_js"].iloc[-1] < 0.693
    assert list(alone.similarity(2, 3)) == list(alone.views)
    assert compare(teacher, None, night[0]).alignments["student"].cls_cosine == pytest.approx(1)


def test_scenes_of_two_views_name_no_reference(alone: Comparison) -> None:
    for scene in (attention_scene(alone), patch_scene(alone, layer=3)):
        assert [pane["id"] for pane in scene["panes"]] == list(alone.views)
        assert not any(pane["reference"] for pane in scene["panes"])
        assert scene["message"] == NO_REFERENCE
        assert ["Reference", "none: nothing is measured against a truth"] in scene["about"]
    assert attention_scene(alone, message="first")["message"] == "first"


def test_figures_of_two_views(alone: Comparison, tmp_path: Path) -> None:
    words = [
        text.get_text() for text in plots.plot_comparison(alone).findobj(lambda artist: hasattr(artist, "get_text"))
    ]
    assert "student against teacher: no truth is known" in words
    assert "student minus teacher" in words
    assert not {"reference", "clean", "distorted minus reference"} & set(words)
    similar = plots.plot_similarity(alone, 2, 3)
    assert len([ax for ax in similar.axes if ax.images]) >= 2
    for figure in (plots.plot_pca(alone), plots.plot_heads(alone), similar):
        assert plots.to_image(figure).width > 300
    assert save_page(alone, tmp_path / "alone.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("clean", "damage", "message"),
    [
        ("day.png", "other.png", r"do not show the same scene: .* correlate by 0\.\d\d at best, and 0.4 is needed"),
        ("day.png", "day.png", "the clean and the damaged picture are the same"),
        ("day.png", "wide.png", r"the clean picture is 192 x 192 px and the damaged one 224 x 100 px; .* aspect ratio"),
        ("day.png", "words.png", "holds text, not a picture"),
        ("words.png", "day.png", "holds text, not a picture"),
        ("day.png", "gone.png", "does not exist; give the path of a picture"),
        ("day.png", None, "expected a path, .* got NoneType"),
        (None, None, "expected a path, .* got NoneType"),
        (None, "fog:3", r"'fog:3' needs a clean picture to damage; without one, give a damaged picture"),
        ("fog:3", "day.png", "the clean picture comes first, then what damages it; got 'fog:3'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(
    teacher: Backbone, files: dict[str, Path], clean: str | None, damage: str | None, message: str
) -> None:
    folder = files["day.png"].parent
    first, second = (str(folder / name) if name and name.endswith(".png") else name for name in (clean, damage))
    with pytest.raises(ValueError, match=message):
        compare(teacher, first, second)  # type: ignore[arg-type]


def test_the_damage_of_a_picture_cannot_be_done_to_others(pair: Comparison, clean: Tensor) -> None:
    with pytest.raises(ValueError, match="cannot be done to others; give a distortion"):
        pair.distortion(clean[None])
    assert not pair.distortion.stochastic
    assert str(Given(shift=(0, 0)).told(3)) == "your picture, which lies on the clean one as it is"
    assert Given().told(3) == "your picture"


@pytest.mark.weights
def test_a_shipped_student_sees_through_real_damage_better(photos: Tensor) -> None:
    """Photon noise in the dark, which it was not trained on by that name."""
    shipped = load_pair("s14-noise", image_size=112, device="cpu")
    gains = []
    for photo in photos[2:27:5]:
        clean = load_image(photo, 112)
        found = compare(shipped.teacher, clean, dim(clean * 0.7), shipped.student, align=False).alignments
        gains.append(found["student"].patch_cosine - found["teacher"].patch_cosine)
    assert len(gains) == 5
    assert np.mean(gains) > 0.02
