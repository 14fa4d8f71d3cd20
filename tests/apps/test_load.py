"""Many visitors at once, pages that were closed, and a queue that is full."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.utils import QueueError
from playwright.sync_api import Browser
from serving import PYTHON, ROOT, Served, serving
from visiting import Visit

import explorer as ex
from explorer.system.files import asset_path
from explorer_app.service import models

sys.path.append(str(ROOT / "tests" / "benchmarks"))
from visitors import Answer, Library, User, look_at, together

pytestmark = pytest.mark.weights

OWL = asset_path("photos") / "farm_animal" / "owl.webp"
NOISE = "gaussian_noise(sigma=0.3)"
SECONDS = 15


@pytest.fixture(scope="module")
def pictures() -> list[list[Path]]:
    """Two photos of its own for each of three users."""
    photos = ex.load_images("photos")
    return [[photos.path(30 * user), photos.path(30 * user + 15)] for user in range(3)]


@pytest.fixture(scope="module")
def library(pictures: list[list[Path]]) -> Library:
    return look_at([each for own in pictures for each in own], models=[("s14", 224)])


@pytest.mark.slow
def test_three_users_at_once_are_told_of_their_own_pictures(app, pictures, library, tmp_path):
    users = [User(app.url, number, own, library, tmp_path / str(number)) for number, own in enumerate(pictures)]
    answers: list[Answer] = []
    until = time.perf_counter() + SECONDS
    together([lambda user=user: user.work(until, answers.append) for user in users])
    answers += [users[0].ask(endpoint) for endpoint in ("/compare", "/patch_similarity", "/embed", "/sweep")]
    answers.append(Answer(endpoint="/distill", asked=0, seconds=0, problem=users[1].distill(2, answers.append)))
    for user in users:
        user.client.close()
    assert [answer for answer in answers if answer.problem] == []
    assert {answer.endpoint for answer in answers} >= {"/compare", "/patch_similarity", "/embed", "/sweep", "/distill"}


@pytest.mark.slow
def test_an_answer_of_another_picture_is_noticed(app, pictures, library, tmp_path):
    """The check itself: a user whose picture is not the one that it believes to have sent."""
    (mine, *_), (other, *_), _ = pictures
    swapped = Library({(mine, "s14", 224): library.seen[other, "s14", 224]}, library.measures)
    user = User(app.url, 0, [mine], swapped, tmp_path)
    for endpoint, words in (("/compare", "attention: differs"), ("/patch_similarity", "similarity: differs")):
        answer = user.ask(endpoint)
        assert answer.problem is not None
        assert words in answer.problem
    user.client.close()


# ---------------------------------------------------------------- a server of its own


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An app that forgets a page a second after it was closed: Gradio's own switch for tests."""
    runs = str(tmp_path_factory.mktemp("runs"))
    with serving(*PYTHON, GRADIO_IS_E2E_TEST="1", VIT_EXPLORER_RUNS=runs) as served:
        yield served


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_that_was_forgotten_says_so(browser: Browser, forgetful: Served) -> None:
    """Its states are those of a new page: another distortion, another tab. It must not show a picture of these."""
    visit = Visit(browser, forgetful.url).open("?distortion=gaussian_blur(sigma=5)")
    visit.unfold("more-damage")
    (session,) = {found for each in visit.requests for found in re.findall(r"session_hash=(\w+)", each)}
    with httpx.stream("GET", f"{forgetful.url}/gradio_api/heartbeat/{session}") as heartbeat:
        next(heartbeat.iter_lines())  # and gone: for the server this page is closed
    time.sleep(3)
    before = visit.numbers()
    visit.page.locator("#reroll").click()
    visit.wait_for_notice("reload it")
    assert visit.numbers() == before
    visit.page.reload()
    visit.wait_for_maps()
    visit.settle()
    assert visit.notice() == ""
    visit.close()
    assert not visit.complaints


@pytest.mark.slow
@pytest.mark.browser
def test_a_full_queue_is_told(browser: Browser, forgetful: Served, tmp_path: Path) -> None:
    visit = Visit(browser, forgetful.url).open().unfold("more-damage")
    visit.context.set_default_timeout(60_000)
    client = Client(forgetful.url, verbose=False, download_files=tmp_path)
    slow = {"distortion": NOISE, "backbone": "clip-b16", "size": 448, "api_name": "/compare"}
    held = [client.submit(image=handle_file(OWL), seed=seed, **slow) for seed in range(2)]
    while any(job.status().code.name != "PROCESSING" for job in held):
        time.sleep(0.05)
    quick = {
        "data": [None, NOISE, "s14", models.UNTOUCHED, None, "mean", 224, 0]
    }  # is refused as soon as its turn comes
    with ThreadPoolExecutor(4) as pool:
        ask = lambda _: httpx.post(f"{forgetful.url}/gradio_api/call/compare", json=quick, timeout=60)  # noqa: E731
        asked = list(pool.map(ask, range(70)))
    refused = [answer for answer in asked if answer.status_code == 503]
    assert 4 <= len(refused) <= 7, "64 may wait"
    assert all("Queue is full" in answer.text and "Traceback" not in answer.text for answer in refused)
    with pytest.raises(QueueError, match="Queue is full! Please try again"):
        client.predict(image=handle_file(OWL), distortion=NOISE, api_name="/compare")
    visit.page.locator("#reroll").click()
    visit.page.get_by_text("currently busy").first.wait_for()
    assert all(len(job.result(timeout=120)) == 8 for job in held), "who waited is answered"
    before = visit.numbers()
    visit.page.wait_for_timeout(1000)
    visit.page.locator("#reroll").click()
    visit.wait_for_other_numbers(before)
    visit.close()
    client.close()
    assert [each for each in visit.complaints if "503" not in each] == []


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_does_not_wait_behind_programs(browser: Browser, forgetful: Served, tmp_path: Path) -> None:
    client = Client(forgetful.url, verbose=False, download_files=tmp_path)
    asked = {"distortion": NOISE, "size": 448, "api_name": "/compare"}
    jobs = [client.submit(image=handle_file(OWL), seed=seed, **asked) for seed in range(100, 112)]
    while jobs[0].status().code.name != "PROCESSING":
        time.sleep(0.05)
    visit = Visit(browser, forgetful.url)
    visit.context.set_default_timeout(60_000)
    visit.open()
    answered = sum(job.done() for job in jobs)
    for job in jobs:
        job.cancel()
    assert answered < len(jobs) - 3, "the page came before them"
    visit.close()
    client.close()
    assert visit.complaints == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_users_for_five_minutes(tmp_path: Path) -> None:
    report = tmp_path / "load.md"
    command = [sys.executable, "tests/benchmarks/load.py", "--out", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = report.read_text(encoding="utf-8")
    assert ", 0 of them wrong" in text
    idle = re.search(r"nobody asks, the app takes ([\d.]+) % of a core", text)
    assert idle is not None
    assert float(idle[1]) < 4.5, "Gradio alone takes 6"
    assert report.with_suffix(".png").is_file()
