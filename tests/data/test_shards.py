"""WebDataset shards are what the same pictures in a folder are; what cannot be read to the last sample is told."""

import io
import json
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explorer import embed, load_images
from explorer.data.image import ImageError
from explorer.data.sets import ImageSet
from explorer.data.shards import _expanded
from tests.small import CLASSES, NOISE, SIZE, learned, network, picture_folder

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_folder(tmp_path_factory.mktemp("pictures"), per_class=3)


@pytest.fixture(scope="module")
def images(folder: Path) -> ImageSet:
    return load_images(folder, size=SIZE)


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[Files]:
    """The folder as samples of a picture, the name of its class and a caption."""
    files = sorted(folder.rglob("*.png"))
    return [
        {f"{n:04d}.png": file.read_bytes(), f"{n:04d}.cls": file.parent.name.encode(), f"{n:04d}.txt": b"a square"}
        for n, file in enumerate(files)
    ]


@pytest.fixture(scope="module")
def shards(samples: list[Files], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three of them, of three samples each."""
    place = tmp_path_factory.mktemp("shards")
    for number in range(3):
        write(place / f"{number + 9:03d}.tar", *samples[3 * number : 3 * number + 3])
    return str(place / "{009..011}.tar")


def write(shard: Path, *samples: Files, way: str = "w") -> Path:
    with tarfile.open(shard, way) as archive:  # type: ignore[call-overload]
        for name, content in ((name, content) for sample in samples for name, content in sample.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return shard


def assert_same(found: ImageSet, images: ImageSet) -> None:
    assert torch.equal(found.stack(), images.stack())
    assert (found.labels, found.classes) == (images.labels, images.classes)
    assert found.digest == images.digest


def test_shards_are_the_folder_with_their_pictures(shards: str, images: ImageSet) -> None:
    found = load_images(shards, size=SIZE)
    assert_same(found, images)
    assert found.names[:4] == ("009/0000.png", "009/0001.png", "009/0002.png", "010/0003.png")
    assert (found.path(0), found.left_out) == (None, ())
    found.check()
    assert_same(pickle.loads(pickle.dumps(found)), images)
    assert found.reader == load_images(shards).reader
    assert_same(load_images(shards, SIZE, limit=6), images.select([0, 1, 3, 4, 6, 7]))


def test_how_shards_may_be_named(shards: str, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(shards).parent
    files = [place / f"{name}.tar" for name in ("009", "010", "011")]
    assert_same(load_images(files, SIZE), images)
    assert_same(load_images([str(place / "009.tar"), str(place / "{010,011}.tar")], SIZE), images)
    monkeypatch.chdir(place.parent)
    assert_same(load_images(f"{place.name}/0{{09,10,11}}.tar", SIZE), images)
    assert _expanded("{a,b}/{08..10}.tar") == [f"{a}/{n}.tar" for a in "ab" for n in ("08", "09", "10")]
    assert _expanded("{2..0}") == ["2", "1", "0"]
    assert _expanded("{8..10}") == ["8", "9", "10"]
    assert load_images(files[0]).names == ("0000.png", "0001.png", "0002.png")
    (place / "{1..2}.tar").write_bytes(files[2].read_bytes())
    assert len(load_images(place / "{1..2}.tar")) == 3


def test_names_that_begin_with_the_folder_of_the_tar(samples: list[Files], images: ImageSet, tmp_path: Path) -> None:
    """As `tar cf x.tar -C folder .` writes them."""
    dotted = [{f"./{name}": content for name, content in sample.items()} for sample in samples]
    found = load_images(write(tmp_path / "x.tar", {"./.hidden.png": b""}, *dotted), SIZE)
    assert_same(found, images)
    assert found.names[0] == "0000.png"


def test_labels_are_numbers_names_or_fields(samples: list[Files], images: ImageSet, tmp_path: Path) -> None:
    labels = images.labels or ()
    pictures = [{name: content for name, content in sample.items() if name.endswith("png")} for sample in samples]
    assert load_images(write(tmp_path / "none.tar", *pictures)).labels is None
    described = [
        {**sample, f"{n:04d}.json": json.dumps({"label": label, "kind": CLASSES[label]}).encode()}
        for n, (sample, label) in enumerate(zip(pictures, labels, strict=True))
    ]
    shard = write(tmp_path / "json.tar", *described)
    assert_same(load_images(shard, SIZE, label="kind"), images)
    assert (load_images(shard).labels, load_images(shard).classes) == (labels, ("0", "1", "2"))
    numbered = [{**sample, f"{n:04d}.cls": b"%d\n" % labels[n]} for n, sample in enumerate(pictures)]
    assert load_images(write(tmp_path / "cls.tar", *numbered)).labels == labels
    with pytest.raises(ValueError, match=r"^1 of 9 pictures have no label"):
        load_images(write(tmp_path / "some.tar", pictures[0], *numbered[1:]))
    with pytest.raises(ValueError, match=r"^no sample has the label 'sort'.*; fields of \.json: kind, label$"):
        load_images(shard, label="sort")
    with pytest.raises(ValueError, match=r"no sample has the label 'cls'.*files end in \.json, \.png"):
        load_images(shard, label="cls")
    with pytest.raises(ValueError, match=r"the \.json of '0' in .* is no JSON"):
        load_images(write(tmp_path / "broken.tar", {"0.png": pictures[0]["0000.png"], "0.json": b"{"}))


def test_which_pictures_of_a_sample_are_taken(samples: list[Files], images: ImageSet, tmp_path: Path) -> None:
    png = samples[0]["0000.png"]
    two = [{**sample, f"{n:04d}.seg.PNG": png} for n, sample in enumerate(samples)]
    shard = write(tmp_path / "two.tar", *two)
    assert_same(load_images(shard, SIZE), images)
    assert torch.equal(load_images(shard, SIZE, image="seg.png").stack(), images.stack([0] * 9))
    with pytest.raises(ValueError, match=r"no picture \.webp; their files end in \.cls, \.png, \.seg\.png, \.txt;"):
        load_images(shard, image=".webp")
    with pytest.raises(ValueError, match=r"'0' in '.*' has several pictures; choose by image=…: png, jpg$"):
        load_images(write(tmp_path / "both.tar", {"0.png": png, "0.jpg": png}))
    found = load_images(write(tmp_path / "left.tar", {"0.png": png, "1.v2.png": png, "2.heix": b"", "._3.png": b""}))
    assert found.names == ("0.png",)
    assert [left.name for left in found.left_out] == ["1.v2.png"]


def test_a_shard_that_is_cut_off_is_told_wherever_it_was_cut(samples: list[Files], tmp_path: Path) -> None:
    content = write(tmp_path / "whole.tar", *samples).read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512  # where the zeros begin that end a tar
    cut = tmp_path / "cut.tar"
    said = r"^the shard '.*cut\.tar' is damaged or cut off; make or fetch it again \("
    for length in (0, 100, 512, 600, 512 * 12, end // 2, end - 512, end - 100, end, end + 100):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=said):
            load_images(cut)
    cut.write_bytes(content[:end] + bytes(1024))
    assert len(load_images(cut)) == 9
    cut.write_bytes(content + content)
    with pytest.raises(ValueError, match=r"cut\.tar' goes on behind its end"):
        load_images(cut)


def test_a_shard_that_is_cut_off_while_it_is_read_is_told(samples: list[Files], tmp_path: Path) -> None:
    shard = write(tmp_path / "0.tar", *samples)
    images = load_images(shard)
    shard.write_bytes(shard.read_bytes()[: int(images.reader.places[8][1]) + 5])  # type: ignore[attr-defined]
    assert images[0][0].shape == (3, 224, 224)
    with pytest.raises(ImageError, match=r"^'0008\.png' in '.*0\.tar': the shard was cut off since it was opened$"):
        images[8]


@pytest.mark.parametrize(("way", "name"), [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz")])
def test_compressed_shards_are_refused_with_the_reason(
    samples: list[Files], tmp_path: Path, way: str, name: str
) -> None:
    for shard in (tmp_path / f"a.tar.{way}", tmp_path / f"{way}.tar"):
        write(shard, *samples, way=f"w:{way}")
        with pytest.raises(ValueError, match=f"is compressed by {name}.*unpack it to a .tar$"):
            load_images(shard)


@pytest.mark.parametrize("source", ["pipe:curl -s there/000.tar", "https://there/{000..009}.tar", "s3://there/0.tar"])
def test_streams_are_refused_with_the_reason(source: str) -> None:
    for given in (source, [source]):
        with pytest.raises(ValueError, match=r"no stream is read.*could not be resumed to the same pictures"):
            load_images(given)


def test_shards_that_are_not_there_are_named(shards: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^of 5 shards there is no '[^']*/012\.tar', '[^']*/013\.tar'$"):
        load_images(shards.replace("011", "013"))
    with pytest.raises(ValueError, match="more than 100000 shards"):
        load_images("{0..9}{00000..99999}.tar")
    with pytest.raises(ValueError, match="named twice"):
        load_images([shards, shards])
    with pytest.raises(ValueError, match=r"expected tar files; got '.*pictures\.zip'"):
        load_images([shards, tmp_path / "pictures.zip"])
    with pytest.raises(ValueError, match="not for shards"):
        load_images(shards, split="train")


def test_broken_pictures_are_told_or_skipped(samples: list[Files], images: ImageSet, tmp_path: Path) -> None:
    broken = [dict(sample) for sample in samples]
    broken[4]["0004.png"], broken[7]["0007.png"] = b"<html>", b""
    shard = write(tmp_path / "0.tar", *broken)
    with pytest.raises(ImageError, match=r"^'0004\.png' in '.*0\.tar': .*\(1 more of 9 are broken\)$"):
        load_images(shard).check()
    found = load_images(shard, SIZE, on_error="skip")
    assert_same(found, images.select([0, 1, 2, 3, 5, 6, 8]))
    assert list(found.skipped) == ["0004.png", "0007.png"]


def test_links_are_left_out(samples: list[Files], tmp_path: Path) -> None:
    shard = write(tmp_path / "0.tar", *samples)
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    images = load_images(shard)
    assert len(images) == 9
    assert [left.name for left in images.left_out] == ["9.png"]


def test_large_pictures_are_not_read_to_be_looked_at_or_listed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    shard = write(tmp_path / "0.tar", *({f"{n}.png": stream.getvalue()} for n in range(4)))
    tracemalloc.start()
    load_images(shard).check()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < len(stream.getvalue()) / 2


def test_features_are_those_of_the_folder_and_kept_as_such(shards: str, images: ImageSet, tmp_path: Path) -> None:
    found = embed(network(0), load_images(shards, SIZE), NOISE, cache=tmp_path)
    assert found.key == embed(network(0), images, NOISE, cache=tmp_path).key
    assert np.array_equal(found.embedding, embed(network(0), images, NOISE, cache=False).embedding)


def test_a_run_learns_what_it_learns_of_the_folder_and_goes_on_exactly(
    shards: str, images: ImageSet, tmp_path: Path
) -> None:
    expected = learned(images, tmp_path / "folder")
    found = load_images(shards, SIZE)
    assert learned(found, tmp_path / "parts", steps=2) != expected
    assert learned(found, tmp_path / "parts", steps=2, resume=True) == expected
