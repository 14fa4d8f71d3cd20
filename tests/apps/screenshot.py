"""Makes the README's pictures again: `python tests/apps/screenshot.py` writes them to assets/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browsing import chromium
from serving import PYTHON, ROOT, serving
from visiting import Visit

ASSETS = ROOT / "assets"
PLOTTED = "() => Boolean(document.querySelector('#embedding-view .vx-embedplot .main-svg'))"


def main() -> None:
    """The Attention tab as it comes up, and the map of the photos: light, 1440 pixels wide."""
    with serving(*PYTHON) as served, chromium() as browser:
        visit = Visit(browser, served.url, color_scheme="light").open()
        visit.page.mouse.move(0, 0)
        visit.page.screenshot(path=ASSETS / "screenshot.png", full_page=True)
        visit.page.get_by_role("tab", name="Embeddings").click()
        visit.page.wait_for_function(PLOTTED, timeout=120_000)
        visit.settle()
        visit.page.locator("#embedding-view").screenshot(path=ASSETS / "embeddings.png")
        visit.close()
    print(f"pictures written to {ASSETS}")


if __name__ == "__main__":
    main()
