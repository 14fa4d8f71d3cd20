"""Which picture is looked at, and whether it is damaged here, came damaged, or has a damaged twin."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from explorer.data.image import ImageError, upright_size
from explorer_app.events import PRIVATE, QUICK
from explorer_app.service.pictures import CENTRED, photo_path, photos, thumbnail
from explorer_app.service.question import DAMAGED, DEFAULT_PHOTO, PAIR, SYNTHETIC

SAMPLES = (
    DEFAULT_PHOTO,
    "wild_animal/panda.webp",
    "farm_animal/dog.webp",
    "wild_animal/scarlet_macaw.webp",
    "wild_animal/giraffe.webp",
    "fish/fish1.webp",
    "monument/eiffelTower.webp",
    "monument/tajMahal.webp",
    "household/chair.webp",
    "tool/hammer1.webp",
    "windmill/windmill.webp",
    "household/spoons.webp",
)

WAY_LABELS = [("Synthetic damage", SYNTHETIC), ("My damaged photo", DAMAGED), ("My pair", PAIR)]
_LABELS = {
    SYNTHETIC: "Picture (a square of it is used)",
    DAMAGED: "The damaged photo (a square of it)",
    PAIR: "The clean picture of the pair",
}
SETTLE = "() => new Promise((settled) => setTimeout(settled))"
"""JavaScript: a picture that was just removed is still there when Gradio tells of it."""
UPLOAD_AT_ONCE = """() => document.addEventListener("click", (event) => {
  const file = document.querySelector("#picture input[type='file']");
  if (!file || !event.target.closest("#picture .source-selection > button:first-child")) return;
  event.stopPropagation();
  file.click();
}, true)"""
"""JavaScript for a page that opens: the sign for uploading asks for a file, where Gradio's takes the picture away."""


def build_picture() -> dict[str, Any]:
    """A picture of one's own, a sample or any of the photos; and, for a pair, its damaged twin."""
    way = gr.Radio(WAY_LABELS, value=SYNTHETIC, label="Look at", show_label=False, elem_id="way")
    found = photos()
    labelled = zip(found.names, found.labels or (), strict=True)
    picture = picture_input(
        photo_path(DEFAULT_PHOTO),
        sources=["upload", "clipboard", "webcam"],
        label=_LABELS[SYNTHETIC],
        elem_id="picture",
        height=190,
        buttons=[],
        alt_text="the picture that is looked at",
    )
    with gr.Column(visible=False, elem_id="twin-parts") as twin_parts:
        twin = picture_input(
            sources=["upload", "clipboard"],
            label="The damaged one",
            elem_id="twin",
            height=190,
            buttons=[],
            alt_text="the damaged twin of the picture",
        )
        align = gr.Checkbox(
            True, label="Align", info="Move it onto the clean one by whole pixels.", elem_id="align", min_width=90
        )
        swap = gr.Button("Swap the two", elem_id="swap", size="sm")
    crop = gr.Slider(0, 1, CENTRED, step=0.01, visible=False, elem_id="crop")
    samples = gr.Gallery(
        [(thumbnail(name), _photo_label(name)) for name in SAMPLES],
        show_label=False,
        label="Sample pictures",
        columns=6,
        height="auto",
        allow_preview=False,
        buttons=[],
        object_fit="cover",
        elem_id="samples",
        format="png",
    )
    catalogue = gr.Dropdown(
        [(f"{found.classes[label]} · {_photo_label(name)}", name) for name, label in labelled],
        value=DEFAULT_PHOTO,
        label="All 207 photos",
        elem_id="catalogue",
    )
    photo, file = gr.State(None), gr.State(None)  # set when the page opens, like all states that a page is asked about
    twin_file = gr.State(None)
    samples.select(_pick_sample, outputs=[photo, file, picture, crop, catalogue], **QUICK)
    catalogue.input(_pick_photo, catalogue, [photo, file, picture, crop], **QUICK)
    own = picture.input(None, js=SETTLE, **PRIVATE)
    own.then(lambda path: (None, path, crop_of(path), None), picture, [photo, file, crop, catalogue], **QUICK)
    twin.input(None, js=SETTLE, **PRIVATE).then(lambda path: path, twin, twin_file, **QUICK)
    way.change(_show_way, way, [picture, twin_parts, samples, catalogue], **QUICK)
    both, swapped = [file, twin_file], [photo, catalogue, file, picture, twin_file, twin, crop]
    swap.click(_swapped, both, swapped, **QUICK)
    parts = {"way": way, "twin": twin_file, "align": align}
    return {"picture": picture, "photo": photo, "file": file, "crop": crop, "catalogue": catalogue, **parts}


def _show_way(way: str) -> list[Any]:
    """(picture, parts of the twin, samples, catalogue) as this way needs them."""
    clean = way != DAMAGED
    shown = [gr.Column(visible=way == PAIR), gr.Gallery(visible=clean), gr.Dropdown(visible=clean)]
    return [gr.Image(label=_LABELS[way]), *shown]


def _swapped(clean: str | None, damaged: str | None) -> list[Any]:
    """(photo, catalogue, file, picture, twin's file, twin, crop)"""
    return [None, None, damaged, damaged, clean, clean, crop_of(damaged)]


def crop_of(path: str | None) -> gr.Slider:
    """Where the square of one's own picture lies, in the middle at first; hidden where it has no room, or there is no
    such picture."""
    try:
        rows, cols = upright_size(path) if path else (1, 1)
    except ImageError:
        rows = cols = 1  # the tabs say so
    label = "Crop: left … right" if cols > rows else "Crop: top … bottom"
    return gr.Slider(value=CENTRED, label=label, visible=rows != cols)


def picture_input(*args: Any, **kwargs: Any) -> gr.Image:
    """A `gr.Image` that hands over the file unopened: explorer decodes it, and says what is wrong with it. Gradio would
    fetch any public address that a program names instead of a file; this one refuses.

    Not a subclass: Gradio would write a stub file beside this module for it, which a read-only folder does not take.
    """
    component = gr.Image(*args, type="filepath", **kwargs)
    decode = component.preprocess

    def preprocess(payload: ImageData | None) -> Any:
        embedded = payload is not None and payload.url is not None and payload.url.startswith("data:")
        return decode(payload) if payload is None or embedded else payload.path

    async def take_in(path: str | Path | None) -> str | None:
        if path is not None and str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("expected an uploaded file; addresses are not fetched: download the picture and upload it")
        return await move(path)

    move = component.async_move_resource_to_block_cache
    component.async_move_resource_to_block_cache = take_in
    component.preprocess = preprocess
    return component


def _pick_sample(event: gr.SelectData) -> tuple[Any, ...]:
    name = SAMPLES[event.index]
    return *_pick_photo(name), name


def _pick_photo(name: str) -> tuple[Any, ...]:
    path = photo_path(name)
    return name, path, path, crop_of(None)


def _photo_label(name: str) -> str:
    return name.split("/")[-1].removesuffix(".webp")
