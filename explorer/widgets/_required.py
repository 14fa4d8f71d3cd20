"""Says what is missing, before anything that takes time is imported."""

from importlib.util import find_spec

for _package in ("ipywidgets", "anywidget"):
    if find_spec(_package) is None:
        raise ImportError(
            f'explorer.widgets needs {_package}, which is not installed: pip install "vit-explorer[notebooks]"'
        )
