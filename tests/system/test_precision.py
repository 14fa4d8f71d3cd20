"""Inside of a user's autocast everything that is not a model gives what it gives outside, bit for bit."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from explorer import (
    DISTORTIONS,
    DistillConfig,
    Record,
    alignment,
    attribute,
    compare,
    distill,
    distortion,
    load_image,
    losses,
    metrics,
    register_distortion,
)
from explorer.analysis import dense, maps, similarity
from explorer.inspection.attribution import attribution
from explorer.inspection.attribution_methods import METHODS
from explorer.inspection.attribution_quality import quality
from explorer.models.adapters import Trainable, put_in, trained_shapes
from explorer.models.backbones import Backbone
from explorer.models.trace import Grid, Trace
from explorer.system.precision import outside_autocast
from explorer.training.crops import whole
from tests.small import SIZE, network, picture_folder

HALVES = (torch.bfloat16, torch.float16)
inside = pytest.mark.parametrize("half", HALVES, ids=str)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(count: int = 2, side: int = SIZE) -> Tensor:
    return random(count, 3, side, side, seed=5).sigmoid()


def seen(seed: int) -> Trace:
    """Features as large as those of trained models, of 3 x 4 patches."""
    return Trace(
        embedding=10 * random(2, 48, seed=seed),
        cls=None,
        patches=10 * random(2, 4, 12, 48, seed=seed),
        attention=(2 * random(2, 4, 3, 13, 13, seed=seed)).softmax(dim=-1),
        layers=(0, 1, 2, 3),
        grid=Grid(3, 4),
        prefix=1,
    )


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return network(0)


@pytest.fixture(scope="module")
def student() -> Backbone:
    return network(1)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for inner in value.values() for tensor in tensors(inner)]
    if isinstance(value, tuple | list):
        return [tensor for inner in value for tensor in tensors(inner)]
    return tensors(value.per_image)


def check(work: Callable[[], Any], half: torch.dtype) -> None:
    """Equal inside and outside; and the user's autocast is on again afterwards."""
    expected = tensors(work())
    with torch.autocast("cpu", dtype=half):
        found = tensors(work())
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == half
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        assert a.isfinite().all()


@inside
@pytest.mark.parametrize("name", DISTORTIONS)
def test_distortions(name: str, half: torch.dtype) -> None:
    damage = distortion({"square_mask": "square_mask(size=16)"}.get(name, name))
    for pictures in (picture(), picture().double(), picture().to(half)):
        check(lambda pictures=pictures: damage(pictures, seed=3), half)  # type: ignore[misc]


A, B = seen(0), seen(1)
ROWS = A.attention
assert ROWS is not None
assert B.attention is not None
MASSES = [metrics.top_mass(random(2, 3, 4, seed=seed).abs()) for seed in (0, 1)]
CASES: dict[Callable, Callable[[], Any]] = {
    metrics.cosine: lambda: metrics.cosine(A.patches, B.patches),
    metrics.kl_divergence: lambda: metrics.kl_divergence(ROWS, B.attention),
    metrics.js_divergence: lambda: metrics.js_divergence(ROWS, B.attention),
    metrics.top_mass: lambda: metrics.top_mass(random(2, 3, 4).abs()),
    metrics.intersection_over_union: lambda: metrics.intersection_over_union(*MASSES),
    metrics.linear_cka: lambda: metrics.linear_cka(A.patches[:, -1], B.patches[:, -1]),
    metrics.wide: lambda: metrics.wide(A.patches.half()),
    maps.attention_map: lambda: maps.attention_map(A, query=(1, 2)),
    maps.rollout: lambda: [maps.rollout(A), maps.rollout(A, head="max")],
    maps.pca_rgb: lambda: maps.pca_rgb(A, B),
    maps.patches_of_one_size: lambda: maps.patches_of_one_size((A, B), -1),
    maps.principal_components: lambda: maps.principal_components(A.patches[0, -1]),
    dense.foreground: lambda: dense.foreground(A, B),
    dense.patch_clusters: lambda: dense.patch_clusters(A, B, clusters=2),
    dense.patch_matches: lambda: astuple(dense.patch_matches(A, B)),
    dense.propagate_labels: lambda: dense.propagate_labels(A[0:1], B, [(0, 1, 2), (1, 0, 3)]),
    similarity.alignment: lambda: similarity.alignment(A, B),
    similarity.patch_similarity: lambda: similarity.patch_similarity(A, (0, 1), B),
    losses.combine: lambda: losses.combine(A, B, **dict.fromkeys(losses.LEVELS, 1.0)),  # type: ignore[arg-type]
    **{level: lambda level=level: level(A, B) for level in losses.LEVELS.values()},  # type: ignore[misc]
}


def public(module: ModuleType) -> set[Callable]:
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
    return {f for f in functions if not f.__name__.startswith("_")} - {losses.check_weights}


def test_no_function_of_traces_and_tensors_is_left_out() -> None:
    assert set(CASES) == set().union(*map(public, (dense, metrics, maps, similarity, losses)))


@inside
@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_maps_metrics_and_losses(function: Callable, half: torch.dtype) -> None:
    check(CASES[function], half)


