"""Tables of Hugging Face `datasets` are what the same pictures in a folder are; what cannot be read is told."""

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explorer import DistillConfig, distill, embed, load_images
from explorer.data.folders import SplitsError
from explorer.data.image import ImageError
from explorer.data.sets import ImageSet
from explorer.evaluation.embedding import embed_pair
from tests.small import CLASSES, NOISE, SIZE, learned, network, pair, picture_folder
from tests.together import run_together

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_folder(tmp_path_factory.mktemp("pictures"), per_class=3)


@pytest.fixture(scope="module")
def images(folder: Path) -> ImageSet:
    return load_images(folder, size=SIZE)


@pytest.fixture(scope="module")
def table(folder: Path) -> Any:
    """The folder as rows of bytes, with columns that nobody needs."""
    return tabled(folder)


def tabled(folder: Path, **columns: list[Any]) -> Any:
    files = sorted(folder.rglob("*.png"))
    rows = {
        "caption": [file.stem for file in files],
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [CLASSES.index(file.parent.name) for file in files],
        **columns,
    }
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    made = datasets.Dataset.from_dict(rows)
    for name, kind in kinds.items():
        made = made.cast_column(name, kind)
    return made


def assert_same(found: ImageSet, images: ImageSet) -> None:
    assert torch.equal(found.stack(), images.stack())
    assert (found.labels, found.classes) == (images.labels, images.classes)
    assert found.digest == images.digest


def test_a_table_is_the_folder_with_its_pictures(table: Any, images: ImageSet) -> None:
    found = load_images(table, size=SIZE)
    assert_same(found, images)
    assert found.names == tuple("012345678")
    assert found.path(0) is None
    found.check()


def test_a_table_on_disk_and_one_in_parquet(table: Any, images: ImageSet, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "table")
    table.to_parquet(tmp_path / "table.parquet")
    assert_same(load_images(datasets.load_from_disk(str(tmp_path / "table")), SIZE), images)
    parquet = datasets.Dataset.from_parquet(str(tmp_path / "table.parquet"), cache_dir=str(tmp_path / "cache"))
    assert_same(load_images(parquet, SIZE), images)


def test_pictures_are_not_decoded_by_the_table(table: Any, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.Image, "decode_example", None)
    assert_same(load_images(table, size=SIZE), images)


def test_what_a_column_of_pictures_may_hold(folder: Path, images: ImageSet) -> None:
    files = sorted(folder.rglob("*.png"))
    arrays = [np.asarray(Image.open(file)) for file in files]
    columns = {
        "bytes": [file.read_bytes() for file in files],
        "path": list(map(str, files)),
        "pil": [Image.fromarray(array) for array in arrays],
    }
    table = datasets.Dataset.from_dict(columns).add_column("path_of_picture", columns["path"])
    table = table.cast_column("path_of_picture", datasets.Image())
    shaped = datasets.Features({"array": datasets.Array3D((40, 40, 3), "uint8")})
    for name in table.column_names:
        found = load_images(table, size=SIZE, image=name)
        assert torch.equal(found.stack(), images.stack()), name
        assert found.labels is None
    assert load_images(table, image="path_of_picture").path(2) == files[2]
    for features in (
        shaped,
        datasets.Features({"array": datasets.List(datasets.List(datasets.List(datasets.Value("uint8"))))}),
    ):
        found = load_images(datasets.Dataset.from_dict({"array": arrays}, features), size=SIZE, image="array")
        found.check()
        assert torch.equal(found.stack(), images.stack())
        assert found.digest != images.digest
        assert found.digest != found.select(range(8, -1, -1)).digest


def test_labels_are_numbers_or_names(folder: Path, images: ImageSet) -> None:
    named = tabled(folder, kind=[CLASSES[label] for label in images.labels], number=list(images.labels))
    assert_same(load_images(named, SIZE, label="kind"), images)
    numbered = load_images(named, SIZE, label="number")
    assert (numbered.labels, numbered.classes) == (images.labels, ("0", "1", "2"))
    assert load_images(tabled(folder, label=[-1] * 9)).labels is None
    sick = tabled(folder, sick=[label > 0 for label in images.labels])
    binary = load_images(sick.remove_columns("label").rename_column("sick", "label"))
    assert (binary.labels, binary.classes) == (tuple(int(label > 0) for label in images.labels), ("False", "True"))
    with pytest.raises(ValueError, match=r"^1 of 9 pictures have no label"):
        load_images(tabled(folder, label=[-1, *images.labels[1:]]))
    with pytest.raises(ValueError, match=r"class numbers or names.*got 0\.5"):
        load_images(tabled(folder, weight=[0.5] * 9), label="weight")


def test_rows_are_chosen_as_pictures_are(table: Any, images: ImageSet) -> None:
    assert_same(load_images(table, SIZE, limit=6), images.select([0, 1, 3, 4, 6, 7]))
    assert_same(load_images(table.select([7, 2]), SIZE), images.select([7, 2]))
    assert_same(pickle.loads(pickle.dumps(load_images(table, SIZE))), images)
    assert load_images(table).reader == load_images(table).reader
    assert load_images(table).reader != load_images(table.select([7, 2])).reader


