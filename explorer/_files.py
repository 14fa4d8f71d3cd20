"""Where files lie: the assets that come with the project, the user's cache, and writing without half files.

Nothing here reads or interprets content.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "VIT_EXPLORER_CACHE"


def asset_path(name: str) -> Path:
    """Path of something below `assets/`: inside an installed wheel, or beside the package in a checkout.

    Raises:
        FileNotFoundError: the project was installed without it.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "_assets", package.parent / "assets"):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(
        f"'{name}' is not among the files that came with vit-explorer; install the project again, or use a checkout"
    )


def cache_dir() -> Path:
    """The folder for what can be made again (converted weights); set VIT_EXPLORER_CACHE to move it. Not created."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("vit-explorer", appauthor=False))


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path to write to beside `target`; it takes the target's name only if the block ends without an error.

    A process that dies half-way leaves a file with a `.part` name, which nothing ever reads.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    part.touch(exist_ok=False)  # not mkstemp, whose files nobody else can read, where a cache may be shared
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
