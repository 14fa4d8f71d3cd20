"""Puts a page on the network, and keeps the house while it is there."""

import asyncio
import atexit
import os
import signal
import sys
import threading
import time
from typing import Any

import gradio as gr
from fastapi.middleware import Middleware

from explorer.errors import UserError
from explorer.evaluation import projection
from explorer_app.head import Head, Message, Receive, Send
from explorer_app.service.cores import CORES
from explorer_app.service.housekeeping import PAGES, keep_house
from explorer_app.service.limits import LIMITS, accounts
from explorer_app.service.pace import seconds_a_picture
from explorer_app.service.question import Question
from explorer_app.style import CSS, HEAD, THEME
from explorer_app.tabs import attribution

POLL_SECONDS, ATTENTIVE_SECONDS, TELL_SECONDS = 0.06, 0.003, 0.2
"""How often it is looked whether somebody asks, at rest and while somebody does, and whether there is progress to be
told. Gradio does so a thousand and a hundred times a second, which takes 6 % of a core by itself."""
ATTENTION_SPAN = 10.0
QUIET_SECONDS = 20.0
WARM_UP_SECONDS = 5.0
"""A page that is opened at once is served first: what the model needs to be imported would take half of its time."""


class Attentive:
    """Answers quickly while somebody asks: the first question waits for the next look, those that follow hardly.

    Args:
        app: the application that serves the page.
        queue: the page's.
    """

    def __init__(self, app: Any, queue: Any) -> None:
        self.app, self.queue = app, queue
        self._rest: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope.get("path", "").endswith("/queue/join"):
            if self._rest is not None:
                self._rest.cancel()
            self._look_every(ATTENTIVE_SECONDS)
            self._rest = asyncio.get_running_loop().call_later(ATTENTION_SPAN, self._look_every, POLL_SECONDS)
        await self.app(scope, receive, send)

    def _look_every(self, seconds: float) -> None:
        self.queue.sleep_when_free = seconds


def serve(page: gr.Blocks) -> None:
    """Until Ctrl-C or SIGTERM, which end the process. Gradio's own reloading calls this in a thread."""
    alone = threading.current_thread() is threading.main_thread()
    if alone:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: runs that go on are saved
    people = accounts()  # a mistake in them is told before any work begins
    threading.Thread(target=_warm_up, daemon=True).start()
    page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free = POLL_SECONDS, TELL_SECONDS
    keep_house(page)
    page.launch(
        theme=THEME,
        css=CSS,
        head=HEAD,
        app_kwargs={"middleware": [Middleware(Head), Middleware(Attentive, queue=page._queue)]},
        max_file_size=LIMITS.upload,
        auth=people,
        state_session_capacity=PAGES,
        footer_links=["api", "gradio"] if LIMITS.endpoints else ["gradio"],
    )
    if alone:
        _leave()


def _leave() -> None:
    """End the process, with all that was registered for its end, but without taking the interpreter down: a thread that
    computes for somebody, in native code, aborts when it comes back to find it gone.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _warm_up() -> None:
    """Load the default model and picture, and explain it, unless a visitor has asked for them by now; without weights
    the page says so itself. Then, when nobody looks, get UMAP ready, which is compiled for up to a minute when it is
    first used on a computer.
    """
    time.sleep(WARM_UP_SECONDS)
    try:
        question = Question.of_link({})
        question.comparison()
        seconds_a_picture(question.teacher())
        attribution.explained(question, attribution.QUICKEST)
        while not CORES.quiet(QUIET_SECONDS):
            time.sleep(1)
        projection.warm_up()
    except (UserError, OSError) as error:
        print(f"vit-explorer: {error}")
