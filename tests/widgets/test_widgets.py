"""The widgets without a browser: what is set reaches the library's own functions, and errors stay inside."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from PIL import Image

import explorer as ex
from explorer.evaluation.embedding import embed_pair
from explorer.scenes.inspection import moment_scene, patch_scene, recovery_scene
from explorer.system.files import CACHE_VARIABLE
from explorer.widgets import AttentionExplorer, DistillationMonitor, EmbeddingExplorer, PatchExplorer
from tests.small import NOISE, SIZE, network, pair, picture_set, segmented_folder

CONFIG = ex.DistillConfig(steps=6, batch_size=2, image_size=SIZE, probe=2, eval_every=3, checkpoint_every=2)
LONG = ex.DistillConfig(steps=2000, batch_size=2, image_size=SIZE, probe=2, eval_every=1000, checkpoint_every=1000)


@pytest.fixture(scope="module", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is known from earlier tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ex.ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures") / "coloured", per_class=3)


@pytest.fixture(scope="module")
def both() -> ex.Pair:
    return pair()


@pytest.fixture
def attention(both: ex.Pair, pictures: ex.ImageSet) -> Iterator[AttentionExplorer]:
    widget = AttentionExplorer(both, pictures.path(0), NOISE)
    yield widget
    widget.close()


@pytest.fixture
def monitor(both: ex.Pair, pictures: ex.ImageSet, tmp_path: Path) -> Iterator[DistillationMonitor]:
    widget = DistillationMonitor(both.teacher, pictures, LONG, watch=pictures.path(0), out=tmp_path / "run")
    yield widget
    widget.close()


def assert_near(found: object, wanted: object) -> None:
    """Equal to rounding, which may differ from thread to thread."""
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def wait_for_step(monitor: DistillationMonitor, step: int) -> None:
    for _ in range(600):
        if len(monitor.records) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no step {step}: {monitor.state}, {monitor.error}")


# One picture.


def test_a_moved_slider_gives_what_compare_gives(attention: AttentionExplorer) -> None:
    before = attention.comparison
    (sigma,) = attention._damage._sliders.children
    sigma.value = 0.6
    attention.seed = 7
    model = attention.model
    expected = ex.compare(model.teacher, attention.image, "gaussian_noise(sigma=0.6)", model.student, seed=7)
    found, wanted = attention.comparison.numbers(), expected.numbers()
    words = {name for name, value in wanted.items() if isinstance(value, str)}
    assert [found.pop(name) for name in words] == [wanted.pop(name) for name in words]
    assert_near(found, wanted)
    assert abs(found["cls_cosine"] - before.numbers()["cls_cosine"]) > 0.01
    assert attention.view.payload["numbers"]["student"] == attention.comparison.alignments["student"].as_dict()
    assert attention.distortion == attention._damage._text.value == "gaussian_noise(sigma=0.6)"


def test_controls_follow_each_other(attention: AttentionExplorer) -> None:
    attention._damage._severity.value = 3
    assert attention.comparison.distortion == ex.distortion("gaussian_noise:3")
    attention._damage._text.value = "gaussian_blur(kernel=5, sigma=2.0)"
    kernel, sigma = attention._damage._sliders.children
    assert (attention._damage._operator.value, kernel.value, sigma.value) == ("gaussian_blur", 5, 2.0)
    kernel.value = 8  # typed into the number beside the slider
    assert (kernel.value, attention.distortion) == (9, "gaussian_blur(kernel=9, sigma=2.0)")
    attention._damage._text.value = "gaussian_blur + pixel_mask"
    assert attention._damage._sliders.children == ()  # what sliders cannot show, the text tells
    assert attention.comparison.distortion == ex.distortion("gaussian_blur + pixel_mask")
    assert attention._damage._operator.label == "As written below"
    attention._damage._operator.value = "none"
    assert "As written below" not in dict(attention._damage._operator.options)
    assert torch.equal(attention.comparison.distorted, attention.comparison.clean)


@pytest.mark.parametrize("kind", ["path", "pil", "tensor"])
def test_pictures_of_any_size_are_fitted(both: ex.Pair, kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensor = (torch.rand(3, 50, 70, generator=generator) * 255).round() / 255
    Image.fromarray((tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(tmp_path / "wide.png")
    source = {"path": tmp_path / "wide.png", "pil": Image.open(tmp_path / "wide.png"), "tensor": tensor}[kind]
    widget = PatchExplorer(both.teacher, source)
    again = Image.open(tmp_path / "wide.png") if kind == "pil" else source
    assert torch.equal(widget.comparison.clean, ex.load_image(again, size=SIZE))
    assert widget.comparison.untouched
    widget.close()


def test_an_error_is_one_line_inside_and_what_was_shown_stays(attention: AttentionExplorer) -> None:
    comparison, payload = attention.comparison, attention.view.payload
    attention._damage._text.value = "gausian_noise"
    assert attention.error is not None
    assert "gaussian_noise" in attention.error
    assert "\n" not in attention.error
    assert attention.comparison is comparison
    assert attention.view.payload == payload
    attention._damage._text.value = NOISE
    assert attention.error is None


def test_a_file_that_is_no_picture_is_told_inside(attention: AttentionExplorer) -> None:
    clean = attention.comparison.clean
    file = {
        "name": "x.png",
        "type": "",
        "size": 4,
        "content": memoryview(b"text"),
        "last_modified": datetime.now(timezone.utc),
    }
    attention._pictures._file.value = (file,)
    assert "picture" in str(attention.error)
    assert attention.comparison.clean is clean
    stream = io.BytesIO()
    Image.new("RGB", (90, 40), "red").save(stream, "PNG")
    attention._pictures._file.value = ({**file, "content": memoryview(stream.getvalue())},)
    assert attention.comparison.clean[:, 0, 0].tolist() == [1, 0, 0]
    assert attention.error is None


def test_a_shipped_photo_can_be_chosen(attention: AttentionExplorer) -> None:
    attention._pictures._choice.value = "farm_animal/owl.webp"
    photos = ex.load_images("photos", size=SIZE)
    assert torch.equal(attention.comparison.clean, photos[photos.names.index("farm_animal/owl.webp")][0])


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_refused_at_once(both: ex.Pair, pictures: ex.ImageSet) -> None:
    with pytest.raises(ValueError, match="load_pair"):
        AttentionExplorer("s14-noise", pictures.path(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not exist"):
        AttentionExplorer(both, "no such file.png")
    with pytest.raises(ValueError, match="block"):
        PatchExplorer(both, pictures.path(0), layer=99)
    for image, damage in ((None, NOISE), (pictures.path(0), pictures.path(1)), (pictures.path(0), "night.jpg")):
        with pytest.raises(ValueError, match="one that is damaged already is shown by"):
            AttentionExplorer(both, image, damage)  # type: ignore[arg-type]


def test_another_layer_of_the_patches_is_asked_for_by_the_page(both: ex.Pair, pictures: ex.ImageSet) -> None:
    widget = PatchExplorer(both, pictures.path(0), NOISE)
    widget.view._handle_custom_msg({"type": "event", "name": "layer", "data": {"layer": 2}}, [])
    assert widget.view.payload["layer"] == 11 or not widget._latest.busy
    assert widget.comparison.distortion.spec == NOISE
    assert widget.view.payload == patch_scene(widget.comparison, 2)
    assert widget.layer == widget.view.settings["layer"] == 2
    widget.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mode": "similarity"}, "Patch (row 1, column 1)"),
        ({"mode": "pca"}, "PCA colours"),
        ({"mode": "foreground"}, "foreground of the patches"),
        ({"mode": "clusters", "clusters": 3}, "3 clusters of"),
        ({"mode": "matches"}, "best matches of"),
        ({"mode": "labels", "labels": [{"row": 0, "col": 1, "label": 2}]}, "labels of a few patches"),
        ({"mode": "labels", "labels": []}, "Patch (row 1, column 1)"),
    ],
)
def test_the_picture_of_the_patches_is_of_what_is_shown(
    both: ex.Pair, pictures: ex.ImageSet, settings: dict, told: str
) -> None:
    widget = PatchExplorer(both, pictures.path(0), NOISE, layer=2)
    widget.view.settings = {**widget.view.settings, **settings}
    texts = " ".join(text.get_text() for text in widget._picture().texts)
    assert told in texts
    assert "layer 2" in texts
    widget.close()


def test_classes_of_patches_by_a_probe_of_ones_own(both: ex.Pair, pictures: ex.ImageSet, tmp_path: Path) -> None:
    segmented = ex.load_segmented(segmented_folder(tmp_path, pictures=3))
    widget = PatchExplorer(both, pictures.path(0), NOISE, probe=ex.fit_patch_probe(both.teacher, segmented))
    assert widget.view.payload["classes"]["pictures"] == 3
    widget.view.settings = {**widget.view.settings, "mode": "classes"}
    assert "classes by a linear probe" in " ".join(text.get_text() for text in widget._picture().texts)
    widget.layer = 2
    assert widget.comparison, "it is computed"
    assert "classes" not in widget.view.payload, "the probe reads the last block"
    widget.close()


def test_the_picture_of_norms_is_of_norms(attention: AttentionExplorer) -> None:
    attention.view.settings = {**attention.view.settings, "map": "norms", "layer": 2}
    texts = " ".join(text.get_text() for text in attention._picture().texts)
    assert "norms of the patches' tokens · layer 2" in texts


def test_layer_and_head_reach_the_page_and_come_back(attention: AttentionExplorer) -> None:
    attention.layer, attention.head = 3, 1
    assert (attention.view.settings["layer"], attention.view.settings["head"]) == (3, 1)
    attention.view.set_state({"settings": {"layer": 5, "head": "max"}})  # as a page does
    assert (attention.layer, attention.head) == (5, "max")
    with pytest.raises(ValueError, match="head"):
        attention.head = 99


# What a stored notebook shows.


def test_every_widget_leaves_a_picture(
    attention: AttentionExplorer, monitor: DistillationMonitor, both: ex.Pair, pictures: ex.ImageSet
) -> None:
    patches, embedding = PatchExplorer(both, pictures.path(0)), EmbeddingExplorer(both, pictures)
    for widget in (attention, patches, embedding, monitor):
        data, metadata = widget._repr_mimebundle_()
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
        assert len(data["image/png"]) < 300_000
        assert min(Image.open(io.BytesIO(data["image/png"])).size) > 200
        assert type(widget).__name__ in metadata["image/png"]["alt"]
    patches.close()
    embedding.close()


def test_students_of_one_teacher_stand_beside_each_other(both: ex.Pair, pictures: ex.ImageSet) -> None:
    named = {"noise": both, "mixture": replace(both, student=network(2))}
    students = {name: one.student for name, one in named.items()}
    for explorer in (AttentionExplorer, PatchExplorer):
        widget = explorer(named, pictures.path(0), NOISE)
        widget.seed = 5
        expected = ex.compare(both.teacher, widget.image, NOISE, students, seed=5)
        assert widget.comparison.students == ("noise", "mixture")
        assert_near(widget.comparison.numbers()["attention"], expected.numbers()["attention"])
        assert {pane["id"] for pane in widget.view.payload["panes"]} == set(expected.views)
        assert f"{expected.alignments['mixture'].cls_cosine:.2f} for mixture" in widget._words()
        assert widget._picture().axes
        widget.close()
    many = EmbeddingExplorer(named, pictures)
    assert many.embedding.measures.equals(embed_pair(named, pictures).measures)
    assert " for noise, " in many._words()
    many.close()
    with pytest.raises(ValueError, match="trained on different damage"):
        EmbeddingExplorer({**named, "mixture": pair("gaussian_blur")}, pictures)
    with pytest.raises(ValueError, match="expected 1 to 4 students"):
        AttentionExplorer({}, pictures.path(0), NOISE)


def test_the_picture_shows_the_layer_on_the_page(attention: AttentionExplorer) -> None:
    before = attention._repr_mimebundle_()[0]["image/png"]
    attention.layer = 0
    assert attention._repr_mimebundle_()[0]["image/png"] != before


# Many pictures.


def test_the_map_is_that_of_embed_pair(both: ex.Pair, pictures: ex.ImageSet) -> None:
    widget = EmbeddingExplorer(both, pictures)
    assert widget.embedding.measures.equals(embed_pair(both, pictures).measures)
    widget.distortion = "gaussian_blur(kernel=5, sigma=3.0)"
    assert widget.embedding.distortion == both.distortion  # not before it is asked for
    assert "Compute" in widget._form.note.value
    widget._form.compute.click()
    expected = embed_pair(both, pictures, "gaussian_blur(kernel=5, sigma=3.0)")
    assert widget.embedding.measures.equals(expected.measures)
    assert widget.error is None
    widget._form.components.value = 3
    assert widget.projection.coordinates["teacher_clean"].shape == (len(pictures), 3)
    assert widget.view.payload["components"] == 3
    widget.close()


def test_labels_and_clicks(both: ex.Pair, pictures: ex.ImageSet) -> None:
    names = ["odd" if place % 2 else "even" for place in range(len(pictures))]
    widget = EmbeddingExplorer(both, pictures, labels=names)
    assert widget.view.payload["pictures"]["classes"] == ["even", "odd"]
    widget.view._handle_custom_msg({"type": "event", "name": "open", "data": {"name": pictures.names[4]}}, [])
    widget.view._handle_custom_msg({"type": "event", "name": "select", "data": {"indices": [1, 2]}}, [])
    assert widget.chosen == pictures.names[4]
    assert widget.view.payload["chosen"] == 4
    assert widget.selected == pictures.names[1:3]
    with pytest.raises(ValueError, match="expected 9, got 2"):
        EmbeddingExplorer(both, pictures, labels=["a", "b"])
    widget.close()


# Training.


def test_a_run_to_its_end(both: ex.Pair, pictures: ex.ImageSet, tmp_path: Path) -> None:
    widget = DistillationMonitor(both.teacher, pictures, CONFIG, watch=pictures.path(0), out=tmp_path / "run")
    with pytest.raises(ex.PairError, match="start the run"):
        _ = widget.pair
    widget._start.click()
    widget.wait()
    expected = list(ex.distill(both.teacher, pictures, CONFIG, out=tmp_path / "again"))
    assert_near([record.losses for record in widget.records], [record.losses for record in expected])
    assert widget.state == widget.view.payload["state"] == "finished"
    assert widget.pair.card["step"] == CONFIG.steps
    assert widget.view.payload["records"] == [record.as_dict() for record in widget.records]
    assert widget.recovery is not None
    assert widget.view.scene == recovery_scene(widget.recovery)
    shown = [getattr(widget.view, f"moment_{place}") for place in range(widget.view.slots)]
    assert [each for each in shown if each] == [moment_scene(each) for each in widget.recovery.moments]
    assert (widget._start.disabled, widget._stop.disabled, widget.error) == (True, True, None)
    widget.close()
    again = DistillationMonitor(both.teacher, pictures, CONFIG, out=tmp_path / "run")
    again.start()
    with pytest.raises(FileExistsError):
        again.wait()
    assert (again.state, again.view.payload["state"]) == ("failed", "failed")
    assert "resume=True" in str(again.error)
    again.close()


def test_stop_and_resume(monitor: DistillationMonitor) -> None:
    monitor.start()
    wait_for_step(monitor, 3)
    assert monitor._start.disabled
    monitor._stop.click()
    monitor.wait()
    reached = monitor.pair.card["step"]
    assert (monitor.state, reached) == ("stopped", len(monitor.records))
    assert monitor._start.description == "Resume"
    monitor._start.click()
    wait_for_step(monitor, reached + 2)
    monitor.stop()
    monitor.wait()
    assert [record.step for record in monitor.records] == list(range(1, monitor.pair.card["step"] + 1))


def test_the_newest_moment_is_shown_where_slots_are_few(monitor: DistillationMonitor) -> None:
    recovery = monitor.recovery
    assert recovery is not None
    for step in range(1, monitor.view.slots + 2):
        recovery.moments.append(replace(recovery.moments[0], step=step))
    monitor._push()
    shown = [getattr(monitor.view, f"moment_{place}")["step"] for place in range(monitor.view.slots)]
    assert shown == [*range(monitor.view.slots - 1), monitor.view.slots + 1]


def test_closing_ends_the_thread_and_keeps_the_student(monitor: DistillationMonitor, both: ex.Pair) -> None:
    monitor.start()
    wait_for_step(monitor, 2)
    monitor.close()
    assert "vit-explorer run" not in [thread.name for thread in threading.enumerate()]
    assert ex.load_pair(monitor.out, teacher=both.teacher).card["step"] == len(monitor.records) < LONG.steps
    monitor.start()
    assert not monitor._training.going_on


def test_an_interrupt_loses_nothing(monitor: DistillationMonitor, both: ex.Pair, pictures: ex.ImageSet) -> None:
    def interrupt() -> None:
        wait_for_step(monitor, 3)
        os.kill(os.getpid(), signal.SIGINT)

    monitor.start()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        monitor.wait()
    done = len(monitor.records)
    assert ex.load_pair(monitor.out, teacher=both.teacher).card["step"] == done >= 3
    resumed = ex.distill(both.teacher, pictures, LONG, out=monitor.out, resume=True)
    assert next(resumed).step == done + 1
    resumed.close()  # type: ignore[attr-defined]


# What is missing.


@pytest.mark.parametrize("package", ["ipywidgets", "anywidget"])
def test_a_missing_package_is_named_with_the_cure(package: str) -> None:
    script = f"import sys; sys.modules['{package}'] = None; import explorer.widgets"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"needs {package}" in done.stderr
    assert 'pip install "vit-explorer[notebooks]"' in done.stderr
