"""The sheet of previews: each part of it is the picture under the corruption that its button names."""

import base64
import io

import numpy as np
from PIL import Image
from torch.nn.functional import interpolate

import explorer as ex
from explorer.data.image import to_uint8
from explorer_app.column import corruptions
from explorer_app.service import pictures

PHOTO = "farm_animal/owl.webp"


def test_each_part_of_the_sheet_is_what_its_button_names():
    found = corruptions.draw_sheet(pictures.photo_path(PHOTO), 3)
    data = base64.b64decode(found["image"].split(",")[1])
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)
    side = corruptions.PREVIEW
    clean = ex.load_image(pictures.photo_path(PHOTO), size=224)[None]
    names = [row["name"] for row in found["rows"]]
    assert set(ex.distortions.COMMON_CORRUPTIONS) < set(names)
    for name, severity in (("fog", 5), ("contrast", 1), ("saturate", 4)):
        row, column = names.index(name), found["severities"].index(severity)
        part = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        distorted = interpolate(
            corruptions.middle(ex.distortion(f"{name}:{severity}")(clean, seed=3)), (side, side), mode="area"
        )
        assert np.abs(part - to_uint8(distorted[0])).mean() < 12  # webp, and another way to shrink
        other = to_uint8(interpolate(corruptions.middle(clean), (side, side), mode="area")[0])
        assert np.abs(part - other).mean() > 12


def test_without_a_picture_the_sheet_stays_as_it_was():
    assert corruptions.draw_sheet(None, 0)["__type__"] == "update"