def test_a_column_that_is_not_there_is_told_with_those_that_are(table: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^unknown column 'imag'; did you mean image\? There are: caption, image, label$"
    ):
        load_images(table, image="imag")
    with pytest.raises(ValueError, match=r"^unknown column 'kind'; There are: caption, image, label$"):
        load_images(table, label="kind")
    with pytest.raises(ValueError, match=r"no column that is known to hold pictures.*image=.*caption$"):
        load_images(table.select_columns(["caption"]))


def test_a_choice_that_is_not_clear_is_asked_for(folder: Path) -> None:
    both = tabled(folder).rename_columns({"image": "left", "label": "fine"})
    both = both.add_column("right", [row["left"] for row in both.cast_column("left", datasets.Image(decode=False))])
    both = both.cast_column("right", datasets.Image())
    with pytest.raises(ValueError, match=r"several columns of pictures.*image=.*left, right$"):
        load_images(both)
    coarse = both.add_column("coarse", both["fine"]).cast_column("coarse", datasets.ClassLabel(names=list(CLASSES)))
    with pytest.raises(ValueError, match=r"several columns of classes.*label=…: fine, coarse$"):
        load_images(coarse, image="left")


def test_splits_are_chosen(table: Any, images: ImageSet) -> None:
    splits = datasets.DatasetDict({"train": table, "test": table.select([1])})
    assert_same(load_images(splits, SIZE, split="train"), images)
    with pytest.raises(SplitsError, match=r'splits train, test.*split="train"'):
        load_images(splits)
    with pytest.raises(ValueError, match=r"^unknown split 'trian'; did you mean train\?"):
        load_images(splits, split="trian")
    with pytest.raises(ValueError, match="DatasetDict"):
        load_images(table, split="train")


def test_what_cannot_be_replayed_is_refused_with_the_reason(table: Any, tmp_path: Path, unchecked: None) -> None:
    stream = table.to_iterable_dataset()
    for use in (
        load_images,
        lambda images: embed(network(0), images),
        lambda images: embed_pair(pair(), images),
        lambda images: distill(network(0), images, DistillConfig(image_size=SIZE), tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=r"a stream hands out its pictures once.*could not be resumed"):
            use(stream)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"transform of its own.*with_format\(None\)"):
        load_images(table.with_transform(dict))


def test_other_sources_have_no_columns(folder: Path) -> None:
    with pytest.raises(ValueError, match="columns of a"):
        load_images(folder, image="image")


def test_broken_rows_are_told_or_skipped(folder: Path, images: ImageSet) -> None:
    files = sorted(folder.rglob("*.png"))
    content: list[Any] = [{"bytes": file.read_bytes(), "path": None} for file in files]
    content[1], content[4], content[7] = (
        None,
        {"bytes": None, "path": "hf://there/4.png"},
        {"bytes": b"?", "path": None},
    )
    broken = tabled(folder, image=content)
    with pytest.raises(ImageError, match=r"^row 1 of the column 'image': .*got nothing \(2 more of 9 are broken\)$"):
        load_images(broken).check()
    with pytest.raises(ImageError, match=r"'hf://there/4\.png'"):
        load_images(broken)[4]
    found = load_images(broken, SIZE, on_error="skip")
    assert_same(found, images.select([0, 2, 3, 5, 6, 8]))
    assert list(found.skipped) == ["1", "4", "7"]


def test_an_empty_table_is_told(table: Any) -> None:
    with pytest.raises(ValueError, match="is empty"):
        load_images(table.select([]))


def test_features_are_those_of_the_folder_and_kept_as_such(table: Any, images: ImageSet, tmp_path: Path) -> None:
    backbone = network(0)
    found = embed(backbone, table, NOISE, cache=tmp_path)
    expected = embed(backbone, images.resized(None), NOISE, cache=tmp_path)
    assert found.key == expected.key
    assert np.array_equal(found.embedding, embed(backbone, images, NOISE, cache=False).embedding)
    assert [file.parent.name for file in tmp_path.glob("*/*.json")] == [found.key]


def test_a_run_learns_what_it_learns_of_the_folder_and_goes_on_exactly(
    table: Any, images: ImageSet, tmp_path: Path
) -> None:
    expected = learned(images.resized(None), tmp_path / "folder")
    assert learned(table, tmp_path / "whole") == expected
    assert learned(table, tmp_path / "parts", steps=2) != expected
    assert learned(table, tmp_path / "parts", steps=2, resume=True) == expected
    with pytest.raises(ValueError, match="cannot be resumed with other pictures: witness_sha256"):
        learned(table.shuffle(seed=0), tmp_path / "parts", steps=1, resume=True)


@pytest.mark.slow
def test_two_processes_share_a_table_or_a_shard_and_import_the_package_when_they_have_a_table(
    table: Any, folder: Path, images: ImageSet, tmp_path: Path
) -> None:
    table.save_to_disk(tmp_path / "table")
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for number, file in enumerate(sorted(folder.rglob("*.png"))):
            archive.add(file, f"{number}.png")
    code = f"""
import sys
from explorer import embed, load_images
from tests.small import network
backbone = network(0)
print(embed(backbone, load_images({str(tmp_path / "0.tar")!r}), batch_size=2, cache={str(tmp_path / "a")!r}).key)
print("datasets" in sys.modules)
import datasets
table = datasets.load_from_disk({str(tmp_path / "table")!r})
print(embed(backbone, table, batch_size=2, cache={str(tmp_path / "b")!r}).key)
"""
    key = embed(network(0), images, batch_size=2, cache=False).key
    assert [printed.split() for printed in run_together("-c", code)] == [[key, "False", key]] * 2
