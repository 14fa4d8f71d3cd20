"""What `import explorer` adds to `import torch, timm`, in fresh interpreters."""

import subprocess
import sys
import time

from report import Section, Table, aim
from timing import Measure, paired

BASELINE = "import torch, timm"
LAZY = "import explorer"
USED = "import explorer as ex; ex.load_backbone; ex.load_image; ex.distortion"
ROUNDS = 15
LIMIT = 1.15


def run(quick: bool) -> Section:
    """Measure all imports."""
    rounds = 1 if quick else ROUNDS
    commands = (BASELINE, LAZY, USED)
    timings = paired(
        {command: _clock(command) for command in commands}, baseline=BASELINE, rounds=rounds, warmup=0 if quick else 2
    )
    modules = {command: _modules(command) for command in commands}
    extra = [len(modules[command] - modules[BASELINE]) for command in commands]
    packages = sorted({name.partition(".")[0] for name in modules[USED] - modules[BASELINE]})
    return Section(
        title="Import: what explorer adds to torch and timm",
        intro=(
            "`python -c ...` in a new interpreter each time, in turn; bytecode and disk are warm. `import explorer` loads "
            "nothing by itself; the last row touches what a trace needs."
        ),
        tables=(
            Table(
                title="Time to import",
                columns=("command", "modules more", "best ms", "median ms", "least ratio", "median ratio"),
                rows=tuple(
                    (f"`{command}`", more, timing.best_ms, timing.median_ms, timing.best_ratio, timing.median_ratio)
                    for (command, timing), more in zip(timings.items(), extra, strict=True)
                ),
                notes=(
                    f"{rounds} rounds. {aim('import for a trace', timings[USED].median_ratio, LIMIT)} Modules that "
                    f"torch and timm do not load come from: {', '.join(packages)}.",
                ),
            ),
        ),
    )


def _clock(command: str) -> Measure:
    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", command], check=True)
        return time.perf_counter() - start

    return measure


def _modules(command: str) -> set[str]:
    """Names of all modules that are loaded after a command."""
    code = f"{command}; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())
