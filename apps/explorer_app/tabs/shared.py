"""What a tab is to the page, and what the tabs have in common."""

import html
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from explorer.system.files import last_used, readable
from explorer_app.column.sidebar import Sidebar
from explorer_app.events import PRIVATE, QUICK, refused
from explorer_app.service.pace import in_words
from explorer_app.service.pictures import CENTRED, PHOTOS, SELECTED, UPLOAD, Selection, picture_folders, picture_set
from explorer_app.service.question import Question

MADE = "made"
"""Class of the elements that are dimmed while they show what is old."""
CLICK = "() => document.querySelector('#{0} a, #{0} button, a#{0}, button#{0}').click()"
"""JavaScript that begins the download of the hidden button of this id."""
_KEPT_FILES = 64  # that wait for being downloaded


@dataclass(frozen=True)
class Page:
    """What a tab may read and write beside its own parts.

    Attributes:
        column: the left column.
        problem: the line above the tabs; takes a `notice`.
        tabs, shown: all tabs, and the id of the one that is open.
        link: the query of the link that opened the page, None where none did.
        linked: the event after which all controls are as that link says.
        opened: the event after which this tab is open.
        load: the event of a page that opens.
        zipped: path of the zip file of pictures that was uploaded last, in whichever tab; None before.
        selected: the `Selection` on the map of the Embeddings tab; of nothing before.
        probed: the probes that were fitted last, as the Predict tab has them; None before.
        redrawn: events after which the open tab is drawn again, and settings of that.
    """

    column: Sidebar
    problem: gr.HTML
    tabs: gr.Tabs
    shown: gr.State
    link: gr.State
    linked: Any
    load: Any
    zipped: gr.State
    selected: gr.State
    probed: gr.State
    opened: Any = None
    redrawn: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def redraw_after(self, event: Any, **settings: Any) -> None:
        """Draw the open tab again after this event."""
        self.redrawn.append((event, settings))


def choose_pictures(page: Page, elem_id: str, of_map: bool = False, **settings: Any) -> gr.Dropdown:
    """A list of sets of pictures, and below it, while a visitor's zip file is chosen, a button that takes one for all
    tabs.

    Args:
        of_map: whether those that are selected on the map are offered, too, as soon as there are any.
        settings: what `gr.Dropdown` takes.
    """
    with gr.Column(min_width=160):
        chosen = gr.Dropdown(_sets(), value=PHOTOS, elem_id=elem_id, **settings)
        upload = gr.UploadButton(
            "Upload a zip of pictures", file_types=[".zip"], visible=False, elem_id=f"{elem_id}-zip", size="sm"
        )
    chosen.change(lambda choice: gr.UploadButton(visible=choice == UPLOAD), chosen, upload, **QUICK)
    upload.upload(_take_zip, upload, page.zipped, **PRIVATE)
    if of_map:
        page.selected.change(_offer_selected, [page.selected, chosen], chosen, **QUICK)
    page.zipped.change(lambda file: gr.UploadButton(f"{readable(file.name)} · another"), page.zipped, upload, **QUICK)
    return chosen


def _sets() -> list[Any]:
    """What everybody is offered."""
    return [PHOTOS, UPLOAD, *picture_folders()]


def _offer_selected(selected: Selection, chosen: str) -> gr.Dropdown:
    """The list with what is selected on the map; where that is chosen, it stays when it is empty, and is told."""
    choices = _sets()
    if selected.names or chosen == SELECTED:
        count = len(selected.names)
        choices.append((f"{SELECTED} ({count} picture{'s' * (count != 1)})", SELECTED))
    return gr.Dropdown(choices)


def _take_zip(file: str) -> Path:
    """Looked into at once; the one before stays where this one is refused."""
    with refused():
        picture_set(Path(file), None)
    return Path(file)


@dataclass(frozen=True)
class Made:
    """What a tab shows that was made on request, and stays there while the left column changes.

    Attributes:
        of: what of the question it shows, as `settings` gives it; of an example, whose it is.
        words: the same in words.
        said: what is said of it for as long as the question is the same.
        example: whether it came with the project.
    """

    of: Any
    words: str
    said: str = ""
    example: bool = False


