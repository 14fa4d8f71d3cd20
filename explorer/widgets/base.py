"""What all widgets share: the one anywidget that carries a view of `explorer.web`, and the frame around it.

Enters: payloads of `explorer.scenes.inspection` and `explorer.scenes.evaluation`. Leaves: what people do in the view,
as events and settings. The payload is part of the widget's state, so that every page that shows the widget has it at
once, even while the kernel is busy; a notebook that is run by a program need not keep it (nbclient:
`store_widget_state=False`), as each widget leaves a picture, too.
"""

import base64
import gzip
import html
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from weakref import WeakSet

import anywidget
import ipywidgets
import traitlets
from IPython.display import display
from matplotlib.figure import Figure

from explorer.distortions import distortion
from explorer.errors import InputError, MissingExtraError, is_for_users, one_line
from explorer.models.backbones import Backbone
from explorer.models.pairs import Pair
from explorer.models.students import Pairs
from explorer.scenes.pages import Section, save_page
from explorer.sessions.latest import Check, Latest, Left
from explorer.web import VIEWS, module_source, page_modules, page_template, stylesheet
from explorer.widgets.pictures import small_png

_log = logging.getLogger(__name__)
Model = Pairs | Backbone


def _script(view: str) -> str:
    """The view's module and what mounts it."""
    return module_source(view) + _read("mount.js").replace("FACTORY", VIEWS[view])


@cache
def _style() -> str:
    return stylesheet() + _read("widgets.css")


def _read(name: str) -> str:
    return (files(__name__.rpartition(".")[0]) / name).read_text(encoding="utf-8")


