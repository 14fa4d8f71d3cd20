"""Which files are taken for pictures and which folders for classes, and that nothing is left out without a word."""

import io
import logging
import os
import pickle
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from pictures import encoded, noise, smooth
from PIL import Image
from torchvision.datasets import ImageFolder

from explorer.data.folders import SplitsError
from explorer.data.image import ImageError, load_image
from explorer.data.picture_files import PASSED_OVER, LeftOut, told
from explorer.data.sources import load_images


def picture(seed: int = 0, format: str = "PNG") -> bytes:
    return encoded(noise(10, 12, seed=seed), format)


def heic(image: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(stream, quality=95, chroma=444, **options)
    return stream.getvalue()


def write(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(seed))
    return root


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for seed, name in enumerate(names):
            archive.writestr(name, picture(seed))
    return path


def left_out(images) -> list[tuple[str, str]]:
    return [tuple(each) for each in images.left_out]


# Links.


def test_linked_files_and_class_folders_are_read_as_torchvision_does(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", "tiger/a.png", "tiger/deep/b.png", "c.png")
    root = write(tmp_path / "root", "dog/a.png")
    (root / "cat").symlink_to(elsewhere / "tiger")
    (root / "dog/c.png").symlink_to(elsewhere / "c.png")
    (root / "dog/hop.png").symlink_to(root / "dog/c.png")
    (tmp_path / "way").symlink_to(root)
    known = ImageFolder(root)
    for place in (root, tmp_path / "way"):
        images = load_images(place, size=None)
        assert images.names == tuple(str(Path(file).relative_to(root)) for file, _ in known.samples)
        assert (list(images.classes), list(images.labels or ())) == (known.classes, known.targets)
        assert images.left_out == ()
    assert torch.equal(images[0][0], load_image(elsewhere / "tiger/a.png"))


def test_loops_of_links_end(tmp_path: Path) -> None:
    root = write(tmp_path, "cat/a.png", "dog/b.png")
    (root / "cat/up").symlink_to(root)
    (root / "cat/itself").symlink_to(root / "cat")
    (root / "dog/over").symlink_to(root / "cat")
    images = load_images(root)
    assert images.names == ("cat/a.png", "dog/b.png", "dog/over/a.png")
    assert images.left_out == ()
    (root / "dog/all").symlink_to(tmp_path.parent / tmp_path.name)
    assert load_images(root).names == images.names


def test_dead_links_are_counted_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path, "cat/a.png")
    (root / "cat/b.png").symlink_to(tmp_path / "gone.png")
    (root / "dog").symlink_to("../nowhere")
    (root / "cat/c.png").symlink_to("c.png")  # to itself
    images = load_images(root)
    assert images.names == ("cat/a.png",)
    assert left_out(images) == [(name, "dead link") for name in ("cat/b.png", "cat/c.png", "dog")]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages == [f"{root}: left out 3 dead links ('cat/b.png', 'cat/c.png', 'dog')"]
    assert images.subset(fraction=1.0).left_out == pickle.loads(pickle.dumps(images)).left_out == images.left_out
    (root / "cat/a.png").unlink()
    with pytest.raises(ValueError, match=r"no picture.*left out: 3 dead links"):
        load_images(root)


def test_links_lead_no_further_than_is_allowed(tmp_path: Path) -> None:
    root, friend = write(tmp_path / "root", "cat/a.png"), write(tmp_path / "friend", "b.png")
    secret = write(tmp_path / "secret", "dog/c.png", "notes.png")
    (root / "cat/b.png").symlink_to(friend / "b.png")
    (root / "cat/again.png").symlink_to(root / "cat/a.png")
    (root / "dog").symlink_to(secret / "dog")
    (root / "cat/c.png").symlink_to(secret / "notes.png")
    (root / "cat/notes.txt").symlink_to(secret / "notes.png")
    (root / "cat/hop").symlink_to(friend)
    (friend / "on.png").symlink_to(secret / "notes.png")
    images = load_images(root, within=[friend])
    assert images.names == ("cat/a.png", "cat/again.png", "cat/b.png", "cat/hop/b.png")
    assert left_out(images) == [(name, "link outside") for name in ("cat/c.png", "cat/hop/on.png", "dog")]
    assert load_images(root, within=[]).names == ("cat/a.png", "cat/again.png")
    assert len(load_images(root)) == 7


# Other ways to vanish.


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "cat/a.png")
    monkeypatch.chdir(tmp_path / "cat")
    for _ in range(25):  # a path that is too long for any system to open, even for its administrator
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    images = load_images(tmp_path)
    assert images.names == ("cat/a.png",)
    (name, why), *others = left_out(images)
    assert (set(name.removeprefix("cat/")), why, others) == (set("d/"), "unreadable folder", [])
    assert len(told(images.left_out)) < 200


