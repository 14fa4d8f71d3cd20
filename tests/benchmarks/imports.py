"""What `import explorer` adds to `import torch, timm`, in fresh interpreters."""

import subprocess
import sys
import time

from report import Section, Table, aim
from timing import Measure, paired

BASELINE = "import torch, timm"
LAZY = "import explorer"
USED = "import timm, explorer as ex; ex.load_backbone; ex.load_image; ex.distortion"
ROUNDS = 15
LIMIT = 1.15


def run(quick: bool) -> Section:
    """Measure all imports."""
    rounds = 1 if quick else ROUNDS
    modules: dict[str, set[str]] = {}
    timings = paired(
        {command: _clock(command, modules) for command in (BASELINE, LAZY, USED)},
        baseline=BASELINE,
        rounds=rounds,
        warmup=0 if quick else 2,
    )
    more = {command: loaded - modules[BASELINE] for command, loaded in modules.items()}
    packages = sorted({name.partition(".")[0] for name in more[USED]})
    return Section(
        title="Import: what explorer adds to torch and timm",
        intro=(
            "`python -c ...` in a new interpreter each time, in turn; bytecode and disk are warm. `import explorer` "
            "loads nothing by itself; the last row touches what a trace needs. *more*: modules that torch and timm do "
            "not load."
        ),
        tables=(
            Table(
                title="Time to import",
                columns=("command", "more", "best ms", "median ms", "least ratio", "median ratio"),
                rows=tuple(
                    (f"`{command}`", len(more[command]), t.best_ms, t.median_ms, t.best_ratio, t.median_ratio)
                    for command, t in timings.items()
                ),
                notes=(
                    f"{rounds} rounds. {aim('import for a trace', timings[USED].median_ratio, LIMIT)} The modules more "
                    f"belong to: {', '.join(packages)}.",
                ),
            ),
        ),
    )


def _clock(command: str, modules: dict[str, set[str]]) -> Measure:
    """Times a new interpreter, and notes in `modules` which modules it had loaded (telling takes well below 1 ms)."""
    code = f"{command}; import sys; print(*sys.modules)"

    def measure() -> float:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        taken = time.perf_counter() - start
        modules[command] = set(done.stdout.split())
        return taken

    return measure
