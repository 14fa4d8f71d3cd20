"""The interactive views for browsers: one source for the app, for notebooks and for standalone pages.

`attentionview.js`, `patchview.js`, `recoveryview.js` and `embeddingview.js` take a JSON payload and draw it without any
server; `common.js` is what they share and `views.css` is how they look. What leaves this module is text: a view with
everything that it needs as one ES module, and the style sheet. Only the embedding view needs more than that: whoever
mounts it hands it plotly.js. Who mounts the views, and where the payloads come from, is none of this module's business.
"""

import re
from importlib.resources import files

VIEWS = {
    "attentionview": "createAttentionView",
    "patchview": "createPatchView",
    "recoveryview": "createRecoveryView",
    "embeddingview": "createEmbeddingView",
    "sweepview": "createSweepView",
}
"""Name of each view's module, and the function that it exports."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./common\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def module_source(name: str) -> str:
    """A view as one self-contained ES module, ready for a Blob URL, an anywidget or a `<script type="module">`.

    Args:
        name: a key of `VIEWS`, such as "patchview", which exports `createPatchView`.

    Raises:
        ValueError: there is no such view.
    """
    if name not in VIEWS:
        raise ValueError(f"unknown view '{name}'; there are: {', '.join(VIEWS)}")
    view, imports = _IMPORT.subn("", _read(f"{name}.js"))
    assert imports == 1, f"{name}.js must import from ./common.js in exactly one line"
    return _EXPORT.sub("", _read("common.js")) + "\n" + view


def stylesheet() -> str:
    """The style sheet of all views. All its rules are about elements whose class begins with `vx`."""
    own = files(__name__) / "sweepview.css"  # the rules of one view alone, kept beside it
    return _read("views.css") + (own.read_text(encoding="utf-8") if own.is_file() else "")


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
