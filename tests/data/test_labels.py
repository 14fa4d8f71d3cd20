"""Labels from a file: they fit the pictures, or nothing is done."""

import zipfile
from pathlib import Path

import pytest

from explorer.data.labels import read_labels
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from tests.small import break_some, picture_folder


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
        ("file,label\r\n0.png,cat\r\n\r\n1.png\r\n2.png,cat\r\n", "labels.csv', line 4: '1.png' has no label"),
        ("file;label\n0.png;cat\n1.png;dog\n2.png; \n", "line 4: '2.png' has no label"),
        ("file,label\n0.png,cat\n1.png,dog, tabby\n2.png,cat\n", "line 3: '1.png' has more values than .* columns"),
        ('file,label\n0.png,cat\n1.png,dog\n2.png,"cat\nother.png,dog\n', "'2.png' has a label of several lines"),
        ('file,label\n0.png,"' + 200_000 * "cat", "no CSV file .*quote that is not closed"),
        ("file,label\n0.png,cat\n./0.png,dog\n", "gives './0.png' two labels: cat and dog"),
        ("\ufeff", "expected the columns file and label; got none"),
        ("\n0.png,cat\n", "expected the columns file and label; got none"),
        ("0.png,cat\n1.png,dog\n", "expected the columns file and label; got 0.png, cat"),
        ("file\n0.png\n", "expected the columns file and label; got file"),
        ("file,label,label\n0.png,cat,dog\n", "expected the columns file and label; got file, label, label"),
        ("file,label\n", "3 of 3 have no line, such as '0.png'; it names files such as '\\(none\\)'"),
    ],
)
def test_a_file_that_does_not_fit(images: ImageSet, tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(images, written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "file;label\n0.png;cat\n1.png;dog, big\n2.png;cat\n",
        "\ufefffile\tlabel\r\n0.png\tcat\r\n1.png\tdog, big\r\n2.png\tcat\r\n",
        'file,label\r0.png,cat\r1.png,"dog, big"\r2.png,cat\r',
        ' file , "label" \n0.png , cat\n1.png, "dog, big"\n "2.png",cat  \n',
        '"label","file"\n"cat","0.png"\n"dog, big","1.png"\n"cat","2.png"',
        'file,label\n.\\0.png,cat\n./1.png,"dog, big"\n././2.png,cat\n\n  \n,\n',
        'file,label,note\nother.png\n,owl\n0.png,cat,"a\nb"\n1.png,"dog, big"\n2.png,cat,,\nother.png,a,b,c\n',
    ],
)
def test_what_other_programs_write(images: ImageSet, tmp_path: Path, text: str) -> None:
    found = read_labels(images, written(tmp_path, text))
    assert [found.classes[label] for label in found.labels or ()] == ["cat", "dog, big", "cat"]
    assert found.classes == ("cat", "dog, big")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_what_ends_a_line_elsewhere_is_part_of_a_label(images: ImageSet, tmp_path: Path, mark: str) -> None:
    found = read_labels(images, written(tmp_path, f"file,label\n0.png,big{mark}cat\n1.png,dog\n2.png,dog\n"))
    assert found.classes == (f"big{mark}cat", "dog")
    assert found.labels == (0, 1, 1)


def test_paths_as_windows_and_macs_write_them(tmp_path: Path) -> None:
    images = load_images(picture_folder(tmp_path / "pictures", per_class=1), size=32)
    (tmp_path / "pictures/red/0.png").rename(tmp_path / "pictures/red/\u00e9.png")  # one character
    images = load_images(tmp_path / "pictures", size=32)
    text = "file,label\nblue\\0.png,cold\n.\\green\\0.png,cold\nred/e\u0301.png,warm\n"  # e, and an accent
    assert read_labels(images, written(tmp_path, text)).labels == (0, 0, 1)


def test_a_name_is_first_of_all_what_it_says(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=2) / "red"
    (folder / "0.png").rename(folder / "a\\b.png")
    (folder / "a").mkdir()
    (folder / "1.png").rename(folder / "a" / "b.png")
    (folder / "c.png").symlink_to(folder / "a\\b.png")
    images = load_images(folder.parent, size=32)
    assert images.names[-3:] == ("red/a/b.png", "red/a\\b.png", "red/c.png")
    lines = [f"{name},{number}" for number, name in enumerate(images.names)]
    found = read_labels(images, written(tmp_path, "\n".join(["file,label", *reversed(lines)])))
    assert found.labels == tuple(range(len(images)))


@pytest.mark.parametrize("top", ["", "red/"])
def test_a_folder_that_all_pictures_lie_in_may_be_left_out(tmp_path: Path, top: str) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=2)
    with zipfile.ZipFile(tmp_path / "red.zip", "w") as archive:
        for file in (folder / "red").iterdir():
            archive.write(file, f"red/{file.name}")
    images = load_images(tmp_path / "red.zip", size=32)
    found = read_labels(images, written(tmp_path, f"file,label\n{top}0.png,cat\n{top}1.png,dog\n"))
    assert found.names == ("red/0.png", "red/1.png")
    assert (found.labels, found.classes) == ((0, 1), ("cat", "dog"))


def test_load_images_takes_the_file_and_a_limit_goes_round_the_classes(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures", per_class=3)
    broken = break_some(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [f"{name},{'warm' if name.startswith('red') else 'cold'}" for name in names if name not in broken]
    file = written(tmp_path, "\n".join(["file,label", *lines]))
    found = load_images(folder, size=32, limit=2, on_error="skip", labels=file)
    assert found.classes == ("cold", "warm")
    assert found.names == ("blue/0.png", "red/0.png")
    assert set(found.skipped) == set(broken)
    with pytest.raises(ValueError, match=r"3 of 12 have no line"):
        load_images(folder, labels=file)
