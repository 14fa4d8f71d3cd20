"""A visitor's page: what is on it, what it asks of whom, what it complains about."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, TimeoutError

WAIT_MS = 45_000
VIEWS = {"attention": "#attention-view", "patches": "#patch-view", "train": "#recovery-view", "lab": "#lab-view"}
MOUNT = """(id) => document.querySelector(`${id} .vx-mount`)"""
SHOWN = """(id) => Boolean(document.querySelector(`${id} .vx-mount`)?.dataset.repaintMs)"""
IDLE = """() => new Promise((done) => requestIdleCallback(done, { timeout: 2000 }))"""
RENEWED = """() => !document.querySelector(".block.example p")"""
STREAMS = ("/dev/reload",)
ABORTED = "signal is aborted without reason"
"""What Gradio says of a stream that was open when its page was left; then it calls that an error of the connection."""
NOISE = (
    "willReadFrequently",  # only these tests read the canvases
    "GPU stall due to ReadPixels",  # plotly in three dimensions, without a graphics card
    "Method not implemented.",  # Gradio's image component, at every upload
)
PIXELS = """(where) => { const canvas = document.querySelector(where);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let hash = 17; for (const byte of data) hash = (31 * hash + byte) | 0; return hash; }"""


class Visit:
    """One page of the app.

    Attributes:
        requests: method and address of everything that was asked of a server.
        complaints: errors and warnings on the console, uncaught errors, requests to other hosts.
    """

    def __init__(
        self, browser: Browser, url: str, width: int = 1440, height: int = 1000, tour: bool = False, **context: Any
    ) -> None:
        self.url = url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.awaited: set[Request] = set()
        self.left = False  # whether the page was just left, or opened again
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **context
        )
        if not tour:
            self.context.add_init_script("try { localStorage.setItem('vit-explorer.tour', 'seen'); } catch {}")
        self.context.set_default_timeout(WAIT_MS)
        self.page: Page = self._listen(self.context.new_page())

    def open(self, query: str = "", view: str = "attention") -> "Visit":
        """Go to the app and wait for its own maps, after those that are shipped."""
        self.page.goto(f"{self.url}/{query}")
        self.wait_for_maps(view)
        self.wait_for_own()
        self.settle()
        return self

    def unfold(self, part: str) -> "Visit":
        """Open a part of the left column that is folded at first: "more-damage" or "more-model"."""
        head = self.page.locator(f"#{part} button").first
        if "open" not in (head.get_attribute("class") or "").split():
            head.click()
        return self

    def wait_for_own(self) -> None:
        """Until the app's own maps have taken the place of those that are shipped."""
        self.page.wait_for_function(RENEWED, timeout=60_000)  # a server that has just begun imports what models need

    def wait_for_maps(self, view: str = "attention") -> None:
        """Until this view has painted something."""
        self.page.wait_for_function(SHOWN, arg=VIEWS[view])

    def settle(self) -> None:
        """Until nothing is awaited from the server, has not been for a while, and the browser has nothing to do.

        An open event stream is mostly a handler at work, which others follow once it is done: it gets five seconds of
        quiet. Now and then Gradio opens one of which nothing comes, and which stays.
        """
        quiet, known = 0, -1
        for _ in range(WAIT_MS // 50):
            self.page.wait_for_timeout(50)
            busy = [request for request in self.awaited if "/queue/data" not in request.url]
            quiet = 0 if busy or known != len(self.requests) else quiet + 1
            known = len(self.requests)
            if quiet >= (100 if self.awaited else 8):
                self.page.evaluate(IDLE)
                if known == len(self.requests):
                    return
        raise TimeoutError(f"still awaited: {[request.url for request in self.awaited]}")

    def state(self, view: str = "attention") -> dict[str, Any]:
        """The view's settings."""
        return self.page.evaluate(f"(id) => ({MOUNT})(id).view.state()", VIEWS[view])

    def box(self, pane: str, view: str = "attention") -> Locator:
        """A pane's picture."""
        return self.page.locator(f'{VIEWS[view]} .vx-box[data-pane="{pane}"]')

    def heat(self, pane: str, view: str = "attention") -> int:
        """A number that stands for the pixels of a map."""
        return self.page.evaluate(PIXELS, f'{VIEWS[view]} .vx-box[data-pane="{pane}"] .vx-heat')

    def picture(self, pane: str, view: str = "attention") -> int:
        """A number that stands for the pixels of the picture below a map."""
        return self.page.evaluate(PIXELS, f'{VIEWS[view]} .vx-box[data-pane="{pane}"] .vx-picture')

    def numbers(self) -> str:
        """The table of agreements."""
        return self.page.locator("#attention-view .vx-table tbody").inner_text()

    def wait_for_other_numbers(self, before: str, settle: bool = True) -> None:
        """Until the table says something else, and (one key press may follow another) says so for good."""
        script = """(before) => document.querySelector("#attention-view .vx-table tbody").innerText !== before"""
        try:
            self.page.wait_for_function(script, arg=before)
        except TimeoutError as error:
            raise AssertionError(f"the same numbers; notice: {self.notice()!r}; asked: {self.requests}") from error
        if settle:
            self.settle()

    def open_tab(self, name: str) -> None:
        """Choose a tab, which a narrow page keeps behind the three dots."""
        tab = self.page.get_by_role("tab", name=name)
        if not tab.is_visible():
            self.page.locator(".overflow-menu > button").click()
            tab = self.page.locator(".overflow-dropdown button", has_text=name)
        tab.click()

    def link(self) -> str:
        """What "Copy link" leaves on the clipboard, for which the visit needs a permission."""
        self.page.locator("#share [role=status]").evaluate("(node) => { node.textContent = ''; }")
        self.page.get_by_role("button", name="Copy link").click()
        self.page.locator("#share").get_by_text("link copied").wait_for()
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def notice(self) -> str:
        """The problem that is told above the tabs; while the server works, Gradio shows its clock in the same place."""
        return " ".join(self.page.locator("#notice .notice").all_inner_texts()).strip()

    def wait_for_notice(self, text: str) -> None:
        """Until the line above the tabs contains a text."""
        script = """(text) => document.querySelector("#notice")?.innerText.includes(text)"""
        self.page.wait_for_function(script, arg=text)

    def pick(self, index: int) -> None:
        """Choose a sample from the gallery, and wait for its maps."""
        before = self.numbers()
        self.page.locator("#samples .thumbnail-item").nth(index).click()
        self.wait_for_other_numbers(before)

    def choose(self, elem_id: str, option: str) -> None:
        """Choose an entry of a drop-down list of Gradio's, as people do."""
        self.page.locator(f"#{elem_id} input").click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def type_into(self, elem_id: str, text: str) -> None:
        """Type into a text field or an editable list, and press Enter."""
        field = self.page.locator(f"#{elem_id} input, #{elem_id} textarea").first
        field.fill(text)
        field.press("Enter")

    def frame(self) -> None:
        """Until the browser has painted."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def watch(self, page: Page) -> Page:
        """Let another page of this visitor be watched, too."""
        return self._listen(page)

    def close(self) -> None:
        """Leave."""
        self.context.close()

    def _listen(self, page: Page) -> Page:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._request)
        page.on("requestfinished", lambda request: self.awaited.discard(request))
        page.on("load", lambda _: setattr(self, "left", False))
        page.on("requestfailed", lambda request: self.awaited.discard(request))
        page.on("close", self._forget)
        return page

    def _forget(self, closed: Page) -> None:
        self.awaited = {request for request in self.awaited if request.frame.page is not closed}

    def _console(self, line: ConsoleMessage) -> None:
        self.left |= ABORTED in line.text
        at_leaving = self.left and (ABORTED in line.text or "Connection errored out" in line.text)
        if line.type in ("error", "warning") and not at_leaving and not any(each in line.text for each in NOISE):
            self.complaints.append(f"{line.type}: {line.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            if not request.url.endswith(STREAMS) and "/heartbeat/" not in request.url:  # signs of life, which never end
                self.requests.append(f"{request.method} {request.url}")
                self.awaited.add(request)
            if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
                self.complaints.append(f"asked another host: {request.url}")


Open = Callable[..., Visit]
"""Opens a page of the app: (query, view, and what `Visit` takes)."""
