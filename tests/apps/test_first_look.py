"""What the tabs begin with: shipped results, only as long as they are of the students that are shipped; how long things
take, and what is said of a result."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import explorer as ex
from explorer.system.files import asset_path
from explorer_app.page import FOLLOWING
from explorer_app.service import first_look, models, pace
from explorer_app.service.question import Question
from explorer_app.tabs.shared import Made, mark, settings


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Writes what is shipped into a folder of the test's own."""
    monkeypatch.setattr(first_look, "asset_path", lambda name: _there(tmp_path / Path(name).name))
    first_look._read.cache_clear()
    first_look.recorded_run.cache_clear()

    def write(name: str, content: dict) -> None:
        (tmp_path / name).write_bytes(gzip.compress(json.dumps(content).encode()))
        first_look._read.cache_clear()

    yield write
    first_look._read.cache_clear()
    first_look.recorded_run.cache_clear()


def _there(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def test_a_sweep_of_a_student_that_was_exchanged_is_not_shown(shipped) -> None:
    (name, *_) = ex.list_pairs()
    assert first_look.sweep_of(name) is None
    digest = models.card_of(name)["student_sha256"]
    shipped(f"{name}.json.gz", {"student_sha256": digest, "sweep": {"label": "noise"}})
    assert first_look.sweep_of(name) == {"label": "noise"}
    shipped(f"{name}.json.gz", {"student_sha256": "0" * 64, "sweep": {"label": "noise"}})
    assert first_look.sweep_of(name) is None
    assert first_look.map_of(name) is None
    assert first_look.sweep_of("../somewhere") is None


def test_a_first_scene_of_something_else_is_not_shown(shipped) -> None:
    first = Question.of_link({})
    assert first_look.scene_of("attention", first) is None
    panes = [{"view": "clean"}, {"view": "distorted"}]
    scene = {
        "student_sha256": first.version(),
        "asked": first.link(),
        "pictures": {"clean": "data:1", "distorted": "data:2"},
        "both": {"version": 1},
        "views": {"attention": {"panes": panes}},
    }
    shipped("scene.json.gz", scene)
    shown = first_look.scene_of("attention", first)
    assert shown is not None
    assert [pane["picture"] for pane in shown["panes"]] == ["data:1", "data:2"]
    assert shown["version"] == 1
    assert shown["link"] == first.link()
    assert first_look.scene_of("train", first) is None
    for query in ({"seed": "3"}, {"photo": "fish/fish1.webp"}, {"size": "336"}, {"layer": "3"}, {"pair": "s14-blur"}):
        assert first_look.scene_of("attention", Question.of_link(query)) is None, query
    shipped("scene.json.gz", {**scene, "student_sha256": "0" * 64})
    assert first_look.scene_of("attention", first) is None


@pytest.mark.weights
@pytest.mark.parametrize("tab", ["attention", "patches"])
def test_the_first_scene_is_what_the_model_makes(tab) -> None:
    first = Question.of_link({})
    shown = first_look.scene_of(tab, first)
    assert shown is not None
    drawn = FOLLOWING[tab].draw(first)
    assert shown.keys() == drawn.keys()
    assert shown["subject" if tab == "patches" else "heads"] == drawn["subject" if tab == "patches" else "heads"]
    for name, pane in ((pane["id"], pane) for pane in drawn["panes"]):
        (mine,) = (each for each in shown["panes"] if each["id"] == name)
        assert mine.keys() == pane.keys()
        if tab == "attention":
            assert array(mine["attention"]) == pytest.approx(array(pane["attention"]), abs=1e-3)


def array(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"]) * packed["scale"]


def test_a_recorded_run_says_what_it_is(shipped) -> None:
    assert first_look.recorded_run() is None
    assert first_look.forwards_a_picture() is None
    made = {"steps": 60, "batch": 8, "size": 224, "seconds": 340, "forwards": 5.5}
    first_look.recorded_run.cache_clear()
    shipped("run.json.gz", {"made": made, "scene": {"version": 1}})
    run = first_look.recorded_run()
    assert run is not None
    assert "60 steps of 8 pictures at 224 px, 6 min on two cores" in run["message"]


def test_what_is_shipped_is_small() -> None:
    sizes = [file.stat().st_size for file in asset_path(first_look.FOLDER).iterdir()]
    assert sizes
    assert sum(sizes) < 2_000_000
    assert asset_path(f"{first_look.FOLDER}/{first_look.SCENE}").stat().st_size <= 400_000, "it is awaited"


def test_a_result_says_of_what_it_is() -> None:
    now = Question.of_link({})
    made = Made(settings(now), now.words)
    offer = "Press <b>Measure</b>."
    assert offer in mark(None, settings(now), offer)
    assert offer not in mark(made, settings(now), offer)
    other = settings(Question.of_link({"seed": "3"}))
    told = mark(made, other, offer)
    assert "Of the settings before:" in told
    assert now.words in told
    assert offer in told
    picture = Question.of_link({"photo": "fish/fish1.webp"})
    assert settings(picture) == settings(now), "the picture is not among what many pictures are measured with"


def test_how_long_a_run_takes_is_learned_from_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = ex.load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
    config = ex.DistillConfig(steps=10, batch_size=4, image_size=64)
    monkeypatch.setattr(pace, "_learned", {})
    assert pace.seconds_of_a_run(teacher, config, None) is None
    forward = pace.seconds_a_picture(teacher)
    assert pace.seconds_of_a_run(teacher, config, 5.0) == pytest.approx(10 * 4 * 5 * 4 * forward), "four times as large"
    pace.remember(teacher.name, config, images_per_second=2.0)
    assert pace.seconds_of_a_run(teacher, config, 5.0) == pytest.approx(20)


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (340, "6 min"), (7200, "2.0 h")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert pace.in_words(seconds) == words
