"""Pictures that are damaged already, with clean twins: `embed_pair` and `evaluate` take each view's own pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explorer import DistillConfig, distill, evaluate, load_images, save_page, sweep
from explorer.data.image import to_pil
from explorer.data.sets import ImageSet
from explorer.evaluation.embedding import VIEWS, embed_pair, is_embedded
from explorer.models.pairs import Pair
from explorer.plots.evaluation import plot_sweep
from tests.real_damage import dim
from tests.small import pair, picture_set


@pytest.fixture(scope="module")
def both() -> Pair:
    return pair()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    folder = tmp_path_factory.mktemp("pairs")
    clean = picture_set(folder / "day", per_class=6)
    for name, (picture, _) in zip(clean.names, clean, strict=True):
        file = (folder / "night" / name).with_suffix(".bmp")
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pil(dim(picture)).resize((80, 80), Image.Resampling.BICUBIC).save(file)
    return load_images(folder / "night", size=clean.size, clean=folder / "day")


def test_each_view_sees_its_own_pictures(both: Pair, images: ImageSet) -> None:
    assert images.clean is not None
    found = embed_pair(both, images, cache=False)
    assert found.distortion.spec == "your picture"
    for view in VIEWS:
        backbone = both.teacher if view.startswith("teacher") else both.student
        shown = images if view.endswith("distorted") else images.clean
        expected = backbone.trace(shown.resized(backbone.image_size).stack()).embedding
        np.testing.assert_allclose(found.features[view], expected, atol=1e-5)
    assert found.measures.set_index("view").loc["teacher_distorted", "displacement"] > 0.01


def test_evaluate_tests_on_the_damaged_pictures_as_they_are(both: Pair, images: ImageSet) -> None:
    train, test = images.split(0.5)
    assert train.clean is not None
    assert test.clean is not None
    found = evaluate(both, train, test, draws=3, k=3, cache=False)
    assert found.draws == 1  # nothing is drawn
    by_hand = evaluate(both, train.clean, test.clean, distortion="none", k=3, cache=False)
    assert found.accuracy["teacher_clean"] == by_hand.accuracy["teacher_clean"]
    damaged = evaluate(both, _without_twins(train), _without_twins(test), distortion="none", k=3, cache=False)
    for who in ("teacher", "student"):
        np.testing.assert_array_equal(found.right[f"{who}_distorted"], damaged.right[f"{who}_clean"])
    one = evaluate(both, train.clean, test, fit="teacher_clean", k=3, cache=False)
    np.testing.assert_array_equal(one.right["teacher_clean"], found.right["teacher_clean"])


def test_features_of_pairs_are_kept_by_their_content(
    both: Pair, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    assert not is_embedded(both, images)
    embed_pair(both, images)
    assert is_embedded(both, images)
    assert not is_embedded(both, _without_twins(images))


def test_a_sweep_of_pairs_has_one_point(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    assert images.clean is not None
    swept = sweep(both, images)
    frame = swept.frame()
    assert frame[["network", "value", "distortion"]].values.tolist() == [
        ["teacher", 1, "your picture"],
        ["student", 1, "your picture"],
    ]
    reference = both.teacher.trace(images.clean.stack())
    seen = both.student.trace(images.stack())
    cosine = torch.nn.functional.cosine_similarity(reference.cls[:, -1], seen.cls[:, -1]).mean()
    assert frame.cls_cosine[1] == pytest.approx(float(cosine), abs=1e-5)
    assert swept.rows["student"][0] != swept.rows["teacher"][0]
    assert swept.gallery == len(images)
    save_page(swept, tmp_path / "pairs.html")
    assert "Your picture" in (tmp_path / "pairs.html").read_text(encoding="utf-8")
    assert plot_sweep(swept).axes


def test_what_damages_clean_pictures_itself_refuses_pairs(both: Pair, images: ImageSet, tmp_path: Path) -> None:
    train, test = images.split(0.5)
    assert test.clean is not None
    with pytest.raises(ValueError, match="damaged already; leave out distortion='fog:3'"):
        embed_pair(both, images, "fog:3")
    with pytest.raises(ValueError, match="train and test must both have clean twins"):
        evaluate(both, _without_twins(train), test)
    with pytest.raises(ValueError, match="train and test must both have clean twins"):
        evaluate(both, train, test.clean, fit="teacher_clean")
    with pytest.raises(ValueError, match="damaged already, by one strength"):
        sweep(both, images, values=(1, 2))
    with pytest.raises(ValueError, match=r"nothing is done to them: DistillConfig\(distortion='none'\)"):
        distill(both.teacher, images, DistillConfig(steps=1), tmp_path / "run")


def _without_twins(images: ImageSet) -> ImageSet:
    from dataclasses import replace

    return replace(images, clean=None)
