"""The real app in a process of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.together import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "apps/compare.py")
GRADIO = (str(Path(sys.executable).with_name("gradio")), "apps/compare.py")
PATIENCE = 120


@dataclass(frozen=True)
class Served:
    """A running app: where it answers, what it has printed, its process, and when that was started."""

    url: str
    log: Path
    process: int
    started: float

    def printed(self) -> str:
        """Everything that it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[Served]:
    """The app on a free port, from its first answer on; it and its children are ended at the end.

    Args:
        command: `PYTHON` or `GRADIO`.
        environment: on top of the one of the tests; GRADIO_SERVER_PORT for a port that is chosen.
    """
    port = int(environment.get("GRADIO_SERVER_PORT", free_port()))
    given = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1", **environment}
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "GRADIO_TEMP_DIR": folder, **given},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        served = Served(f"http://127.0.0.1:{port}", Path(stream.name), process.pid, started)
        try:
            _wait(process, served)
            yield served
        finally:
            _end(process)
            print(f"--- {' '.join(command)}\n{served.printed()}")
        assert process.returncode != -signal.SIGABRT, "it was ended while it computed, and crashed instead"


def _wait(process: subprocess.Popen, served: Served) -> None:
    while time.perf_counter() - served.started < PATIENCE:
        assert process.poll() is None, f"the app ended with {process.returncode}:\n{served.printed()}"
        try:
            with urlopen(served.url, timeout=10) as answer:
                assert answer.status == 200
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise TimeoutError(f"the app has not answered within {PATIENCE} s:\n{served.printed()}")


def _end(process: subprocess.Popen) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
