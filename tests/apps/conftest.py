"""The app is started once; every visitor's page is watched for complaints."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from serving import PYTHON, Served, serving
from visiting import Open, Visit


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small untrained model of any size in place of all others, and a folder of runs of its own."""
    from explorer.models.backbones import Backbone
    from explorer.models.loading import load_backbone
    from explorer_app.service import models, students

    loaded: dict[Any, Backbone] = {}

    def small(name: str, size: Any) -> Backbone:
        if size not in loaded:
            loaded[size] = load_backbone("vit_tiny_patch16_224", image_size=size, source="random", device="cpu")
        return loaded[size]

    monkeypatch.setattr(models, "load_backbone", small)
    monkeypatch.setenv(students.RUNS_VARIABLE, str(tmp_path / "runs"))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A visitor's zip file of six photos."""
    from explorer_app.service import pictures

    file = tmp_path / "mine.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in pictures.photos().names[:6]:
            archive.write(pictures.photo_path(name), name.replace("/", "_"))
    return file


@pytest.fixture
def manager() -> Iterator[Any]:
    """The runs of this process."""
    from explorer_app.service.runs import Runs

    made = Runs()
    yield made
    made.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app, with the user's cache of weights, and a folder of its own for students."""
    with serving(*PYTHON, VIT_EXPLORER_RUNS=str(tmp_path_factory.mktemp("runs"))) as served:
        yield served


@pytest.fixture(scope="module")
def shared(browser: Browser, app: Served) -> Iterator[Visit]:
    """A page with its maps, for tests that follow each other on it."""
    visit = Visit(browser, app.url, permissions=["clipboard-read", "clipboard-write"]).open()
    yield visit
    visit.close()


@pytest.fixture
def visit(shared: Visit) -> Iterator[Visit]:
    """The shared page at its top; what it complains about fails the test."""
    shared.complaints.clear()
    shared.requests.clear()
    yield shared
    assert not shared.complaints, f"the page complained: {shared.complaints}"


@pytest.fixture
def open_page(browser: Browser, app: Served) -> Iterator[Open]:
    """Opens fresh pages."""
    visits: list[Visit] = []

    def opened(query: str = "", view: str = "attention", **settings: object) -> Visit:
        visits.append(Visit(browser, app.url, **settings))  # type: ignore[arg-type]
        return visits[-1].open(query, view)

    yield opened
    for each in visits:
        each.close()
    complaints = [complaint for each in visits for complaint in each.complaints]
    assert not complaints, f"the page complained: {complaints}"
