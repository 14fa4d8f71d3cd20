"""Opens a view of `explorer.web` in a page of its own, and reads from it."""

import base64

import numpy as np
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

from explorer.web import VIEWS, module_source, stylesheet

ADDRESS = "https://views.test/page?private=1"
SHELL = """<!doctype html><html lang="en" {attributes}><head><meta charset="utf-8"><title>views</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>body {{ margin: 16px; }} {css}</style></head>
<body><div id="root"></div></body></html>"""
START = """async ([source, factory, payload]) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const module = await import(url);
  window.log = [];
  window.view = module[factory](document.getElementById("root"), {
    onState: (state) => window.log.push(["state", state]),
    answers: true,
    onEvent: (name, data) => window.log.push([name, data]),
  });
  await window.view.update(payload);
}"""
CLEAR = """() => { window.view?.destroy(); document.getElementById("root").replaceChildren(); scrollTo(0, 0); }"""
VIEWPORT = {"width": 1280, "height": 900}


class Opener:
    """Opens views and collects what the page complains about.

    Views come and go on one page, as in the app: a page of its own takes longest, and is made where the page itself is
    to be another. What a test did to the page around the view stays.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.shared: Page | None = None
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def close(self, *, shared: bool = False) -> None:
        """Close the pages that were made for one test; and the shared one, too."""
        for context in self.contexts:
            context.close()
        self.contexts.clear()
        if shared and self.shared is not None:
            self.shared.context.close()

    def listen(self, line: ConsoleMessage) -> None:
        about_reading_back = "willReadFrequently" in line.text  # only these tests read the canvases
        if line.type in ("error", "warning") and not about_reading_back:
            self.complaints.append(line.text)

    def __call__(
        self, name: str, payload: dict | None, attributes: str = "", *, alone: bool = False, **context: object
    ) -> Page:
        if alone or attributes or set(context) - {"viewport"}:
            page = self._page(attributes, **context)
            self.contexts.append(page.context)
        elif self.shared is None:
            page = self.shared = self._page(**context)
        else:
            page = self.shared
            page.mouse.move(0, 0)
            page.set_viewport_size(context.get("viewport", VIEWPORT))  # type: ignore[arg-type]
            page.evaluate(CLEAR)
        page.evaluate(START, [module_source(name), VIEWS[name], payload])
        return page

    def _page(self, attributes: str = "", **context: object) -> Page:
        opened = self.browser.new_context(**{"viewport": VIEWPORT, "accept_downloads": True, **context})  # type: ignore[arg-type]
        page = opened.new_page()
        html = SHELL.format(css=stylesheet(), attributes=attributes)
        page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.on("console", self.listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(ADDRESS)
        return page


def box(page: Page, pane: str) -> Locator:
    return page.locator(f'.vx-box[data-pane="{pane}"]')


def centre(page: Page, pane: str, row: int, col: int, rows: int = 16, cols: int = 16) -> tuple[float, float]:
    box(page, pane).scroll_into_view_if_needed()
    area = box(page, pane).bounding_box()
    assert area is not None
    return area["x"] + (col + 0.5) / cols * area["width"], area["y"] + (row + 0.5) / rows * area["height"]


def next_frame(page: Page) -> None:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def events(page: Page, name: str) -> list:
    return [data for kind, data in page.evaluate("log") if kind == name]


def decode(spec: dict) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(spec["data"]), dtype=spec["dtype"]).reshape(spec["shape"])
    return values * spec["scale"] if "scale" in spec else values


def pixel(page: Page, pane: str, row: int, col: int) -> list[int]:
    return page.evaluate(
        """([pane, row, col]) => [...document.querySelector(`.vx-box[data-pane="${pane}"] .vx-heat`)
          .getContext("2d").getImageData(col, row, 1, 1).data].slice(0, 3)""",
        [pane, row, col],
    )


def colour(payload: dict, name: str, level: float) -> list[int]:
    return list(base64.b64decode(payload["colormaps"][name])[3 * round(255 * level) : 3 * round(255 * level) + 3])


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))
