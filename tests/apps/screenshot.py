"""Makes the README's pictures again: `python tests/apps/screenshot.py` writes them to assets/."""

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "apps"))

from browsing import chromium
from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import FloatRect, Page
from serving import PYTHON, ROOT, serving
from visiting import Visit

from explorer_app.head import PICTURE, SIZE
from explorer_app.service.first_look import FOLDER

ASSETS = ROOT / "assets"
PLOTTED = "() => Boolean(document.querySelector('#embedding-view .vx-embedplot .main-svg'))"
FRAME_MS, REST_MS = 90, 1500
ARROW = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]  # a pointer, which screenshots lack


def main() -> None:
    """The Attention tab as it comes up, the part of it that previews of links show, and the map of the photos: light,
    1440 pixels wide; and an animation."""
    with serving(*PYTHON) as served, chromium() as browser:
        visit = Visit(browser, served.url, color_scheme="light").open()
        visit.page.locator(".example p").first.wait_for(state="hidden")
        visit.page.mouse.move(0, 0)
        visit.page.screenshot(path=ASSETS / "screenshot.png", full_page=True)
        preview(visit.page)
        visit.page.get_by_role("tab", name="Embeddings").click()
        visit.page.wait_for_function(PLOTTED, timeout=120_000)
        visit.settle()
        visit.page.locator("#embedding-view").screenshot(path=ASSETS / "embeddings.png")
        visit.close()
        visit = Visit(browser, served.url, width=1280, height=880, color_scheme="light").open()
        frames, times = zip(*[*over_patches(visit), *while_learning(visit)], strict=True)
        visit.close()
    still, *others = (frame.resize((960, 660), Image.Resampling.LANCZOS) for frame in frames)
    still.save(ASSETS / "demo.webp", save_all=True, append_images=others, duration=times, loop=0, quality=70, method=6)
    print(f"pictures written to {ASSETS}")


def over_patches(visit: Visit) -> Iterator[tuple[Image.Image, int]]:
    """The pointer moves over the owl, and all panes answer: frames and how long each is shown, in ms."""
    visit.page.get_by_role("tab", name="Patches").click()
    visit.wait_for_maps("patches")
    visit.settle()
    visit.page.locator("#patch-view .vx-unpin").click()
    area = visit.box("teacher_clean", "patches").bounding_box()
    assert area is not None
    turns = 36
    for turn in range(turns):
        angle = 2 * math.pi * turn / turns
        x = area["x"] + area["width"] * (0.62 + 0.3 * math.sin(angle))
        y = area["y"] + area["height"] * (0.5 - 0.35 * math.cos(angle))
        visit.page.mouse.move(x, y)
        visit.frame()
        frame = shot(visit)
        ImageDraw.Draw(frame).polygon([(x + dx, y + dy) for dx, dy in ARROW], fill="white", outline="black")
        yield frame, FRAME_MS


def while_learning(visit: Visit) -> Iterator[tuple[Image.Image, int]]:
    """The recorded run, step by step."""
    visit.page.get_by_role("tab", name="Train").click()
    scrubber = visit.page.locator("#recovery-view input[name=moment]")
    scrubber.wait_for()
    visit.page.evaluate("() => document.querySelector('#recovery-view').scrollIntoView({ block: 'start' })")
    scrubber.focus()
    scrubber.press("Home")
    last = int(scrubber.get_attribute("max") or 0)
    for moment in range(last + 1):
        visit.frame()
        yield shot(visit), REST_MS if moment in (0, last) else 2 * FRAME_MS
        scrubber.press("ArrowRight")


def shot(visit: Visit) -> Image.Image:
    """What is on the screen."""
    return Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")


def preview(page: Page) -> None:
    """What is said of the maps, and all of them, in the form that Open Graph asks for."""
    stage = page.locator("#attention-view .vx-stage").bounding_box()
    last = page.locator("#attention-view [data-pane=difference_student]").bounding_box()
    assert stage is not None
    assert last is not None
    clip = FloatRect(**{**stage, "height": last["y"] + last["height"] - stage["y"]})
    with Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))) as shot:
        image = shot.convert("RGB")
    edge = ImageOps.expand(image, 24, ground := image.getpixel((0, 0)))
    ImageOps.pad(edge, SIZE, color=ground).save(ASSETS / FOLDER / PICTURE, quality=85)


if __name__ == "__main__":
    main()
