"""Every source of pictures, every layout, and every way in which one can be wrong."""

import csv
import os
import pickle
import stat
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from inspect import unwrap  # past the type checks of the tests: this is about our own error
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import bomb, encoded, noise, swapped_profile
from PIL import Image, ImageFile
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import datasets

from explorer.data.archives import MAX_ZIP_BYTES, MAX_ZIP_PICTURES
from explorer.data.folders import Files
from explorer.data.image import ImageError, Size, load_image
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.data.torch_sets import TORCHVISION
from explorer.system.files import asset_path
from tests.small import break_some, picture_folder
from tests.together import torch_threads

CLASSED = ("cat/a.png", "cat/b.png", "cat/deep/er/c.png", "dog/a.png", "Elk/z.PNG")


def write(root: Path, names: tuple[str, ...]) -> Path:
    """Pictures of random pixels, each another one."""
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(10, 12, seed=seed)))
    return root


def zipped(path: Path, contents: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def picture(seed: int = 0) -> bytes:
    return encoded(noise(10, 12, seed=seed))


@pytest.fixture
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


# The photos that come with the project.


def test_photos() -> None:
    photos = load_images()
    assert len(photos) == 207
    assert len(photos.classes) == 10
    assert "wild animal" in photos.classes
    assert photos.names[0] == "dam/dam1.webp"
    image, label = photos[0]
    assert image.shape == (3, 224, 224)
    assert label is not None
    assert photos.classes[label] == "dam"
    with (asset_path("photos") / "ATTRIBUTION.csv").open(encoding="utf-8") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    assert set(rows) == set(photos.names)
    for index, name in enumerate(photos.names):
        attribution = photos.credit(index)
        assert attribution is not None
        assert (attribution.author, attribution.licence) == (rows[name]["author"], rows[name]["licence"])
        assert photos.classes[photos.labels[index]] == rows[name]["label"]


def test_all_photos_decode() -> None:
    assert load_images("photos", size=32).stack().shape == (207, 3, 32, 32)


def test_photos_means_those_of_the_project_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos", ("a.png",))
    monkeypatch.chdir(tmp_path)
    assert len(load_images("photos")) == 207
    assert len(load_images("./photos")) == 1


# Folders.


def test_a_folder_with_classes(tmp_path: Path) -> None:
    images = load_images(write(tmp_path, CLASSED), size=8)
    assert images.classes == ("Elk", "cat", "dog")
    assert images.names == ("Elk/z.PNG", "cat/a.png", "cat/b.png", "cat/deep/er/c.png", "dog/a.png")
    assert images.labels == (0, 1, 1, 1, 2)
    for index, name in enumerate(images.names):
        assert torch.equal(images[index][0], load_image(tmp_path / name, size=8))
        assert images.path(index) == tmp_path / name
        assert images.credit(index) is None


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    images = load_images(str(write(tmp_path, ("b.png", "a.png", "a10.png"))), size=(4, 6))
    assert images.names == ("a.png", "a10.png", "b.png")
    assert images.labels is None
    assert images.classes == ()
    image, label = images[-1]
    assert image.shape == (3, 4, 6)
    assert label is None


def test_what_is_passed_over_in_a_folder(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", ("secret.png",))
    root = write(tmp_path / "in", ("a.png", ".hidden.png", ".git/x.png", "._a.png"))
    (root / "notes.txt").write_text("no picture")
    (root / "empty").mkdir()
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "way_out").symlink_to(outside)
    (root / "same.png").symlink_to(root / "a.png")
    assert load_images(root, within=[]).names == ("a.png", "same.png")


def test_pictures_beside_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"top\.png"):
        load_images(write(tmp_path, (*CLASSED, "top.png")))


def test_a_folder_without_pictures_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"\.jpeg"):
        load_images(tmp_path)


def test_a_broken_file_is_named_when_it_is_reached(tmp_path: Path) -> None:
    write(tmp_path, ("a.png", "c.png"))
    (tmp_path / "b.png").write_bytes(picture()[:50])
    images = load_images(tmp_path)
    assert images[0][0].shape == (3, 224, 224)
    with pytest.raises(ImageError, match=r"b\.png"):
        images[1]
    (tmp_path / "c.png").unlink()
    with pytest.raises(ImageError, match=r"c\.png.*exist"):
        images[2]


