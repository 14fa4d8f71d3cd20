"""Features of many pictures: the same as by hand, in every way of computing them, and never those of something else."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from explorer.data.image import ImageError
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.distortions import distortion
from explorer.evaluation import features
from explorer.evaluation.features import Features, embed, is_embedded
from explorer.inspection.intervening import Part, intervene
from explorer.models.backbones import Backbone
from explorer.system.files import claimed
from tests.small import NOISE, break_some, network, picture_folder, picture_set
from tests.together import run_together


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return network(0)


def same(a: Features, b: Features) -> bool:
    return a.key == b.key and np.array_equal(a.embedding, b.embedding)


@pytest.mark.parametrize("cache", [False, True])
def test_features_are_those_of_a_forward_pass(
    backbone: Backbone, images: ImageSet, tmp_path: Path, cache: bool
) -> None:
    found = embed(backbone, images, NOISE, 7, layers=(3, -1), batch_size=4, cache=tmp_path if cache else False)
    damaged = distortion(NOISE)(images.stack(), seed=7)
    trace = backbone.trace(damaged, layers=(3, 11), attention=None)
    np.testing.assert_allclose(found.embedding, trace.embedding, atol=1e-5)
    np.testing.assert_allclose(found.of("cls", 3), trace.cls[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.of("cls", -1), trace.cls[:, 1], atol=1e-5)
    np.testing.assert_allclose(found.of("mean patch", 11), trace.patches[:, 1].mean(dim=1), atol=1e-5)
    assert found.layers == (3, 11)
    assert len(found) == 18
    assert isinstance(found.embedding, np.memmap) == cache


def test_the_second_time_nothing_is_computed(
    backbone: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embed(backbone, images, NOISE, cache=tmp_path)
    monkeypatch.setattr(Backbone, "trace", None)
    assert same(embed(backbone, images, NOISE, cache=tmp_path), first)


def test_random_numbers_of_others_go_on_whether_or_not_features_were_kept(backbone: Backbone, images: ImageSet) -> None:
    """Else a training between whose steps features are made would end otherwise the second time."""
    before = torch.get_rng_state()
    embed(backbone, images, NOISE, cache=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_are_resized_to_the_backbone(backbone: Backbone, images: ImageSet) -> None:
    larger = embed(backbone, images.resized(50), cache=False)
    assert same(larger, embed(backbone, images, cache=False))


def test_everything_that_decides_the_features_is_in_the_key(
    backbone: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    trained = backbone.with_module(copy.deepcopy(backbone.module))
    with torch.no_grad():
        trained.module.blocks[0].mlp.fc1.weight[0, 0] += 1e-3  # type: ignore[index]
    others = [
        embed(backbone, images, NOISE, cache=tmp_path),
        embed(trained, images, NOISE, cache=tmp_path),
        embed(backbone, images[:-1], NOISE, cache=tmp_path),
        embed(backbone, images.select(reversed(range(len(images)))), NOISE, cache=tmp_path),
        embed(backbone, images, "gaussian_noise(sigma=0.31)", cache=tmp_path),
        embed(backbone, images, NOISE, 1, cache=tmp_path),
        embed(backbone, images, NOISE, layers=-1, cache=tmp_path),
        embed(backbone, images, NOISE, precision="bfloat16", cache=tmp_path),
        embed(replace(backbone, mean=(0.485, 0.456, 0.406)), images, NOISE, cache=tmp_path),
        embed(replace(backbone, name="deit_tiny_patch16_224"), images, NOISE, cache=tmp_path),
    ]
    assert len({each.key for each in others}) == len(others)
    assert len(list(tmp_path.iterdir())) == len(others)


def test_what_is_replaced_or_hooked_is_computed_and_not_kept(
    backbone: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    plain = embed(backbone, images, cache=tmp_path)
    with intervene(backbone, Part("attention", 3)):
        replaced = embed(backbone, images, cache=tmp_path)
    hook = backbone.module.blocks[3].register_forward_hook(lambda _, inputs, __: inputs[0])  # type: ignore[index]
    hooked = embed(backbone, images, cache=tmp_path)
    hook.remove()
    assert np.abs(replaced.embedding - plain.embedding).max() > 1e-3
    assert np.abs(hooked.embedding - plain.embedding).max() > 1e-3
    assert [folder.name for folder in tmp_path.iterdir()] == [plain.key]
    assert same(embed(backbone, images, cache=tmp_path), plain)


def test_a_seed_that_changes_nothing_is_not_in_the_key(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    for seed in (0, 1):
        embed(backbone, images, "none", seed, cache=tmp_path)
        embed(backbone, images, "gaussian_blur", seed, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_picture_that_was_replaced_is_looked_at_again(backbone: Backbone, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures")
    before = embed(backbone, load_images(folder, size=32), cache=tmp_path / "cache")
    (folder / "red" / "0.png").write_bytes((folder / "blue" / "0.png").read_bytes())
    after = embed(backbone, load_images(folder, size=32), cache=tmp_path / "cache")
    assert before.key != after.key
    changed = np.abs(before.embedding - after.embedding).max(axis=1) > 1e-6
    assert changed.sum() == 1


def test_damaged_features_are_made_again(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    first = embed(backbone, images, cache=tmp_path)
    kept = np.array(first.embedding)
    file = tmp_path / first.key / "embedding.npy"
    file.write_bytes(file.read_bytes()[:200])
    np.testing.assert_array_equal(embed(backbone, images, cache=tmp_path).embedding, kept)
    (tmp_path / first.key / "about.json").write_text("{}")
    np.testing.assert_array_equal(embed(backbone, images, cache=tmp_path).embedding, kept)


def test_work_that_is_broken_off_is_gone_on_with(
    backbone: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed(backbone, images, NOISE, 3, batch_size=4, layers="all", cache=tmp_path / "other")

    def enough(done: int, _: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    def again(progress: Callable[[int, int], None]) -> Features:
        return embed(backbone, images, NOISE, 3, batch_size=4, layers="all", cache=tmp_path / "own", progress=progress)

    with pytest.raises(KeyboardInterrupt):
        again(enough)
    (left,) = (tmp_path / "own").iterdir()
    assert left.name == f".{whole.key}.part"
    told: list[tuple[int, int]] = []
    assert same(again(lambda *now: told.append(now)), whole)
    assert told == [(8, 18), (12, 18), (16, 18), (18, 18)]
    assert [path.name for path in (tmp_path / "own").iterdir()] == [whole.key]


def test_what_cannot_be_read_of_it_is_made_again(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    whole = embed(backbone, images, batch_size=4, cache=False)
    (left := tmp_path / f".{whole.key}.part").mkdir()
    np.save(left / "embedding.npy", np.ones((3, 4), dtype=np.float32))
    np.save(left / "done", np.ones(18, dtype=bool))
    (left / "done.npy").rename(left / "done")
    assert same(embed(backbone, images, batch_size=4, cache=tmp_path), whole)


def test_another_program_at_the_same_work_is_left_alone(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    whole = embed(backbone, images, batch_size=4, cache=False)
    with claimed(tmp_path / f".{whole.key}.part"):
        assert same(embed(backbone, images, batch_size=4, cache=tmp_path), whole)


def test_progress_counts_pictures(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        embed(backbone, images, batch_size=8, cache=tmp_path, progress=lambda *now: told.append(now))
    assert told == [(8, 18), (16, 18), (18, 18), (18, 18)]


def test_the_cache_forgets_what_was_not_used_for_long(
    backbone: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my own folder").mkdir()
    old, used = (embed(backbone, images, NOISE, seed, cache=tmp_path).key for seed in (0, 1))
    for age, key in ((100, old), (200, used)):
        now = (tmp_path / key).stat().st_mtime
        os.utime(tmp_path / key, (now - age, now - age))
    embed(backbone, images, NOISE, 1, cache=tmp_path)  # used again
    size = sum(file.stat().st_size for file in (tmp_path / old).iterdir())
    monkeypatch.setattr(features, "CACHE_BYTES", 2.5 * size)
    (unfinished := tmp_path / f".{'0' * 64}.part").mkdir()
    (unfinished / "embedding.npy").write_bytes(bytes(size))
    os.utime(unfinished, (now - 300, now - 300))
    new = embed(backbone, images, NOISE, 2, cache=tmp_path).key
    assert {path.name for path in tmp_path.iterdir()} == {"my own folder", used, new}


def test_two_processes_make_the_table_of_one(images: ImageSet, tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import torch
torch.set_num_threads(1)
from explorer.data.sources import load_images
from explorer.evaluation.features import embed
from tests.small import NOISE, network
root = {str(images.reader.root)!r}
found = embed(network(0), load_images(root, size=32), NOISE, 3, layers="all", batch_size=4, cache=sys.argv[1])
print(found.key)
"""
    (tmp_path / "work.py").write_text(script)
    work = str(tmp_path / "work.py")
    alone = subprocess.run(
        [sys.executable, work, str(tmp_path / "one")], capture_output=True, text=True, timeout=240, check=True
    )
    (key,) = {printed.strip() for printed in (alone.stdout, *run_together(work, str(tmp_path / "two")))}
    for name in ("embedding", "cls", "patches"):
        one, two = (np.load(tmp_path / folder / key / f"{name}.npy") for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)
    assert [path.name for path in (tmp_path / "two").iterdir()] == [key]


