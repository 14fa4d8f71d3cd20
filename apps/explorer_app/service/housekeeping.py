"""What visitors leave behind, and when it goes: the state of closed pages, files, memory that was freed.

Gradio would keep the state of the last 10,000 pages, closed ones among them, and each file that it sent or was sent
until the app ends; glibc keeps what was freed. A page that comes back after it was forgotten is told so: see
`question.FORGOTTEN`.
"""

import ctypes
import logging
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

PAGES = 256
"""Pages and programs whose state is kept, a megabyte each; who was not heard of for longest goes first."""
CLOSED_SECONDS = 15 * 60  # a page that only lost its connection for a while is still known
FILE_SECONDS = 24 * 3600
FILE_BYTES = 2 << 30
_EVERY_SECONDS = 30.0
_log = logging.getLogger(__name__)


def keep_house(page: "gr.Blocks") -> None:
    """Tidy up from now on, in a thread of its own."""
    threading.Thread(target=_work, args=(page,), daemon=True, name="housekeeping").start()


def _work(page: "gr.Blocks") -> None:
    while True:
        time.sleep(_EVERY_SECONDS)
        try:
            forget_closed(page)
            remove_files(page)
            give_memory_back()
        except Exception:
            _log.exception("tidying up failed; it is tried again")


def forget_closed(page: "gr.Blocks", seconds: float = CLOSED_SECONDS) -> None:
    """Drop the state of pages that were closed, and have not asked for anything for so long."""
    kept, now = page.state_holder, datetime.now()
    for name, session in list(kept.session_data.items()):
        silent = now - kept.time_last_used.get(name, now)
        if session.is_closed and silent.total_seconds() >= seconds:
            kept.session_data.pop(name, None)
            kept.time_last_used.pop(name, None)


def remove_files(page: "gr.Blocks", seconds: float = FILE_SECONDS, size: int = FILE_BYTES) -> None:
    """Remove what was uploaded or sent so long ago, and of the rest the oldest, until it is small enough. Files that
    the page itself is made of stay.

    Args:
        size: of all files together, in bytes.
    """
    own = {file for block in page.blocks.values() for file in getattr(block, "keep_in_cache", ())}
    latest, total, now = [], 0, time.time()
    for files in page.temp_file_sets:
        for file in files - own:
            if Path(file).is_file():
                latest.append((Path(file).stat().st_ctime, file))
            else:
                files.discard(file)
    for written, file in sorted(set(latest), reverse=True):
        total += Path(file).stat().st_size
        if total > size or now - written >= seconds:
            Path(file).unlink(missing_ok=True)


def give_memory_back() -> None:
    """What was freed, to the system: glibc keeps it in pieces, and a server grew by 200 MB with every run."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