# Broken pictures.


def sound(root: Path, broken: tuple[str, ...]) -> ImageSet:
    """What a folder is without these files, by removing them."""
    copy = root.with_name("sound")
    for name in (path.relative_to(root) for path in root.rglob("*.*") if path.is_file()):
        if name.as_posix() not in broken:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((root / name).read_bytes())
    return load_images(copy, size=8)


def same_sets(one: ImageSet, two: ImageSet) -> None:
    assert (one.names, one.labels, one.classes, one.digest) == (two.names, two.labels, two.classes, two.digest)
    assert torch.equal(one.stack(), two.stack())
    assert [label for _, label in one] == list(two.labels or ())


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_broken_pictures_are_skipped_without_moving_the_others(kind: str, tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "pictures", per_class=3)
    broken = break_some(root)
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("*/*")}
    source = root if kind == "folder" else zipped(tmp_path / "x.zip", contents)
    found = load_images(source, size=8, on_error="skip")
    same_sets(found, sound(root, broken))
    assert tuple(found.skipped) == broken
    for (name, reason), word in zip(found.skipped.items(), ("truncated", "text", "empty"), strict=True):
        assert name in reason
        assert word in reason
    assert found[2:4].skipped == found.skipped == pickle.loads(pickle.dumps(found)).skipped
    assert repr(found) == "ImageSet(9 pictures (3 more skipped), 3 classes, size=8)"
    with pytest.raises(ImageError, match=r"-\.png"):
        load_images(source, size=8).stack()


def test_nothing_is_skipped_where_all_is_well(tmp_path: Path) -> None:
    images = load_images(write(tmp_path, CLASSED), size=8, on_error="skip")
    same_sets(images, load_images(tmp_path, size=8))
    assert images.skipped == {}
    assert "skipped" not in repr(images)


@pytest.mark.parametrize("listed", [True, False])
def test_broken_pictures_of_a_data_set_are_skipped(listed: bool, tmp_path: Path) -> None:
    """torchvision's own, whose items raise what Pillow raises; with and without a list of its labels."""
    root = picture_folder(tmp_path / "pictures", per_class=3)
    break_some(root)
    data = datasets.ImageFolder(root)
    if not listed:
        del data.targets
    with pytest.raises(ImageError, match="picture 0 of ImageFolder"):
        load_images(data, size=8).stack()
    found = load_images(data, size=8, on_error="skip")
    numbers = [i for i, (file, _) in enumerate(data.samples) if Path(file).stem not in ("-", "2a", "z")]
    assert found.names == tuple(f"{number:02d}" for number in numbers)
    assert found.labels == tuple(data.samples[number][1] for number in numbers)
    assert found.classes == ("blue", "green", "red")
    assert tuple(found.skipped) == ("00", "07", "11")
    for (image, label), number in zip(found, numbers, strict=True):
        assert torch.equal(image, load_image(data.samples[number][0], size=8))
        assert label == data.samples[number][1]


def test_pictures_that_a_data_set_opens_and_does_not_decode(tmp_path: Path) -> None:
    write(tmp_path, CLASSED)
    (tmp_path / "cat/b.png").write_bytes(picture()[:60])
    data = [(Image.open(tmp_path / name), 0) for name in CLASSED]
    with pytest.raises(ImageError, match="picture 1 of list"):
        _ = load_images(data, size=8).digest
    assert load_images(data, size=8, on_error="skip").names == ("0", "2", "3", "4")


def test_skipped_pictures_of_tensors() -> None:
    """Two are not in [0, 1]."""
    pictures = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures[[0, 3]] -= 2
    found = load_images(TensorDataset(pictures, torch.tensor([4, 1, 2, 3, 1])), size=None, on_error="skip")
    assert (found.names, found.labels) == (("1", "2", "4"), (1, 2, 1))
    assert torch.equal(found.stack(), pictures[[1, 2, 4]])


