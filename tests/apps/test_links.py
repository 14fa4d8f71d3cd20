"""What a link tells of a page, and what becomes of it: every tab with its controls, or one notice of what is wrong."""

import io
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import gradio as gr
import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from serving import Served
from visiting import MOUNT, Visit

from explorer.errors import InputError
from explorer_app import links
from explorer_app.page import build
from explorer_app.service.pictures import SELECTED, UPLOAD
from explorer_app.service.question import DEFAULT_DISTORTION
from explorer_app.style import TAGLINE, TITLE
from explorer_app.tabs.shared import Field, Follows

NOISE = "gaussian_noise(sigma=0.3)"


@pytest.mark.parametrize(
    ("control", "value", "told"),
    [
        (gr.Radio([("2-D", 2), ("3-D", 3)]), 3, "3"),
        (gr.Dropdown(["shipped photos", "mine"]), "mine", "mine"),
        (gr.Checkbox(), True, "1"),
        (gr.Slider(0, 5, step=0.1), 0.3, "0.3"),
        (gr.Slider(5, 500, step=5), 60, "60"),
        (gr.Number(minimum=0, maximum=2**31 - 1, precision=0), 2147483646.0, "2147483646"),
        (gr.Textbox(), NOISE, NOISE),
    ],
)
def test_a_control_is_told_and_read_again(control: Any, value: Any, told: str) -> None:
    assert links._written(value) == told
    read = links._read(Field("it", control), told)
    assert (read, type(read)) == (value, int if isinstance(value, float) and value.is_integer() else type(value))


@pytest.mark.parametrize(
    ("control", "told", "words"),
    [
        (gr.Radio([("2-D", 2), ("3-D", 3)]), "4", "it is one of 2, 3; got '4'"),
        (gr.Checkbox(), "perhaps", "it is one of 0, 1; got 'perhaps'"),
        (gr.Slider(0, 5), "6", "it is a number from 0 to 5; got '6'"),
        (gr.Slider(0, 5), "nan", "it is a number from 0 to 5; got 'nan'"),
        (gr.Slider(0, 5), "much", "it is a number from 0 to 5; got 'much'"),
    ],
)
def test_what_a_control_does_not_take_is_refused(control: Any, told: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        links._read(Field("it", control), told)


@pytest.fixture(scope="module")
def parts() -> dict[str, Follows]:
    """What the tabs of the real page let a link tell."""
    found: dict[str, Follows] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer_app.page.reopen", lambda built: found.update(built) or links.reopen(built))
        build()
    return found


def opened(parts: dict[str, Follows], **query: str) -> dict[str, Any]:
    """By name: the word on the link, the tab, and the controls of all tabs."""
    word, _, view, *rest = links.reopen(parts)([], SimpleNamespace(query_params=query))
    names = [(tab, field.name) for tab, part in parts.items() for field in part.fields]
    set_ = {name: value for name, value in zip(names, rest[-len(names) :], strict=True) if value != gr.skip()}
    return {"word": word.value if isinstance(word, gr.HTML) else "", "view": view, **set_}


@pytest.mark.weights
def test_a_link_sets_the_controls_of_its_own_tab_alone(parts: dict[str, Follows]) -> None:
    assert opened(parts) == {"word": "", "view": "attention"}
    assert opened(parts, view="about") == {"word": "", "view": "about"}
    assert opened(parts, view="robustness", pictures="shipped photos", count="64", values="0.1, 0.3") == {
        "word": "",
        "view": "robustness",
        ("robustness", "pictures"): "shipped photos",
        ("robustness", "count"): 64,
        ("robustness", "values"): "0.1, 0.3",
    }
    assert opened(parts, view="embeddings", count="64", axes="3") == {
        "word": "",
        "view": "embeddings",
        ("embeddings", "axes"): 3,
    }


@pytest.mark.weights
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"view": "robustness", "count": "33"}, "count is one of 16, 32, 64, 128; got &#x27;33&#x27;"),
        ({"view": "robustness", "values": "much"}, "strengths are numbers such as 0.1"),
        ({"view": "train", "learned": "gaussian_nois"}, "gaussian_noise"),
        ({"view": "train", "steps": "1e9"}, "steps is a number from 5 to 500"),
    ],
)
def test_wrong_values_leave_the_tab_and_its_defaults(parts: dict[str, Follows], query: dict, words: str) -> None:
    found = opened(parts, **query)
    assert words in found.pop("word")
    assert found == {"view": query["view"]}


@pytest.mark.weights
def test_a_run_that_is_gone_leaves_its_settings(parts: dict[str, Follows]) -> None:
    gone = "run-" + 20 * "0"
    found = opened(parts, view="train", run=gone, pair=gone, steps="90", learned=NOISE)
    assert "The run of this link is not on this server any more" in found["word"]
    assert (found["train", "steps"], found["train", "learned"]) == (90, NOISE)


@pytest.mark.parametrize(
    ("chosen", "words"), [(UPLOAD, "a zip file of your own"), (SELECTED, "the Embeddings tab's link tells them")]
)
def test_no_link_leads_to_pictures_of_ones_own(chosen: str, words: str) -> None:
    with pytest.raises(InputError, match=f"No link leads to .*{words}"):
        links._check_own({"view": "robustness", "pictures": chosen})
    links._check_own({"view": "robustness", "pictures": "shipped photos"})


# ---------------------------------------------------------------- in other places