@inside
def test_half_features_are_compared_in_single_precision(half: torch.dtype) -> None:
    """What a module in half precision leaves; such traces are not made wider, but their numbers are."""
    a, b = (replace(x, embedding=x.embedding.to(half), patches=x.patches.to(half)) for x in (A, B))
    widened = [replace(x, embedding=x.embedding.float(), patches=x.patches.float()) for x in (a, b)]
    check(lambda: alignment(a, b), half)
    assert alignment(a, b).as_dict() == alignment(*widened).as_dict()
    found, expected = (similarity.patch_similarity(x, (0, 0), y) for x, y in ((a, b), widened))
    assert torch.equal(found, expected)
    assert alignment(a, a).cka == pytest.approx(1, abs=1e-6)


@inside
def test_only_the_model_of_a_comparison_is_in_half_precision(
    teacher: Backbone, student: Backbone, half: torch.dtype
) -> None:
    exact = compare(teacher, picture()[0], "frost", student)
    with torch.autocast("cpu", dtype=half):
        found = compare(teacher, picture()[0], "frost", student)
        trace = teacher.trace(picture(), attention="full")
        numbers = alignment(trace, trace)
    assert torch.equal(found.distorted, exact.distorted)
    assert numbers.cka == pytest.approx(1, abs=1e-6)
    assert numbers.attention_js == 0
    for name, view in found.views.items():
        cautious = exact.views[name]
        assert view.trace.attention is not None
        assert view.trace.attention.dtype == torch.float32
        assert view.rollout is not None
        torch.testing.assert_close(view.rollout, cautious.rollout, atol=5e-3, rtol=0)
        assert not torch.equal(view.trace.patches, cautious.trace.patches), "the model did not run as the user wishes"
    for who, agreement in found.alignments.items():
        assert agreement.cls_cosine == pytest.approx(exact.alignments[who].cls_cosine, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_attributions(teacher: Backbone, method: str) -> None:
    toward = random(teacher.dim, seed=2)
    check(lambda: attribute(teacher, picture(1), toward, method, steps=1, baseline="blur"), torch.bfloat16)


def test_the_quality_of_an_attribution(teacher: Backbone) -> None:
    explained = attribution(teacher, picture(1), random(teacher.dim), "saliency")
    outside = quality(teacher, explained, samples=2, neighbours=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert quality(teacher, explained, samples=2, neighbours=1) == outside


@inside
def test_pictures_are_resized_alike(tmp_path: Path, half: torch.dtype) -> None:
    file = next(picture_folder(tmp_path, per_class=1).rglob("*.png"))
    check(lambda: [load_image(file, size=23), whole(picture(1)[0], (20, 24))], half)


def test_an_adapter_is_merged_in_full_precision(teacher: Backbone) -> None:
    """Rounded factors would make another student of the same file."""
    rank = Trainable.parse("lora:2")
    adapter = {name: random(*shape, seed=1) for name, shape in trained_shapes(teacher.module, rank).items()}
    check(
        lambda: list(put_in(copy.deepcopy(teacher.module), rank, adapter).state_dict().values()),
        torch.bfloat16,
    )


def test_a_distortion_of_ones_own_is_recorded_alike() -> None:
    kernel = torch.full((3, 1, 5, 5), 1 / 25)

    def smear(image: Tensor, _generator: torch.Generator) -> Tensor:
        return torch.nn.functional.conv2d(image[None], kernel, padding=2, groups=3)[0]

    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            register_distortion(smear, stochastic=False)
        check(lambda: distortion("smear")(picture()), torch.bfloat16)
    finally:
        DISTORTIONS.pop("smear", None)


def run(teacher: Backbone, out: Path, precision: str) -> list[Record]:
    """Two steps, of which the second shows the weights that the first one left."""
    config = DistillConfig(
        distortion="gaussian_blur",
        steps=2,
        batch_size=2,
        image_size=SIZE,
        eval_every=1,
        probe=2,
        trainable="last:1",
        precision=precision,  # type: ignore[arg-type]
    )
    return list(distill(teacher, picture(4), config, out))


def test_a_run_keeps_its_own_precision(teacher: Backbone, tmp_path: Path) -> None:
    single, half = (run(teacher, tmp_path / precision, precision) for precision in ("float32", "bfloat16"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = run(teacher, tmp_path / "again", "float32")
    with torch.autocast("cpu", dtype=torch.float16):
        half_again = run(teacher, tmp_path / "half again", "bfloat16")
    assert [record.as_dict()["losses"] for record in again] == [record.losses for record in single]
    assert [record.losses for record in half_again] == [record.losses for record in half]
    assert single[0].losses["attention"] != half[0].losses["attention"], "bfloat16 changed nothing"
    for record, other in zip(again, single, strict=True):
        assert record.as_dict()["alignment"] == other.as_dict()["alignment"]
    files = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("again", "float32")]
    assert files[0] == files[1]


def test_nothing_changes_where_there_is_no_autocast() -> None:
    with outside_autocast():
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(KeyError), outside_autocast():
            raise KeyError
        assert torch.is_autocast_enabled("cpu"), "an error left it switched off"
