"""The interactive views for browsers: one source for the app, for notebooks and for standalone pages.

The files whose names end in `view.js` take a JSON payload and draw it without any server; what they share stands in
modules beside them, one idea each (`arrays.js`, `elements.js`, `painting.js` ...), and `views.css` is how they look,
with a sheet for each view beside it. What leaves this module is text: a view with everything that it needs as one ES
module, joined by `linker`, and the style sheet. Only the embedding view needs more than that: whoever mounts it hands
it plotly.js, or `flatplot.js`, which draws less and is small. Who mounts the views, and where the payloads come from,
is none of this module's business.

`page.html` with `frame.js` is the frame of a page that needs nothing else at all, filled by `explorer.scenes.pages` or,
in the browser, by `page.js`: whoever mounts a view hands it `page_template`, `page_modules` and the style sheet for it.
"""

from importlib.resources import files

from explorer.errors import InputError
from explorer.web.linker import linked

VIEWS = {
    "attentionview": "createAttentionView",
    "patchview": "createPatchView",
    "recoveryview": "createRecoveryView",
    "embeddingview": "createEmbeddingView",
    "sweepview": "createSweepView",
    "benchmarkview": "createBenchmarkView",
    "attributionview": "createAttributionView",
    "labview": "createLabView",
}
"""Name of each view's module, and the function that it exports."""


def module_source(name: str) -> str:
    """A view as one self-contained ES module, ready for a Blob URL, an anywidget or a `<script type="module">`.

    Args:
        name: a key of `VIEWS`, such as "patchview", which exports `createPatchView`.

    Raises:
        ValueError: there is no such view.
    """
    if name not in VIEWS:
        raise InputError(f"unknown view '{name}'; there are: {', '.join(VIEWS)}")
    return _linked(name)


def stylesheet() -> str:
    """The style sheet of all views. All its rules are about elements whose class begins with `vx`."""
    return "".join(_read(f"{name}.css") for name in ("views", *VIEWS))


def page_template() -> str:
    """A page with a place for each of TITLE, STYLE, DATA and MODULES, written %%VX_TITLE%% and so on."""
    return _read("page.html").replace("%%VX_FRAME%%", _linked("frame"))


def page_modules(name: str) -> list[str]:
    """What a page needs to draw a view: ES modules that leave their function in the page's `vxViews`.

    Raises:
        ValueError: there is no such view.
    """
    sources = [module_source(name) + registration(name)]
    if name == "embeddingview":
        sources.append(_linked("flatplot") + _register("flatplot", "flatplot"))
    assert not any("</script" in source or "<!--" in source for source in sources), "they stand inside of script tags"
    return sources


def registration(name: str) -> str:
    """The line after a view's module that leaves its function in `vxViews`."""
    return _register(name, VIEWS[name])


def _register(name: str, value: str) -> str:
    return f"\n(globalThis.vxViews ??= {{}}).{name} = {value};\n"


def _linked(name: str) -> str:
    return linked(name, lambda module: _read(f"{module}.js"))


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