@dataclass(frozen=True)
class Fitted(Made):
    """Probes that were fitted in the Predict tab.

    Attributes:
        key: by which `service.probes` keeps them.
        classes: what they tell apart.
    """

    key: str = ""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """A control of a tab that a link tells.

    Attributes:
        name: of the query parameter.
        control: a list, a slider, a box to tick or a text.
        check: raises what is wrong with a text.
    """

    name: str
    control: Any
    check: Callable[[str], Any] = str


@dataclass(frozen=True)
class Follows:
    """The parts of a tab that `Tab.draw` or `Tab.follow` set.

    Attributes:
        given: the components that `Tab.follow` is given beside the question: the state of what was made first.
        set: the components that are set, in the order of what is returned.
        changes: events of the tab's own after which it is asked again.
        fields: what a link tells of its controls.
        result: the state of what was made, as `Tab.told` takes it.
    """

    given: tuple[Any, ...]
    set: tuple[Any, ...]
    changes: tuple[Any, ...] = ()
    fields: tuple[Field, ...] = ()
    result: gr.State | None = None


@dataclass(frozen=True)
class Tab:
    """One tab, as its module registers it in `tabs.TABS`.

    Attributes:
        id, label: what events and links call it, and what people do.
        build: lays out its content and connects it; returns the part that follows the left column while the tab is
            open, or what it `Follows` with, if there is one.
        help: "How to read this".
        depends: what of the question the part shows.
        draw: what it shows.
        follow: what becomes of the parts of `Follows`, where there is no `draw`: takes the question and what is given.
        of_picture: whether it shows the picture of the left column; no link leads to one's own.
        told: what a link tells of what was made.
    """

    id: str
    label: str
    build: Callable[[Page], Any]
    help: str = ""
    depends: Callable[[Question], Any] = lambda question: question
    draw: Callable[[Question], Any] | None = None
    follow: Callable[..., list[Any]] | None = None
    of_picture: bool = True
    told: Callable[[Any], dict[str, str]] = lambda made: {} if made is None or made.example else {"made": "1"}


def asks_for(link: dict[str, str] | None, tab: str) -> bool:
    """Whether a link opened this tab with a result that was made there, so that it is made again."""
    return link is not None and link["view"] == tab and link.get("made") == "1"


def settings(question: Question) -> Any:
    """What decides a result that is made of many pictures; it changes when a student has learned more."""
    of_pictures = replace(question, picture=None, photo=None, layer=None, crop=CENTRED, twin=None, align=True)
    return of_pictures, question.versions()


def mark(made: Made | None, now: Any, offer: str) -> str:
    """One line on what a tab shows: an example, what was made for the settings of now, or for those before.

    Args:
        now: what of the question would be shown now.
        offer: HTML, what the button would do.
    """
    if made is None:
        return f'<p class="quiet">{offer}</p>'
    if made.example:
        return f'<p class="quiet"><b>Shipped example:</b> {html.escape(made.words)}. {offer}</p>'
    if made.of == now:
        return f'<p class="quiet">{html.escape(made.said or made.words)}</p>'
    return f'<p class="quiet old"><b>Of the settings before:</b> {html.escape(made.words)}. {offer}</p>'


def bar(words: str, done: int = 0, total: int = 0, left: float | None = None, live: bool = False) -> str:
    """How far something is; without numbers only that it goes on.

    Args:
        left: seconds that it will take, where that is known.
        live: whether what is shown meanwhile is a part of it already, and not what was there before.
    """
    width = f' max="{total}" value="{done}"' if done else ""
    words = html.escape(words)
    text = f"{words}, about {in_words(left)} left" if left is not None else words
    kind = "progress live" if live else "progress"
    return f'<div class="{kind}"><progress{width} aria-label="{words}"></progress> {text}</div>'


def status_and_mark(name: str) -> tuple[gr.HTML, gr.HTML]:
    """Two parts in one place above what a tab shows: a `bar` or a `notice`, and while there is none, a `mark`."""
    status = gr.HTML(elem_id=f"{name}-status", elem_classes="line-status")
    return status, gr.HTML(elem_id=f"{name}-mark", elem_classes="line-mark")


def saved_files() -> str:
    """The folder where the latest files wait for being downloaded; gone when the app ends."""
    files = filter(Path.is_file, Path(_saved().name).iterdir())
    for old in sorted(files, key=last_used)[:-_KEPT_FILES]:
        old.unlink(missing_ok=True)
    return _saved().name


@cache
def _saved() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
