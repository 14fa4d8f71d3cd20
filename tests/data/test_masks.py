"""`load_segmented`: masks lie over their pictures, whatever the size, and what is wrong with them is told."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explorer import ImageError, SegmentedSet, load_image, load_segmented
from explorer.data.image import upright_size
from explorer.data.masks import IGNORED
from tests.pictures import encoded, png
from tests.small import CLASSES, segmented_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return segmented_folder(tmp_path / "set")


def blocks(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Classes 0, 1 and 2 in blocks of 11 pixels a side, cut at the right and at the bottom."""
    coarse = np.random.default_rng(seed).integers(0, 3, (rows // 11 + 1, cols // 11 + 1), dtype=np.uint8)
    return np.kron(coarse, np.ones((11, 11), dtype=np.uint8))[:rows, :cols]


def colours(mask: np.ndarray) -> np.ndarray:
    """A picture whose only channel that is not black is the one that the mask names."""
    return np.where(mask[..., None] == np.arange(3), np.uint8(255), np.uint8(0))


def put(folder: Path, mask: Image.Image | np.ndarray, number: int = 0) -> SegmentedSet:
    """The folder with one of its masks exchanged."""
    (folder / "masks" / f"{number}.png").write_bytes(encoded(mask))
    return load_segmented(folder)


def test_a_set_holds_pictures_masks_and_names(folder: Path) -> None:
    found = load_segmented(folder, size=32)
    assert len(found) == 6
    assert found.classes == dict(enumerate(CLASSES))
    assert found.images.names == tuple(f"{number}.png" for number in range(6))
    assert found.mask(3).shape == (32, 32)
    assert repr(found) == "SegmentedSet(6 pictures, 3 classes, size=32)"
    assert len(load_segmented(folder, limit=2)) == 2


@pytest.mark.parametrize("size", [None, 32, 96, (24, 60), (70, 30)])
@pytest.mark.parametrize("shape", [(57, 91), (120, 64)])
def test_masks_are_cut_as_their_pictures_are(
    folder: Path, shape: tuple[int, int], size: int | tuple[int, int] | None
) -> None:
    mask = blocks(*shape)
    (folder / "images" / "0.png").write_bytes(encoded(colours(mask)))
    found = put(folder, mask).resized(size)
    cut, seen = found.mask(0), load_image(folder / "images" / "0.png", size).argmax(dim=0).numpy()
    assert cut.shape == seen.shape
    off = (cut != seen).mean()
    assert off < 0.05  # a pixel between two blocks is one of both
    for step, axis in itertools.product((-1, 1), (0, 1)):
        assert (np.roll(cut, step, axis) != seen).mean() > 2 * off + 0.002  # a shift by a pixel would be noticed


def test_a_mask_lies_over_a_picture_that_exif_turns(folder: Path) -> None:
    mask = blocks(60, 90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    stored = Image.fromarray(colours(mask)).transpose(Image.Transpose.ROTATE_90)
    (folder / "images" / "0.png").unlink()
    (folder / "images" / "0.jpg").write_bytes(encoded(stored, "JPEG", quality=95, exif=exif))
    found = put(folder, mask)
    assert (found.mask(0) != load_image(folder / "images" / "0.jpg").argmax(dim=0).numpy()).mean() < 0.02
    turned = put(folder, Image.fromarray(mask).transpose(Image.Transpose.ROTATE_90))
    with pytest.raises(ImageError, match=r"90 rows and 60 columns .* picture 60 and 90: .*EXIF"):
        turned.mask(0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_of_a_picture_is_told_from_its_head(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").write_bytes(encoded(colours(blocks(20, 30)), kind, exif=exif))
    assert upright_size(tmp_path / "a") == tuple(load_image(tmp_path / "a").shape[1:])


def test_palettes_are_numbers(folder: Path) -> None:
    mask = blocks(40, 40)
    palette = Image.fromarray(mask, "P")
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    assert np.array_equal(put(folder, palette).mask(0), mask)
    two = Image.fromarray(mask > 0)
    assert two.mode == "1"
    assert np.array_equal(put(folder, two).mask(0), mask > 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_is_not_stretched(folder: Path, bits: int) -> None:
    mask = np.minimum(blocks(40, 40), 2**bits - 1)
    packed = np.packbits(np.unpackbits(mask[..., None], axis=2)[..., -bits:].reshape(40, -1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    (folder / "masks" / "0.png").write_bytes(png(40, 40, bits, 0, rows))
    assert np.array_equal(load_segmented(folder).mask(0), mask)


def test_what_is_of_no_class_is_ignored(folder: Path) -> None:
    mask = blocks(40, 40)
    mask[:5], mask[5:10] = 7, 255
    cut = put(folder, mask).mask(0)
    assert (cut[:10] == IGNORED).all()
    assert np.array_equal(cut[10:], mask[10:])


def test_classes_are_named_beside_the_folder_or_by_their_numbers(folder: Path) -> None:
    (folder / "classes.csv").rename(folder.parent / "classes.csv")
    assert load_segmented(folder).classes == dict(enumerate(CLASSES))
    (folder.parent / "classes.csv").unlink()
    plain = load_segmented(folder)
    assert plain.classes == {value: str(value) for value in range(255)}
    assert plain.mask(0).max() <= 2


def test_masks_are_found_by_the_whole_name_of_their_picture(folder: Path) -> None:
    for part in ("a", "b"):
        for kind in ("images", "masks"):
            (folder / kind / part).mkdir()
    for part, number in (("a", 0), ("b", 1)):
        for kind in ("images", "masks"):
            (folder / kind / f"{number}.png").rename(folder / kind / part / "x.1.png")
    for kind in ("images", "masks"):
        for number in range(2, 6):
            (folder / kind / f"{number}.png").unlink()
    found = load_segmented(folder)
    assert [str(mask.relative_to(folder)) for mask in found.masks] == ["masks/a/x.1.png", "masks/b/x.1.png"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (colours(blocks(40, 40)), "mode RGB; a mask has one channel"),
        (blocks(40, 40).astype(np.uint16), "mode I;16"),
        (blocks(20, 20), r"20 rows and 20 columns of pixels, and its picture 40 and 40"),
    ],
)
def test_what_is_no_mask_of_its_picture(folder: Path, mask: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        put(folder, mask).mask(0)


@pytest.mark.parametrize("content", [b"", b"<html>", encoded(np.tile(blocks(40, 40), (5, 5)))[:90]])
def test_a_broken_mask(folder: Path, content: bytes) -> None:
    (folder / "masks" / "0.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"0\.png' cannot be read as a mask"):
        load_segmented(folder).mask(0)


def test_what_is_missing_is_told(folder: Path) -> None:
    (folder / "masks" / "2.png").rename(folder / "masks" / "3.PNG")
    with pytest.raises(ValueError, match=r"1 of 6 pictures have no mask, such as '2\.png': expected '.*masks/2\.png'"):
        load_segmented(folder)
    with pytest.raises(ValueError, match="holds no images/"):
        load_segmented(folder / "masks")
    (folder / "images" / "2.png").rename(folder / "images" / "1.bmp")
    with pytest.raises(ValueError, match="one name but for their endings"):
        load_segmented(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,name\n0,sky", "columns value .* and name; got 'value'"),
        ("value,name\nsky,0", "invalid literal"),
        ("name,value\nsky", "got int"),
        ("value,name\n255,ignored", "got the values"),
        ("value,name\n", "of no class"),
        ("value,name\n300,sky", "300"),
    ],
)
def test_lists_of_classes_that_say_nothing(folder: Path, text: str, message: str) -> None:
    (folder / "classes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_segmented(folder)
