"""Figures: one colour scale for what is compared, right pixels, no state shared between threads."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from PIL import Image

from explorer import alignment, compare, load_backbone, metrics, patch_similarity, plots
from explorer.analysis.measures import AGREEMENT, MEASURES
from explorer.inspection.comparison import VIEWS, Comparison
from explorer.plots.comparison import _verdict
from explorer.plots.style import CELL, bar_below, colormap_of, empty_figure, symmetric_scale, to_image

SIZE = 96
GRID = 6


def _tiny(seed: int):
    return load_backbone("vit_tiny_patch16_224", image_size=SIZE, source="random", seed=seed, device="cpu")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return compare(_tiny(0), image, "gaussian_noise(sigma=0.5)", _tiny(1), seed=3)


@pytest.fixture(scope="module")
def untouched() -> Comparison:
    return compare(_tiny(0), torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), "none")


def _panes(figure: Figure) -> list[Axes]:
    """The axes in the grid, in reading order; colour bars stand outside of it."""
    return [ax for ax in figure.axes if ax.get_subplotspec() is not None]


def _heat(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[-1].get_array())


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


# plot_comparison


def test_comparison_has_nine_panes_and_two_colour_bars(comparison: Comparison) -> None:
    figure = plots.plot_comparison(comparison)
    assert len(_panes(figure)) == 9
    assert len(figure.axes) == 11
    assert _texts(figure).count("reference") >= 1


def test_each_pane_shows_its_own_map(comparison: Comparison) -> None:
    panes = _panes(plots.plot_comparison(comparison, layer=5, head=1))
    maps = {name: values.numpy() for name, values in comparison.maps(5, 1).items()}
    for place, name in {3: "teacher_clean", 4: "teacher_distorted", 6: "student_clean", 7: "student_distorted"}.items():
        assert np.array_equal(_heat(panes[place]), maps[name]), name
    for place, name in {5: "teacher_distorted", 8: "student_distorted"}.items():
        assert np.array_equal(_heat(panes[place]), maps[name] - maps["teacher_clean"]), name


def test_four_maps_share_one_scale_from_zero_to_the_common_maximum(comparison: Comparison) -> None:
    panes = _panes(plots.plot_comparison(comparison))
    norms = {id(panes[place].images[-1].norm) for place in (3, 4, 6, 7)}
    assert len(norms) == 1
    norm = panes[3].images[-1].norm
    assert (norm.vmin, norm.vmax) == (0, pytest.approx(max(float(m.max()) for m in comparison.maps().values())))


def test_differences_share_one_symmetric_scale_that_reaches_the_largest(comparison: Comparison) -> None:
    panes = _panes(plots.plot_comparison(comparison))
    one, other = panes[5].images[-1], panes[8].images[-1]
    assert one.norm is other.norm
    assert one.norm.vmin == -one.norm.vmax
    assert one.norm.vmax == pytest.approx(max(np.abs(_heat(panes[5])).max(), np.abs(_heat(panes[8])).max()))
    assert one.get_cmap().name == plots.DIVERGING


@pytest.mark.parametrize("largest", [0.0101, 0.0333, 0.0399, 0.0501, 0.0799])
def test_numbers_below_a_single_pane_do_not_meet(largest: float) -> None:
    figure = empty_figure((CELL + 1, CELL + 1))
    panes = figure.subplots(1, 1, squeeze=False, gridspec_kw={"left": 0.5 / (CELL + 1), "right": 1 - 0.5 / (CELL + 1)})
    image = panes[0, 0].imshow([[0.0]], norm=symmetric_scale(np.array([largest])))
    bar_below(figure, panes[0], image, "distorted minus reference")
    to_image(figure)
    shown = [text for text in figure.axes[-1].get_xticklabels() if -largest <= text.get_position()[0] <= largest]
    boxes = [text.get_window_extent() for text in shown]
    assert len(boxes) >= 3
    assert all(before.x1 < after.x0 for before, after in pairwise(boxes)), [text.get_text() for text in shown]


def test_title_says_distortion_seed_layer_and_head(comparison: Comparison) -> None:
    texts = _texts(plots.plot_comparison(comparison, layer=-2, head="max"))
    for part in ("gaussian_noise(sigma=0.5)", "seed 3", "layer 10", "max of heads"):
        assert part in texts


def test_panel_prints_the_numbers_and_judges_by_what_is_printed(comparison: Comparison) -> None:
    texts = _texts(plots.plot_comparison(comparison))
    assert f"{comparison.alignments['student'].patch_cosine:.2f}" in texts
    assert f"{comparison.alignments['teacher'].attention_js:.2f}" in texts
    assert _verdict(0.501, 0.502, True)[0] == ""
    assert _verdict(0.5, 0.6, True)[0] == _verdict(0.6, 0.5, False)[0] == "✓"
    assert _verdict(0.6, 0.5, True)[0] == _verdict(0.5, 0.6, False)[0] == "✗"


def test_an_untouched_student_is_named_and_draws_without_any_difference(untouched: Comparison) -> None:
    figure = plots.plot_comparison(untouched)
    assert "untouched" in _texts(figure)
    norm = _panes(figure)[5].images[-1].norm
    assert norm.vmin < 0 < norm.vmax  # all differences are 0, yet the scale has a width
    plots.to_png(figure)


def test_a_trained_student_is_not_called_untouched(comparison: Comparison) -> None:
    assert "untouched" not in _texts(plots.plot_comparison(comparison))


def test_panes_have_the_shape_of_a_picture_that_is_not_square() -> None:
    backbone = load_backbone("vit_tiny_patch16_224", image_size=(64, 112), source="random", device="cpu")
    image = torch.rand(3, 64, 112, generator=torch.Generator().manual_seed(0))
    figure = plots.plot_comparison(compare(backbone, image, "gaussian_noise"))
    width, height = figure.get_size_inches()
    box = _panes(figure)[3].get_position()
    assert box.height * height / (box.width * width) == pytest.approx(64 / 112, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 12}, "layer 12 was not traced"),
        ({"head": 3}, "head 3 does not exist"),
        ({"colormap": "virids"}, "did you mean viridis"),
        ({"opacity": 1.5}, "opacity goes from 0"),
    ],
)
def test_bad_arguments_are_explained(comparison: Comparison, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.plot_comparison(comparison, **arguments)


def test_smooth_maps_have_the_size_of_the_picture(comparison: Comparison) -> None:
    assert _heat(_panes(plots.plot_comparison(comparison, smooth=True))[3]).shape == (SIZE, SIZE)
    assert _heat(_panes(plots.plot_comparison(comparison))[3]).shape == (GRID, GRID)


# plot_heads, plot_similarity, plot_pca, plot_map


def test_overview_shows_every_head_at_its_place(comparison: Comparison) -> None:
    maps = comparison.heads("student_distorted").numpy()
    mosaic = np.ma.filled(_heat(_panes(plots.plot_heads(comparison))[0]), np.nan)
    step = GRID + 1
    assert mosaic.shape == (12 * step - 1, 3 * step - 1)
    for layer in range(12):
        for head in range(3):
            tile = mosaic[layer * step : layer * step + GRID, head * step : head * step + GRID]
            assert np.array_equal(tile, maps[layer, head])
    assert np.isnan(mosaic[GRID]).all()


def test_overviews_of_two_views_have_one_scale(comparison: Comparison) -> None:
    scales = {plots.plot_heads(comparison, view).axes[0].images[0].norm.vmax for view in VIEWS}
    assert len(scales) == 1
    assert plots.plot_heads(comparison, high=0.5).axes[0].images[0].norm.vmax == 0.5


def test_heads_are_those_of_attention_map(comparison: Comparison) -> None:
    heads = comparison.heads("teacher_distorted")
    assert torch.equal(heads[4, 2], comparison.maps(4, 2)["teacher_distorted"])
    with pytest.raises(ValueError, match="unknown view 'teacher'"):
        comparison.heads("teacher")


def test_overview_draws_on_axes_that_are_given(comparison: Comparison) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    assert plots.plot_heads(comparison.heads(), ax=ax) is figure
    assert len(ax.images) == 1


def test_similarity_panes_share_one_scale_and_show_the_cosine_to_the_reference(comparison: Comparison) -> None:
    panes = _panes(plots.plot_similarity(comparison, 1, 4, layer=7))
    assert len(panes) == 4
    assert len({id(ax.images[-1].norm) for ax in panes}) == 1
    for name, ax in zip(VIEWS, panes, strict=True):
        wanted = patch_similarity(comparison.reference.trace, (1, 4), comparison.views[name].trace, 7)[0]
        assert np.array_equal(_heat(ax), wanted.numpy()), name


def test_similarity_marks_the_query_and_rings_the_best_match(comparison: Comparison) -> None:
    panes = _panes(plots.plot_similarity(comparison, 1, 4))
    patch = SIZE / GRID
    for ax in panes:
        square = next(mark for mark in ax.patches if isinstance(mark, Rectangle))
        assert square.get_xy() == (4 * patch, 1 * patch)
    assert not any(isinstance(mark, Circle) for mark in panes[0].patches)  # the reference matches itself
    for ax in panes[1:]:
        row, col = np.unravel_index(_heat(ax).argmax(), (GRID, GRID))
        ring = next(mark for mark in ax.patches if isinstance(mark, Circle))
        assert ring.center == ((col + 0.5) * patch, (row + 0.5) * patch)


def test_similarity_refuses_a_patch_outside_of_the_grid(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match="lies outside of the grid"):
        plots.plot_similarity(comparison, GRID, 0)


def test_pca_shows_joint_colours(comparison: Comparison) -> None:
    panes = _panes(plots.plot_pca(comparison))
    colours = comparison.colours()
    assert list(colours) == list(VIEWS)
    for name, ax in zip(VIEWS, panes, strict=True):
        assert np.allclose(_heat(ax), colours[name].numpy())


def test_map_scale_can_be_fixed() -> None:
    image, values = torch.rand(3, 8, 8), torch.tensor([[0.0, 0.2], [0.1, 0.3]])
    assert plots.plot_map(image, values).axes[0].images[-1].norm.vmax == pytest.approx(0.3)
    assert plots.plot_map(image, values, high=0.9).axes[0].images[-1].norm.vmax == 0.9


# Several students


@pytest.fixture(scope="module")
def several() -> Comparison:
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return compare(_tiny(0), image, "gaussian_noise(sigma=0.5)", {"noise": _tiny(1), "my_$mix$": _tiny(2)}, seed=3)


def test_each_student_has_a_row_under_one_scale(several: Comparison) -> None:
    panes = _panes(plots.plot_comparison(several, layer=5, head=1))
    assert len(panes) == 4 * 3
    maps = {name: values.numpy() for name, values in several.maps(5, 1).items()}
    networks = ("teacher", "noise", "my_$mix$")
    for network, row in zip(networks, (panes[3:6], panes[6:9], panes[9:12]), strict=True):
        assert row[0].get_ylabel() == network
        for kind, ax in zip(("clean", "distorted"), row, strict=False):
            assert np.array_equal(_heat(ax), maps[f"{network}_{kind}"])
        assert np.array_equal(_heat(row[2]), maps[f"{network}_distorted"] - maps["teacher_clean"])
    assert len({id(ax.images[-1].norm) for row in range(1, 4) for ax in panes[3 * row : 3 * row + 2]}) == 1
    assert len({id(panes[place].images[-1].norm) for place in (5, 8, 11)}) == 1


def test_numbers_of_each_student_stand_in_a_table(several: Comparison) -> None:
    figure = plots.plot_comparison(several)
    table = next(ax for ax in figure.axes if any(text.get_text().startswith("CLS cosine") for text in ax.texts))
    columns = {text.get_text(): text.get_position()[0] for text in table.texts if text.get_position()[1] == 0.5}
    assert list(columns)[1:] == ["teacher", "noise", "my_$mix$"]
    for network, x in list(columns.items())[1:]:
        shown = [text.get_text() for text in table.texts if text.get_position()[0] == x][1:]
        assert shown == [f"{getattr(several.alignments[network], name):.2f}" for name in AGREEMENT]
    bold = {text.get_position() for text in table.texts if text.get_weight() == "bold" and text.get_position()[1] > 1}
    for line, measure in enumerate(MEASURES[name] for name in AGREEMENT):
        values = {name: round(getattr(several.alignments[name], measure.name), 2) for name in several.students}
        best = (max if measure.better > 0 else min)(values.values())
        assert {x for x, y in bold if y == line + 1.5} == {columns[name] for name in values if values[name] == best}


def test_similarity_and_colours_show_each_student(several: Comparison) -> None:
    similar, colours = several.similarity(1, 4), several.colours()
    for figure, wanted in ((plots.plot_similarity(several, 1, 4), similar), (plots.plot_pca(several), colours)):
        for (name, values), ax in zip(wanted.items(), _panes(figure), strict=True):
            assert np.allclose(_heat(ax), values.numpy()), name


def test_plotly_shows_each_student(several: Comparison) -> None:
    from explorer.plots import interactive

    figure = interactive.plotly_comparison(several)
    shown = [np.asarray(trace.z) for trace in figure.data]
    assert len(shown) == 9
    assert np.allclose(shown[7], several.maps()["my_$mix$_distorted"].numpy())
    assert [trace.name for trace in interactive.plotly_layers(several).data] == ["teacher", "noise", "my_&#36;mix&#36;"]


def test_several_students_without_a_clean_picture_lie_beside_each_other() -> None:
    students = {name: _tiny(seed) for seed, name in enumerate(("a", "b", "c"), start=1)}
    alone = compare(_tiny(0), None, torch.rand(3, SIZE, SIZE), students)
    panes = _panes(plots.plot_similarity(alone, 1, 4))
    assert [ax.get_subplotspec().rowspan.start for ax in panes] == [0, 0, 0, 1, 1, 1]
    assert [ax.texts[0].get_text() for ax in panes[:4]] == [f"{name}, distorted" for name in ("teacher", *students)]
    assert not panes[4].axison
    assert "bold" not in _texts(plots.plot_comparison(alone))  # nobody knows which is nearest to the truth


# overlay


def test_overlay_with_full_opacity_is_the_colour_map() -> None:
    values = torch.tensor([[0.0, 1.0], [0.5, 0.25]])
    pixels = plots.overlay(torch.rand(3, 4, 6), values, opacity=1.0)
    viridis = colormap_of("viridis")
    for row in range(4):
        for col in range(6):
            colour = viridis(Normalize(0, 1)(float(values[row // 2, col // 3])))[:3]
            assert np.array_equal(pixels[row, col], np.round(255 * np.array(colour)).astype(np.uint8))


def test_overlay_with_no_opacity_is_the_grey_picture() -> None:
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    pixels = plots.overlay(image, torch.rand(5, 7), opacity=0.0)
    grey = np.asarray(Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).convert("L"))
    assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 1


@pytest.mark.parametrize("smooth", [False, True])
def test_overlay_shows_the_picture_where_the_map_is_nan(smooth: bool) -> None:
    image = torch.full((3, 8, 8), 0.5)
    values = torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])
    pixels = plots.overlay(image, values, opacity=1.0, high=2.0, smooth=smooth)
    assert (pixels[:4, :4] == 128).all()
    middle = np.round(255 * np.array(colormap_of("viridis")(0.5)[:3]))
    assert (pixels[4:] == middle).all()  # neighbours of NaN are not pulled towards 0
    assert (pixels[:4, 4:] == middle).all()


def test_overlay_without_a_finite_value_is_the_picture() -> None:
    pixels = plots.overlay(torch.full((3, 4, 4), 0.5), torch.full((2, 2), float("nan")))
    assert (pixels == 128).all()


def test_overlay_takes_pictures_that_leave_the_range() -> None:
    pixels = plots.overlay(torch.tensor([-2.0, 3.0]).repeat(3, 1, 1), torch.zeros(1, 2), opacity=0.0)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 1].tolist() == [255, 255, 255]


# by_layer


def test_by_layer_agrees_with_the_alignments(comparison: Comparison) -> None:
    table = comparison.by_layer()
    assert list(table.columns) == ["view", "layer", "attention_js", "patch_cosine"]
    assert len(table) == 3 * 12
    for name, agreement in comparison.alignments.items():
        view = name if name == "student_clean" else f"{name}_distorted"
        part = table[table["view"] == view]
        assert part.layer.tolist() == list(range(12))
        assert part.attention_js[-4:].mean() == pytest.approx(agreement.attention_js, abs=1e-6)
        assert part.patch_cosine.iloc[-1] == pytest.approx(agreement.patch_cosine, abs=1e-6)


def test_by_layer_is_computed_for_each_layer_alone(comparison: Comparison) -> None:
    table = comparison.by_layer().set_index(["view", "layer"])
    a, b = comparison.reference.trace, comparison.views["student_distorted"].trace
    wanted = metrics.js_divergence(a.attention[:, 3], b.attention[:, 3]).item()
    assert table.attention_js["student_distorted", 3] == pytest.approx(wanted, abs=1e-6)
    assert alignment(a, b, attention_layers=12).attention_js == pytest.approx(
        table.attention_js["student_distorted"].mean(), abs=1e-6
    )


# Files and threads


def test_png_is_a_picture(comparison: Comparison) -> None:
    figure = plots.plot_comparison(comparison)
    picture = Image.open(io.BytesIO(plots.to_png(figure, dpi=50)))
    assert picture.format == "PNG"
    assert picture.size == pytest.approx(figure.get_size_inches() * 50, abs=1)


def test_eight_threads_draw_the_same_bytes(comparison: Comparison) -> None:
    def draw(number: int) -> bytes:
        return plots.to_png(plots.plot_comparison(comparison, layer=number % 2), dpi=60)

    alone = [draw(0), draw(1)]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(draw, range(8)))
    assert all(png == alone[number % 2] for number, png in enumerate(together))


def test_nothing_touches_pyplot_and_plotly_is_not_imported_unasked() -> None:
    code = (
        "import sys, torch\n"
        "from explorer import plots\n"
        "plots.to_png(plots.plot_map(torch.rand(3, 8, 8), torch.rand(2, 2)))\n"
        "plots.to_png(plots.plot_heads(torch.rand(2, 3, 4, 4)))\n"
        "print('matplotlib.pyplot' in sys.modules, 'plotly' in sys.modules, 'matplotlib.figure' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


# plotly


def test_plotly_comparison_has_two_shared_colour_axes(comparison: Comparison) -> None:
    pytest.importorskip("plotly")
    figure = plots.plotly_comparison(comparison, layer=4, head=0)
    maps = comparison.maps(4, 0)
    assert [heat.coloraxis for heat in figure.data] == ["coloraxis", "coloraxis", "coloraxis2"] * 2
    assert np.allclose(figure.data[4].z, maps["student_distorted"].numpy())
    assert np.allclose(figure.data[5].z, (maps["student_distorted"] - maps["teacher_clean"]).numpy())
    axis, changes = figure.layout.coloraxis, figure.layout.coloraxis2
    assert (axis.cmin, axis.cmax) == (0, pytest.approx(max(float(m.max()) for m in maps.values())))
    assert changes.cmin == -changes.cmax < 0
    assert all(figure.layout[name].autorange == "reversed" for name in ("yaxis", "yaxis2", "yaxis6"))
    assert all(part in figure.data[0].hovertemplate for part in ("row %{y}", "column %{x}", "%{z"))


def test_plotly_comparison_without_a_clean_picture() -> None:
    pytest.importorskip("plotly")
    alone = compare(_tiny(0), None, torch.rand(3, SIZE, SIZE), _tiny(1))
    figure, maps = plots.plotly_comparison(alone), alone.maps()
    assert [heat.coloraxis for heat in figure.data] == ["coloraxis", "coloraxis", "coloraxis2"]
    assert np.allclose(figure.data[2].z, (maps["student_distorted"] - maps["teacher_distorted"]).numpy())
    titles = [each.text for each in figure.layout.annotations]
    assert titles == ["teacher · distorted (reference)", "student · distorted", "student · difference"]
    assert figure.layout.coloraxis2.colorbar.title.text == "student minus teacher"
    layers = plots.plotly_layers(alone)
    assert [line.name for line in layers.data] == ["student"]
    assert len(layers.data[0].y) == len(alone.reference.trace.layers)
    assert "against the teacher" in layers.layout.title.text


def test_plotly_layers_draws_the_table(comparison: Comparison) -> None:
    pytest.importorskip("plotly")
    figure, table = plots.plotly_layers(comparison), comparison.by_layer()
    assert [line.name for line in figure.data] == ["teacher", "student"]
    wanted = table[table["view"] == "student_distorted"].attention_js
    assert np.allclose(np.asarray(figure.data[1].y), wanted)
    assert len({line.line.color for line in figure.data}) == len({line.line.dash for line in figure.data}) == 2


def test_missing_plotly_names_the_extra(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r"vit-explorer\[plotly\]"):
        plots.plotly_layers(comparison)
    with pytest.raises(ImportError, match=r"vit-explorer\[plotly\]"):
        plots.plotly_comparison(comparison)