def test_a_limit_counts_before_the_broken_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, CLASSED)
    (tmp_path / "dog/a.png").write_bytes(b"")
    found = load_images(tmp_path, size=8, limit=3, on_error="skip")
    assert found.names == ("Elk/z.PNG", "cat/a.png")
    assert found.classes == ("Elk", "cat", "dog")


@pytest.mark.parametrize("kind", ["folder", "zip", "data set"])
def test_where_everything_is_broken(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "in", CLASSED)
    for name in CLASSED:
        (tmp_path / "in" / name).write_bytes(picture()[:60])
    data = datasets.ImageFolder(tmp_path / "in") if kind == "data set" else None
    source = data or (tmp_path / "in" if kind == "folder" else zipped(tmp_path / "x.zip", dict.fromkeys(CLASSED, b"")))
    with pytest.raises(ValueError, match=r"none of 5 pictures can be read: .*(Elk/z\.PNG|picture 0)"):
        load_images(source, on_error="skip")


def test_an_unknown_way_with_errors_is_refused() -> None:
    with pytest.raises(ValueError, match="'raise' or 'skip'; got 'ignore'"):
        unwrap(load_images)(on_error="ignore")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_heads_are_looked_at_and_nothing_is_decoded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {name: picture() for name in CLASSED}
    contents["cat/a.png"] = picture()[:60]  # sound as far as its head tells
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)

    def made(name: str) -> ImageSet:
        for file, content in contents.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(content)
        return load_images(tmp_path / name if kind == "folder" else zipped(tmp_path / f"{name}.zip", contents))

    made("sound").check()
    contents |= {"cat/b.png": b"", "dog/a.png": bomb()}
    images = made("broken")
    for _ in range(2):
        with pytest.raises(ImageError, match=r"cat/b\.png.*is empty.* \(1 more of 5 are broken\)$"):
            images.check()
    with pytest.raises(ImageError, match=r"dog/a\.png.*200000000 pixels.*make it smaller$"):
        images[3:].check()


# The set itself.


def test_indices_slices_and_iteration(tmp_path: Path) -> None:
    images = load_images(write(tmp_path, CLASSED), size=8)
    assert [label for _, label in images] == [0, 1, 1, 1, 2]
    assert images[1:3].names == images.names[1:3]
    assert images[::-1].labels == (2, 1, 1, 1, 0)
    assert images[np.int64(-1)][1] == 2
    assert images.select(torch.tensor([3, 0])).names == (images.names[3], images.names[0])
    assert len(images[9:]) == 0
    for wrong in (5, -6):
        with pytest.raises(IndexError, match="5"):
            images[wrong]
    with pytest.raises(ValueError, match="mask"):
        images.select(torch.tensor([True, False, True, False, False]))
    with pytest.raises(ValueError, match="twice"):
        images.select([0, -5])
    with pytest.raises(FrozenInstanceError):
        images.size = 9  # type: ignore[misc]
    assert repr(images) == "ImageSet(5 pictures, 3 classes, size=8)"


def test_stack(tmp_path: Path) -> None:
    images = load_images(write(tmp_path, CLASSED), size=8)
    assert torch.equal(images.stack()[3], images[3][0])
    assert torch.equal(images.stack([4, 0]), torch.stack([images[4][0], images[0][0]]))
    with pytest.raises(ValueError, match="none"):
        images[:0].stack()
    (tmp_path / "cat/a.png").write_bytes(encoded(noise(3, 3)))
    with pytest.raises(ValueError, match="one size"):
        load_images(tmp_path, size=None).stack()