def test_shipped_features_are_taken_only_if_they_are_right(
    backbone: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = replace(backbone, sha256="0" * 64)
    exact = embed(backbone, images, cache=False).embedding
    file = tmp_path / features.shipped_name(named, images, "none", 0)
    monkeypatch.setattr(features, "asset_path", lambda name: tmp_path / Path(name).name)
    marked = (exact * 1.001).astype(np.float16)
    safetensors.numpy.save_file({"embedding": marked}, file)
    np.testing.assert_array_equal(embed(named, images, cache=tmp_path / "cache").embedding, marked.astype(np.float32))
    assert is_embedded(named, images)
    safetensors.numpy.save_file({"embedding": marked[::-1].copy()}, file)
    np.testing.assert_allclose(embed(named, images, cache=tmp_path / "cache").embedding, exact, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures"):
        embed(backbone, images[:0], cache=tmp_path)
    with pytest.raises(ValueError, match="batch_size is a whole number"):
        embed(backbone, images, batch_size=0, cache=tmp_path)
    with pytest.raises(ValueError, match=r"workers is .* got -1"):
        embed(backbone, images, workers=-1, cache=tmp_path)
    with pytest.raises(ValueError, match="precision is"):
        embed(backbone, images, precision="float16", cache=tmp_path)  # type: ignore[arg-type]
    found = embed(backbone, images, layers=3, cache=tmp_path)
    with pytest.raises(ValueError, match=r"block 4 was not kept; there are \[3\]"):
        found.of("cls", 4)
    with pytest.raises(ValueError, match="features are one of"):
        found.of("clas")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="was not kept"):
        embed(backbone, images, cache=tmp_path).of("cls")


def test_a_damaged_picture_is_named(backbone: Backbone, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures")
    (folder / "green" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"3\.png"):
        embed(backbone, load_images(folder, size=32), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()  # known from its head, before any work
    whole = (folder / "green" / "2.png").read_bytes()
    (folder / "green" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"3\.png.*truncated"):
        embed(backbone, load_images(folder, size=32), cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("cache", [False, True])
def test_a_broken_file_stops_before_the_first_pass(
    backbone: Backbone, tmp_path: Path, cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = picture_folder(tmp_path / "pictures")
    (folder / "red" / "z.png").write_bytes(b"")  # the last one
    monkeypatch.setattr(Backbone, "trace", None)
    with pytest.raises(ImageError, match=r"z\.png.*empty"):
        embed(backbone, load_images(folder, size=32), batch_size=2, cache=tmp_path / "cache" if cache else False)


def test_features_without_what_is_broken(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    """Row for row, and key for key, those of the same pictures in a folder where nothing is broken."""
    folder = picture_folder(tmp_path / "pictures")
    broken = break_some(folder)
    skipping = load_images(folder, size=32, on_error="skip")
    found = embed(backbone, skipping, NOISE, 3, batch_size=4, cache=tmp_path / "cache")
    assert same(found, embed(backbone, images, NOISE, 3, batch_size=4, cache=False))
    for name in broken:
        (folder / name).write_bytes((folder / "red" / "1.png").read_bytes())  # all is well now
    assert len(embed(backbone, load_images(folder, size=32, on_error="skip"), NOISE, 3, cache=tmp_path / "cache")) == 21


def test_a_folder_says_what_it_holds(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    found = embed(backbone, images, layers=(0, 5), cache=tmp_path)
    about = json.loads((tmp_path / found.key / "about.json").read_text())
    assert (about["key"], about["layers"]) == (found.key, [0, 5])
    for name in ("cls", "embedding", "patches"):
        content = (tmp_path / found.key / f"{name}.npy").read_bytes()
        assert about["sha256"].pop(f"{name}.npy") == hashlib.sha256(content).hexdigest()
    assert about["sha256"] == {}
