"""Which pictures visitors are offered, and what they are told of the others."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from pictures import encoded, noise

from explorer_app.service import pictures
from explorer_app.service.errors import ToldError, told
from explorer_app.tabs import shared


def write(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(10, 12, seed=seed)))
    return root


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch):
    def name(*folders: Path) -> None:
        monkeypatch.setenv(pictures.VARIABLE, os.pathsep.join(map(str, folders)))
        pictures._splits.cache_clear()

    return name


def test_splits_are_offered_by_name(offered, tmp_path: Path) -> None:
    pets = write(tmp_path / "pets", "train/cat/a.png", "train/dog/b.png", "val/cat/c.png")
    toys = write(tmp_path / "toys", "train/a.png", "boat/b.png")
    offered(pets, toys)
    assert pictures.picture_folders() == {"pets: train": pets / "train", "pets: val": pets / "val", "toys": toys}
    assert pictures.picture_set("pets: train", 8)[0].names == ("cat/a.png", "dog/b.png")
    assert pictures.picture_set("toys", 8)[0].classes == ("boat", "train")
    with pytest.raises(ValueError, match="not offered"):
        pictures.picture_set("pets", 8)


def test_folders_of_one_name_are_all_offered(offered, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a/pets", "a.png"), write(tmp_path / "b/pets", "b.png")
    offered(first, second, write(tmp_path / pictures.PHOTOS, "c.png"))
    assert pictures.picture_set("pets", 8)[0].names == ("a.png",)
    assert pictures.picture_set("pets (2)", 8)[0].names == ("b.png",)
    assert len(pictures.picture_folders()) == 3
    assert len(pictures.picture_set(pictures.PHOTOS, 8)[0]) == 207


def test_links_lead_only_into_the_folders_that_were_named(offered, tmp_path: Path) -> None:
    secret, friend = write(tmp_path / "secret", "x.png", "val/y.png"), write(tmp_path / "friend", "f.png")
    root = write(tmp_path / "root", "cat/a.png")
    (root / "cat/x.png").symlink_to(secret / "x.png")
    (root / "cat/f.png").symlink_to(friend / "f.png")
    (root / "dog").symlink_to(secret)
    split = write(tmp_path / "split", "train/a.png")
    (split / "val").symlink_to(secret / "val")
    offered(root, friend, split)
    images, told = pictures.picture_set("root", 8)
    assert images.names == ("cat/a.png", "cat/f.png")
    assert told == "Left out: 2 links out of the folder ('cat/x.png', 'dog'; they are not followed here)."
    assert str(tmp_path) not in told
    assert "split: val" not in pictures.picture_folders()
    assert pictures.picture_set("split: train", 8)[0].names == ("a.png",)


def test_of_a_zip_with_splits_the_training_pictures_are_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("dev/cat/a.png", "train/cat/b.png", "train/dog/c.png", "train/dog/d.psd"):
            archive.writestr(name, encoded(noise(8, 8)))
    images, note = pictures.picture_set(tmp_path / "x.zip", 8)
    assert images.names == ("cat/b.png", "dog/c.png")
    assert note.startswith("Of dev, train only train is taken. Left out: 1 picture of a format that is not read")


def test_a_zip_is_called_as_its_visitor_calls_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "0a1b").mkdir()
    mine = tmp_path / "0a1b/my pets.zip"
    with zipfile.ZipFile(mine, "w") as archive:
        archive.writestr("a.png", encoded(noise(8, 8)))
        archive.writestr("b.png", encoded(noise(8, 8))[:60])
    assert pictures.source_of(pictures.UPLOAD, mine) == mine
    assert pictures.source_of("pets", mine) == "pets"
    assert pictures.title(mine) == "pictures of my pets.zip"
    images, _ = pictures.picture_set(mine, 8)
    with pytest.raises(ToldError, match=r"^'b\.png' in 'my pets\.zip': "), told():
        list(images)
    mine.write_bytes(b"no zip file")
    with pytest.raises(ToldError, match=r"^'my pets\.zip' is no readable zip file"), told():
        pictures.picture_set(mine, 8)
    mine.unlink()
    with pytest.raises(ToldError, match=r"^'my pets\.zip' is not kept any more: upload it again"), told():
        pictures.picture_set(mine, 8)
    with pytest.raises(ToldError, match="there is no zip file: upload one"), told():
        pictures.picture_set(pictures.source_of(pictures.UPLOAD, None), 8)


def test_a_selection_is_some_of_a_set_by_name(offered, tmp_path: Path) -> None:
    root = write(tmp_path / "pets", "cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png")
    offered(root)
    selected = pictures.Selection("pets", ("dog/d.png", "cat/b.png"), "lost by the student")
    assert pictures.source_of(pictures.SELECTED, None, selected) == selected
    assert pictures.source_of("pets", None, selected) == "pets"
    images, _ = pictures.picture_set(selected, 8)
    every, _ = pictures.picture_set("pets", 8)
    assert (images.names, images.labels, images.classes) == (("cat/b.png", "dog/d.png"), (0, 1), ("cat", "dog"))
    torch.testing.assert_close(images.stack(), every.stack()[[1, 3]], rtol=0, atol=0)
    assert len(pictures.picture_set(selected, 8, limit=1)[0]) == 1
    assert pictures.title(selected) == "pets selected on the map (lost by the student)"
    assert selected == pictures.Selection("pets", selected.names), "a slice's name makes no other pictures"
    (root / "dog/d.png").unlink()
    gone = r"^1 of the 2 pets selected on the map \(lost by the student\) are not there any more: select .* again"
    with pytest.raises(ToldError, match=gone), told():
        pictures.picture_set(selected, 8)


def test_where_nothing_is_selected_it_is_told_what_to_do() -> None:
    nothing = "^no pictures are selected on the map: select some in the Embeddings tab, by a slice, a box or a lasso"
    with pytest.raises(ToldError, match=nothing), told():
        pictures.picture_set(pictures.source_of(pictures.SELECTED, None), 8)


def test_some_of_a_zip_stay_some_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name in ("dev/cat/a.png", "train/cat/b.png", "train/dog/c.png"):
            archive.writestr(name, encoded(noise(8, 8)))
    images, note = pictures.picture_set(pictures.Selection(tmp_path / "mine.zip", ("dog/c.png",)), 8)
    assert (images.names, note) == (("dog/c.png",), "Of dev, train only train is taken.")


def test_a_list_offers_what_is_selected_as_soon_as_something_is() -> None:
    two, offer = pictures.Selection(names=("a.png", "b.png")), shared._offer_selected
    assert (f"{pictures.SELECTED} (2 pictures)", pictures.SELECTED) in offer(two, pictures.PHOTOS).choices
    assert pictures.SELECTED not in dict(offer(pictures.Selection(), pictures.PHOTOS).choices).values()
    chosen = offer(pictures.Selection(), pictures.SELECTED).choices
    assert (f"{pictures.SELECTED} (0 pictures)", pictures.SELECTED) in chosen, "it is told that they are gone"


def test_what_is_left_out_is_logged_once(offered, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path / "root", "a.png")
    (root / "b.png").symlink_to("gone.png")
    offered(root)
    for _ in range(3):
        assert pictures.picture_set("root", 8)[1] == "Left out: 1 dead link ('b.png')."
    assert caplog.messages == [f"{root}: left out 1 dead link ('b.png')"]


def test_a_folder_whose_name_is_no_utf_8_is_offered_under_one_that_a_page_can_hold(offered, tmp_path: Path) -> None:
    byte = os.fsdecode(b"caf\xe9")
    offered(write(tmp_path / byte, f"{byte}/a.png", "b/b.png"))
    assert [name.encode() for name in pictures.picture_folders()] == [rb"caf\xe9"]
    images, _ = pictures.picture_set(r"caf\xe9", 8)
    assert (images.names, images.classes) == (("b/b.png", r"caf\xe9/a.png"), ("b", r"caf\xe9"))


def test_a_broken_file_in_an_offered_folder_is_named_without_its_place(offered, tmp_path: Path) -> None:
    root = write(tmp_path / "inner/pets", "cat/a.png")
    (root / "cat/b.png").write_bytes((root / "cat/a.png").read_bytes()[:60])
    (tmp_path / "link").symlink_to(root)
    for folder in (root, tmp_path / "link"):
        offered(folder)
        with pytest.raises(ToldError, match=rf"'{folder.name}/cat/b\.png'") as refused, told():
            list(pictures.picture_set(folder.name, 8)[0])
        assert str(tmp_path) not in str(refused.value)