def test_subsets_are_balanced_seeded_and_nested() -> None:
    photos = load_images()
    available = Counter(photos.labels)
    one = photos.subset(per_class=1)
    assert one.labels == tuple(range(10))
    assert one.classes == photos.classes
    assert one.names == photos.subset(per_class=1).names
    assert one.names != photos.subset(per_class=1, seed=1).names
    assert set(photos.subset(per_class=1, seed=1).names) <= set(photos.names)
    half, all_of_it = photos.subset(fraction=0.5), photos.subset(fraction=1.0)
    assert Counter(half.labels) == {label: max(1, round(count / 2)) for label, count in available.items()}
    assert all_of_it.names == photos.names
    assert set(photos.subset(fraction=0.1).names) < set(half.names)
    assert sorted(half.names, key=photos.names.index) == list(half.names)
    assert len(photos.subset(fraction=1e-9)) == 10


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either"),
        ({"per_class": 1, "fraction": 0.5}, "either"),
        ({"per_class": 2}, r"'geothermal': 1\}"),
        ({"per_class": 0}, "at least 1"),
        ({"per_class": 1.5}, r"per_class is a whole number, at least 1; got 1\.5"),
        ({"per_class": 1, "seed": -1}, "seed is a whole number from 0 to .*; got -1"),
        ({"fraction": 0.5, "seed": 0.5}, r"seed is a whole number from 0 to .*; got 0\.5"),
        ({"fraction": 0.0}, "at most 1"),
        ({"fraction": 1.5}, "at most 1"),
    ],
)
def test_subsets_that_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_images().subset(**options)


def test_subsets_without_labels(tmp_path: Path) -> None:
    images = load_images(write(tmp_path, tuple(f"{number}.png" for number in range(10))))
    assert len(images.subset(fraction=0.3)) == 3
    with pytest.raises(ValueError, match="labels"):
        images.subset(per_class=1)


@pytest.mark.usefixtures("unchecked")
def test_limit_takes_from_each_class_in_turn(tmp_path: Path) -> None:
    write(tmp_path, CLASSED)
    assert load_images(tmp_path, limit=3).names == ("Elk/z.PNG", "cat/a.png", "dog/a.png")
    assert load_images(tmp_path, limit=4).names == ("Elk/z.PNG", "cat/a.png", "cat/b.png", "dog/a.png")
    assert load_images(tmp_path, limit=2).classes == ("Elk", "cat", "dog")
    assert len(load_images(tmp_path, limit=99)) == 5
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"limit is a whole number, at least 1; got {wrong}"):
            load_images(tmp_path, limit=wrong)


def test_the_digest_is_that_of_pictures_and_size(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", CLASSED), write(tmp_path / "two", CLASSED)
    digest = load_images(one, size=8).digest
    assert len(digest) == 64
    assert load_images(two, size=(8, 8)).digest == digest
    archive = zipped(tmp_path / "x.zip", {name: (one / name).read_bytes() for name in CLASSED})
    assert load_images(archive, size=8).digest == digest
    assert load_images(one, size=9).digest != digest
    assert load_images(one, size=8)[1:].digest != digest
    assert load_images(one, size=8)[::-1].digest != digest
    (two / "dog/a.png").write_bytes(picture(99))
    assert load_images(two, size=8).digest != digest


def test_the_digest_of_a_data_set_knows_its_pixels() -> None:
    def digest(value: int, mode: str = "L") -> str:
        return load_images([(Image.new(mode, (4, 4), value), 0)], size=4).digest

    assert digest(1) == digest(1)
    assert len({digest(1), digest(2), digest(1, "P")}) == 3


def test_the_digest_of_a_data_set_knows_what_else_decides_how_a_picture_looks() -> None:
    def digest(image: Image.Image) -> str:
        return load_images([(image, 0)], size=8).digest

    exif = Image.Exif()
    exif[0x0112] = 6
    plain, palette = Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, 1)[..., 0] % 2).convert("P")
    options = [{}, {"icc_profile": swapped_profile()}, {"exif": exif}, {"transparency": tuple(noise(8, 8)[0, 0])}]
    looks = [Image.open(BytesIO(encoded(plain, **one))) for one in options]
    for colours in ([0, 0, 0, 255, 0, 0], [0, 0, 0, 0, 255, 0]):
        palette.putpalette(colours)
        looks += [Image.open(BytesIO(encoded(palette, **one))) for one in ({}, {"transparency": 0})]
    images = [load_image(look) for look in looks]
    assert not any(torch.equal(one, other) for one, other in combinations(images, 2))
    assert len(set(map(digest, looks))) == len(looks)
    exif[0x0112] = 1
    assert digest(Image.open(BytesIO(encoded(plain, exif=exif)))) == digest(plain)
    known = "072a63a2cd3d427ba244e79ad931f318c273d224bb4b209ab549fcca702ff408"  # caches of features stay valid
    assert digest(Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))) == known


