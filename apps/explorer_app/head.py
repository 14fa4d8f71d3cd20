"""What the page's head says before Gradio's own: what is shown of a link in other places (Open Graph), and a script."""

import html
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse
from gradio.route_utils import get_root_url

from explorer.system.files import asset_path
from explorer_app.service.first_look import FOLDER
from explorer_app.style import TAGLINE, TITLE

PICTURE = "preview.jpg"
SIZE = 1200, 630
_OWN = re.compile(rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*/>')
SLOW_CLOCKS = rb"""<script>{
const ask = window.requestAnimationFrame.bind(window);
const clock = /^\(\)=>\{.{0,40}performance\.now\(\)-.{0,40}1e3/;
window.requestAnimationFrame = (run) => (clock.test(String(run)) ? setTimeout(run, 250) : ask(run));
}</script>"""
"""Gradio's clocks tell tenths of a second, ask for sixty frames, and go on for ever where what they stood in is rebuilt
while it is awaited, as the page itself is when it opens: 6 % of a core. Four times a second will do."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Head:
    """Serves the picture, and puts the tags in the place of Gradio's own, which would show Gradio's picture; with
    addresses as the page was asked for, through a proxy that tells (X-Forwarded-Host, X-Forwarded-Proto), too. The
    script has to run before Gradio's do, and what `launch(head=)` takes comes after them.

    Args:
        app: the application that serves the page.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and path == f"/{PICTURE}":
            await FileResponse(asset_path(f"{FOLDER}/{PICTURE}"))(scope, receive, send)
        elif scope["type"] == "http" and path == "/" and scope["method"] == "GET":
            await self._page(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _page(self, scope: Message, receive: Receive, send: Send) -> None:
        start: Message = {}
        parts: list[bytes] = []

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            told = tags(get_root_url(Request(scope), "/", scope.get("root_path"))).encode()
            body = _OWN.sub(b"", b"".join(parts)).replace(b"<head>", b"<head>" + told + SLOW_CLOCKS, 1)
            rest = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            await send({**start, "headers": [*rest, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, hold)


def tags(address: str) -> str:
    """As HTML.

    Args:
        address: of the page, without a slash at its end.
    """
    width, height = SIZE
    told = {
        "og:type": "website",
        "og:site_name": TITLE,
        "og:title": TITLE,
        "og:description": TAGLINE,
        "og:url": f"{address}/",
        "og:image": f"{address}/{PICTURE}",
        "og:image:type": "image/jpeg",
        "og:image:width": str(width),
        "og:image:height": str(height),
        "og:image:alt": "A noisy picture of an owl, and what teacher and student look at in it",
    }
    graph = [f'<meta property="{name}" content="{html.escape(value)}">' for name, value in told.items()]
    return "".join([*graph, '<meta name="twitter:card" content="summary_large_image">'])
