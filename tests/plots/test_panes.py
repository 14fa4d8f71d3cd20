"""Figures of many pictures show the numbers they were given."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from explorer import benchmark, evaluate, sweep
from explorer.data.image import to_uint8
from explorer.data.sets import ImageSet
from explorer.errors import InputError
from explorer.evaluation.embedding import VIEWS, embed_pair
from explorer.evaluation.projection import project
from explorer.inspection.attribution import Attribution, attribute_views, attribution
from explorer.inspection.attribution_methods import METHODS
from explorer.inspection.attribution_problem import Settings
from explorer.plots import lettering
from explorer.plots.evaluation import plot_benchmark, plot_evaluation, plot_projection, plot_sweep
from explorer.plots.overlays import overlay
from explorer.plots.panes import plot_attribution, plot_curves, plot_panes
from explorer.plots.style import to_image, to_png
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
    assert len({np.asarray(scatter.get_paths()[0].vertices).tobytes() for scatter in scatters}) == len(VIEWS), (
        "a mark for each"
    )
    lines = [one for one in ax.collections if one not in scatters]
    assert len(lines) == (2 if arrows else 0)
    if arrows:
        ends = np.array(lines[0].get_segments())  # type: ignore[attr-defined]
        np.testing.assert_allclose(ends[:, 0], projection.coordinates["teacher_clean"])
        np.testing.assert_allclose(ends[:, 1], projection.coordinates["teacher_distorted"])
    assert words(figure) == [*(view.replace("_", " ") for view in VIEWS), *images.classes]
    assert to_png(figure).startswith(b"\x89PNG")


def test_each_student_has_a_mark_and_a_way_of_its_own(images: ImageSet) -> None:
    both = pair()
    pairs = dict.fromkeys(("a_b", "my student", "c", "d"), both)
    projection = embed_pair(pairs, images, cache=False).project()
    ax = plot_projection(projection).axes[0]
    scatters = [one for one in ax.collections if hasattr(one, "get_sizes") and len(one.get_offsets()) == len(images)]
    assert len({np.asarray(scatter.get_paths()[0].vertices).tobytes() for scatter in scatters}) == 10
    edges = [tuple(scatter.get_edgecolor()[0]) for scatter in scatters]
    assert edges[::2] == edges[1::2]
    assert len(set(edges)) == 5
    ways = [np.array(one.get_segments()) for one in ax.collections if one not in scatters]  # type: ignore[attr-defined]
    for way, name in zip(ways[1:], pairs, strict=True):
        np.testing.assert_allclose(way[:, 0], projection.coordinates["teacher_distorted"])
        np.testing.assert_allclose(way[:, 1], projection.coordinates[f"{name}_distorted"])


def test_a_sweep_shows_both_curves_and_what_was_trained(images: ImageSet) -> None:
    found = sweep(pair(), images, "gaussian_noise", (0.1, 0.3, 0.5))
    figure = plot_sweep(found)
    assert len(figure.axes) == 4
    for line, who in zip(figure.axes[0].get_lines(), ("teacher", "student"), strict=True):
        np.testing.assert_allclose(line.get_xydata()[:, 1], [row["cls_cosine"] for row in found.rows[who]])
    assert not figure.get_suptitle()
    assert "never trained on" in plot_sweep(sweep(pair(), images, "pixel_mask", (0.1, 0.3))).get_suptitle()


@pytest.mark.parametrize("measure", ["cls_cosine", "attention_js"])
def test_a_benchmark_shows_teacher_student_and_difference(images: ImageSet, measure: str) -> None:
    found = benchmark(pair("fog:2"), images, ("fog", "snow"), (1, 2), cache=False)
    figure = plot_benchmark(found, measure)
    first, second, last = figure.axes[:3]
    teacher, student = (found.sheet(name, measure) for name in ("teacher", "student"))
    for ax, values in ((first, teacher), (second, student), (last, student - teacher)):
        np.testing.assert_allclose(ax.images[0].get_array(), values)
    assert first.images[0].get_clim() == second.images[0].get_clim()
    low, high = last.images[0].get_clim()
    assert low == -high
    red, _, blue, _ = last.images[0].cmap(1.0)  # of a student that has more of the measure
    assert (blue > red) == (measure == "cls_cosine")
    assert [line.get_xydata().tolist() for line in second.get_lines()] == [[[1, 0]]] * 2
    assert not first.get_lines()
    assert [label.get_text() for label in first.get_yticklabels()] == ["Fog", "Snow"]
    with pytest.raises(ValueError, match="unknown measure 'cosine'"):
        plot_benchmark(found, "cosine")


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
    with pytest.raises(InputError, match="columns"):
        plot_panes({"weak": (picture, weak)}, columns=0)
    with pytest.raises(InputError, match="low"):
        plot_panes({"below": (picture, -weak)})


def test_curves_are_told_apart_without_colours() -> None:
    curves = {f"curve {number}": [float(number), number + 1.0] for number in range(4)}
    lines = plot_curves(curves, "layer", "cosine", x=[3, 7]).axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == list(curves.values())
    assert all(list(line.get_xdata()) == [3, 7] for line in lines)
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 4


# Names as people give them.

ODD = ("$x^2$", "costs $5 {", r"\frac{1}{", "a_b^c", "_hidden", "100 %", "<b>&amp;</b>", "tab\there", "caf\udce9")


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(to_image(figure), dtype=int)


def test_names_are_drawn_as_they_stand() -> None:
    rows = np.random.default_rng(0).normal(size=(len(ODD), 4))
    figure = plot_projection(project({"$view{": rows, "other": rows}, labels=ODD))
    shown = words(figure)[2:]
    assert sorted(shown) == sorted([*ODD[:-2], r"tab\there", r"caf\xe9"])
    assert to_png(figure).startswith(b"\x89PNG")
    picture = torch.rand(3, 8, 8)
    assert to_png(plot_panes(dict.fromkeys(ODD, (picture, None)), columns=3)).startswith(b"\x89PNG")
    figure = plot_curves({name: [0.0, 1.0] for name in ODD}, "layer", r"$\sigma$")
    assert words(figure) == [*ODD[:-2], r"tab\there", r"caf\xe9"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_a_dollar_is_a_dollar_and_not_a_formula() -> None:
    literal = pixels(plot_panes({"$a_1$": (torch.ones(3, 8, 8), None)}))
    formula = plot_panes({"$a_1$": (torch.ones(3, 8, 8), None)})
    formula.axes[0].title.set_parse_math(True)
    assert np.abs(literal - pixels(formula)).max() > 100
    wider = plot_panes({"$a_1$": (torch.ones(3, 8, 8), None)}).axes[0].title
    narrow = plot_panes({"a_1": (torch.ones(3, 8, 8), None)}).axes[0].title
    assert wider.get_window_extent().width > narrow.get_window_extent().width + 5


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said about letters, where nothing was said before."""
    monkeypatch.setattr(lettering, "_TOLD", set())
    lettering._fonts_with.cache_clear()
    caplog.set_level(logging.WARNING, "explorer.plots.lettering")
    return caplog