def test_names_with_colons_in_a_zip_are_kept(tmp_path: Path) -> None:
    names = ("10:30/a 12:00:00.png", "C:a/b.png", "x/b:c.png", "x/:.png")
    images = load_images(zipped(tmp_path / "x.zip", *names), size=None)
    assert sorted(images.names) == sorted(names)
    assert images.classes == ("10:30", "C:a", "x")
    assert torch.equal(images[0][0], load_image(picture(0)))
    assert images.left_out == ()


def test_what_a_zip_leaves_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = zipped(tmp_path / "x.zip", "a/b.png", "a\\b.png", "../up.png", "C:/c.png", "/root.png", "../up.txt")
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "b.png")
        archive.writestr("a/bare", picture())
        archive.writestr("a/LICENSE", "text")
    images = load_images(path)
    assert len(images) == 1
    leading_out = [(name, "name leading out") for name in ("../up.png", "/root.png", "C:/c.png")]
    others = [("a/b.png", "name twice"), ("a/bare", "no suffix"), ("a/link.png", "link in an archive")]
    assert left_out(images) == sorted(leading_out + others)
    assert len(caplog.messages) == 1
    assert "3 names that lead out of the zip ('../up.png', '/root.png', 'C:/c.png')" in caplog.text


def test_heic_is_read_with_pillow_heif_and_told_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "phone"
    root.mkdir()
    for number in range(2):
        (root / f"jpeg{number}.jpg").write_bytes(picture(number, "JPEG"))
    for number in range(8):
        (root / f"IMG_{number}.{'HEIC' if number else 'heif'}").write_bytes(heic(smooth(64, 80)))
    with zipfile.ZipFile(tmp_path / "phone.zip", "w") as archive:
        for file in root.iterdir():
            archive.write(file, file.name)
    for source in (root, tmp_path / "phone.zip"):
        images = load_images(source, size=8)
        assert (len(images), images.left_out, caplog.messages) == (10, (), [])
        images.stack()

    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    for source in (root, tmp_path / "phone.zip"):
        caplog.clear()
        images = load_images(source)
        assert images.names == ("jpeg0.jpg", "jpeg1.jpg")
        assert images.left_out[0] == LeftOut("IMG_0.heif", "HEIC photo")
        assert len(images.left_out) == 8
        assert len(caplog.messages) == 1
        assert "8 HEIC photos ('IMG_0.heif', 'IMG_1.HEIC', 'IMG_2.HEIC' and 5 more; to read them: pip" in caplog.text
        assert "pillow-heif" in caplog.text
    for name in ("IMG_1.HEIC", "renamed.jpg"):
        (root / name).write_bytes(heic(smooth(64, 80)))
        with pytest.raises(ImageError, match=rf"{name}' is a HEIC photo, which takes pillow-heif: pip install"):
            load_image(root / name)


