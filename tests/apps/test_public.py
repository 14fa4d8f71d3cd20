"""What a public page lets strangers do, and what it does not: docs/security.md, sentence by sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, AuthenticationError
from serving import PYTHON, ROOT, Served, serving
from visiting import Visit

from explorer.system.files import asset_path
from explorer_app.service import limits

pytestmark = pytest.mark.weights

OWL = asset_path("photos") / "farm_animal" / "owl.webp"
NOISE = "gaussian_noise(sigma=0.3)"
HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app as `vit-explorer app --public --password-file people.txt --endpoints compare,distill` starts it."""
    folder = tmp_path_factory.mktemp("public")
    people = folder / "people.txt"
    people.write_text("ada:correct horse\n")
    pictures = folder / HOSTILE
    pictures.mkdir()
    for name, photo in {"a": "owl", "b": "dog", "c": "cat", HOSTILE: "pig"}.items():
        (pictures / f"{name}.webp").write_bytes((OWL.parent / f"{photo}.webp").read_bytes())
    environment = {
        limits.PUBLIC_VARIABLE: "1",
        limits.ENDPOINTS_VARIABLE: "compare,distill",
        limits.PASSWORDS_VARIABLE: str(people),
        "VIT_EXPLORER_RUNS": str(folder / "runs"),
        "VIT_EXPLORER_PICTURES": str(pictures),
    }
    with serving(*PYTHON, **environment) as served:
        yield served


@pytest.fixture(scope="module")
def client(public: Served) -> Iterator[Client]:
    opened = Client(public.url, auth=("ada", "correct horse"), verbose=False)
    yield opened
    opened.close()


def test_only_those_with_a_password_come_in(public):
    for wrong in (None, ("ada", "wrong"), ("eve", "correct horse")):
        with pytest.raises((AuthenticationError, ValueError)):
            Client(public.url, auth=wrong, verbose=False)
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{public.url}/gradio_api/info")


def test_only_the_named_endpoints_are_there(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/compare", "/distill"}
    with pytest.raises(ValueError, match="api_name"):
        client.predict(backbone="s14", api_name="/embed")


def test_what_is_offered_works(client):
    *_, numbers = client.predict(image=handle_file(OWL), distortion=NOISE, api_name="/compare")
    assert numbers["grid"] == [16, 16]


@pytest.mark.parametrize(
    ("endpoint", "given", "words"),
    [
        ("/compare", {"image": handle_file(OWL), "backbone": "vit_tiny_patch16_224"}, "offers the backbones"),
        ("/distill", {"backbone": "vit_tiny_patch16_224", "steps": 1}, "offers the backbones"),
        ("/distill", {"steps": 101, "size": 112}, "may take 100 steps"),
    ],
)
def test_what_would_cost_too_much_is_refused(client, endpoint, given, words):
    with pytest.raises(AppError, match=words):
        client.predict(**{"distortion": NOISE, **given}, api_name=endpoint)


def test_large_uploads_are_refused(client, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(21 * 1024**2))
    with pytest.raises(Exception, match=r"(?i)413|size|large"):
        client.predict(image=handle_file(large), distortion=NOISE, api_name="/compare")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "apps/compare.py", "../../etc/passwd", "pyproject.toml", "{home}/.bashrc", "{cache}"]
)
def test_no_file_of_the_server_can_be_fetched(client, path):
    named = path.format(home=Path.home(), cache=asset_path("photos"))
    answer = httpx.get(f"{client.src}gradio_api/file={named}", cookies=client.cookies)
    assert answer.status_code in (403, 404)
    assert httpx.get(f"{client.src}gradio_api/info", cookies=client.cookies).status_code == 200, "it was let in"


@pytest.mark.browser
def test_names_of_files_and_folders_do_not_become_markup(browser, public):
    visit = Visit(browser, public.url)
    visit.page.goto(public.url)
    visit.page.get_by_label("username").fill("ada")
    visit.page.get_by_label("password").fill("correct horse")
    visit.page.get_by_role("button", name="Login").click()
    visit.wait_for_maps()
    visit.open_tab("Embeddings")
    visit.page.locator("#embedding-pictures input").click()
    visit.page.get_by_role("option", name=HOSTILE).click()
    visit.settle()
    visit.page.locator("#compute-embedding").click()
    shown = "(name) => document.querySelector('#embedding-view').innerText.includes(name)"
    visit.page.wait_for_function(shown, arg=HOSTILE, timeout=60_000)
    assert visit.page.title() == "vit-explorer"
    visit.close()


@pytest.mark.parametrize(
    ("endpoints", "people", "words"), [("compare,rm", "", "unknown endpoint"), ("none", "ada", "name:password")]
)
def test_a_mistake_at_the_start_is_told(tmp_path, endpoints, people, words):
    file = tmp_path / "people.txt"
    file.write_text(people)
    command = [sys.executable, "-m", "explorer", "app", "--endpoints", endpoints, "--password-file", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, "it was told before the app was imported"