def test_letters_that_no_font_has_are_told_once(told: pytest.LogCaptureFixture) -> None:
    linear_b, cuneiform = "\N{LINEAR B SYLLABLE B008 A}", "\N{CUNEIFORM SIGN A}"  # on hardly any computer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in (linear_b, 2 * linear_b, "Z\N{LATIN SMALL LETTER U WITH DIAERESIS}rich", cuneiform):
            figure = plot_panes({name: (torch.rand(3, 8, 8), None)})
            assert figure.axes[0].get_title() == name
            assert to_png(figure).startswith(b"\x89PNG")
    if len(told.messages) != 2:
        pytest.skip("a font of this computer has these letters")
    assert [part in line for part, line in zip(("(Linear)", "(Cuneiform)"), told.messages, strict=True)] == [True, True]
    assert "Install one that has them, such as Noto Sans" in told.messages[0]


@pytest.mark.parametrize(
    ("letter", "font"), [("\N{CJK UNIFIED IDEOGRAPH-732B}", "Noto Sans CJK"), ("\U0001fabf", "Noto Emoji")]
)
def test_which_font_has_them(told: pytest.LogCaptureFixture, letter: str, font: str) -> None:
    lettering._tell([letter, letter])
    assert len(told.messages) == 1
    assert f"such as {font}" in told.messages[0]


def test_letters_are_taken_from_a_font_that_has_them(told: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    letter = "\N{LINEAR B SYLLABLE B008 A}"
    figure = plot_panes({letter: (torch.ones(3, 8, 8), None)})
    boxes = pixels(figure)
    font_manager.fontManager.addfont(_font_of_squares(tmp_path / "squares.ttf", "Noto Sans Squares", letter))
    try:
        told.clear()
        squares = pixels(plot_panes({f"{letter}": (torch.ones(3, 8, 8), None)}))
        assert told.messages == []
        assert (squares.sum(-1) < 200).sum() > (boxes.sum(-1) < 200).sum() + 20, "black squares"
    finally:
        font_manager.fontManager.ttflist = [
            entry for entry in font_manager.fontManager.ttflist if entry.name != "Noto Sans Squares"
        ]


def _font_of_squares(file: Path, family: str, letter: str) -> Path:
    """A font with one letter, a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(file)
    return file