@pytest.mark.weights
@pytest.mark.parametrize("proxy", [{}, {"x-forwarded-host": "vit.example", "x-forwarded-proto": "https"}])
def test_a_preview_of_a_link_shows_the_project(app: Served, proxy: dict[str, str]) -> None:
    page = httpx.get(f"{app.url}/?view=patches", headers=proxy)
    told = dict(re.findall(r'<meta property="og:([^"]+)" content="([^"]*)"', page.text))
    address = "https://vit.example" if proxy else app.url
    assert (told["url"], told["image"]) == (f"{address}/", f"{address}/preview.jpg")
    assert (told["title"], told["description"]) == (TITLE, TAGLINE)
    assert page.text.count('og:image"') == page.text.count("twitter:card") == 1, "none of Gradio's own is left"
    picture = httpx.get(f"{app.url}/preview.jpg")
    assert (picture.headers["content-type"], len(picture.content) <= 300_000) == ("image/jpeg", True)
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (1200, 630) == (int(told["image:width"]), int(told["image:height"]))
    assert httpx.head(app.url).status_code == 200


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def sharing(browser: Browser, app: Served) -> Iterator[Visit]:
    """A page on which links are made and opened."""
    visit = Visit(browser, app.url, permissions=["clipboard-read", "clipboard-write"]).open()
    yield visit
    visit.close()
    assert not visit.complaints, f"the page complained: {visit.complaints}"


def reopened(visit: Visit, tab: str, **changed: str) -> Any:
    """Another page, opened by the link to what is shown, with some parameters changed; and what that link tells."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(visit.link()).query, keep_blank_values=True).items()}
    page = visit.watch(visit.context.new_page())
    page.goto(f"{visit.url}/?{urlencode({**query, **changed})}")
    page.wait_for_function(
        "(tab) => document.querySelector('#tabs [role=tab][aria-selected=true]')?.textContent.trim() === tab", arg=tab
    )
    return page, query


@pytest.mark.browser
@pytest.mark.weights
def test_a_link_opens_every_tab_with_what_it_shows(sharing: Visit) -> None:
    page = sharing.page
    sharing.open_tab("Embeddings")
    page.locator("#embedding-axes").get_by_label("3-D").check()
    page.wait_for_function(f"() => ({MOUNT})('#embedding-view').view?.state().pointed !== undefined")
    page.evaluate(f"({MOUNT})('#embedding-view').view.set({{ picked: 'fish/fish1.webp', colour: 'view' }})")
    page.wait_for_function(f"() => ({MOUNT})('#embedding-view').view.state().pointed !== null")
    there, query = reopened(sharing, "Embeddings")
    assert (query["axes"], query["picked"], query["pictures"]) == ("3", "fish/fish1.webp", "shipped photos")
    there.wait_for_function(f"() => ({MOUNT})('#embedding-view').view?.state().pointed !== null")
    assert there.locator("#embedding-axes").get_by_label("3-D").is_checked()
    assert there.evaluate(f"({MOUNT})('#embedding-view').view.state().colour") == "view"
    there.close()
    sharing.open_tab("Robustness")
    page.locator("#sweep-count").get_by_label("16").check()
    there, query = reopened(sharing, "Robustness", strength="0.3")
    assert (query["count"], query["values"], "made" in query) == ("16", "", False)
    there.locator("#strength-view .vx-box").first.wait_for()
    assert there.locator("#sweep-count").get_by_label("16").is_checked()
    there.close()
    sharing.open_tab("Attribution")
    page.locator("#attribution-view .vx-box").first.wait_for(timeout=60_000)
    page.evaluate(f"({MOUNT})('#attribution-view').view.set({{ opacity: 0.5 }})")
    there, query = reopened(sharing, "Attribution")
    assert (query["method"], query["trust"], query["made"]) == ("gradient_attention", "0", "1")
    there.locator("#attribution-view .vx-box").first.wait_for(timeout=60_000)
    assert there.evaluate(f"({MOUNT})('#attribution-view').view.state().opacity") == 0.5
    there.close()
    sharing.open_tab("About")
    there, _ = reopened(sharing, "About")
    there.get_by_role("heading", name="What you see").wait_for()
    there.close()


@pytest.mark.browser
@pytest.mark.weights
def test_a_link_opens_the_form_of_a_run(sharing: Visit) -> None:
    sharing.open_tab("Train")
    sharing.page.locator("#strength").get_by_label("varying").check()
    sharing.page.locator("#strength-low input[type=number]").wait_for()
    sharing.settle()
    there, query = reopened(sharing, "Train", steps="90")
    assert ".." in query["learned"]
    assert "run" not in query, "what is shown came with the project"
    assert there.locator("#steps input[type=number]").input_value() == "90"
    assert there.locator("#learned textarea").input_value() == query["learned"] != DEFAULT_DISTORTION
    expect(there.locator("#strength").get_by_label("varying")).to_be_checked()
    assert there.locator("#learned textarea").input_value() == query["learned"]
    there.close()


@pytest.mark.browser
@pytest.mark.weights
def test_the_link_is_on_the_page_where_there_is_no_clipboard(sharing: Visit) -> None:
    page = sharing.page
    sharing.open_tab("About")
    link = sharing.link()
    page.evaluate("navigator.clipboard.writeText = async () => { throw Error(); }; document.execCommand = () => false")
    page.get_by_role("button", name="Copy link").click()
    address = page.get_by_label("Link to this view")
    address.wait_for()
    assert address.input_value() == link
