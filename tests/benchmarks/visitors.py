"""Users of the app who know what they have to be told.

Each asks about pictures of its own, as programs do, and holds every answer against what the library makes of them, in
this process and before the load begins. A browser that opens and closes pages is one of them.
"""

import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from browsing import chromium
from gradio_client import Client, handle_file
from numpy.typing import ArrayLike
from PIL import Image
from visiting import Visit

import explorer as ex
from explorer.data.image import to_uint8
from explorer.evaluation.embedding import embed_pair
from explorer.models.pairs import read_card
from explorer.models.trace import Trace

MODELS = {("s14", 224): 8, ("s14", 336): 1, ("clip-b16", 224): 1}
"""(backbone, size in pixels) -> how often it is asked for."""
ENDPOINTS = {"/compare": 9, "/patch_similarity": 9, "/embed": 1, "/sweep": 1}
DISTORTIONS = (
    "gaussian_noise(sigma={:.2f})",
    "pixel_mask(fraction={:.2f})",
    "fog:2 + pixel_mask(fraction={:.2f})",
)
UNTOUCHED = "untouched copy"
PICTURES = 3  # of each user
SWEPT = 2  # pictures of a sweep
PAUSE = 1.0  # seconds that a user thinks before the next question, on average
PAGE_SECONDS = 5.0  # that a page is left open
TOLERANCE = 1e-3  # of attention and cosines: another batch, another number of threads


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: to what, when it was asked for (seconds of `time.perf_counter`), how long it took, what is wrong."""

    endpoint: str
    asked: float
    seconds: float
    problem: str | None


@dataclass(frozen=True)
class Library:
    """What the library computes, for the answers to be held against.

    Attributes:
        seen: (picture, backbone, size) -> the clean picture in the last block of the backbone.
        measures: a pair -> what `/embed` measures for it: displacement by view.
    """

    seen: dict[tuple[Path, str, int], Trace]
    measures: dict[str, dict[str, float]]


class User:
    """A program with pictures of its own.

    Args:
        number: of this user, the seed of all that it draws.
        downloads: a folder of its own for the pictures that it is sent.
    """

    def __init__(self, url: str, number: int, pictures: list[Path], library: Library, downloads: Path) -> None:
        self.number, self.pictures, self.library = number, pictures, library
        self.draw = random.Random(number)
        self.client = Client(url, verbose=False, download_files=downloads)
        self.looked_at: dict[str, Any] = self._anything()

    def ask(self, endpoint: str) -> Answer:
        """Ask one question and examine the answer."""
        return examined(endpoint, getattr(self, endpoint.removeprefix("/")))

    def work(self, until: float, tell: Callable[[Answer], None]) -> None:
        """Ask and think in turn, until this time."""
        while time.perf_counter() < until:
            time.sleep(self.draw.expovariate(1 / PAUSE))
            tell(self.ask(self.draw.choices(list(ENDPOINTS), list(ENDPOINTS.values()))[0]))

    def compare(self) -> str | None:
        """A picture of its own, damaged in a way that nobody has asked for before."""
        self.looked_at = self._anything()
        (_, clean, *_), numbers = self._pictures("/compare", **self.looked_at)
        picture, size = self.looked_at["image"], self.looked_at["size"]
        mine = to_uint8(ex.load_image(picture, size=size))
        return differs("clean picture", clean, mine, 1) or self._misjudged(numbers)

    def patch_similarity(self) -> str | None:
        """A patch of what it looked at last."""
        row, col = self.draw.randrange(14), self.draw.randrange(14)
        _, numbers = self._pictures("/patch_similarity", **self.looked_at, row=row, col=col)
        wanted = ex.patch_similarity(self._seen(), query=(row, col))[0]
        found = numbers["similarity"]["teacher_clean"]
        return differs("similarity", found, wanted, TOLERANCE) or self._misjudged(numbers)

    def embed(self) -> str | None:
        """All photos, as a student of its choice sees them."""
        pair = self.draw.choice(list(self.library.measures))
        card = read_card(pair)
        asked = {"backbone": card["backbone"], "pair": pair, "distortion": card["distortion"]}
        method = self.draw.choice(["pca", "pca", "umap"])
        _, about = self.client.predict(**asked, method=method, api_name="/embed")
        wanted = self.library.measures[pair]
        found = {row["view"]: row["displacement"] for row in about["measures"]}
        return differs("displacement", [found[view] for view in wanted], list(wanted.values()), TOLERANCE)

    def sweep(self) -> str | None:
        """Strengths that no other user asks for."""
        strengths = (0.1 + self.number / 1000, 0.5)
        asked = {"backbone": "s14", "pair": "s14-noise", "distortion": "gaussian_noise", "pictures": SWEPT}
        table, about = self.client.predict(**asked, values="{}, {}".format(*strengths), api_name="/sweep")
        found = sorted({float(row[table["headers"].index("value")]) for row in table["data"]})
        wrong = differs("strengths", found, strengths, 1e-9)
        return wrong or differs("number of pictures", about["pictures"], SWEPT, 0)

    def distill(self, steps: int, tell: Callable[[Answer], None]) -> str | None:
        """Train a student and look through its eyes; the time until its first step is an answer of its own."""
        begun = time.perf_counter()
        job = self.client.submit("s14", "gaussian_noise(sigma=0.3)", steps=steps, size=112, api_name="/distill")
        records = []
        for record in job:
            records.append(record)
            if len(records) == 1:
                taken = time.perf_counter() - begun
                tell(Answer(endpoint="/distill, first step", asked=begun, seconds=taken, problem=None))
        if [record["step"] for record in records] != list(range(1, steps + 1)):
            return f"expected {steps} steps, got {len(records)}"
        self.looked_at = {**self._anything(), "backbone": "s14", "size": 224, "pair": records[-1]["pair"]}
        _, numbers = self._pictures("/compare", **self.looked_at)
        if numbers["untouched_student"] or numbers["student"] == numbers["teacher"]:
            return "the student that was trained sees what its teacher sees"
        return self._misjudged(numbers)

    def _anything(self) -> dict[str, Any]:
        models = sorted({(backbone, size) for _, backbone, size in self.library.seen})
        backbone, size = self.draw.choices(models, [MODELS[each] for each in models])[0]
        students = [UNTOUCHED, *(name for name in ex.list_pairs() if name.startswith(backbone))]
        return {
            "image": self.draw.choice(self.pictures),
            "distortion": self.draw.choice(DISTORTIONS).format(self.draw.uniform(0.1, 0.6)),
            "backbone": backbone,
            "pair": self.draw.choice(students),
            "size": size,
            "seed": self.draw.randrange(2**31),
        }

    def _seen(self) -> Trace:
        asked = self.looked_at
        return self.library.seen[asked["image"], asked["backbone"], asked["size"]]

    def _pictures(self, endpoint: str, **asked: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
        """The pictures and the numbers of an answer; its files are not kept."""
        *paths, numbers = self.client.predict(**{**asked, "image": handle_file(asked["image"])}, api_name=endpoint)
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        for path in paths:
            Path(path).unlink(missing_ok=True)  # equal pictures are one file
        return pictures, numbers

    def _misjudged(self, numbers: dict[str, Any]) -> str | None:
        """Whether the numbers are those of another picture, damage or seed."""
        asked = self.looked_at
        if (numbers["seed"], numbers["distortion"]) != (asked["seed"], ex.distortion(asked["distortion"]).spec):
            return f"asked for {asked['distortion']}, seed {asked['seed']}; got {numbers['distortion']}"
        return differs("attention", numbers["clean_attention"], ex.attention_map(self._seen())[0], TOLERANCE)


def look_at(pictures: list[Path], models: Collection[tuple[str, int]] = tuple(MODELS)) -> Library:
    """What the library makes of the pictures, and of the photos in the eyes of each shipped student."""
    seen = {}
    for backbone, size in models:
        model = ex.load_backbone(backbone, image_size=size)
        for each in pictures:
            clean = ex.load_image(each, size=size)[None]
            seen[each, backbone, size] = model.trace(clean, layers=-1)
    photos, measures = ex.load_images("photos"), {}
    for name in ex.list_pairs():
        pair = ex.load_pair(name, image_size=224)
        table = embed_pair(pair, photos).measures
        measures[name] = dict(zip(table["view"], table["displacement"], strict=True))
    return Library(seen, measures)


def open_pages(url: str, until: float, tell: Callable[[Answer], None]) -> None:
    """Open a page, wait for its maps, choose another picture, wait for its maps, close it; again and again."""
    with chromium() as browser:
        for number in range(10**6):
            if time.perf_counter() > until:
                return
            visit = Visit(browser, url)
            visit.context.set_default_timeout(60_000)
            tell(examined("a page's first maps", lambda visit=visit: _first_maps(visit)))
            tell(examined("a sample's maps", lambda visit=visit, number=number: visit.pick(1 + number % 11)))
            visit.page.wait_for_timeout(1000 * PAGE_SECONDS)
            visit.close()
            if visit.complaints:
                tell(Answer(endpoint="a page", asked=time.perf_counter(), seconds=0, problem=str(visit.complaints)))


def _first_maps(visit: Visit) -> None:
    visit.page.goto(visit.url)
    visit.wait_for_maps()


def examined(endpoint: str, ask: Callable[[], str | None]) -> Answer:
    """How long a question took and what is wrong with its answer; an error is no answer."""
    begun = time.perf_counter()
    try:
        problem = ask()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Answer(endpoint=endpoint, asked=begun, seconds=time.perf_counter() - begun, problem=problem)


def differs(what: str, found: ArrayLike, wanted: ArrayLike, tolerance: float) -> str | None:
    """A sentence, if these numbers are not the ones that were wanted."""
    got, right = np.asarray(found, dtype=float), np.asarray(wanted, dtype=float)
    if got.shape != right.shape:
        return f"{what}: expected the shape {right.shape}, got {got.shape}"
    most = float(np.abs(got - right).max())
    return f"{what}: differs by {most:.3g} from what the library computes" if not most <= tolerance else None


def together(works: list[Callable[[], None]]) -> None:
    """Run these at once, each in a thread of its own, to their ends."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
