"""What browsers get of an attribution: the library's own numbers, as JSON."""

import base64
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from explorer import Section, save_page
from explorer.distortions import Given, distortion
from explorer.evaluation.probes import fit_on_features
from explorer.inspection.attribution import Attribution, attribute_views
from explorer.inspection.attribution_problem import Settings
from explorer.inspection.attribution_quality import Quality
from explorer.scenes.inspection import attribution_scene
from tests.saved_pages import heats, opened, settle
from tests.small import NOISE, network

WEIGHTS = ("one", "another")


@pytest.fixture(scope="module", params=["gradient_attention", "integrated_gradients", "attn_lrp"])
def views(request: pytest.FixtureRequest) -> dict[str, Attribution]:
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    return attribute_views(
        network(0), network(1), picture, NOISE, method=request.param, settings=Settings(steps=2), seed=3
    )


def scene_of(views: dict[str, Attribution], judged: dict[str, Quality] | None = None, **changed: object) -> dict:
    scene = attribution_scene(
        views, judged, **{"distortion": distortion(NOISE), "weights": WEIGHTS, "seed": 3, **changed}
    )
    return json.loads(json.dumps(scene, allow_nan=False))


def test_the_scene_holds_the_numbers_of_the_views(views: dict[str, Attribution]) -> None:
    judged = {
        name: Quality(infidelity=0.1 * place, unexplained=0.4 * place, sensitivity=0.2, deletion=0.3, insertion=-0.1)
        for place, name in enumerate(views)
    }
    scene = scene_of(views, judged)
    assert [pane["id"] for pane in scene["panes"]] == list(views)
    assert [pane["reference"] for pane in scene["panes"]] == [True, False, False]
    for pane, (name, view) in zip(scene["panes"], views.items(), strict=True):
        heatmap = np.frombuffer(base64.b64decode(pane["heatmap"]["data"]), "<f4").reshape(pane["heatmap"]["shape"])
        np.testing.assert_array_equal(heatmap, view.by_patch().numpy())
        expected = {"target": view.target, "baseline_target": view.baseline_target, **asdict(judged[name])}
        assert pane["numbers"] == {**expected, "completeness": view.completeness, "absorbed": view.absorbed}
        assert (view.absorbed is None) == (view.method != "attn_lrp")
        assert pane["verdict"] == judged[name].verdict
    clean = views["teacher_clean"]
    assert (scene["method"], scene["signed"], scene["towards"]) == (clean.method, clean.signed, clean.towards)
    assert (scene["grid"], scene["size"], scene["damage"]) == ([2, 2], [32, 32], "Gaussian noise 0.3")
    assert ["Distortion", f"{NOISE}, seed 3"] in scene["about"]
    pictures = [pane["picture"] for pane in scene["panes"]]
    assert pictures[0] != pictures[1] == pictures[2]


def test_the_class_that_was_asked_for_is_told(views: dict[str, Attribution]) -> None:
    assert scene_of(views)["label"] is None
    probe = fit_on_features("linear", np.eye(192)[:4], ["cat", "dog"] * 2)
    asked = {name: replace(view, toward=(probe, "dog"), towards="so") for name, view in views.items()}
    assert (scene_of(asked)["label"], scene_of(asked)["towards"]) == ("dog", "so")


def test_without_a_clean_picture_there_is_no_reference(views: dict[str, Attribution]) -> None:
    scene = scene_of({name: view for name, view in views.items() if name != "teacher_clean"}, distortion=Given())
    assert [(pane["id"], pane["reference"]) for pane in scene["panes"]] == [
        ("teacher_distorted", False),
        ("student_distorted", False),
    ]
    assert ["Reference", "none: nothing is measured against a truth"] in scene["about"]
    assert scene["damage"] == "Your picture's damage"


def test_a_map_that_was_not_judged_has_no_verdict(views: dict[str, Attribution]) -> None:
    for pane in scene_of(views)["panes"]:
        assert pane["verdict"] is None
        assert set(pane["numbers"]) == {"target", "baseline_target", "completeness", "absorbed"}


def test_a_copy_of_the_teacher_is_told(views: dict[str, Attribution]) -> None:
    assert not scene_of(views)["untouched_student"]
    same = {**views, "student_distorted": views["teacher_distorted"]}
    assert scene_of(same, weights=("one", "one"))["untouched_student"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_drawn(views: dict[str, Attribution], value: float) -> None:
    spoilt = views["student_distorted"].heatmap.clone()
    spoilt[0, 0] = value
    broken = {**views, "student_distorted": replace(views["student_distorted"], heatmap=spoilt)}
    with pytest.raises(ValueError, match="NaN and infinite values cannot be drawn"):
        scene_of(broken)
    judged = {"student_distorted": Quality(infidelity=0.1, unexplained=value, sensitivity=0.2)}
    numbers = scene_of(views, judged)["panes"][2]["numbers"]
    assert {"unexplained", "deletion", "insertion"}.isdisjoint(numbers), "the last two were not measured"
    assert numbers["infidelity"] == 0.1


@pytest.mark.browser
def test_a_page_of_its_own_shows_it(views: dict[str, Attribution], browser: Browser, tmp_path: Path) -> None:
    sections = [Section(view="attributionview", scenes=(scene_of(views),))] * 2
    with opened(browser, save_page(sections, tmp_path / "page.html")) as found:
        settle(found)
        assert found.get_by_role("tab").all_inner_texts() == ["Attribution", "Attribution"]
        assert len(heats(found)) == 3
        assert f"{NOISE}, seed 3" in found.locator("#page-facts").inner_text()
