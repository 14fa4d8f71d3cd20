"""Figures of many pictures show the numbers they were given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from explorer import evaluate, sweep
from explorer.attribution import METHODS, Attribution, Settings, attribute_views, attribution
from explorer.charts import plot_attribution, plot_curves, plot_evaluation, plot_panes, plot_projection, plot_sweep
from explorer.data import ImageSet
from explorer.images import to_uint8
from explorer.pair_embedding import VIEWS, embed_pair
from explorer.plots import overlay, to_png
from tests.small import NOISE, SIZE, pair, picture_set


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return picture_set(tmp_path_factory.mktemp("pictures"))


def words(figure: Figure) -> list[str]:
    legends = [legend for ax in figure.axes if (legend := ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


@pytest.mark.parametrize("arrows", [True, False])
def test_a_projection_shows_every_picture_in_every_view(images: ImageSet, arrows: bool) -> None:
    projection = embed_pair(pair(), images, cache=False).project()
    figure = plot_projection(projection, arrows=arrows)
    ax = figure.axes[0]
    scatters = [one for one in ax.collections if hasattr(one, "get_sizes") and len(one.get_offsets()) == len(images)]
    for view, scatter in zip(VIEWS, scatters, strict=True):
        np.testing.assert_allclose(scatter.get_offsets(), projection.coordinates[view])
    lines = [one for one in ax.collections if one not in scatters]
    assert len(lines) == (2 if arrows else 0)
    if arrows:
        ends = np.array(lines[0].get_segments())  # type: ignore[attr-defined]
        np.testing.assert_allclose(ends[:, 0], projection.coordinates["teacher_clean"])
        np.testing.assert_allclose(ends[:, 1], projection.coordinates["teacher_distorted"])
    assert words(figure) == [*(view.replace("_", " ") for view in VIEWS), *images.classes]
    assert to_png(figure).startswith(b"\x89PNG")


def test_a_sweep_shows_both_curves_and_what_was_trained(images: ImageSet) -> None:
    found = sweep(pair(), images, "gaussian_noise", (0.1, 0.3, 0.5))
    figure = plot_sweep(found)
    assert len(figure.axes) == 4
    for line, who in zip(figure.axes[0].get_lines(), ("teacher", "student"), strict=True):
        np.testing.assert_allclose(line.get_xydata()[:, 1], [row["cls_cosine"] for row in found.rows[who]])
    assert not figure.get_suptitle()
    assert "never trained on" in plot_sweep(sweep(pair(), images, "pixel_mask", (0.1, 0.3))).get_suptitle()


def test_an_evaluation_shows_accuracy_and_interval(tmp_path: Path) -> None:
    train, test = picture_set(tmp_path, per_class=8).split(0.5)
    found = evaluate(pair(), train, test, cache=False)
    ax = plot_evaluation(found).axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], found.frame()["accuracy"])
    assert [label.get_text() for label in ax.get_yticklabels()] == [view.replace("_", ", ") for view in VIEWS]


@pytest.mark.parametrize(("method", "by_patch"), [*((method, False) for method in METHODS), ("saliency", True)])
def test_attributions_share_one_scale(method: str, by_patch: bool) -> None:
    both, image = pair(), torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    views = attribute_views(both.teacher, both.student, image, NOISE, method=method, settings=Settings(steps=2))
    figure = plot_attribution(views, by_patch=by_patch)
    maps = [view.by_patch() if by_patch else view.heatmap for view in views.values()]
    high = np.quantile(np.concatenate([heat.abs().flatten() for heat in maps]), 0.995)
    assert len(figure.axes) == len(views)
    for ax, heat, (name, view) in zip(figure.axes, maps, views.items(), strict=True):
        shown = ax.images[-1]
        np.testing.assert_allclose(shown.get_array(), heat)
        assert shown.norm.vmax == pytest.approx(high)
        assert shown.norm.vmin == (pytest.approx(-high) if view.signed else 0)
        assert ax.get_title() == name.replace("_", " · ")
        assert f"score {view.target:.2f}" in ax.get_xlabel()
    assert to_png(figure).startswith(b"\x89PNG")


def test_attributions_of_two_methods_have_no_common_scale() -> None:
    both, image = pair(), torch.rand(3, SIZE, SIZE)
    first, second = (attribution(both.teacher, image, method=name) for name in ("saliency", "occlusion"))
    assert isinstance(first, Attribution)
    assert len(plot_attribution(first).axes) == 1
    with pytest.raises(ValueError, match="views of one method; got occlusion, saliency"):
        plot_attribution({"teacher_clean": first, "student_distorted": second})


def test_panes_share_one_scale() -> None:
    picture = torch.rand(3, 20, 20)
    weak, strong = torch.full((2, 2), 0.25), torch.tensor([[0.0, 0.5], [0.25, 1.0]])
    figure = plot_panes({"itself": (picture, None), "weak": (picture, weak), "strong": (picture, strong)}, columns=2)
    shown = {ax.get_title(): ax.images[0].get_array() for ax in figure.axes if ax.get_title()}
    np.testing.assert_array_equal(shown["itself"], to_uint8(picture))
    for name, values in (("weak", weak), ("strong", strong)):
        np.testing.assert_array_equal(shown[name], overlay(picture, values, high=1.0))
    assert figure.axes[-1].get_ylim() == (0.0, 1.0)
    with pytest.raises(ValueError, match="got none"):
        plot_panes({})


def test_curves_are_told_apart_without_colours() -> None:
    curves = {f"curve {number}": [float(number), number + 1.0] for number in range(4)}
    lines = plot_curves(curves, "layer", "cosine", x=[3, 7]).axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == list(curves.values())
    assert all(list(line.get_xdata()) == [3, 7] for line in lines)
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 4
