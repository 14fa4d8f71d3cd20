"""A watch records what the model in training shows, and the training does not notice: its weights, random numbers,
modes and hooks are those of a training that nobody watches."""

import copy
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from explorer import AttentionWatch, Recovery, alignment, animate_recovery, attention_map, distortion, page
from explorer.inspection import watching
from explorer.models.backbones import Backbone, CaptureError
from explorer.models.loading import backbone_of
from tests.models.test_wrapping import SIZE, OwnViT, wrap

ROOT = Path(__file__).parents[2]
NOISE = "gaussian_noise(sigma=0.3)"


def vit(**changes: Any) -> nn.Module:
    """A small model in training, with all that is random in it."""
    torch.manual_seed(3)
    said = {"img_size": 32, "depth": 3, "num_classes": 2, "drop_path_rate": 0.3, "proj_drop_rate": 0.2}
    return timm.create_model("vit_tiny_patch16_224", **{**said, **changes}).train()


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def train(model: nn.Module, steps: int, after: Callable[[int], object] = lambda step: None) -> None:
    """A loop of somebody else."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(1, steps + 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.rand(2, 3, 32, 32)).logsumexp(dim=1).mean()
            after(step)  # in the middle of it, where a mistake would do most harm
        loss.backward()
        optimizer.step()
        if step < steps:
            optimizer.zero_grad()


def test_the_training_does_not_notice(picture: Tensor) -> None:
    """With dropout, a part that is kept in evaluation mode and one that is frozen, a hook that draws whatever the mode,
    and inside of autocast."""
    ends = []
    for watched in (False, True):
        model = vit()
        model.blocks[0].eval()
        model.patch_embed.requires_grad_(False)
        model.patch_embed.register_forward_hook(lambda part, given, out: out + 1e-3 * torch.rand(out.shape))
        torch.manual_seed(11)
        watch = AttentionWatch(model, picture, every=1, distortion=NOISE) if watched else None
        hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()]
        train(model, 3, watch or (lambda step: None))
        ends.append(
            {
                "weights": [tensor.clone() for tensor in model.state_dict().values()],
                "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
                "learn": [p.requires_grad for p in model.parameters()],
                "modes": [part.training for part in model.modules()],
                "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
                "drawn": torch.rand(4),
            }
        )
        assert ends[-1]["hooks"] == hooks
    alone, watched_end = ends
    assert watch is not None
    assert [moment.step for moment in watch.recovery.moments] == [0, 1, 2, 3]
    for name in ("weights", "gradients"):
        for a, b in zip(alone[name], watched_end[name], strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)
    assert torch.equal(alone["drawn"], watched_end["drawn"])
    assert all(alone[name] == watched_end[name] for name in ("learn", "modes", "hooks"))
    assert len(set(alone["modes"])) == 2


def test_moments_are_what_the_model_shows(picture: Tensor) -> None:
    """The reference is the model before its first step, on the clean picture."""
    model, seen = vit(), []
    before = backbone_of(copy.deepcopy(model).eval())
    watch = AttentionWatch(model, picture, every=2, distortion=NOISE, seed=4)
    train(model, 4, lambda step: (watch(step), seen.append(copy.deepcopy(model).eval())))
    damaged = distortion(NOISE)(picture[None], seed=4)
    assert torch.equal(watch.recovery.distorted, damaged[0])
    clean = before.trace(picture[None])
    traces = [clean, before.trace(damaged), *(backbone_of(seen[step - 1]).trace(damaged) for step in (2, 4))]
    for shown, trace in zip(watch.recovery.attention(), traces, strict=True):
        torch.testing.assert_close(shown, attention_map(trace)[0], atol=1e-6, rtol=1e-5)
    agreement = watch.recovery.moments[-1].agreement.as_dict()
    assert agreement == pytest.approx(alignment(clean, traces[-1]).as_dict(), abs=1e-5)
    assert watch._model.module is model, "it is looked at where it is"


def test_another_model_as_the_reference(picture: Tensor) -> None:
    model, teacher = vit(), vit(proj_drop_rate=0.0)
    with torch.no_grad():
        teacher.blocks[0].attn.qkv.weight.mul_(3.0)
    recovery = AttentionWatch(model, picture, teacher=teacher).recovery
    for moment, module in ((recovery.reference, teacher), (recovery.moments[0], model)):
        shown = backbone_of(copy.deepcopy(module).eval()).trace(picture[None])
        torch.testing.assert_close(moment.patches, shown.patches[0, -1])
    assert recovery.called == ("teacher", "model")
    assert teacher.training
    with pytest.raises(ValueError, match="the teacher sees pictures of 48 px and the model 32 px"):
        AttentionWatch(model, picture, teacher=vit(img_size=48))
    with pytest.raises(ValueError, match="blocks differ"):
        AttentionWatch(model, picture, teacher=vit(depth=4))


def test_when_it_looks(picture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(watch: AttentionWatch) -> list[int]:
        return [moment.step for moment in watch.recovery.moments]

    counting = AttentionWatch(vit(), picture, every=3)
    assert [counting.step() is not None for _ in range(7)] == [False, False, True, False, False, True, False]
    assert (counting.record().step, counting.record(), steps(counting)) == (7, None, [0, 3, 6, 7])
    leaping = AttentionWatch(vit(), picture, every=10)
    for step in (0, 4, 4, 12, 19, 31):
        leaping(step)
    assert steps(leaping) == [0, 12, 31], "some numbers may be left out"
    monkeypatch.setattr(watching, "MOMENTS", 4)
    long = AttentionWatch(vit(), picture, every=1)
    for _ in range(24):
        long.step()
    assert (steps(long), long.every) == ([0, 8, 16, 24], 8)
    monkeypatch.setenv("RANK", "1")
    other = AttentionWatch(vit(), picture, every=1)
    assert (other.step(), other.failure) == (None, None), "the first process records"
    with pytest.raises(ValueError, match="every is a whole number"):
        AttentionWatch(vit(), picture, every=0)


def test_a_training_is_never_ended(picture: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    model = vit()
    watch = AttentionWatch(model, picture, every=1)
    train(model, 1, watch)
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[0] = torch.nan
    with caplog.at_level(logging.WARNING):
        assert (watch(2), watch(3)) == (None, None)
    assert isinstance(watch.failure, CaptureError)
    assert [record.message for record in caplog.records] == [
        f"the watched picture is not recorded any more: CaptureError: {watch.failure}"
    ]
    assert "blocks.1.mlp.fc1.weight" in caplog.text
    assert model.training
    assert [moment.step for moment in watch.recovery.moments] == [0, 1]
    again = AttentionWatch(vit(), picture, every=2)
    for step in (2, 4, 1):
        again(step)
    with pytest.raises(ValueError, match="step 1 does not come after step 4: count on from epoch to epoch"):
        raise again.failure  # type: ignore[misc]


def test_a_module_of_ones_own(picture: Tensor) -> None:
    own = OwnViT()
    with pytest.raises(ValueError, match=r"got OwnViT: it is not .* wrapped first: wrap_backbone\(module, blocks=…"):
        AttentionWatch(own, picture)
    with pytest.raises(ValueError, match="got ResNet: it is not one of timm's plain Vision Transformers"):
        AttentionWatch(timm.create_model("resnet10t"), picture)
    with pytest.raises(ValueError, match=r"for pictures of 32 x 32 px, and image_size=48 .* dynamic_img_size=True"):
        AttentionWatch(vit(), picture, image_size=48)
    watch = AttentionWatch(wrap(own), picture, every=1)
    own.train()
    with torch.no_grad():
        own.patch.weight.mul_(-1)
    moment = watch.step()
    assert moment is not None
    assert moment.agreement.cls_cosine < 0.9999
    assert own.training
    assert watch.recovery.clean.shape == (3, *SIZE)


def test_sizes_that_a_model_takes(picture: Tensor) -> None:
    model = vit(dynamic_img_size=True)
    assert AttentionWatch(model, picture, image_size=(48, 64)).recovery.grid == (3, 4)
    assert AttentionWatch(model, picture).recovery.grid == (2, 2)


@pytest.fixture
def alone_in_a_group() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_what_only_runs_a_model(picture: Tensor, alone_in_a_group: None) -> None:
    model = vit()
    plain = AttentionWatch(model, picture, every=1)
    watch = AttentionWatch(nn.parallel.DistributedDataParallel(model), picture, every=1)
    assert watch._model.module is model
    assert torch.equal(watch.recovery.attention(), plain.recovery.attention())
    assert watch.step() is not None


def test_a_model_with_adapters(picture: Tensor) -> None:
    model = peft.get_peft_model(vit(), peft.LoraConfig(target_modules=["qkv"], r=2, init_lora_weights=False))
    watch = AttentionWatch(model, picture, every=1)
    assert watch._model.module is model.get_base_model()
    with model.disable_adapter():
        plain = AttentionWatch(vit(), picture, every=1).recovery.attention()
        torch.testing.assert_close(AttentionWatch(model, picture, every=1).recovery.attention(), plain)
    assert not torch.allclose(watch.recovery.attention(), plain)


def test_sharded_parameters_are_refused(picture: Tensor, alone_in_a_group: None) -> None:
    """A look by one process alone would wait for the others for ever."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = vit()
    watch = AttentionWatch(model, picture, every=1)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    assert watch.step() is None
    with pytest.raises(ValueError, match="sharded over processes"):
        raise watch.failure  # type: ignore[misc]


