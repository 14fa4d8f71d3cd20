"""A kernel that is restarted in the middle of a run: the same cell in the new kernel goes on with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.manager import start_new_kernel

from explorer.models.pairs import read_pair

CELL = """
import torch, explorer as ex
from explorer import widgets
torch.set_num_threads(1)
backbone = ex.load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
pictures = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
config = ex.DistillConfig(image_size=32, steps={steps}, batch_size=2, trainable="last:1", probe=2, checkpoint_every=2)
monitor = widgets.DistillationMonitor(backbone, pictures, config, watch=pictures[0], out={out!r})
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager, client = start_new_kernel(kernel_name="python3")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, code: str) -> str:
    """What a cell prints; its error is raised."""
    printed: list[str] = []
    reply = client.execute_interactive(
        code, timeout=120, output_hook=lambda message: printed.append(message["content"].get("text", ""))
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed).strip()


def restart(manager: KernelManager, client: BlockingKernelClient) -> None:
    """As the button does it, but without a word to what runs: the process is killed."""
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)


@pytest.mark.slow
def test_the_same_cell_goes_on_in_the_new_kernel(
    kernel: tuple[KernelManager, BlockingKernelClient], tmp_path: Path
) -> None:
    manager, client = kernel
    cell = CELL.format(steps=5000, out=str(tmp_path / "run"))
    run(client, f"{cell}\nmonitor.start()\nwhile len(monitor.records) < 5: monitor.wait(0.01)")
    restart(manager, client)
    done = read_pair(tmp_path / "run")[0]["step"]
    assert 4 <= done < 5000
    told = run(client, f"{cell}\nmonitor.start()\nmonitor._training.wait()\nprint(monitor.state, monitor.error)")
    assert told.startswith("failed")
    assert "holds a run already; go on with resume=True" in told
    assert run(client, f"{cell}\nprint(monitor._start.description)") == "Resume", "so says the button of a new widget"
    steps = run(
        client,
        "monitor.start(resume=True)\nwhile len(monitor.records) < 3: monitor.wait(0.01)\nmonitor.stop()\n"
        "monitor.wait()\nprint(monitor.state, *[record.step for record in monitor.records[:3]])",
    )
    assert steps == f"stopped {done + 1} {done + 2} {done + 3}"
    assert [record["step"] for record in read_pair(tmp_path / "run")[2]][: done + 3] == list(range(1, done + 4))
