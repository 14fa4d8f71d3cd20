"""Plotly figures that answer to the pointer; plotly is optional, and imported by the functions that draw with it.

Enters: a `Comparison`. Leaves: a plotly figure.
"""

import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.analysis.maps import Head
from explorer.errors import MissingExtraError
from explorer.inspection.comparison import Comparison
from explorer.models.students import TEACHER
from explorer.plots.comparison import caption_of, changes_of, compared, damage, pictures_of
from explorer.plots.style import COLOURS, DIVERGING, INK, highest, scale_end, to_array

if TYPE_CHECKING:
    import plotly.graph_objects


def plotly_comparison(
    comparison: Comparison, layer: int = -1, head: Head = "mean", colormap: str = "Viridis"
) -> "plotly.graph_objects.Figure":
    """The maps of `plot_comparison` as heatmaps that say row, column and value under the pointer.

    Args:
        comparison: made by `explorer.compare`.
        layer, head: as in `explorer.attention_map`.
        colormap: a name of plotly's.

    Raises:
        ImportError: plotly is not installed.
        ValueError: layer, head or colour map that does not exist.
    """
    graphs = _plotly()
    maps = {name: to_array(values) for name, values in comparison.maps(layer, head).items()}
    kinds, changes = pictures_of(comparison), changes_of(comparison, maps)
    shown = {name: [*kinds, *["difference"] * (name in changes)] for name in comparison.networks}
    figure = _plotly_panes(shown)
    for row, (network, panes) in enumerate(shown.items(), start=1):
        for col, kind in enumerate(panes, start=1):
            if kind == "difference":
                heat = _plotly_heat(graphs, changes[network], kind, "coloraxis2")
            else:
                heat = _plotly_heat(graphs, maps[f"{network}_{kind}"], "attention", "coloraxis")
            figure.add_trace(heat, row, col)
    other, whose = compared(comparison)
    share = len(kinds) / (len(kinds) + 1)  # of the width, which maps take
    high, change = scale_end(*maps.values()), highest(*map(np.abs, changes.values()))
    bar = {"orientation": "h", "yanchor": "top", "y": -0.04, "thickness": 12, "title": {"side": "bottom"}}
    figure.update_layout(
        title={"text": f"{damage(comparison)}<br><sup>{caption_of(comparison, layer, head)}</sup>"},
        coloraxis={
            "cmin": 0,
            "cmax": high,
            "colorscale": colormap,
            "colorbar": _bar(bar, "attention", share / 2 - 0.008, share - 0.067),
        },
        coloraxis2={
            "cmin": -change,
            "cmax": change,
            "colorscale": DIVERGING,
            "colorbar": _bar(bar, f"{whose} minus {other}", (1 + share) / 2 + 0.012, 0.947 - share),
        },
        **_PLOTLY_LAYOUT,
        height=340 * len(comparison.networks),
    )
    return figure


def plotly_layers(comparison: Comparison) -> "plotly.graph_objects.Figure":
    """How far the attention on the distorted picture is from the reference, block by block, teacher and students; where
    there is no clean picture, how far the students' is from the teacher's.

    Raises:
        ImportError: plotly is not installed.
    """
    graphs = _plotly()
    figure, table = graphs.Figure(), comparison.by_layer()
    against, _ = compared(comparison)
    whom = comparison.students if comparison.clean is None else comparison.networks
    for network, dash in zip(whom, _DASHES, strict=False):  # told apart without colours, too
        part = table[table.view == f"{network}_distorted"]
        line = {"color": COLOURS["teacher" if network == TEACHER else "student"], "dash": dash, "width": 2.5}
        name = _unmarked(network)
        hover = f"{name}, layer %{{x}}<br>JS %{{y:.4f}}<extra></extra>"
        figure.add_trace(graphs.Scatter(x=part.layer, y=part.attention_js, name=name, line=line, hovertemplate=hover))
    figure.update_traces(mode="lines+markers", marker={"size": 8})
    figure.update_xaxes(title="layer", dtick=1, gridcolor="#e5e5e5")
    figure.update_yaxes(title="Jensen-Shannon divergence (nats)", rangemode="tozero", gridcolor="#e5e5e5")
    title = f"Attention on the distorted picture, against the {against}<br><sup>{damage(comparison)}</sup>"
    figure.update_layout(title={"text": title}, **_PLOTLY_LAYOUT, height=420)
    return figure


# Parts of plotly figures.

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_PLOTLY_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 50, "r": 20, "t": 90, "b": 60},
    "font": {"color": INK},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1.0},
}


def _unmarked(name: str) -> str:
    """Text that plotly draws as it stands: neither markup nor a formula."""
    return re.sub("[&<>$]", lambda letter: f"&#{ord(letter[0])};", name)


def _plotly() -> ModuleType:
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise MissingExtraError("this figure needs plotly", "plotly") from error
    return plotly.graph_objects


def _plotly_panes(shown: dict[str, list[str]]) -> "plotly.graph_objects.Figure":
    """A row for each network, and a pane for each of what is shown of it."""
    from plotly.subplots import make_subplots

    titles = [f"{_unmarked(name)} · {kind}" for name, kinds in shown.items() for kind in kinds]
    titles[0] += " (reference)"
    rows, cols = len(shown), max(map(len, shown.values()))
    places: list[list[dict[str, Any] | None]] = [
        [{} if col < len(kinds) else None for col in range(cols)] for kinds in shown.values()
    ]
    figure = make_subplots(
        rows, cols, specs=places, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=0.16 / rows
    )
    figure.update_xaxes(constrain="domain", showticklabels=False)
    figure.update_annotations(font_size=13)
    for number in range(1, len(titles) + 1):  # row 0 is at the top; patches are squares
        axis, across = (f"yaxis{number}", f"x{number}") if number > 1 else ("yaxis", "x")
        figure.layout[axis].update(autorange="reversed", scaleanchor=across, constrain="domain", showticklabels=False)
    return figure


def _plotly_heat(graphs: ModuleType, values: np.ndarray, what: str, coloraxis: str) -> "plotly.graph_objects.Heatmap":
    hover = f"row %{{y}}, column %{{x}}<br>{what} %{{z:.4f}}<extra></extra>"
    return graphs.Heatmap(z=values, coloraxis=coloraxis, hovertemplate=hover)


def _bar(shared: dict[str, Any], title: str, x: float, length: float) -> dict[str, Any]:
    return {**shared, "title": {"text": title, "side": "bottom"}, "x": x, "len": length}
