"""The sets of pictures that a page may look at and learn from, by name. No Gradio in here."""

import os
from pathlib import Path

import explorer as ex
from explorer.images import Size

VARIABLE = "VIT_EXPLORER_PICTURES"
PHOTOS = "embedded photos"


def picture_folders() -> dict[str, Path]:
    """The folders on this computer that are offered, by name: those in VIT_EXPLORER_PICTURES."""
    listed = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return {Path(part).name or part: Path(part).expanduser() for part in listed}


def picture_set(source: str, size: Size, limit: int | None = None) -> ex.ImageSet:
    """The embedded photos, or the pictures in a folder that is offered.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if source == PHOTOS:
        return ex.load_images("photos", size=size, limit=limit)
    if source not in picture_folders():
        raise ValueError(f"the folder '{source}' is not offered any more (set {VARIABLE})")
    return ex.load_images(picture_folders()[source], size=size, limit=limit)