@cache
def _plotly() -> bytes:
    """The plotly.js that comes with the plotly package, compressed.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly
    except ImportError as error:
        raise MissingExtraError("the map is drawn by plotly", "plotly") from error
    return gzip.compress((Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes(), 5)


class View(anywidget.AnyWidget):
    """One view of `explorer.web`, in a notebook.

    Args:
        name: a key of `explorer.web.VIEWS`.
        slots: so many moments of a training may be handed over one by one, as `moment_0` and so on.

    Attributes:
        payload: what the view shows; None for nothing.
        scene: a part of the payload that stays the same while the rest changes.
        settings: what people have set in the view (layer, head and so on); may be set, too.
        error: one line above the view; what was shown stays.
        busy: whether something newer is on its way.
        still: class of the picture that stands for the view where no widget runs; the page hides it.
        told: is called with the name and the data of each event of the view.
    """

    payload = traitlets.Any(None, allow_none=True).tag(sync=True)
    scene = traitlets.Any(None, allow_none=True).tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    slots = traitlets.Int(0).tag(sync=True)
    still = traitlets.Unicode().tag(sync=True)

    def __init__(self, name: str, slots: int = 0, **state: Any) -> None:
        self._esm, self._css = _script(name), _style()
        moments = {f"moment_{place}": traitlets.Any(None, allow_none=True).tag(sync=True) for place in range(slots)}
        self.add_traits(**moments)
        self.view_name = name
        state = {"still": f"vx-still-{uuid.uuid4().hex[:12]}", **state}
        super().__init__(slots=slots, layout={"flex": "1 1 520px", "min_width": "0"}, **state)
        self.told: Callable[[str, dict[str, Any]], None] = lambda name, data: None  # noqa: ARG005
        self.on_msg(self._heard)

    def whole(self) -> dict[str, Any]:
        """The payload with what was handed over in parts, as the page puts it together."""
        whole = {**(self.payload or {}), **(self.scene or {})}
        moments = [getattr(self, f"moment_{place}") for place in range(self.slots)]
        return {**whole, "moments": [moment for moment in moments if moment]} if self.slots else whole

    def _heard(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content.get("type") == "plotly":
            self._hand_over_plotly()
        elif content.get("type") == "page":
            made_of = {"template": page_template(), "style": stylesheet(), "modules": page_modules(self.view_name)}
            self.send({"type": "page", "view": self.view_name, **made_of})
        elif content.get("type") == "event":
            self.told(str(content["name"]), content["data"])

    def _hand_over_plotly(self) -> None:
        try:
            self.send({"type": "plotly"}, [_plotly()])
        except (ImportError, OSError) as error:
            self.send({"type": "plotly", "problem": one_line(error)})


class Explorer(ipywidgets.VBox):
    """A view with controls beside it. Errors of what people do appear inside of it, and what was shown stays.

    Args:
        view: made by `View`.
        controls: stand to the left of the view, or above it where there is little room.
    """

    def __init__(self, view: View, controls: Sequence[ipywidgets.Widget]) -> None:
        self.view = view
        self.view.told = self._on_event
        self._latest = Latest()
        self._closed = False
        column = ipywidgets.VBox(list(controls), layout={"flex": "0 0 264px", "max_width": "100%"})
        column.add_class("vx-column")
        row = ipywidgets.HBox([column, view], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        row.layout.grid_gap = "16px"
        super().__init__([row])
        _close_earlier_run(self)

    @property
    def error(self) -> str | None:
        """What is shown inside as being wrong; waits for work under way."""
        self._latest.settle()
        return self.view.error

    def save_page(self, path: str | os.PathLike, *, title: str = "", note: str = "") -> Path:
        """Write what is shown, as it is set now, as one HTML page without server and network; see `explorer.save_page`.

        Args:
            path: ends in .html; a file of that name is replaced.
            title: "" for what is shown, in words.
            note: a few words below the title.
        """
        self._latest.settle()
        shown = Section(view=self.view.view_name, scenes=(self.view.whole(),), state=self.view.settings)
        return save_page(shown, path, title=title or self._words(), note=note)

    def close(self) -> None:
        """End all work, and take the widget off the page."""
        self._closed = True
        if "_latest" in vars(self):  # else it could not be made at all
            self._latest.close()
        for widget in _all_within(self):
            ipywidgets.Widget.close(widget)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._words()}>"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; and a picture of what it shows now, for places where no widget runs."""
        self._latest.settle()
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options) or {}
        bundle["text/plain"] = words = repr(self)
        try:
            bundle["image/png"] = small_png(self._picture())
        except Exception:  # the widget itself is shown without it
            _log.exception("the picture of a widget could not be drawn")
            return bundle, {}
        return bundle, {"image/png": {"alt": words[1:-1]}}

    def _ipython_display_(self, **options: Any) -> None:
        """The widget; and, as an output of its own, the picture with its description.

        In one output, a page that nbconvert made shows the widget alone, or nothing where it cannot be run; and leaves
        descriptions out, unless they are HTML. Where the widget runs, it hides the picture.
        """
        bundle, described = self._repr_mimebundle_(**options)
        png = bundle.pop("image/png", None)
        if png is None:
            display(bundle, raw=True)
            return
        words = bundle["text/plain"]
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        tag = f'<img class="{self.view.still}" alt="{html.escape(words[1:-1])}" src="{source}">'
        display({**bundle, "text/plain": ""}, raw=True)  # said below
        display({"text/html": tag, "image/png": png, "text/plain": words}, metadata=described, raw=True)

    def _ask(self, work: Callable[[Check], None]) -> None:
        """Do something in the background, instead of whatever else was asked for."""

        def told(check: Check) -> None:
            self.view.busy = True
            try:
                with self._telling():
                    work(check)
            finally:
                self.view.busy = False

        self._latest.ask(told)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what goes wrong into one readable line; what goes well takes the line away."""
        try:
            yield
        except Left:
            raise
        except Exception as error:
            if not isinstance(error, InputError):
                _log.log(
                    logging.WARNING if is_for_users(error) else logging.ERROR,
                    "a widget's request failed",
                    exc_info=True,
                )
            self.view.error = one_line(error)
        else:
            self.view.error = None

    # What each widget brings.

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        """Somebody did something in the view."""

    def _picture(self) -> Figure:
        """A figure of what is shown."""
        raise NotImplementedError

    def _words(self) -> str:
        """What is shown, for those who do not see it."""
        raise NotImplementedError


def as_pairs(model: Model) -> Pairs:
    """A pair, or several by name; for a backbone, a pair whose student is the untouched copy.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(model, Pair | Mapping):
        return model
    if not isinstance(model, Backbone):
        raise InputError(
            f"expected a pair, several by name or a backbone; got {type(model).__name__}. "
            f"Make one: ex.load_pair('s14-noise'), or ex.load_backbone('s14')"
        )
    return Pair(teacher=model, student=model, distortion=distortion("none"), card={})


def _all_within(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    inner = [each for child in getattr(widget, "children", ()) for each in _all_within(child)]
    return [widget, *inner]


# Who runs a cell again has done with what it showed before.
_shown: dict[str, tuple[int, "WeakSet[Explorer]"]] = {}


def _close_earlier_run(widget: Explorer) -> None:
    """Close the widgets that this cell made when it was run before; only where the page says which cell it is."""
    cell, count = _running_cell()
    if cell is None:
        return
    before, widgets = _shown.get(cell, (count, WeakSet()))
    if before != count:
        for earlier in list(widgets):
            earlier.close()
        widgets = WeakSet()
    widgets.add(widget)
    _shown[cell] = (count, widgets)


def _running_cell() -> tuple[str | None, int]:
    """The notebook's id of the cell that runs now, and the number of this execution."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return None, 0
    cell = shell.get_parent().get("metadata", {}).get("cellId")
    return (None if cell is None else str(cell)), int(shell.execution_count)