def test_heic_photos_keep_their_pixels_and_stand_upright() -> None:
    array = smooth(64, 96)
    expected = torch.from_numpy(array).permute(2, 0, 1) / 255
    torch.testing.assert_close(load_image(heic(array)), expected, atol=6 / 255, rtol=0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture has to be turned by 90 degrees, clockwise
    turned = load_image(heic(array, exif=exif.tobytes()))
    torch.testing.assert_close(turned, expected.rot90(-1, (1, 2)), atol=6 / 255, rtol=0)
    data = heic(array)
    general = data[:8] + b"mif1" + data[12:]  # as other programs than Apple's write it
    assert torch.equal(load_image(general), load_image(data))
    assert load_image(data, size=(8, 12)).shape == (3, 8, 12)
    with pytest.raises(ImageError, match="damaged"):
        load_image(data[: len(data) // 2])
    assert "HEIF" not in Image.OPEN, "Pillow was changed for everybody"


def test_avif_is_not_taken_for_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert load_image(encoded(smooth(32, 48), "AVIF")).shape == (3, 32, 48)


def test_pictures_by_another_name_are_counted_and_others_are_not(tmp_path: Path) -> None:
    root = write(tmp_path, "a.png")
    for name in ("b", "c.jpg_large", "d.jpeg.1", "e.png~"):
        (root / name).write_bytes(picture())
    (root / "hash").write_bytes(encoded(noise(4, 4), "WEBP"))
    for name in ("f.CR2", "g.svg"):
        (root / name).write_bytes(b"whatever")
    for name in ("LICENSE", "a.png.json", "notes.txt", "h.jpg.xmp", "clip.mp4"):
        (root / name).write_bytes(b"words")
    (root / "sound").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    os.mkfifo(root / "pipe")  # opening it would wait for ever
    images = load_images(root)
    assert images.names == ("a.png",)
    assert left_out(images) == [
        *(("b", "no suffix"), ("c.jpg_large", "no suffix"), ("d.jpeg.1", "no suffix"), ("e.png~", "no suffix")),
        *(("f.CR2", "unread format"), ("g.svg", "unread format"), ("hash", "no suffix")),
    ]


# Folders that are no classes.


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("layout", ["flat", "classes"])
def test_folders_of_systems_are_passed_over(kind: str, layout: str, tmp_path: Path) -> None:
    good = ("a.png", "b.png") if layout == "flat" else ("cat/a.png", "dog/b.png")
    within = "" if layout == "flat" else "cat/"
    strange = ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found", ".trash"]
    names = [*good, *(f"{place}{name}/a.png" for name in strange for place in ("", within))]
    names += ["@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", f"{within}.hidden.png"]
    unique = list(dict.fromkeys(names))
    source = write(tmp_path / "in", *unique) if kind == "folder" else zipped(tmp_path / "x.zip", *unique)
    images = load_images(source)
    assert images.names == good
    assert images.classes == (() if layout == "flat" else ("cat", "dog"))
    assert images.left_out == ()


def test_what_is_passed_over_is_in_lower_case() -> None:
    assert all(name == name.lower() for name in PASSED_OVER)


def test_folders_of_thumbnails_are_passed_over_and_told(tmp_path: Path) -> None:
    names = ("a.png", "Thumbs/a.png", "Thumbs/b.png", "thumbs_up.png")
    for source in (write(tmp_path / "in", *names), zipped(tmp_path / "x.zip", *names)):
        images = load_images(source)
        assert images.names == ("a.png", "thumbs_up.png")
        assert left_out(images) == [("Thumbs", "thumbnails")]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("Training", "Validation"), ("train2017", "val2017"), ("dev", "test")]
)
def test_splits_are_no_classes(kind: str, train: str, val: str, tmp_path: Path) -> None:
    names = (f"{train}/cat/a.png", f"{train}/dog/b.png", f"{val}/cat/c.png")
    root = write(tmp_path / "in", *names)
    source = root if kind == "folder" else zipped(tmp_path / "x.zip", *names)
    with pytest.raises(SplitsError, match=rf"{train}, {val}.*no classes.*split=.*--split") as raised:
        load_images(source)
    assert raised.value.splits == (train, val)
    images, alone = load_images(source, split=train, size=None), load_images(root / train, size=None)
    assert (images.names, images.classes, images.labels) == (alone.names, ("cat", "dog"), (0, 1))
    assert torch.equal(images[1][0], alone[1][0])
    assert load_images(source, split=val).names == ("cat/c.png",)
    with pytest.raises(ValueError, match=f"no split 'holdout'.*{train}, {val}"):
        load_images(source, split="holdout")


def test_splits_may_be_flat_and_links(tmp_path: Path) -> None:
    root = write(tmp_path, "in/train/a.png", "elsewhere/b.png") / "in"
    (root / "test").symlink_to(tmp_path / "elsewhere")
    (root / "train/lost.png").symlink_to("nothing")
    with pytest.raises(SplitsError, match="test, train"):
        load_images(root)
    images = load_images(root, split="train")
    assert (images.names, images.labels, left_out(images)) == (("a.png",), None, [("lost.png", "dead link")])
    assert load_images(root, split="test").names == ("b.png",)
    with pytest.raises(ValueError, match=r"no split 'test'.*left out:.*1 link out of the folder \('test'"):
        load_images(root, split="test", within=[])


def test_classes_that_are_called_like_splits_stay_classes(tmp_path: Path) -> None:
    toys = write(tmp_path / "toys", "boat/a.png", "car/a.png", "train/a.png")
    assert load_images(toys).classes == ("boat", "car", "train")
    assert load_images(toys, split="train").names == ("a.png",)
    one = write(tmp_path / "one", "cat/train/a.png", "cat/test/b.png")
    assert load_images(one).classes == ("cat",)
    notes = write(tmp_path / "notes", "train/cat/a.png", "val/cat/a.png")
    (notes / "labels").mkdir()
    (notes / "labels/a.txt").write_text("0")
    with pytest.raises(SplitsError):
        load_images(notes)


def test_splits_one_level_below_are_found(tmp_path: Path) -> None:
    names = ("data/train/cat/a.png", "data/val/cat/a.png")
    with pytest.raises(ValueError, match="one level below, in 'data'"):
        load_images(write(tmp_path / "in", *names))
    archive = zipped(tmp_path / "x.zip", *names)  # as programs pack a folder
    with pytest.raises(SplitsError, match="train, val"):
        load_images(archive)
    assert load_images(archive, split="val").names == ("cat/a.png",)


def test_a_zip_of_one_split_is_read_as_ever(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", "train/cat/a.png", "train/dog/a.png")
    assert load_images(archive).classes == load_images(archive, split="train").classes == ("cat", "dog")


def test_a_split_of_what_has_none() -> None:
    for source in ("photos", [(noise(4, 4), 0)]):
        with pytest.raises(ValueError, match="split='train' is for folders"):
            load_images(source, split="train")
    with pytest.raises(ValueError, match="no splits"):
        load_images("fakedata", split="test")
    with pytest.raises(ValueError, match="'train' and 'test'; got 'val'"):
        load_images("cifar10", split="val")
    with pytest.raises(ValueError, match=r"'test'.*'train'"):
        load_images("cifar10:test", split="train")
