"""The picker of common corruptions: the chosen picture under each of them, by severity; a click takes one.

A contact sheet in one small picture, of which every button shows its part, so that 95 previews are one answer of the
server. The sheet is drawn when it is opened, and again when the picture changes while it is open.
"""

import base64
import io
from functools import lru_cache
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import explorer as ex
from explorer.data.image import to_pil
from explorer.errors import InputError
from explorer_app.events import QUICK
from explorer_app.service.pictures import CENTRED, load_picture
from explorer_app.service.question import whole

SIDE, SHOWN, PREVIEW = 224, 128, 80
"""Pixels at which a picture is corrupted, which the severities are stated for; of its middle that is shown, since noise
would be averaged away in a smaller picture of all of it; and of a preview."""
SEVERITIES = (1, 2, 3, 4, 5)
NAMES = tuple(name for name, entry in ex.DISTORTIONS.items() if entry.severities is not None)

_SCRIPT = """
const show = () => {
  const sheet = props.value?.rows ? props.value : null;
  const root = element.querySelector(".corruption-sheet");
  root.replaceChildren(...(sheet?.rows ?? []).map(({ name, label }, row) => {
    const line = document.createElement("div");
    const title = document.createElement("span");
    title.textContent = label;
    const buttons = sheet.severities.map((severity, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = `${label}, severity ${severity}`;
      button.setAttribute("aria-label", button.title);
      button.dataset.pick = `${name}:${severity}`;
      button.style.backgroundImage = `url(${sheet.image})`;
      button.style.backgroundSize = `${100 * sheet.severities.length}% ${100 * sheet.rows.length}%`;
      const along = (place, count) => `${(100 * place) / (count - 1)}%`;
      const [x, y] = [along(column, sheet.severities.length), along(row, sheet.rows.length)];
      button.style.backgroundPosition = `${x} ${y}`;
      button.onclick = () => trigger("pick", { name, severity });
      return button;
    });
    const previews = document.createElement("div");
    previews.append(...buttons);
    line.append(title, previews);
    return line;
  }));
};
watch("value", show);
show();
"""


def build_corruption_sheet() -> tuple[gr.Accordion, gr.HTML]:
    """An accordion that is closed at first, and the sheet in it, whose event `pick` tells name and severity."""
    with gr.Accordion("All common corruptions, by severity", open=False, elem_id="corruption-sheet") as accordion:
        sheet = gr.HTML(html_template='<div class="corruption-sheet"></div>', js_on_load=_SCRIPT, padding=False)
    return accordion, sheet


def connect_corruption_sheet(
    accordion: gr.Accordion, sheet: gr.HTML, file: gr.State, seed: gr.Number, crop: gr.Slider
) -> None:
    """Draw the sheet while it is open."""
    opened, inputs = gr.State(False), [file, seed, crop]
    drawn = {**QUICK, "show_progress": "minimal"}
    accordion.expand(lambda: True, outputs=opened, **QUICK).then(draw_sheet, inputs, sheet, **drawn)
    accordion.collapse(lambda: False, outputs=opened, **QUICK)
    for event in (file.change, crop.release):
        event(lambda is_open, *asked: draw_sheet(*asked) if is_open else gr.skip(), [opened, *inputs], sheet, **drawn)


def draw_sheet(picture: str | None, seed: float | None, crop: float = CENTRED) -> Any:
    """What the sheet shows of a picture; as it was where there is none that can be read."""
    try:
        return _sheet(load_picture(picture, SIDE, float(crop or 0)).numpy().tobytes(), whole("seed", seed))
    except InputError:
        return gr.skip()  # the tabs say so


def middle(images: Tensor) -> Tensor:
    """What a preview shows of pictures."""
    start = (SIDE - SHOWN) // 2
    return images[..., start : start + SHOWN, start : start + SHOWN]


@lru_cache(maxsize=8)
def _sheet(pixels: bytes, seed: int) -> dict[str, Any]:
    clean = torch.frombuffer(bytearray(pixels), dtype=torch.float32).reshape(1, 3, SIDE, SIDE)
    sheet = Image.new("RGB", (PREVIEW * len(SEVERITIES), PREVIEW * len(NAMES)))
    for row, name in enumerate(NAMES):
        for column, severity in enumerate(SEVERITIES):
            distorted = ex.distortion(f"{name}:{severity}")(clean, seed=seed)
            small = interpolate(middle(distorted), (PREVIEW, PREVIEW), mode="bilinear", antialias=True)
            sheet.paste(to_pil(small[0]), (column * PREVIEW, row * PREVIEW))
    stream = io.BytesIO()
    sheet.save(stream, "webp", quality=80)
    address = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    rows = [{"name": name, "label": ex.DISTORTIONS[name].label} for name in NAMES]
    return {"image": address, "rows": rows, "severities": list(SEVERITIES)}
