"""Makes the README's picture again: `python tests/apps/screenshot.py` writes assets/screenshot.png."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browsing import chromium
from serving import PYTHON, ROOT, serving
from visiting import Visit

TARGET = ROOT / "assets" / "screenshot.png"


def main() -> None:
    """The Attention tab as it comes up: light, 1440 pixels wide."""
    with serving(*PYTHON) as served, chromium() as browser:
        visit = Visit(browser, served.url, color_scheme="light").open()
        visit.page.mouse.move(0, 0)
        visit.page.screenshot(path=TARGET, full_page=True)
        visit.close()
    print(f"{TARGET} written")


if __name__ == "__main__":
    main()
