"""Makes the gallery's pictures of widgets again: `python tests/notebooks/screenshot.py` writes them."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browsing import chromium
from lab import ROOT, Lab, opened, serving
from PIL import Image

HEIGHT = 1150  # the overview of all layers goes on below
CELLS = {
    "start": """
import explorer as ex
from explorer import widgets
pair = ex.load_pair("s14-noise", image_size=224)
photos = ex.load_images("photos", size=224)
owl = photos[photos.names.index("farm_animal/owl.webp")][0]
config = ex.DistillConfig(steps=24, batch_size=4, image_size=112, probe=4, eval_every=6)
""",
    "widget-attention": 'widgets.AttentionExplorer(pair, owl, "gaussian_noise(sigma=0.3)")',
    "widget-monitor": """
monitor = widgets.DistillationMonitor(ex.load_backbone("s14", image_size=112), photos.subset(per_class=1), config,
                                      watch=owl, out="runs/owl")
monitor.start()
monitor
""",
}


def main() -> None:
    """Two widgets in JupyterLab, 1440 pixels wide, light."""
    with TemporaryDirectory() as folder, chromium() as browser, serving(Path(folder), CELLS) as address:
        window = opened(browser, address, CELLS, viewport={"width": 1440, "height": 1400})
        with window as lab:
            for name in list(CELLS)[1:]:
                _save(lab, name, Path(folder) / "shot.png")


def _save(lab: Lab, name: str, shot: Path) -> None:
    lab.show(name)
    if name == "widget-monitor":
        lab.cell(name).get_by_text("finished").first.wait_for(timeout=300_000)
    lab.page.wait_for_timeout(1000)
    lab.cell(name).screenshot(path=shot)
    picture = Image.open(shot).convert("RGB")
    target = ROOT / "docs" / "gallery" / f"{name}.webp"
    picture.crop((0, 0, picture.width, min(picture.height, HEIGHT))).save(target, quality=82, method=6)
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
