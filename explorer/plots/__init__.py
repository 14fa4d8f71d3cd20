"""Figures from data: matplotlib for files and pages, plotly for pages that answer to the pointer.

Enters: comparisons, maps, tables of what was measured. Leaves: a figure, or pixels. Nothing here runs a model or
computes what it draws.
"""

from explorer.plots.animation import animate_recovery
from explorer.plots.comparison import plot_comparison, plot_heads, plot_pca, plot_similarity
from explorer.plots.evaluation import plot_benchmark, plot_evaluation, plot_projection, plot_sweep
from explorer.plots.interactive import plotly_comparison, plotly_layers
from explorer.plots.overlays import overlay, plot_map
from explorer.plots.panes import Pane, plot_attribution, plot_curves, plot_panes
from explorer.plots.patches import plot_classes, plot_clusters, plot_foreground, plot_labels, plot_matches, plot_norms
from explorer.plots.segmentation import plot_segmentation
from explorer.plots.style import (
    BETTER,
    COLOURS,
    DIVERGING,
    INK,
    PAPER,
    QUIET,
    WORSE,
    empty_figure,
    own_axes,
    root_figure,
    to_image,
    to_png,
)

__all__ = [
    "BETTER",
    "COLOURS",
    "DIVERGING",
    "INK",
    "PAPER",
    "QUIET",
    "WORSE",
    "Pane",
    "animate_recovery",
    "empty_figure",
    "overlay",
    "own_axes",
    "plot_attribution",
    "plot_benchmark",
    "plot_classes",
    "plot_clusters",
    "plot_comparison",
    "plot_curves",
    "plot_evaluation",
    "plot_foreground",
    "plot_heads",
    "plot_labels",
    "plot_map",
    "plot_matches",
    "plot_norms",
    "plot_panes",
    "plot_pca",
    "plot_projection",
    "plot_segmentation",
    "plot_similarity",
    "plot_sweep",
    "plotly_comparison",
    "plotly_layers",
    "root_figure",
    "to_image",
    "to_png",
]
