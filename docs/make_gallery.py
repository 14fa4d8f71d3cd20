"""Makes the pages of the gallery again, and their thumbnails:

    python docs/make_gallery.py                 # all of them, about six minutes on two quiet cores
    python docs/make_gallery.py owl-noise map   # some

Writes docs/gallery/NAME.html and docs/gallery/NAME.webp; docs/gallery.md links them. The thumbnails are taken by the
system's chromium, as in the tests.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

import explorer as ex
from explorer.evaluation.embedding import embed_pair
from explorer.scenes.evaluation import embedding_scene, sprite
from explorer.scenes.pages import Shown
from explorer.system.files import asset_path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "gallery"
SEED = 0
THUMBNAIL_WIDTH = 640


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One page: what it shows, in words, which view is open, and what it begins with."""

    make: Callable[[], Shown]
    title: str
    note: str
    view: str
    settings: dict[str, Any] = field(default_factory=dict)


def compared(pair: str, photo: str, distortion: str) -> ex.Comparison:
    """A shipped student and its teacher, at 224 px."""
    loaded = ex.load_pair(pair, image_size=224)
    picture = ex.load_image(asset_path("photos") / photo, size=224)
    return ex.compare(loaded.teacher, picture, distortion, loaded.student, seed=SEED)


def mapped() -> ex.Section:
    """All photos in the four views of a pair; features that come with the project."""
    photos, pair = ex.load_images("photos", size=224), ex.load_pair("s14-noise", image_size=224)
    embedding = embed_pair(pair, photos, seed=SEED)
    scene = embedding_scene(
        embedding, embedding.project(), sprite(photos), caption=f"{len(photos)} photos, global embedding, 224 px"
    )
    return ex.Section(view="embeddingview", scenes=(scene,))


def swept() -> ex.Sweep:
    """Noise of seven strengths on a few photos."""
    photos = ex.load_images("photos", size=112)
    few = photos.subset(fraction=0.15, seed=SEED)
    return ex.sweep(ex.load_pair("s14-noise", image_size=112), few, "gaussian_noise", seed=SEED, gallery=photos)


def recovered() -> ex.Recovery:
    """A short training on two cores; the photo is not among those that are learned from."""
    teacher, photos = ex.load_backbone("s14", image_size=112), ex.load_images("photos", size=112)
    watched = photos.names.index("wild_animal/koala.webp")
    recovery = ex.Recovery(teacher, photos[watched][0], "gaussian_noise(sigma=0.3)", seed=SEED)
    learned = photos.subset(fraction=0.5, seed=1)
    assert "wild_animal/koala.webp" not in learned.names, "another seed leaves the watched photo out"
    config = ex.DistillConfig(steps=30, batch_size=8, image_size=112, eval_every=30, checkpoint_every=30, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        for record in tqdm(ex.distill(teacher, learned, config, out=folder), total=config.steps, leave=False):
            if record.step % 3 == 0:
                recovery.add(record.step, record.student)
    return recovery


PAGES = {
    "owl-noise": Entry(
        make=lambda: compared("s14-noise", "farm_animal/owl.webp", "gaussian_noise(sigma=0.3)"),
        title="An owl in noise: where a teacher and a student look",
        note="The four maps share one scale. Under noise the teacher's attention scatters; the student's, which was "
        "trained on such noise, stays on the owl. Choose a layer and a head, or the Patches.",
        view="attention",
    ),
    "panda-mask": Entry(
        make=lambda: compared("s14-mask", "wild_animal/panda.webp", "pixel_mask(fraction=0.5)"),
        title="A panda of which half the pixels are missing: what resembles this patch?",
        note="Point at a patch of any of the four pictures. The one that is pinned lies on the panda's white fur.",
        view="patches",
        settings={"pin": "teacher_clean,3,9"},
    ),
    "macaw-blur": Entry(
        make=lambda: compared("s14-blur", "wild_animal/scarlet_macaw.webp", "gaussian_blur(kernel=21, sigma=5)"),
        title="A blurred macaw in the colours of its patches",
        note="The first three principal components of the patches of all four views together: like colours, like "
        "features.",
        view="patches",
        settings={"mode": "pca", "opacity": 0.9},
    ),
    "giraffe-clip": Entry(
        make=lambda: compared("clip-b16-mixture", "wild_animal/giraffe.webp", "gaussian_noise(sigma=0.3)"),
        title="A giraffe in noise, seen by CLIP ViT-B/16",
        note="The student was trained on a mixture of damages. CLIP's own attention collects in few patches.",
        view="attention",
        settings={"outline": True},
    ),
    "map": Entry(
        make=mapped,
        title="207 photos on one map, clean and in noise",
        note="The map is fitted once, on the clean photos as the teacher sees them. Arrows lead to where noise drives "
        "each photo, and to where the student puts it back.",
        view="embeddings",
    ),
    "sweep": Entry(
        make=swept,
        title="How teacher and student hold up as noise grows",
        note="Photos at 112 px. The strengths that the student was trained at are marked.",
        view="robustness",
        settings={"numbers": True},
    ),
    "recovery": Entry(
        make=recovered,
        title="A student learns to see a koala through noise",
        note="Thirty steps of eight photos on two CPU cores. Press Play, or pull the step.",
        view="recovery",
    ),
}


def main() -> None:
    """Make what was asked for."""
    parser = argparse.ArgumentParser(description="Makes the pages of the gallery again, and their thumbnails.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(PAGES)} (default: all)")
    names = parser.parse_args().names or list(PAGES)
    unknown = set(names) - set(PAGES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PAGES)}")
    OUT.mkdir(exist_ok=True)
    for name in tqdm(names):
        entry = PAGES[name]
        note = f"{entry.note}\nMade by: python docs/make_gallery.py {name}"
        ex.save_page(entry.make(), OUT / f"{name}.html", title=entry.title, note=note, settings=entry.settings)
    take_thumbnails(names)


def take_thumbnails(names: list[str]) -> None:
    """What each page shows when it has been opened."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browsing import chromium

    with chromium() as browser:
        looks = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"}
        context = browser.new_context(**looks, offline=True, bypass_csp=True)  # waiting evaluates, which pages forbid
        for name in names:
            page = context.new_page()
            page.goto(f"{(OUT / f'{name}.html').as_uri()}#{PAGES[name].view}")
            page.wait_for_function("document.querySelector('.page-section:not([hidden]) .vx-mount')?.view")
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH), Image.Resampling.LANCZOS)
            picture.save(OUT / f"{name}.webp", quality=82, method=6)
            page.close()


if __name__ == "__main__":
    main()
