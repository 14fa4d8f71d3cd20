"""Says what is missing, before anything that takes time is imported."""

from importlib.util import find_spec

from explorer.errors import MissingExtraError

for _package in ("ipywidgets", "anywidget"):
    if find_spec(_package) is None:
        raise MissingExtraError(f"explorer.widgets needs {_package}", "notebooks")
