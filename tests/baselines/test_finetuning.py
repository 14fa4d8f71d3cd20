"""Fine-tuning with labels: it learns, repeats, trains what was chosen, and refuses what teaches no classes."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from explorer import DistillConfig, ImageError, distortion, load_backbone, load_images
from explorer.baselines.finetuning import Classifier, FinetuneConfig, FinetuneRecord, finetune
from explorer.data.sets import ImageSet
from explorer.evaluation.probes import fit_on_features
from explorer.models.adapters import Trainable, prepare
from explorer.models.backbones import Backbone
from explorer.models.weights import state_digest
from explorer.training.crops import Stream, whole
from explorer.training.recipe import HIGHEST_LR
from tests.small import break_some, picture_folder, picture_set

NOISE = "gaussian_noise(sigma=0.2)"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")


def stripes(count: int, seed: int, size: int = 36, classes: tuple[str, ...] = ("lying", "upright")) -> ImageSet:
    """Striped pictures, lying (0) and upright (1) in turn, of random colours, widths and phases."""
    draw = np.random.default_rng(seed)
    items = []
    for number in range(count):
        wave = np.sin(np.arange(size) * draw.uniform(0.7, 1.1) + draw.uniform(0, 6))[:, None]
        grey = np.broadcast_to(wave.T if number % 2 else wave, (size, size))[..., None]
        pixels = 0.5 + 0.4 * grey * draw.uniform(0.3, 1, size=3)
        items.append((Image.fromarray((255 * pixels).astype(np.uint8)), number % 2))
    return load_images(_Listed(items, classes), size=size)


class _Listed(list):
    """A data set of (picture, class number) that knows the names of its classes."""

    def __init__(self, items: list[tuple[Image.Image, int]], classes: tuple[str, ...]) -> None:
        super().__init__(items)
        self.classes = classes


def run(backbone: Backbone, images: ImageSet, **changes: Any) -> list[FinetuneRecord]:
    small: dict[str, Any] = {"distortion": NOISE, "steps": 4, "batch_size": 4}
    return list(finetune(backbone, images, FinetuneConfig(**{**small, **changes})))


def numbers(classifier: Classifier) -> dict[str, Tensor]:
    return {**classifier.backbone.module.state_dict(), **classifier.head.state_dict(prefix="head.")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"trainable": "all", "lr": 3e-4, "steps": 50}, {"trainable": "lora:8", "lr": 5e-3, "steps": 60}],
    ids=["all", "lora"],
)
def test_it_learns_what_unseen_distorted_pictures_show(backbone: Backbone, changes: dict[str, Any]) -> None:
    before = state_digest(backbone.module.state_dict())
    records = run(backbone, stripes(60, seed=0), batch_size=16, **changes)
    first, last = (sum(r.loss for r in part) / 5 for part in (records[:5], records[-5:]))
    assert last < 0.5 * first
    found = records[-1].classifier.accuracy(stripes(60, seed=1), NOISE, seed=1)
    assert found > 0.7  # three standard deviations above chance
    assert [r.step for r in records] == list(range(1, records[-1].steps + 1))
    assert all(r.images_per_second > 0 for r in records)
    assert state_digest(backbone.module.state_dict()) == before
    assert all(p.requires_grad for p in backbone.module.parameters())


@pytest.mark.parametrize("views", ["fresh", pytest.param("fixed", marks=pytest.mark.slow), 2])
def test_it_is_a_plain_loop_over_views_noise_and_labels(backbone: Backbone, views: Any) -> None:
    images = stripes(10, seed=2)
    settings: dict[str, Any] = {"steps": 3, "batch_size": 4, "lr": 3e-4, "views": views, "seed": 3}
    records = run(backbone, images, trainable="last:1", head_lr=3e-3, **settings)
    stream = Stream(images, (32, 32), views, FinetuneConfig().area, seed=3)
    copied = backbone.with_module(copy.deepcopy(backbone.module))
    weight, bias = (torch.zeros(shape, requires_grad=True) for shape in ((2, 192), (2,)))
    trained = [p for name, p in copied.module.named_parameters() if name.startswith(("blocks.11.", "norm."))]
    adam = torch.optim.AdamW([{"params": trained}, {"params": [weight, bias]}], weight_decay=0)
    recipe = DistillConfig(**settings)
    for step, record in enumerate(records, start=1):
        samples = range(4 * (step - 1), 4 * step)
        noisy = distortion(NOISE)(torch.stack([stream[n].image for n in samples]), seed=3, indices=samples)
        truth = torch.tensor([images.labels[_original(images, stream, n)] for n in samples])
        odds = (copied.trace(noisy, grad=True).embedding @ weight.T + bias).log_softmax(dim=1)
        loss = -odds[range(4), truth].mean()
        assert record.loss == pytest.approx(loss.item(), rel=1e-4)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*trained, weight, bias], 1.0)
        adam.param_groups[0]["lr"], adam.param_groups[1]["lr"] = recipe.lr_at(step), 10 * recipe.lr_at(step)
        adam.step()
    torch.testing.assert_close(records[-1].classifier.head.weight, weight, rtol=1e-3, atol=1e-5)


def _original(images: ImageSet, stream: Stream, sample: int) -> int:
    """The picture that a view shows, by trial: the one whose view does not change when all others are blackened."""
    view = stream[sample].image

    def kept(place: int) -> bool:
        others = [(image if i == place else torch.zeros_like(image), None) for i, (image, _) in enumerate(images)]
        return torch.equal(Stream(others, stream.size, stream.views, stream.area, stream.seed)[sample].image, view)

    return next(place for place in range(len(images)) if kept(place))


@pytest.mark.parametrize("trainable", ["lora:4", "last:1"])
def test_it_repeats_to_the_bit_and_moves_no_generator(backbone: Backbone, trainable: str) -> None:
    images = stripes(6, seed=4)
    state = torch.get_rng_state()
    one, same, other = (run(backbone, images, trainable=trainable, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert [r.loss for r in one] == [r.loss for r in same] != [r.loss for r in other]
    a, b = numbers(one[-1].classifier), numbers(same[-1].classifier)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_adapter_begins_as_the_seed_says(backbone: Backbone) -> None:
    """Neither factor moves in the first step: the head of zeros passes no gradient on."""
    expected = prepare(copy.deepcopy(backbone.module), Trainable("lora", 4), seed=7).state_dict()
    begun = run(backbone, stripes(6, seed=4), trainable="lora:4", steps=1, seed=7)[0].classifier.backbone.module
    assert all(torch.equal(tensor, expected[name]) for name, tensor in begun.state_dict().items())


def test_the_head_begins_as_a_probe(backbone: Backbone, tmp_path: Path) -> None:
    images = picture_set(tmp_path / "pictures")
    embeddings = backbone.trace(images.stack()).embedding
    probe = fit_on_features("linear", embeddings, images.labels or ())
    config = FinetuneConfig(steps=1, batch_size=4, lr=1e-12, head_lr=1e-12)
    (record,) = finetune(backbone, images, config, probe)
    scores = probe.estimator.decision_function(embeddings.double().numpy())
    np.testing.assert_allclose(record.classifier.logits(images.stack()), scores, atol=1e-3)
    for other, message in (
        (fit_on_features("knn", embeddings, images.labels or ()), "got a knn probe"),
        (fit_on_features("linear", embeddings, [label + 1 for label in images.labels or ()]), r"of \(1, 2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(backbone, images, config, other)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_switched_off_around_it(backbone: Backbone, around: Any) -> None:
    plain = run(backbone, stripes(8, seed=0), steps=2)
    with around():
        within = run(backbone, stripes(8, seed=0), steps=2)
    assert [record.loss for record in within] == [record.loss for record in plain]


def test_a_data_set_is_what_load_images_makes_of_it(backbone: Backbone) -> None:
    images = stripes(8, seed=0, size=32)
    listed = [(image, images.labels[place]) for place, (image, _) in enumerate(images)]  # type: ignore[index]
    expected, found = run(backbone, images, steps=2), run(backbone, listed, steps=2)  # type: ignore[arg-type]
    assert [record.loss for record in found] == [record.loss for record in expected]
    with pytest.raises(ImageError, match=r"picture \d of list: .*expected \[0, 1\]"):
        run(backbone, [(image * 255, label) for image, label in listed], steps=2)  # type: ignore[arg-type]


def test_training_mode_is_told(backbone: Backbone) -> None:
    records = finetune(backbone, stripes(8, seed=0), FinetuneConfig(steps=2, batch_size=2))
    module = next(records).classifier.backbone.module.train()
    module.blocks[0].attn.proj_drop.p = 0.1
    with pytest.raises(ValueError, match="training mode"):
        next(records)


def test_only_what_was_chosen_is_trained(backbone: Backbone) -> None:
    # A copy: whatever the library does, the next tests find an untouched backbone.
    start = copy.deepcopy(backbone.module.state_dict())
    trained = run(backbone, stripes(6, seed=4), trainable="last:1")[-1].classifier.backbone.module.state_dict()
    changed = {
        name.rpartition(".")[0].split(".mlp")[0] for name in start if not torch.equal(start[name], trained[name])
    }
    assert {name.partition(".")[0] for name in changed} == {"blocks", "norm"}
    assert all(name.startswith(("blocks.11", "norm")) for name in changed)


def test_fewer_pictures_than_a_batch_come_again(backbone: Backbone) -> None:
    assert math.isfinite(run(backbone, stripes(3, seed=5), batch_size=8, steps=2)[-1].loss)


def test_bfloat16_is_another_rounding_of_the_same(backbone: Backbone) -> None:
    images = stripes(8, seed=6)
    exact, rounded = (run(backbone, images, precision=p)[-1].loss for p in ("float32", "bfloat16"))
    assert exact != rounded
    assert exact == pytest.approx(rounded, abs=0.05)


def test_it_is_distillation_s_recipe() -> None:
    for steps, trainable in itertools.product((1, 7, 100), ("lora:4", "all", "last:2")):
        ours, theirs = FinetuneConfig(steps=steps, trainable=trainable), DistillConfig(steps=steps, trainable=trainable)
        rates = [ours.highest_lr * ours.lr_share(step) for step in range(1, steps + 1)]
        assert rates == pytest.approx([theirs.lr_at(step) for step in range(1, steps + 1)])
    for name in ("batch_size", "lr", "trainable", "views", "area", "precision", "workers", "seed"):
        assert getattr(FinetuneConfig(), name) == getattr(DistillConfig(), name)
    assert DistillConfig().weight_decay == 0
    assert HIGHEST_LR.keys() == {"lora", "all", "last"}


def test_accuracy_is_the_share_of_right_answers_to_noisy_pictures(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stripes(21, seed=7)  # more than one batch, not a multiple of it
    classifier = run(backbone, images, steps=1)[-1].classifier
    seen: list[Tensor] = []
    answers = torch.tensor([0, 1, 1] * 7)

    def answer(_: Classifier, noisy: Tensor) -> Tensor:
        start = sum(map(len, seen))
        seen.append(noisy)
        return answers[start : start + len(noisy)]

    monkeypatch.setattr(Classifier, "predict", answer)
    assert classifier.accuracy(images, NOISE, seed=5) == sum(map(int.__eq__, answers.tolist(), images.labels)) / 21
    resized = torch.stack([whole(image, (32, 32)) for image, _ in images])
    assert torch.equal(torch.cat(seen), distortion(NOISE)(resized, seed=5))


def test_the_answer_is_the_class_of_the_highest_score(backbone: Backbone) -> None:
    classifier = run(backbone, stripes(8, seed=7), trainable="all", lr=3e-4)[-1].classifier
    images = torch.stack([whole(image, (32, 32)) for image, _ in stripes(8, seed=8)])
    for image, answer, scores in zip(images, classifier.predict(images), classifier.logits(images), strict=True):
        embedding = classifier.backbone.trace(image[None]).embedding[0]
        by_hand = classifier.head.weight @ embedding + classifier.head.bias
        torch.testing.assert_close(scores, by_hand, rtol=1e-4, atol=1e-5)
        assert answer == by_hand.argmax()
    assert not scores.requires_grad


def test_pictures_that_teach_no_classes_are_refused(backbone: Backbone) -> None:
    images = stripes(6, seed=8)
    with pytest.raises(ValueError, match="got pictures without labels"):
        finetune(backbone, load_images([(image, None) for image, _ in images]), FinetuneConfig())
    with pytest.raises(ValueError, match="got no pictures"):
        finetune(backbone, images[:0], FinetuneConfig())
    with pytest.raises(ValueError, match="all 3 are 'upright'"):
        finetune(backbone, images[1::2], FinetuneConfig())
    classifier = run(backbone, images, steps=1)[-1].classifier
    with pytest.raises(ValueError, match="expected pictures of the classes lying, upright; got cat, dog"):
        classifier.accuracy(stripes(2, seed=8, classes=("cat", "dog")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is a whole number, at least 1"),
        ({"batch_size": True}, "batch_size is a whole number"),
        ({"lr": 0.0}, "lr is a number, above 0"),
        ({"head_lr": -1.0}, "head_lr is a number, above 0"),
        ({"trainable": "lora"}, "trainable must be"),
        ({"distortion": "nois"}, "unknown distortion"),
        ({"views": 0}, "views must be"),
        ({"area": (0.5, 0.2)}, "area is"),
        ({"precision": "half"}, "precision must be"),
        ({"seed": 1 << 63}, "seed is"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**changes)


def test_a_loss_that_is_not_finite_stops_the_run(backbone: Backbone) -> None:
    records = finetune(backbone, stripes(6, seed=9), FinetuneConfig(steps=3, batch_size=2))
    next(records).classifier.head.bias.data[0] = math.nan
    with pytest.raises(FloatingPointError, match=r"the loss of step 2 is nan; try a lower lr \(it was 0.001\)"):
        next(records)


def test_a_broken_file_is_known_before_the_first_step(backbone: Backbone, tmp_path: Path) -> None:
    break_some(picture_folder(tmp_path / "pictures", per_class=2))
    with pytest.raises(ImageError, match=r"2a\.jpg.*text"):
        finetune(backbone, load_images(tmp_path / "pictures", size=36), FinetuneConfig(steps=1))
