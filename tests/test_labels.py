"""Labels from a file: they fit the pictures, or nothing is done."""

from pathlib import Path

import pytest

from explorer.data import ImageSet, load_images
from explorer.labels import read_labels
from tests.small import picture_folder


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return load_images(picture_folder(tmp_path / "pictures", per_class=3) / "red", size=32)


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_labels_go_by_the_name(images: ImageSet, tmp_path: Path) -> None:
    file = written(tmp_path, "\ufefflabel,size,file\ncat,3,2.png\ndog,4,0.png\ncat,5,1.png\nowl,5,other.png\n")
    found = read_labels(images, file)
    assert found.classes == ("cat", "dog")
    assert found.labels == (1, 0, 0)
    assert found.names == images.names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n0.png,cat\n", "2 of 3 have no line, such as '1.png'; it names files such as '0.png'"),
        ("file,class\n0.png,cat\n", "expected the columns file and label; got file, class"),
        ("", "expected the columns file and label; got none"),
        ("file,label\n0.png,cat\n0.png,dog\n", "gives '0.png' two labels: cat and dog"),
        (b"file,label\n\xff\xfe", "no text in UTF-8"),
    ],
)
def test_a_file_that_does_not_fit(images: ImageSet, tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(images, written(tmp_path, text))
