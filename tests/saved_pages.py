"""A saved page, opened from disk in a browser that has no network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page


@contextmanager
def opened(browser: Browser, file: Path, **settings: object) -> Iterator[Page]:
    """The page from disk, without network. Whatever it asks for or complains about fails the test."""
    context = browser.new_context(offline=True, accept_downloads=True, **settings)  # type: ignore[arg-type]
    complaints: list[str] = []
    found = context.new_page()
    found.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: complaints.append(request.url) if not _is_own(request.url, file) else None)
    found.goto(file.as_uri())
    until(found, "document.querySelector('.page-section:not([hidden]) .vx-mount')?.view")
    yield found
    context.close()
    assert not [line for line in complaints if "willReadFrequently" not in line]


def _is_own(url: str, file: Path) -> bool:
    return url.startswith((file.as_uri(), "data:", "blob:"))


def heats(found: Page) -> list[int]:
    """A number for the pixels of each map of the open view."""
    return found.evaluate(
        """() => [...document.querySelectorAll(".page-section:not([hidden]) .vx-heat")].filter((each) => !each.hidden)
          .map((canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
            .reduce((hash, byte) => (31 * hash + byte) | 0, 17))"""
    )


def until(found: Page, expression: str) -> None:
    """Until a JavaScript expression is true. Playwright's own waiting evaluates text in the page, which the page's
    policy forbids from the second look on."""
    for _ in range(600):
        if found.evaluate(f"Boolean({expression})"):
            return
        found.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def settle(found: Page) -> None:
    """Until two frames have been painted."""
    found.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(found: Page) -> dict:
    return found.evaluate("document.querySelector('.page-section:not([hidden]) .vx-mount').view.state()")
