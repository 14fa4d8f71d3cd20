"""Training really teaches, repeats to the bit, goes on where it stopped, and never leaves a broken folder behind."""

import argparse
import copy
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import explorer
from explorer import DistillConfig, distill, load_backbone, load_images, load_pair
from explorer.models.backbones import Backbone, CaptureError
from explorer.models.pairs import CARD, HISTORY, STUDENT, PairError
from explorer.models.weights import state_digest
from explorer.training.checkpoint import OPTIMIZER
from explorer.training.held_out import HeldOut, split
from explorer.training.records import CheckpointError, DivergedError, Record
from tests.together import run_together

NAME = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(NAME, image_size=32, source="random", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Ten soft pictures, somewhat larger than they are trained at."""
    coarse = torch.rand(10, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bilinear")


def settings(**changes: Any) -> DistillConfig:
    small: dict[str, Any] = {"image_size": 32, "steps": 4, "batch_size": 4, "trainable": "last:1", "probe": 2}
    return DistillConfig(**{**small, "eval_every": 2, "checkpoint_every": 2, **changes})


def run(backbone: Backbone, pictures: Tensor, out: Path, resume: bool = False, **changes: Any) -> list[Record]:
    return list(distill(backbone, pictures, settings(**changes), out, resume=resume))


def stopped(backbone: Backbone, pictures: Tensor, out: Path, after: int, **changes: Any) -> list[Record]:
    """A run whose generator is closed after so many records."""
    records = distill(backbone, pictures, settings(**changes), out)
    taken = [next(records) for _ in range(after)]
    records.close()  # type: ignore[attr-defined]
    return taken


def assert_same_student(a: Path, b: Path) -> None:
    assert (a / STUDENT).read_bytes() == (b / STUDENT).read_bytes()
    assert (a / OPTIMIZER).read_bytes() == (b / OPTIMIZER).read_bytes()


# It teaches.


@pytest.mark.parametrize("trainable", [pytest.param("all", marks=pytest.mark.slow), "lora:4"])
def test_training_lowers_the_loss(backbone: Backbone, pictures: Tensor, tmp_path: Path, trainable: str) -> None:
    lr = 5e-4 if trainable == "all" else 5e-3
    records = run(
        backbone, pictures, tmp_path / "run", steps=24, lr=lr, trainable=trainable, views="fixed", eval_every=24
    )
    first, last = (sum(r.losses["loss"] for r in part) / 4 for part in (records[:4], records[-4:]))
    assert last < 0.8 * first
    card = load_pair(tmp_path / "run", teacher=backbone).card
    assert records[-1].alignment is not None
    assert card["metrics"]["after"] == records[-1].alignment.as_dict()
    assert set(card["metrics"]["before"]) == set(card["metrics"]["after"])


@pytest.mark.parametrize("views", ["fresh", "fixed", 2])
def test_both_see_the_same_view(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, views: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without distortion the untouched student agrees with its teacher, which it would not on another crop."""
    records = run(backbone, pictures, tmp_path / "run", distortion="none", views=views, steps=1)
    assert records[0].losses == pytest.approx({"loss": 0, "cls": 0, "patch": 0, "attention": 0}, abs=1e-5)
    assert "there is nothing to learn" in caplog.text


def test_losses_are_those_of_the_step(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    """The first step of a run on fixed views, done by hand."""
    options = {"views": "fixed", "steps": 1, "batch_size": 4, "contrastive": 0.5, "attention": 2.0}
    record = run(backbone, pictures, tmp_path / "run", **options)[0]
    samples = next(iter(explorer.training.crops.Batches(0, 1, 4)))
    held_out, training = split(10, 2)
    stream = explorer.training.crops.Stream([(pictures[i],) for i in training], (32, 32), "fixed", (0.4, 1.0), 0)
    clean = torch.stack([stream[n].image for n in samples])
    damaged = explorer.distortion("gaussian_noise(sigma=0.3)")(clean, seed=0, indices=samples)
    traces = [backbone.trace(images, layers=(8, 9, 10, 11), attention="full") for images in (clean, damaged)]
    expected = explorer.training.losses.combine(*traces, contrastive=0.5, attention=2.0, patch_layers=4)
    assert record.losses == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)
    assert len(held_out) == 2


@pytest.mark.parametrize("views", ["fixed", 2])
def test_of_real_pairs_the_student_sees_the_damaged_one(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, views: Any
) -> None:
    """The first step and the agreement before it, done by hand; the damaged files are of another size."""
    for number, (image, _) in enumerate(as_pil(pictures)):
        for kind, shown in (("day", image), ("night", image.point(lambda value: value // 4).resize((60, 60)))):
            (tmp_path / kind).mkdir(exist_ok=True)
            shown.save(tmp_path / kind / f"{number}.png")
    images = load_images(tmp_path / "night", size=None, clean=tmp_path / "day")
    options = {"distortion": "none", "views": views, "steps": 1, "attention": 2.0}
    record = run(backbone, images, tmp_path / "run", **options)[0]  # type: ignore[arg-type]
    held_out, training = split(10, 2)
    assert images.clean is not None
    night = [explorer.training.crops.whole(images[i][0], (40, 40)) for i in range(10)]
    shown = [[images.clean[i][0] for i in range(10)], night]
    crops = []
    for kind in shown:
        stream = explorer.training.crops.Stream([(kind[i],) for i in training], (32, 32), views, (0.4, 1.0), 0)
        crops.append(torch.stack([stream[n].image for n in range(4)]))
    traces = [backbone.trace(batch, layers=(8, 9, 10, 11), attention="full") for batch in crops]
    expected = explorer.training.losses.combine(*traces, attention=2.0, patch_layers=4)
    assert expected["cls"] > 1e-3
    assert record.losses == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-3, abs=1e-5)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["data"]["twins"]
    probe = [torch.stack([explorer.training.crops.whole(kind[i], (32, 32)) for i in held_out]) for kind in shown]
    agreement = explorer.alignment(*(backbone.trace(batch) for batch in probe))
    assert card["metrics"]["before"]["cls_cosine"] == pytest.approx(agreement.cls_cosine, abs=1e-4)
    assert run(backbone, images, tmp_path / "run", resume=True, **options) == []  # type: ignore[arg-type]
    aligned = load_images(tmp_path / "night", size=40, clean=tmp_path / "day", align=True)
    before = load_images(tmp_path / "night", size=40, clean=tmp_path / "day")
    assert len(run(backbone, aligned, tmp_path / "aligned", **options)) == 1  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="witness_sha256"):
        run(backbone, before, tmp_path / "aligned", resume=True, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"nothing is done to them: DistillConfig\(distortion='none'\)"):
        run(backbone, images, tmp_path / "other")  # type: ignore[arg-type]


def as_pil(pictures: Tensor) -> list[Any]:
    return [(explorer.data.image.to_pil(one), None) for one in pictures]


def test_pictures_may_be_what_load_image_takes(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    levels = (pictures * 255).round().to(torch.uint8)
    forms: dict[str, Any] = {
        "float": levels / 255,
        "rounding": [(levels[i] / 255 + (levels[i] == 255) * 1e-7, 0) for i in range(len(levels))],
        "uint8": levels,
        "PIL": as_pil(levels / 255),
        "arrays": [(one.permute(1, 2, 0).numpy(), 0) for one in levels],
        "bare": list(levels / 255),
    }
    losses = {
        name: run(backbone, images, tmp_path / name, steps=1, views="fixed")[0].losses["loss"]
        for name, images in forms.items()
    }
    assert list(losses.values()) == pytest.approx([losses["float"]] * len(forms), rel=1e-5)


SHIFTED = {  # how data sets hand out pictures, other than in [0, 1]
    "0 to 255": lambda x: x * 255,
    "-1 to 1": lambda x: x * 2 - 1,
    "normalised": lambda x: (x - 0.45) / 0.22,
    "NaN": lambda x: torch.where(x > 0.9, torch.nan, x),
    "whole numbers": lambda x: (x * 255).long(),
}


@pytest.mark.parametrize("held", ["a tensor", "a data set", "one of many"])
@pytest.mark.parametrize("change", SHIFTED.values(), ids=SHIFTED)
def test_pictures_out_of_range_are_refused_by_their_number(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, change: Any, held: str
) -> None:
    larger = pictures.repeat_interleave(2, dim=2)  # crops are clamped, which hid what was there
    images: Any = change(larger)
    if held != "a tensor":
        images = [(image, 0) for image in (larger if held == "one of many" else images)]
    training = split(10, 2)[1]
    if held == "one of many":
        images[training[0]] = (change(larger)[training[0]], 0)
    which = training[0] if held == "one of many" else r"\d"
    with pytest.raises(explorer.ImageError, match=rf"picture {which} of .*(expected \[0, 1\]|NaN|float in \[0, 1\])"):
        run(backbone, images, tmp_path / "run", steps=2, batch_size=8)


@pytest.mark.parametrize(("shape", "message"), [((3, 32, 32), "'picture 3 height"), ((4, 32, 32, 3), "'picture 3")])
def test_tensors_that_are_no_pictures(
    backbone: Backbone, tmp_path: Path, shape: tuple[int, ...], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=message):
        run(backbone, torch.rand(shape), tmp_path / "run")


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("trainable", ["lora:4", "all"])
def test_gradients_may_be_switched_off_around_it(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, around: Any, trainable: str
) -> None:
    run(backbone, pictures, tmp_path / "plain", steps=2, trainable=trainable)
    with around():
        for _ in distill(backbone, pictures.clone(), settings(steps=2, trainable=trainable), out=tmp_path / "within"):
            assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled() == (around is torch.inference_mode)
    assert_same_student(tmp_path / "plain", tmp_path / "within")


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_training_mode_is_told(pictures: Tensor, tmp_path: Path, who: str) -> None:
    own = load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
    own.module.blocks[11].mlp.drop1.p = 0.1  # type: ignore[index, union-attr]
    if who == "teacher":
        own.module.train()
    records = distill(own, pictures, settings(steps=3, eval_every=3), out=tmp_path / "run")
    if who == "student":
        next(records).student.module.train()
    with pytest.raises(ValueError, match=r"training mode.*eval\(\)"):
        next(records)


def test_records(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    records = run(backbone, pictures, tmp_path / "run", steps=5, attention=0.0)
    assert [record.step for record in records] == [1, 2, 3, 4, 5]
    assert all(record.steps == 5 and set(record.losses) == {"loss", "cls", "patch"} for record in records)
    assert [record.alignment is not None for record in records] == [False, True, False, True, True]
    assert [record.lr for record in records] == [settings(steps=5).lr_at(step) for step in range(1, 6)]
    assert all(record.images_per_second > 0 for record in records)
    assert records[-1].eta_seconds == 0
    assert records[0].eta_seconds > 0
    with pytest.raises(FrozenInstanceError):
        records[0].step = 3  # type: ignore[misc]
    history = load_pair(tmp_path / "run", teacher=backbone).history
    assert list(history) == json.loads(json.dumps([record.as_dict() for record in records]))


def test_learning_rate() -> None:
    config = settings(steps=100, lr=1.0, warmup=0.1)
    rates = [config.lr_at(step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)])
    assert [settings(trainable=t).highest_lr for t in ("lora:1", "all", "last:1")] == [1e-3, 1e-4, 1e-4]
    for warmup in (0.0, 0.999):
        assert all(0 < settings(steps=3, warmup=warmup).lr_at(step) <= 1 for step in (1, 2, 3))


def test_the_teacher_is_left_as_it_was(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    def state() -> tuple:
        parameters = [(p.requires_grad, p.grad is None) for p in backbone.module.parameters()]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules()]
        return state_digest(backbone.module.state_dict()), parameters, hooks, backbone.module.training

    before, random_state = state(), torch.get_rng_state()
    run(backbone, pictures, tmp_path / "run", trainable="lora:2", steps=2)
    assert state() == before
    assert torch.equal(torch.get_rng_state(), random_state)


def test_pictures_of_the_probe_are_not_trained_on(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            self.seen.append(index)
            return pictures[index], 0

    data = Counting()
    records = distill(backbone, data, settings(steps=6), tmp_path / "run")
    next(records)
    assert len(set(data.seen[:2])) == 2
    list(records)
    assert set(data.seen[2:]) == set(range(10)) - set(data.seen[:2])


def test_names_of_another_data_set_are_not_looked_at(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    class Named(list):
        names = ("the", "classes")

        def size(self) -> int:
            return len(self)

    assert len(run(backbone, Named((picture, 0) for picture in pictures), tmp_path / "run", steps=1)) == 1


# The same every time, whatever comes between.


def test_runs_beside_each_other_draw_as_they_do_alone(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    config: dict[str, Any] = {"trainable": "lora:2", "steps": 1}
    run(backbone, pictures, tmp_path / "alone", **config)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: run(backbone, pictures, tmp_path / name, **config), "abcd"))
    for name in "abcd":
        assert_same_student(tmp_path / "alone", tmp_path / name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("evaluation", [1, 2])  # number 0 is made before the first step
def test_a_stop_while_it_is_evaluated_loses_nothing(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: int
) -> None:
    run(backbone, pictures, tmp_path / "whole")
    measure, count = HeldOut.alignment, itertools.count()

    def interrupted(self: HeldOut, student: Backbone) -> Any:
        if next(count) == evaluation:
            raise KeyboardInterrupt
        return measure(self, student)

    with monkeypatch.context() as patch:
        patch.setattr(HeldOut, "alignment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(backbone, pictures, tmp_path / "cut")
    run(backbone, pictures, tmp_path / "cut", resume=True)
    assert_same_student(tmp_path / "whole", tmp_path / "cut")
    whole, cut = (load_pair(tmp_path / name, teacher=backbone) for name in ("whole", "cut"))
    assert cut.card["metrics"] == whole.card["metrics"]
    told = [[[record[key] for key in ("step", "losses", "alignment")] for record in of.history] for of in (whole, cut)]
    assert told[0] == told[1]


def test_ctrl_c_just_behind_the_update_loses_no_record(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the weights are those of the new step already, and gradients are set free, which takes a while."""
    free, steps = torch.optim.AdamW.zero_grad, itertools.count()

    def interrupted(self: torch.optim.AdamW, set_to_none: bool = True) -> None:
        free(self, set_to_none)
        if sys._getframe(1).f_code.co_name == "_learn" and next(steps) == 1:
            raise KeyboardInterrupt

    run(backbone, pictures, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "zero_grad", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(backbone, pictures, tmp_path / "cut")
    run(backbone, pictures, tmp_path / "cut", resume=True)
    assert_same_student(tmp_path / "whole", tmp_path / "cut")
    whole, cut = (load_pair(tmp_path / name, teacher=backbone).history for name in ("whole", "cut"))
    told = [[[record[key] for key in ("step", "losses", "alignment")] for record in of] for of in (whole, cut)]
    assert told[0] == told[1]


def test_a_seed_repeats_and_another_does_not(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(backbone, pictures, tmp_path / name, seed=seed)
    assert_same_student(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / STUDENT).read_bytes() != (tmp_path / "c" / STUDENT).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"trainable": "lora:2", "accumulate": 2},
        {"trainable": "all", "views": 2, "weight_decay": 0.1},
        {"views": "fixed", "cache_gib": 0.0, "distortion": "none | gaussian_noise(sigma=0.1..0.5)"},
    ],
    ids=["adapter", "all", "disk"],
)
def test_a_stopped_run_ends_like_one_that_never_stopped(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = run(backbone, pictures, tmp_path / "whole", steps=6, **changes)
    before = stopped(backbone, pictures, tmp_path / "parts", 3, steps=6, **changes)
    assert json.loads((tmp_path / "parts" / CARD).read_text())["step"] == 3
    after = run(backbone, pictures, tmp_path / "parts", resume=True, steps=6, **changes)
    assert [record.losses for record in before + after] == [record.losses for record in whole]
    assert_same_student(tmp_path / "whole", tmp_path / "parts")
    assert len((tmp_path / "parts" / HISTORY).read_text().splitlines()) == 6
    assert not list((tmp_path / "parts").glob(".targets*"))


def test_resuming_what_is_finished_or_not_begun(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    assert len(run(backbone, pictures, tmp_path / "run", resume=True)) == 4
    assert run(backbone, pictures, tmp_path / "run", resume=True) == []


def test_what_does_not_change_the_weights_may_change(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    run(backbone, pictures, tmp_path / "whole")
    stopped(backbone, pictures, tmp_path / "parts", 1)
    run(backbone, pictures, tmp_path / "parts", resume=True, checkpoint_every=1, eval_every=1)
    assert_same_student(tmp_path / "whole", tmp_path / "parts")


def test_a_run_of_before_a_field_was_added_is_resumed(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    run(backbone, pictures, tmp_path / "whole")
    stopped(backbone, pictures, tmp_path / "parts", 1)
    card = tmp_path / "parts" / "card.json"
    content = json.loads(card.read_text())
    del content["config"]["contrastive"], content["card_sha256"]
    card.write_text(json.dumps(content))
    run(backbone, pictures, tmp_path / "parts", resume=True)
    assert_same_student(tmp_path / "whole", tmp_path / "parts")


def test_a_student_may_begin_as_another(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    run(backbone, pictures, tmp_path / "first")
    first = load_pair(tmp_path / "first", teacher=backbone).card
    begun: dict[str, Any] = {"distortion": "pixel_mask(fraction=0.5)", "begin": tmp_path / "first"}
    whole = run(backbone, pictures, tmp_path / "whole", **begun)
    pair = load_pair(tmp_path / "whole", teacher=backbone)
    said = pair.card["data"]["begun_from"]
    assert pair.runs == [said, pair.card]
    assert "for 8 steps" in pair.student.source
    assert [record["step"] for record in said.pop("history")] == [2, 4]
    assert {name: first[name] for name in said} == said
    assert said["step"] == 4
    stopped(backbone, pictures, tmp_path / "parts", 2, **begun)
    shutil.rmtree(tmp_path / "first")  # nobody needs it any longer
    run(backbone, pictures, tmp_path / "parts", resume=True, **begun)
    assert_same_student(tmp_path / "whole", tmp_path / "parts")
    copied = run(backbone, pictures, tmp_path / "copy", distortion=begun["distortion"])
    assert whole[0].losses["loss"] < copied[0].losses["loss"]


def test_a_student_begins_as_none_that_does_not_fit(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no pair 'nowhere'"):
        run(backbone, pictures, tmp_path / "run", begin="nowhere")
    stopped(backbone, pictures, tmp_path / "adapter", 1)
    with pytest.raises(ValueError, match="trained with trainable='last:1', and this run with 'all'"):
        run(backbone, pictures, tmp_path / "run", begin=tmp_path / "adapter", trainable="all")
    other = load_backbone(NAME, image_size=32, source="random", device="cpu", seed=1)
    with pytest.raises(PairError, match="seed 1"):
        run(other, pictures, tmp_path / "run", begin=tmp_path / "adapter")


def test_weights_that_were_changed_in_memory_are_a_teacher_of_their_own(pictures: Tensor, tmp_path: Path) -> None:
    """The card names a teacher by a digest: not by that of what was loaded."""
    own = load_backbone(NAME, image_size=32, source="random", device="cpu")
    assert not own.changed
    assert not copy.deepcopy(own).changed
    with torch.no_grad():
        next(own.module.parameters()).mul_(1.01)
    (*_, last) = run(own, pictures, tmp_path / "run")
    pair = load_pair(tmp_path / "run", teacher=own)
    seen = (student.trace(pictures[:, :, :32, :32]).embedding for student in (pair.student, last.student))
    assert torch.equal(*seen)
    with pytest.raises(PairError, match="changed since"):
        load_pair(tmp_path / "run", teacher=load_backbone(NAME, image_size=32, source="random", device="cpu"))
    with pytest.raises(ValueError, match="these weights cannot be found by its name"):
        distill(own, pictures, settings(image_size=48), tmp_path / "larger")


def test_a_run_is_not_resumed_as_another(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(backbone, pictures, out, 1)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(backbone, pictures, out)
    first, second = (distill(backbone, pictures, settings(), tmp_path / "both") for _ in range(2))
    assert len(list(first)) == 4
    with pytest.raises(FileExistsError, match="resume=True"):
        next(second)
    with pytest.raises(ValueError, match="other config: steps was 4 and is 9; seed was 0 and is 1"):
        run(backbone, pictures, out, resume=True, steps=9, seed=1)
    with pytest.raises(ValueError, match="other pictures: pictures was 8 and is 6"):
        run(backbone, pictures[:7], out, resume=True)
    with pytest.raises(ValueError, match="other pictures: witness_sha256"):
        run(backbone, pictures.flip(0), out, resume=True)  # held-out pictures would be learned from
    with pytest.raises(PairError, match="seed 1"):
        run(load_backbone(NAME, image_size=32, source="random", device="cpu", seed=1), pictures, out, resume=True)
    (out / OPTIMIZER).unlink()
    with pytest.raises(PairError, match=f"{OPTIMIZER} is missing"):
        run(backbone, pictures, out, resume=True)
    assert load_pair(out, teacher=backbone).card["step"] == 1


def test_two_runs_do_not_share_a_folder(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    first = distill(backbone, pictures, settings(), tmp_path / "run")
    next(first)
    with pytest.raises(BlockingIOError, match="another run is writing"):
        run(backbone, pictures, tmp_path / "run", resume=True)
    first.close()  # type: ignore[attr-defined]
    assert len(run(backbone, pictures, tmp_path / "run", resume=True)) == 3


# Whatever goes wrong.


def test_a_damaged_picture_does_not_lose_the_run(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    class Failing:
        broken = False

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Tensor, None]:
            if self.broken:
                raise ValueError("cat.jpg is damaged")
            return pictures[index], None

    data = Failing()
    records = distill(backbone, data, settings(checkpoint_every=50), tmp_path / "run")
    next(records), next(records), next(records)
    data.broken = True
    with pytest.raises(ValueError, match=r"cat\.jpg"):
        next(records)
    assert load_pair(tmp_path / "run", teacher=backbone).card["step"] == 3


def test_divergence_names_the_step_and_keeps_the_last_good_student(
    backbone: Backbone, pictures: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(DivergedError, match=r"step [2-9]: the loss term '\w+' is \w+;.*step 0 in"):
        run(backbone, pictures, tmp_path / "run", lr=1e30, grad_clip=None, warmup=0.0, checkpoint_every=50, steps=9)
    pair = load_pair(tmp_path / "run", teacher=backbone)
    assert pair.card["step"] == 0
    assert torch.equal(
        pair.student.trace(pictures[:2, :, :32, :32]).embedding, backbone.trace(pictures[:2, :, :32, :32]).embedding
    )


def test_a_broken_student_is_not_saved(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    """The step that breaks it is the one after which a checkpoint is due: no loss has told so yet."""
    with pytest.raises(DivergedError, match="after step 1: the loss term"):
        run(backbone, pictures, tmp_path / "run", lr=1e30, warmup=0.0, checkpoint_every=1)
    assert load_pair(tmp_path / "run", teacher=backbone).card["step"] == 0


def test_weights_that_are_not_finite(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    broken = backbone.with_module(copy.deepcopy(backbone.module))
    with torch.no_grad():
        broken.module.norm.weight.fill_(torch.inf)  # type: ignore[union-attr,operator]
    with pytest.raises(CaptureError, match=r"its weights are broken \(first 'norm\.weight'\)"):
        run(broken, pictures, tmp_path / "run")  # before it begins: nothing diverged, and no lower lr would help


def test_a_full_disk_is_reported(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(out)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(CheckpointError, match=r"step 2 .*(No space left|28).*step 0 is still there"):
            run(backbone, pictures, out)
        assert load_pair(out, teacher=backbone).card["step"] == 0
        assert not list(out.glob(".writing*"))
        with pytest.raises(CheckpointError, match=r"step 0 could not be written.*free some space and start again"):
            stopped(backbone, pictures, out / "other", 1, trainable="all")
    finally:
        subprocess.run(["umount", str(out)], check=True)


KILLED = """
import os, random, signal, sys, time
import torch
from pathlib import Path
from explorer import DistillConfig, distill, load_backbone, load_images, load_pair
torch.set_num_threads(1)
out, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
backbone = load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
coarse = torch.rand(10, 3, 5, 5, generator=torch.Generator().manual_seed(0))
pictures = torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bilinear")
options = {"steps": 12, "batch_size": 2, "trainable": "last:1", "probe": 2, "checkpoint_every": 1, "eval_every": 50}
config = DistillConfig(image_size=32, **options)
begun = 0
for trial in range(5):
    child = os.fork()
    if child == 0:
        for record in distill(backbone, pictures, config, out, resume=True):
            pass
        os._exit(0)
    time.sleep(draw.uniform(0.02, 0.6))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if (out / "card.json").exists() or (out / ".committed" / "card.json").exists():
        pair = load_pair(out, teacher=backbone)
        assert len(pair.history) == pair.card["step"] >= begun, (len(pair.history), pair.card["step"], begun)
        begun = pair.card["step"]
    print(begun, flush=True)
list(distill(backbone, pictures, config, out, resume=True))
list(distill(backbone, pictures, config, out.with_name("whole")))  # here: the last bits depend on the number of threads
"""


@pytest.mark.slow  # the fast set has the same in tests/test_faults.py, with fewer deaths
def test_killed_at_any_moment(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1000)
    code = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(seed)]
    done = subprocess.run(code, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert_same_student(tmp_path / "killed", tmp_path / "whole")
    names = {path.name for path in (tmp_path / "killed").iterdir()}
    assert names == {STUDENT, CARD, HISTORY, OPTIMIZER, ".lock"}


# Several processes.

TOGETHER = (
    KILLED.split("begun = 0")[0].replace('"batch_size": 2', '"batch_size": 4')
    + """
losses = [record.losses for record in distill(backbone, pictures, config, out, trackers=["tensorboard"])]
if os.environ["RANK"] == "0":
    import json
    print(json.dumps(losses))
"""
)


def test_two_processes_learn_like_one(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    outputs = run_together("-c", TOGETHER, str(tmp_path / "two"), "0")
    together = json.loads(outputs[0].splitlines()[-1])
    options = {"steps": 12, "batch_size": 4, "checkpoint_every": 1, "eval_every": 50}
    alone = [record.losses for record in run(backbone, pictures, tmp_path / "one", **options)]
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=2e-3)
    assert together != [alone[0]] * len(together)
    assert load_pair(tmp_path / "two", teacher=backbone).card["step"] == 12
    assert len(list((tmp_path / "two" / "tensorboard").glob("events*"))) == 1, "the first process tells"


# Configuration.


def test_the_weight_of_attention_is_the_backbones_unless_given(
    backbone: Backbone, pictures: Tensor, tmp_path: Path
) -> None:
    assert [settings().settled(name).attention for name in ("s14", "clip-b16")] == [3, 1]
    assert settings(attention=0.5).settled("s14").attention == 0.5
    losses = run(backbone, pictures, tmp_path / "run", steps=1)[0].losses
    assert losses["loss"] == pytest.approx(losses["cls"] + losses["patch"] + losses["attention"], rel=1e-5)
    assert load_pair(tmp_path / "run", teacher=backbone).card["config"]["attention"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distortion": "gaussian_nose"}, "did you mean 'gaussian_noise'"),
        ({"cls": -1.0}, "weight of 'cls'"),
        ({"cls": 0, "patch": 0, "attention": 0}, "nothing to learn"),
        ({"steps": 0}, "steps is a whole number, at least 1"),
        ({"steps": True}, "steps is a whole number"),
        ({"steps": 1.5}, "steps is a whole number"),
        ({"batch_size": 0}, "batch_size"),
        ({"accumulate": 0}, "accumulate"),
        ({"eval_every": 0}, "eval_every"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"workers": -1}, "workers"),
        ({"probe": 0}, "probe"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 63}, "seed"),
        ({"lr": 0.0}, "lr is a number, above 0"),
        ({"lr": math.nan}, "lr is a number"),
        ({"lr": "fast"}, "lr is a number"),
        ({"grad_clip": 0}, "grad_clip"),
        ({"weight_decay": -0.1}, "weight_decay is a number, 0 or above"),
        ({"warmup": 1.0}, "warmup is a number, 0 or above and below 1"),
        ({"cache_gib": -1}, "cache_gib"),
        ({"trainable": "lora"}, "'lora:8'"),
        ({"rows": "cls"}, "rows must be one of 'all', 'own'"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"compile": 1}, "compile must be one of"),
        ({"checkpointing": 1}, "checkpointing must be one of"),
        ({"compile": True, "checkpointing": True}, "exclude each other"),
        ({"attention_layers": 0}, "attention_layers is how many"),
        ({"patch_layers": ()}, "patch_layers are different whole numbers"),
        ({"patch_layers": (1, 1)}, "patch_layers are different"),
        ({"heads": (-1,)}, "heads are different whole numbers"),
        ({"heads": 3}, "heads are different whole numbers"),
        ({"begin": 3}, "begin is the name or the folder of a pair"),
        ({"image_size": (224,)}, "image_size"),
        ({"image_size": 0}, "image_size"),
        ({"views": 0}, "views must be"),
        ({"views": "random"}, "views must be"),
        ({"area": (0.5, 0.1)}, "area"),
        ({"area": (0, 1)}, "area"),
        ({"contrastive": 1.0, "batch_size": 1}, "batch_size must be at least 2"),
    ],
)
def test_bad_configurations(fields: dict[str, Any], message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        DistillConfig(**fields)


def test_a_misspelled_field() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        DistillConfig(batchsize=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="did you mean 'batch_size'"):
        DistillConfig.from_dict({"batchsize": 3})


def test_a_configuration_travels_as_json(unchecked: None) -> None:
    config = settings(attention_layers=[0, 5], heads=[1], area=(0.5, 0.9), distortion="gaussian_noise:2 | none")
    again = DistillConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert again.attention_layers == (0, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_layers": 13}, "12 blocks"),
        ({"patch_layers": (12,)}, "12 blocks"),
        ({"heads": (3,)}, "heads 0 to 2"),
        ({"image_size": 48}, "image_size=48, but the backbone was loaded at 32"),
        ({"trainable": "last:13"}, "12 blocks"),
    ],
)
def test_what_does_not_fit_the_backbone(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(backbone, pictures, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / CARD).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "own", "heads": (0, 2), "attention_layers": (3, -1)},
        {"patch_layers": (0, 11), "cls": 0.0, "attention": 0.0, "patch_mse": 1.0},
        {"precision": "bfloat16", "cls_mse": 1.0},
    ],
    ids=["rows", "levels", "bfloat16"],
)
def test_choices_run(backbone: Backbone, pictures: Tensor, tmp_path: Path, changes: dict[str, Any]) -> None:
    records = run(backbone, pictures, tmp_path / "run", steps=2, **changes)
    wanted = {name for name, weight in settings(**changes).weights.items() if weight}
    assert set(records[-1].losses) == {"loss", *wanted}
    assert all(math.isfinite(value) for value in records[-1].losses.values())


def test_one_picture_is_enough(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    records = run(backbone, pictures[:1], tmp_path / "run", steps=2)
    assert records[-1].alignment is not None
    assert json.loads((tmp_path / "run" / CARD).read_text())["data"]["held_out"] is False
    with pytest.raises(ValueError, match="no picture"):
        unwrap(distill)(backbone, pictures[:0], settings(), tmp_path / "none")


def test_workers_change_nothing(backbone: Backbone, pictures: Tensor, tmp_path: Path) -> None:
    run(backbone, pictures, tmp_path / "none", steps=2)
    run(backbone, pictures, tmp_path / "one", steps=2, workers=1)
    assert_same_student(tmp_path / "none", tmp_path / "one")


@pytest.mark.parametrize("changes", [{"trainable": "last:6", "accumulate": 2}, {"rows": "own"}], ids=["half", "own"])
def test_checkpointing_gives_the_same_student(
    backbone: Backbone, pictures: Tensor, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """It may also be switched on or off when a run goes on; and the student is a plain one to whoever copies it."""
    changes = {"steps": 2, **changes}
    run(backbone, pictures, tmp_path / "plain", **changes)
    stopped(backbone, pictures, tmp_path / "parts", 1, checkpointing=True, **changes)
    run(backbone, pictures, tmp_path / "parts", resume=True, **changes)
    last = run(backbone, pictures, tmp_path / "again", checkpointing=True, **changes)[-1]
    assert_same_student(tmp_path / "plain", tmp_path / "parts")
    assert_same_student(tmp_path / "plain", tmp_path / "again")
    other = copy.deepcopy(last.student.module)
    with torch.no_grad():
        next(other.blocks.parameters()).add_(1)  # type: ignore[union-attr,operator]
    seen = [backbone.with_module(m).trace(pictures[:1, :, :32, :32]).embedding for m in (other, last.student.module)]
    assert not torch.allclose(*seen)


@pytest.mark.parametrize(
    ("flag", "changes", "times"), [(False, {}, 1), (False, {"checkpointing": True}, 2), (True, {}, 2)]
)
def test_checkpointed_blocks_are_computed_twice(
    pictures: Tensor, tmp_path: Path, flag: bool, changes: dict[str, Any], times: int
) -> None:
    """Asked for by the configuration, or switched on in the teacher, where it stays."""
    teacher = load_backbone(NAME, image_size=32, source="random", device="cpu")
    teacher.module.set_grad_checkpointing(flag)  # type: ignore[operator]
    records = distill(teacher, pictures, settings(eval_every=9, checkpoint_every=9, **changes), tmp_path / "run")
    student, calls = next(records).student.module, []
    student.blocks[11].norm1.register_forward_pre_hook(lambda *_: calls.append(1))  # type: ignore[index,union-attr]
    next(records)
    assert len(calls) == times
    records.close()  # type: ignore[attr-defined]
    assert teacher.module.grad_checkpointing is flag


# The command line.

COMMAND = """
import sys
import torch
torch.set_num_threads(1)
from explorer import load_backbone
from explorer.cli import distill, main as cli
distill.load = lambda options: load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
raise SystemExit(cli.main(sys.argv[1:]))
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, *words]


@pytest.fixture
def folder(tmp_path: Path, pictures: Tensor) -> Iterator[Path]:
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(explorer.data.image.encode_image(picture))
    return tmp_path


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_who_stops_it_is_told_how_to_go_on(folder: Path, backbone: Backbone, kind: signal.Signals, code: int) -> None:
    words = [
        "distill",
        "--images",
        str(folder / "pictures"),
        "--size",
        "32",
        "--trainable",
        "last:1",
        "--batch-size",
        "2",
    ]
    words += ["--steps", "100000", "--eval-every", "1", "--out", str(folder / "run")]
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("step 3/"):
                break
        process.send_signal(kind)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, said
    assert f"--out {folder / 'run'} --resume" in said
    step = load_pair(folder / "run", teacher=backbone).card["step"]
    assert 3 <= step < 1000


def test_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backbone: Backbone
) -> None:
    from explorer.cli import main as cli

    monkeypatch.setattr("explorer.cli.distill.load", lambda _: backbone)
    words = [
        "distill",
        "--images",
        str(folder / "pictures"),
        "--size",
        "32",
        "--trainable",
        "last:1",
        "--batch-size",
        "2",
    ]
    words += ["--steps", "2", "--views", "2", "--attention-layers", "3,11", "--out", str(folder / "run")]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "step 2/2: loss" in err
    assert "gaussian_noise(sigma=0.3)" in out
    assert cli.main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main([*words, "--resume"]) == 0
    assert cli.main(["pairs", str(folder / "run")]) == 0
    metrics = load_pair(folder / "run", teacher=backbone).card["metrics"]
    expected = f"{metrics['before']['cls_cosine']:.3f} -> {metrics['after']['cls_cosine']:.3f}"
    assert expected in capsys.readouterr().out
    assert cli.main(["pairs", str(folder / "run"), "--export", str(folder / "run.zip")]) == 0
    assert cli.main(["pairs", str(folder / "run"), "--export", str(folder / "run.zip")]) == 2
    assert cli.main(["pairs", "--import", str(folder / "run.zip"), str(folder / "copy")]) == 0
    assert load_pair(folder / "copy", teacher=backbone).card["step"] == 2
    assert cli.main(["distill", "--steps", "0", "--out", str(folder / "bad")]) == 2
    assert "steps is a whole number" in capsys.readouterr().err


def test_broken_pictures_stop_a_run_before_it_begins_or_are_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backbone: Backbone
) -> None:
    from explorer.cli import main as cli

    monkeypatch.setattr("explorer.cli.distill.load", lambda _: backbone)
    whole = (folder / "pictures" / "3.png").read_bytes()
    ask = ["distill", "--images", str(folder / "pictures"), "--size", "32", "--trainable", "last:1", "--probe", "2"]
    ask += ["--batch-size", "2", "--steps", "1", "--eval-every", "9"]
    assert cli.main([*ask, "--out", str(folder / "whole")]) == 0
    (folder / "pictures" / "3a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "pictures" / "99.png").write_bytes(b"")
    capsys.readouterr()
    assert cli.main([*ask, "--out", str(folder / "run")]) == 2
    said = capsys.readouterr().err
    assert "99.png' is empty" in said
    assert "--skip-broken" in said
    assert len(said.splitlines()) == 1
    assert not (folder / "run").exists()
    assert cli.main([*ask, "--skip-broken", "--out", str(folder / "run")]) == 0
    said = capsys.readouterr().err
    assert said.count("skipped 2 pictures that cannot be read:") == said.count("3a.png") == said.count("99.png") == 1
    assert (folder / "run" / STUDENT).read_bytes() == (folder / "whole" / STUDENT).read_bytes()


def test_options_are_those_of_the_configuration() -> None:
    from explorer.cli.distill import COMMAND

    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    options = {action.dest: action for action in parser._actions}
    config = DistillConfig().as_dict()
    others = {"help", "images", "clean", "split", "limit", "skip_broken", "out", "resume", "backbone", "size", "device"}
    others |= {"tracker", "align", "weights"}
    assert set(options) - others == set(config) - {"image_size"}
    for name in set(options) - others:
        if options[name].nargs != 0:
            default = config[name]
            shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
            assert str(options[name].help).endswith(f"(default: {shown})"), name


def test_every_level_has_a_weight() -> None:
    assert DistillConfig(image_size=(32, 32)) == DistillConfig(image_size=32) != DistillConfig(image_size=(32, 48))
    assert list(DistillConfig().weights) == list(explorer.training.losses.LEVELS)


def test_the_function_stays_reachable() -> None:
    import explorer.training.distillation

    assert callable(explorer.distill)


def test_a_command_may_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    from explorer.cli import main as cli

    monkeypatch.setattr("explorer.cli.distill.load", lambda _: backbone)
    words = ["distill", "--images", str(folder / "pictures"), "--size", "32", "--steps", "1", "--batch-size", "2"]
    assert cli.main([*words, "--trainable", "last:1", "--checkpointing", "--out", str(folder / "run")]) == 0
    assert load_pair(folder / "run", teacher=backbone).card["config"]["checkpointing"] is True
