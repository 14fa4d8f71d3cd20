"""Four widgets for notebooks: the app's interactive views, beside the controls that feed them.

    from explorer import widgets
    widgets.AttentionExplorer(pair, "cat.jpg")

Reading order: `background` (work in threads), `base` (one anywidget for all views, and what all widgets share),
`controls` (picture and distortion), `pictures` (what a stored notebook shows), then the widgets: `comparing`
(`AttentionExplorer`, `PatchExplorer`), `embedding` (`EmbeddingExplorer`), `training` and `monitor`
(`DistillationMonitor`). They call the functions that the app calls. `showing` puts figures into lessons. Deliberately
ignored: what any number means.
"""

from explorer.widgets import _required  # noqa: F401  (first: the others need what it looks for)
from explorer.widgets.comparing import AttentionExplorer, PatchExplorer
from explorer.widgets.embedding import EmbeddingExplorer
from explorer.widgets.monitor import DistillationMonitor
from explorer.widgets.showing import show

__all__ = ["AttentionExplorer", "DistillationMonitor", "EmbeddingExplorer", "PatchExplorer", "show"]