@pytest.mark.weights
def test_a_page_and_an_animation_show_it(s14: Backbone, photo: Tensor) -> None:
    """A real model and a real photo."""
    watch = AttentionWatch(s14, photo[0], every=1)
    recovery = watch.recovery
    assert isinstance(recovery, Recovery)
    torch.testing.assert_close(recovery.reference.patches, recovery.moments[0].patches)
    assert watch.step() is not None
    assert recovery.moments[1].agreement.cls_cosine == pytest.approx(1, abs=1e-5)
    text = page(recovery, title="My training")
    assert '"called":["model at the start","model"],"view":"clean"' in text
    assert "the model at the start on the clean picture" in text
    assert animate_recovery(recovery)[:3] == b"GIF"


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_takes_it_as_a_callback(package: str, picture: Tensor, tmp_path: Path) -> None:
    """Two batches a step, two epochs of six batches, a checkpoint after each, and the last step out of turn."""
    lightning = pytest.importorskip(package)

    class Learner(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = vit()

        def training_step(self, batch: list[Tensor], number: int) -> Tensor:
            return self.model(batch[0]).logsumexp(dim=1).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def fit(callbacks: list[Any]) -> None:
        lightning.seed_everything(0, verbose=False)
        data = TensorDataset(torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
        trainer = lightning.Trainer(
            max_epochs=2, accumulate_grad_batches=2, callbacks=callbacks, default_root_dir=tmp_path, devices=1, **quiet
        )
        trainer.fit(learner, DataLoader(data, batch_size=2))
        assert list(tmp_path.rglob("*.ckpt"))

    learner = Learner()
    watch = AttentionWatch(learner.model, picture, every=4)
    fit([watch])
    assert [moment.step for moment in watch.recovery.moments] == [0, 4, 6]
    assert watch.failure is None
    shown = backbone_of(copy.deepcopy(learner.model).eval()).trace(picture[None])
    torch.testing.assert_close(watch.recovery.moments[-1].patches, shown.patches[0, -1])
    ends = [value.clone() for value in learner.model.state_dict().values()]
    learner = Learner()
    fit([])
    assert all(torch.equal(a, b) for a, b in zip(ends, learner.model.state_dict().values(), strict=True))


def test_the_loop_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    loop, _, hook = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    here: dict[str, Any] = {}
    for printed, shorter in {"range(1, 21)": "range(1, 11)", "torch.rand(4": "torch.rand(1", "(4,)": "(1,)"}.items():
        assert loop.count(printed) == 1
        loop = loop.replace(printed, shorter)
    exec(loop, here)
    assert [moment.step for moment in here["watch"].recovery.moments] == [0, 5, 10]
    assert "My training" in (tmp_path / "training.html").read_text(encoding="utf-8")
    exec(hook, here)
    try:
        for _ in range(5):
            here["optimizer"].step()
    finally:
        here["handle"].remove()
    assert here["watch"].recovery.moments[-1].step == 15