def test_sets_can_be_pickled(tmp_path: Path) -> None:
    root = write(tmp_path / "in", CLASSED)
    archive = zipped(tmp_path / "x.zip", {name: (root / name).read_bytes() for name in CLASSED})
    for source in (root, archive, datasets.FakeData(5, (3, 9, 9))):
        images = load_images(source, size=8)
        assert images[0][0].shape == (3, 8, 8)  # so that a zip is open
        copy = pickle.loads(pickle.dumps(images))
        assert isinstance(copy, ImageSet)
        assert torch.equal(copy.stack(), images.stack())


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_data_loader_with_two_workers(kind: str, tmp_path: Path) -> None:
    contents = {
        f"{label}/{number:03d}.png": encoded(noise(60, 60, seed=number)) for label in "ab" for number in range(150)
    }
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    images = load_images(tmp_path if kind == "folder" else zipped(tmp_path / "x.zip", contents), size=8)
    whole = images.stack()  # a zip is now open in this process, before the workers are forked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process that has threads
        batches = list(DataLoader(images, batch_size=15, num_workers=2))
    assert torch.equal(torch.cat([batch for batch, _ in batches]), whole)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(images.labels or ())


def test_threads_share_a_set(tmp_path: Path) -> None:
    contents = {f"{number}.png": picture(number) for number in range(24)}
    images = load_images(zipped(tmp_path / "x.zip", contents), size=None)
    barrier = threading.Barrier(4)

    def work(index: int) -> torch.Tensor:
        if index < 4:
            barrier.wait()
        return images[index][0]

    with ThreadPoolExecutor(4) as pool:
        for image, name in zip(pool.map(work, range(24)), images.names, strict=True):
            assert torch.equal(image, load_image(contents[name]))


