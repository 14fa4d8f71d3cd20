"""Folders of damaged pictures and their clean twins: who belongs to whom, and what is told of the others."""

import logging
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer import load_images
from explorer.data.image import ImageError, to_pil
from explorer.data.registration import SAME_SCENE, shift_between
from tests.real_damage import cut, dim, small


@pytest.fixture
def folders(photos: Tensor, tmp_path: Path) -> tuple[Path, Path]:
    """Six pictures in two classes, in the dark as JPEG and by day as PNG; twins of another size."""
    for number, photo in enumerate(photos[:6]):
        for kind, picture in (("night", small(dim(photo))), ("day", photo)):
            folder = tmp_path / kind / ("left" if number < 3 else "right")
            folder.mkdir(parents=True, exist_ok=True)
            image = to_pil(picture)
            image.resize((112, 112)).save(folder / f"{number}.jpg") if kind == "night" else image.save(
                folder / f"{number}.png"
            )
    return tmp_path / "night", tmp_path / "day"


def test_twins_are_found_by_name_and_stay_together(folders: tuple[Path, Path]) -> None:
    night, day = folders
    images = load_images(night, size=64, clean=day)
    assert images.clean is not None
    assert images.names == tuple(f"{'left' if n < 3 else 'right'}/{n}.jpg" for n in range(6))
    assert images.clean.names == tuple(name.replace("jpg", "png") for name in images.names)
    assert images.labels == (0, 0, 0, 1, 1, 1)
    assert "6 pictures with clean twins" in repr(images)
    part = images.select([4, 1]).resized(32)
    assert part.clean is not None
    assert (part.names, part.clean.names) == (("right/4.jpg", "left/1.jpg"), ("right/4.png", "left/1.png"))
    assert part.stack().shape == part.clean.stack().shape == (2, 3, 32, 32)
    assert not torch.equal(part.stack(), part.clean.stack())
    for one in (load_images(night, clean=day, limit=2), *images.split(0.5, seed=1)):
        assert one.clean is not None
        assert [name[:-3] for name in one.names] == [name[:-3] for name in one.clean.names]
    assert load_images(night).clean is None


def test_a_zip_has_twins_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    night, day = folders
    with zipfile.ZipFile(tmp_path / "day.zip", "w") as archive:
        for file in sorted(day.rglob("*.png")):
            archive.write(file, file.relative_to(day))
    images = load_images(night, size=64, clean=tmp_path / "day.zip")
    assert images.clean is not None
    assert torch.equal(images.clean.stack(), load_images(day, size=64).stack())


def test_what_has_no_twin_is_left_out_and_told_once(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    night, day = folders
    (night / "left" / "0.jpg").unlink()
    (day / "right" / "5.png").unlink()
    with caplog.at_level(logging.WARNING, "explorer"):
        images = load_images(night, clean=day)
    assert len(images) == 4
    (told,) = caplog.messages
    assert told == (
        "left out 1 damaged picture ('right/5.jpg') without a clean twin, "
        "1 clean picture ('left/0.png') without a damaged one"
    )


def test_what_cannot_be_paired(folders: tuple[Path, Path], photos: Tensor) -> None:
    night, day = folders
    to_pil(photos[0]).save(day / "left" / "0.webp")
    with pytest.raises(
        ValueError, match=r"2 clean pictures \('left/0.png', 'left/0.webp'\) that differ in their suffix"
    ):
        load_images(night, clean=day)
    (day / "left" / "0.webp").unlink()
    to_pil(photos[0, :, :120]).save(day / "left" / "0.png")
    with pytest.raises(ValueError, match=r"1 damaged picture \('left/0.jpg'\) of another aspect ratio"):
        load_images(night, clean=day)
    (day / "left").rename(day / "wrong")
    (day / "right").rename(day / "names")
    with pytest.raises(
        ValueError, match=r"no picture has a twin of its name: 6 damaged pictures \('left/0.jpg', .*, …\)"
    ):
        load_images(night, clean=day)


@pytest.fixture
def apart(photos: Tensor, tmp_path: Path) -> tuple[Path, Path]:
    """Four pictures in the dark, some pixels aside of their twins by day, and one that shows another scene."""
    for number, photo in enumerate(photos[:5]):
        for kind, picture in (
            ("night", cut(dim(photos[5] if number == 4 else photo), 96, 4, -3)),
            ("day", cut(photo, 96)),
        ):
            (tmp_path / kind).mkdir(exist_ok=True)
            to_pil(picture).save(tmp_path / kind / f"{number}.png")
    return tmp_path / "night", tmp_path / "day"


def test_each_picture_is_moved_onto_its_twin_at_the_size_of_the_set(apart: tuple[Path, Path]) -> None:
    night, day = apart
    aligned, as_they_lie = (load_images(night, size=96, clean=day, align=each)[:4] for each in (True, False))
    assert aligned.clean is not None
    for (moved, _), (before, _), (clean, _) in zip(aligned, as_they_lie, aligned.clean, strict=True):
        assert shift_between(clean, before)[0] == (4, -3)
        assert torch.equal(moved[:, 4:, :-3], before[:, :-4, 3:])
    half = aligned.resized(48)
    assert half.clean is not None
    assert torch.equal(half[0][0][:, 2:, :-2], as_they_lie.resized(48)[0][0][:, :-2, 2:])
    assert torch.equal(half.stack()[2], half[2][0])
    assert (aligned.names, aligned.path(1)) == (as_they_lie.names, as_they_lie.path(1))


def test_what_is_aligned_is_known_by_both_pictures(apart: tuple[Path, Path]) -> None:
    night, day = apart

    def known(align: bool) -> tuple[str, str | None]:
        images = load_images(night, size=96, clean=day, align=align)
        return images.digest, images.reader.witness(images.keys)

    before = known(True)
    assert before == known(True)
    assert all(one != other for one, other in zip(before, known(False), strict=True))
    (day / "0.png").write_bytes((day / "1.png").read_bytes())
    assert known(True)[0] != before[0]


def test_another_scene_is_a_broken_picture(apart: tuple[Path, Path]) -> None:
    night, day = apart
    images = load_images(night, size=96, clean=day, align=True)
    with pytest.raises(ImageError, match=f"'4.png' does not show the scene of its clean twin.*{SAME_SCENE} is needed"):
        images.stack()
    whole = load_images(night, size=96, clean=day, align=True, on_error="skip")
    assert whole.clean is not None
    assert whole.names == whole.clean.names == ("0.png", "1.png", "2.png", "3.png")
    assert list(whole.skipped) == ["4.png"]


@pytest.mark.parametrize("missing", [{"clean": None}, {"size": None}])
def test_to_be_aligned_pictures_need_twins_and_a_size(apart: tuple[Path, Path], missing: dict[str, None]) -> None:
    night, day = apart
    with pytest.raises(ValueError, match="give clean= and size="):
        load_images(night, align=True, **{"clean": day, "size": 96, **missing})


def test_a_broken_twin_is_met_before_the_work(folders: tuple[Path, Path]) -> None:
    night, day = folders
    (day / "left" / "0.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match=r"0\.png"):
        load_images(night, clean=day).check()
    images = load_images(night, size=64, clean=day, on_error="skip")
    assert len(images) == 5
    assert cut(images[0][0], 64).shape == (3, 64, 64)
