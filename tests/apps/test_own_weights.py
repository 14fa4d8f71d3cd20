"""Checkpoints that visitors bring: tried, kept under a secret name, seen on the page, refused readably, bounded."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from visiting import Visit

import explorer as ex
from explorer_app.service import checkpoints, models

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with classifier, one that does not fit, and a pickle under a false name."""
    folder = tmp_path_factory.mktemp("brought")
    torch.manual_seed(0)
    state = timm.create_model(TINY).state_dict()
    safetensors.torch.save_file(state, folder / "mine.safetensors")
    torch.save(state, folder / "pickle.safetensors")
    partly = {**{name: tensor for name, tensor in state.items() if name != "norm.bias"}, "foo": torch.zeros(2)}
    safetensors.torch.save_file(partly, folder / "partly.safetensors")
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIT_EXPLORER_RUNS", str(tmp_path))
    return tmp_path / "weights"


def test_a_checkpoint_is_kept_under_a_name_that_nobody_can_guess(files: Path, store: Path) -> None:
    name = checkpoints.take_in(str(files / "mine.safetensors"), TINY, 224)
    loaded = models.load_backbone(name, 224)
    expected = ex.load_backbone(TINY, image_size=224, source=files / "mine.safetensors")
    assert (loaded.name, loaded.sha256) == (name, expected.sha256)
    assert loaded.source.startswith(f"mine.safetensors as {TINY} (own file")
    assert models.backbones([name])[0] == (f"yours: mine.safetensors ({TINY})", name)
    assert name not in [each for _, each in models.backbones()]
    assert [student for _, student in models.offered_students(name)] == [models.UNTOUCHED, models.RESTORED]
    for other in ("weights-../../etc", "weights-" + "0" * 20, "", TINY):
        assert not checkpoints.is_own(other)


def test_what_does_not_fit_is_not_kept(files: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in (("partly", "1 missing of 150: norm.bias; 1 unexpected: foo"), ("pickle", "is a pickle")):
        with pytest.raises(ex.WeightsError, match=words):
            checkpoints.take_in(str(files / f"{name}.safetensors"), TINY, 224)
    monkeypatch.setattr(checkpoints, "LARGEST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match=r"has 21 MiB; expected 1 MiB at most"):
        checkpoints.take_in(str(files / "mine.safetensors"), TINY, 224)
    assert not list(store.glob("*"))


def test_an_upload_is_one_whole_file(files: Path, store: Path, tmp_path: Path) -> None:
    """Lists and folders of files, and adapters that need weights of others, are for the library."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "mine.safetensors"}}')
    for given in (index, tmp_path):
        with pytest.raises(ValueError, match=r"is not one file of weights; expected one \.safetensors file"):
            checkpoints.take_in(str(given), TINY, 224)
    adapter = {f"base_model.model.blocks.0.attn.qkv.lora_{factor}.weight": torch.zeros(2, 2) for factor in "AB"}
    safetensors.torch.save_file(adapter, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ex.WeightsError, match="merge it with peft"):
        checkpoints.take_in(str(tmp_path / "adapter_model.safetensors"), TINY, 224)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
    with pytest.raises(ex.WeightsError, match="merge it with peft"):
        checkpoints.take_in(str(tmp_path / "adapter_model.safetensors"), TINY, 224)
    assert not list(store.glob("*"))


def test_weights_that_hold_nan_are_not_kept(files: Path, store: Path, tmp_path: Path) -> None:
    """Their maps would be flat, and flat maps agree: JS 0.000, IoU 1.00."""
    state = safetensors.torch.load_file(files / "mine.safetensors")
    state["blocks.11.attn.qkv.bias"][7] = torch.nan
    safetensors.torch.save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(ex.WeightsError, match=r"'blocks\.11\.attn\.qkv\.bias' holds NaN"):
        checkpoints.take_in(str(tmp_path / "nan.safetensors"), TINY, 224)
    assert not list(store.glob("*"))


def test_the_store_is_bounded_and_drops_what_was_not_used_for_longest(
    files: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "KEPT_BYTES", 60 << 20)
    names = [checkpoints.take_in(str(files / "mine.safetensors"), TINY, 224) for _ in range(2)]
    for age, name in enumerate(names):
        os.utime(store / f"{name}.safetensors", (1000 + age, 1000 + age))
    checkpoints.load(names[0], 224)
    third = checkpoints.take_in(str(files / "mine.safetensors"), TINY, 224)
    assert [checkpoints.is_own(name) for name in (*names, third)] == [True, False, True]
    with pytest.raises(ValueError, match="upload it again"):
        checkpoints.load(names[1], 224)


def test_sizes_are_told() -> None:
    assert models.about_size("s14") == "Patches of 14 px, trained at 518 px."
    assert models.about_size("vit_base_patch32_224") == "Patches of 32 px, trained at 224 px; 336 px do not fit."
    assert models.about_size("nonsense") == ""
    for pinned in ex.ALIASES.values():
        assert pinned.trained_size == timm.get_pretrained_cfg(pinned.architecture).input_size[1]


@pytest.mark.browser
def test_a_visitor_types_a_name_and_brings_a_checkpoint(app, browser, files: Path) -> None:  # type: ignore[no-untyped-def]
    visit = Visit(browser, app.url).open().unfold("more-model")
    page = visit.page
    visit.settle()  # the list comes when its part is opened
    drawn = page.locator("#attention-view").inner_text()
    box = page.locator("#backbone input")
    box.click()
    box.fill("")
    box.press_sequentially("dinov2")
    page.get_by_role("option", name="vit_small_patch14_dinov2", exact=True).click()
    told = page.locator("#backbone-problem .notice")
    told.wait_for(timeout=60_000)
    assert "timm's hub did not give them" in told.inner_text()
    assert 'below "Your own checkpoint"' in told.inner_text()
    visit.settle()
    assert page.locator("#attention-view").inner_text() == drawn  # what was shown stays

    page.locator("#own-checkpoint button").first.click()
    architecture = page.locator("#architecture input")
    architecture.fill(TINY)
    architecture.press("Enter")
    for name, words in (("pickle", "is a pickle, whatever its name"), ("partly", "1 missing of 150: norm.bias")):
        _bring(visit, files / f"{name}.safetensors")
        page.locator(".toast-body", has_text=words).wait_for(timeout=60_000)
    _bring(visit, files / "mine.safetensors")
    page.locator("#weights", has_text=f"mine.safetensors as {TINY}").wait_for(timeout=60_000)
    visit.settle()
    assert page.locator("#attention-view").inner_text() != drawn
    assert box.input_value().startswith("yours: mine.safetensors")
    assert visit.complaints == []
    visit.close()


def _bring(visit: Visit, file: Path) -> None:
    with visit.page.expect_file_chooser() as chooser:
        visit.page.locator("#open-checkpoint").click()
    chooser.value.set_files(file)
