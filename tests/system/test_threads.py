"""`wait_briefly` in programs: what it sets is there before torch is, and what the user set stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.system.threads import SPINS

ROOT = Path(__file__).parents[2]
ASK = "import json, os; print(json.dumps([os.environ.get(name) for name in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')]))"
COMMAND = f"from explorer.cli.main import main; main(['--version']); {ASK}"
APP = f"import runpy, sys; sys.path.insert(0, 'apps'); runpy.run_path('apps/compare.py', run_name='app'); {ASK}"
LIBRARY = f"import torch; from explorer.system.threads import wait_briefly; wait_briefly(); {ASK}"


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [
        (COMMAND, {}, [SPINS, None]),
        (COMMAND, {"GOMP_SPINCOUNT": "7"}, ["7", None]),
        (COMMAND, {"OMP_WAIT_POLICY": "ACTIVE"}, [None, "ACTIVE"]),
        (APP, {}, [SPINS, None]),
        (LIBRARY, {}, [None, None]),
    ],
)
def test_threads_sleep_soon_in_our_programs(code: str, given: dict[str, str], expected: list[str | None]) -> None:
    own = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    environment = {name: value for name, value in os.environ.items() if name not in own} | given
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == expected