@pytest.mark.parametrize("kind", ["folder", "zip", "data set"])
def test_a_batch_is_that_of_single_pictures(kind: str, tmp_path: Path) -> None:
    contents = {f"{number:02d}.png": picture(number) for number in range(12)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    found = {
        "folder": lambda: load_images(tmp_path, size=8),
        "zip": lambda: load_images(zipped(tmp_path / "x.zip", contents), size=8),
        "data set": lambda: load_images(TensorDataset(torch.rand(12, 3, 10, 12), torch.arange(12)), size=8),
    }
    images = found[kind]()
    chosen = [7, 0, -1, 7]
    for (image, label), (single, its) in zip(images.__getitems__(chosen), (images[i] for i in chosen), strict=True):
        assert torch.equal(image, single)
        assert label == its
    with pytest.raises(IndexError, match="12"):
        images.__getitems__([0, 12])


def test_files_are_decoded_side_by_side_and_data_sets_are_not(tmp_path: Path, two_threads: None) -> None:
    together = threading.Barrier(2)

    class Meeting(Files):
        def load(self, key: str, size: Size) -> torch.Tensor:
            together.wait(timeout=20)  # broken unless another thread decodes, too
            return super().load(key, size)

    images = load_images(write(tmp_path, CLASSED[:4]), size=8)
    assert torch.equal(replace(images, reader=Meeting(images.reader.root, {})).stack(), images.stack())

    class Watching(TensorDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
            askers.add(threading.get_ident())
            return super().__getitem__(index)

    askers: set[int] = set()
    load_images(Watching(torch.rand(12, 3, 10, 12), torch.arange(12)), size=8).stack()
    assert askers == {threading.get_ident()}


def test_the_first_broken_picture_of_a_batch_is_named(tmp_path: Path, two_threads: None) -> None:
    write(tmp_path, CLASSED)
    for name in ("cat/b.png", "dog/a.png"):
        (tmp_path / name).write_bytes(b"text, not a picture at all")
    with pytest.raises(ImageError, match=r"cat/b\.png.*text"):
        next(iter(DataLoader(load_images(tmp_path, size=8), batch_size=5)))


# Zip files.


def test_zip_layouts(tmp_path: Path) -> None:
    classed = {name: picture(seed) for seed, name in enumerate(CLASSED)}
    flat = load_images(zipped(tmp_path / "flat.zip", {"b.png": picture(1), "a.png": picture(0)}), size=None)
    assert (flat.names, flat.labels) == (("a.png", "b.png"), None)
    assert torch.equal(flat[1][0], load_image(picture(1)))
    assert flat.path(0) is None
    for top in ("", "holiday/"):
        images = load_images(zipped(tmp_path / "classed.zip", {top + name: data for name, data in classed.items()}))
        assert images.classes == ("Elk", "cat", "dog")
        assert images.labels == (0, 1, 1, 1, 2)
    one_folder = load_images(zipped(tmp_path / "top.zip", {"holiday/cat/a.png": picture(), "holiday/cat/b.png": b""}))
    assert (one_folder.names, one_folder.labels, one_folder.classes) == (("cat/a.png", "cat/b.png"), (0, 0), ("cat",))


@pytest.mark.parametrize(
    "names",
    [
        ("cat/a.png", "cat/b.png"),
        CLASSED[:3],  # with a folder in the class
        CLASSED,
        ("b.png", "a.png"),
        ("x/cat 1/a.png", "y/cat 1/a.png"),
    ],
)
def test_a_zip_of_what_is_in_a_folder_is_that_folder(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = load_images(write(tmp_path / "folder", names), size=8)
    contents = {name: (tmp_path / "folder" / name).read_bytes() for name in names}
    archive = load_images(zipped(tmp_path / "x.zip", contents), size=8)
    assert (archive.names, archive.labels, archive.classes) == (folder.names, folder.labels, folder.classes)
    assert torch.equal(archive.stack(), folder.stack())


def test_pictures_beside_classes_are_refused_in_a_zipped_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"top\.png.*beside folders"):
        load_images(zipped(tmp_path / "x.zip", {f"set/{name}": picture() for name in (*CLASSED, "top.png")}))


def test_a_zip_with_backslashes(tmp_path: Path) -> None:
    images = load_images(zipped(tmp_path / "x.zip", {"cat\\a.png": picture(0), "dog\\a.png": picture(1)}), size=None)
    assert images.names == ("cat/a.png", "dog/a.png")
    assert images.labels == (0, 1)
    assert torch.equal(images[1][0], load_image(picture(1)))


def test_a_zip_needs_no_suffix(tmp_path: Path) -> None:
    assert len(load_images(zipped(tmp_path / "upload", {"a.png": picture()}))) == 1


def test_what_is_passed_over_in_a_zip(tmp_path: Path) -> None:
    names = [
        "x\\..\\evil.png",
        "../evil.png",
        "/etc/evil.png",
        "a/../../evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "C:/evil.png",
    ]
    names += ["__MACOSX/a.png", "x/__MACOSX/a.png", ".hidden.png", ".git/a.png", "notes.txt", "folder.png/"]
    path = zipped(tmp_path / "x.zip", {**{name: picture() for name in names}, "good.png": picture()})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.rglob("*"))
    images = load_images(path)
    assert images.names == ("good.png",)
    images.stack()
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = bytes(10 * MAX_ZIP_BYTES)
    path = zipped(tmp_path / "x.zip", {"a.png": picture(), "bomb.png": zeros}, compression=zipfile.ZIP_DEFLATED)
    del zeros
    images = load_images(path)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"bomb\.png.*50 MB"):
        images[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MAX_ZIP_BYTES
    assert images[0][0].shape == (3, 224, 224)


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"bomb.png": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace((10**6).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    with pytest.raises(ImageError, match=r"bomb\.png"):
        load_images(path)[0]


def test_a_zip_with_too_many_pictures(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {f"{number}.png": b"" for number in range(MAX_ZIP_PICTURES + 1)})
    with pytest.raises(ValueError, match="10001"):
        load_images(path)


def test_unusual_compression_is_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(ValueError, match="deflate"):
            load_images(zipped(tmp_path / "x.zip", {"a.png": picture()}, compression=method))


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": picture()})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # general purpose bit 0 in the central directory
    path.write_bytes(data)
    with pytest.raises(ValueError, match="password"):
        load_images(path)


def test_corrupt_zips(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": picture(0), "b.png": picture(1)})
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no zip at all"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"x\.zip.*damaged"):
            load_images(path)
    flipped = bytearray(whole)
    flipped[whole.index(b"IDAT") + 9] ^= 255
    path.write_bytes(flipped)
    images = load_images(path)
    with pytest.raises(ImageError, match=r"a\.png.*CRC"):
        images[0]
    assert images[1][0].shape == (3, 224, 224)


def test_a_broken_picture_in_a_zip_is_named(tmp_path: Path) -> None:
    images = load_images(zipped(tmp_path / "x.zip", {"good.png": picture(), "bad.png": b"text, not a picture at all"}))
    with pytest.raises(ImageError, match=r"bad\.png.*x\.zip.*text"):
        images[0]


def test_a_zip_without_pictures_and_a_single_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture.*\.webp"):
        load_images(zipped(tmp_path / "x.zip", {"notes.txt": b"x"}))
    with pytest.raises(ValueError, match=r"load_image\(\)"):
        load_images(write(tmp_path, ("a.png",)) / "a.png")


# torchvision.


def test_a_data_set_by_name() -> None:
    images = load_images("fakedata", size=16, limit=20)
    original = datasets.FakeData()
    assert Counter(images.labels) == dict.fromkeys(range(10), 2)
    assert images.classes == tuple("0123456789")
    for index in (0, 19):
        source, label = original[int(images.names[index])]
        assert images[index][1] == label
        assert torch.equal(images[index][0], load_image(source, size=16))


def cifar(root: Path) -> Path:
    """The files of CIFAR-10, with four pictures a batch."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batch = {"data": noise(4, 3072, 1)[..., 0], "labels": [3, 1, 3, 0]}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car", "bird", "cat"]}))
    return root


class Cifar(datasets.CIFAR10):
    """CIFAR-10 of our own making: torchvision would find the checksums wrong."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        self.classes = ["plane", "car", "bird", "cat"]


def test_a_data_set_that_was_built_already(tmp_path: Path) -> None:
    dataset = Cifar(cifar(tmp_path))
    images = load_images(dataset, size=32)
    assert len(images) == 20
    assert images.labels == (3, 1, 3, 0) * 5
    assert images.classes == ("plane", "car", "bird", "cat")
    assert len(set(images.names)) == 20
    assert torch.equal(images[1][0], torch.from_numpy(dataset.data[1]).permute(2, 0, 1).float() / 255)
    assert images.path(0) is None
    assert load_images(dataset, limit=4).labels == (3, 1, 0, 0)  # one of each, then the first class again


def test_a_part_of_a_data_set_has_the_labels_and_classes_of_the_whole(tmp_path: Path) -> None:
    class Counting(Cifar):
        asked = 0

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            self.asked += 1
            return super().__getitem__(index)

    dataset = Counting(cifar(tmp_path))
    part = Subset(Subset(dataset, [9, 8, 7, 6, 5, 4]), [1, 2, 3])
    images = load_images(part, size=32)
    assert images.labels == (3, 0, 3)
    assert images.classes == ("plane", "car", "bird", "cat")
    assert dataset.asked == 2  # the ends, not every picture
    assert torch.equal(images[0][0], load_images(dataset, size=32)[8][0])
    turned = Subset(Cifar(tmp_path, target_transform=lambda label: 3 - label), [0, 1])
    assert load_images(turned).labels == (0, 2)


def test_labels_are_those_that_the_data_set_hands_out(tmp_path: Path) -> None:
    turned = Cifar(cifar(tmp_path), target_transform=lambda label: 3 - label)
    assert load_images(turned).labels == (0, 2, 0, 3) * 5

    merged = Cifar(cifar(tmp_path / "again"), target_transform=lambda label: 2 if label == 1 else label)
    assert load_images(merged).labels == (3, 2, 3, 0) * 5  # first and last are as in the list

    class Misleading(list):
        targets = (5, 5)

    items = [(noise(4, 4), 0), (noise(4, 4), 1)]
    assert load_images(Misleading(items)).labels == (0, 1)


@pytest.mark.parametrize(
    "own",
    [
        {"targets": ["cat", "dog", "cat"]},
        {"labels": np.array(["cat", "dog", "cat"])},
        {"_labels": ("cat", 1, None)},
        {"y": [[0], [1, 2], []]},
        {"targets": np.array(3), "labels": torch.tensor(7)},
        {"targets": [0.0, 1.0, 0.0]},
        {"targets": [{"name": "cat"}, {}, {}]},
    ],
)
def test_lists_that_are_no_class_numbers_are_passed_over(own: dict[str, object]) -> None:
    class Listing(list):
        classes = ("cat", "dog")

    items = Listing([(noise(4, 4), 0), (noise(4, 4), 1), (noise(4, 4), np.int64(0))])
    vars(items).update(own)
    images = load_images(items)
    assert images.labels == (0, 1, 0)
    assert images.classes == ("cat", "dog")


def test_tensors_and_arrays_in_data_sets() -> None:
    tensors = TensorDataset(torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1]))
    images = load_images(tensors, size=None)
    assert images.labels == (0, 1, 1)
    assert torch.equal(images[2][0], tensors[2][0])
    unlabelled = load_images([(noise(4, 4), -1), (noise(5, 5), -1)], size=4)
    assert unlabelled.labels is None


def test_data_sets_that_cannot_be_used() -> None:
    normalised = load_images(TensorDataset(torch.full((2, 3, 4, 4), -2.0), torch.tensor([0, 1])))
    with pytest.raises(ImageError, match="picture 1 of TensorDataset"):
        normalised[1]
    for wrong in ([noise(4, 4)], [(noise(4, 4), "cat")], [(noise(4, 4), {"boxes": []})], [(noise(4, 4), 0, 1)]):
        with pytest.raises(ValueError, match="class number"):
            load_images(wrong)
    with pytest.raises(ValueError, match="1 of 2"):
        load_images([(noise(4, 4), 0), (noise(4, 4), None)])
    with pytest.raises(ValueError, match="empty"):
        load_images([])
    with pytest.raises(ValueError, match="expected"):
        unwrap(load_images)(17)


def test_unknown_names_list_what_is_accepted_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"nearest: CIFAR10\b.*folder.*zip.*STL10"):
        load_images("cifar-10")
    with pytest.raises(ValueError, match="nearest: photos"):
        load_images("photo")
    with pytest.raises(ValueError, match="no/such/folder' does not exist"):
        load_images(Path("no/such/folder"))


def test_an_existing_path_wins_over_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "FakeData", ("a.png",))
    monkeypatch.chdir(tmp_path)
    assert load_images("FakeData").names == ("a.png",)


def test_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="'train' and 'test'; got 'validation'"):
        load_images("cifar10:validation")
    with pytest.raises(ValueError, match="no splits"):
        load_images("FakeData:test")
    with pytest.raises(ValueError, match="unlabeled"):
        load_images("stl10:nonsense")  # torchvision's own list of splits


def test_every_name_is_a_data_set_that_can_be_made() -> None:
    for name in TORCHVISION:
        assert issubclass(getattr(datasets, name), datasets.VisionDataset)


def test_a_data_set_that_cannot_be_fetched(tmp_path: Path) -> None:
    """In a process of its own whose proxy is a closed port."""
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "VIT_EXPLORER_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1", "no_proxy": ""}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere) | {"NO_PROXY": ""}
    code = (
        "from explorer.data.sources import load_images\n"
        "try: load_images('cifar10:test')\n"
        "except ConnectionError as error: print('refused:', error)"
    )
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert process.stdout.startswith("refused: CIFAR10 could not be fetched"), process.stderr
    assert str(tmp_path) in process.stdout
