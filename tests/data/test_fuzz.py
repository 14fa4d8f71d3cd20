"""Bad input of every kind gets one clear error: what hypothesis makes up, and mutations of real files.

Only the errors that are documented may come, nothing else and no hang; what is accepted has to be whole.
"""

import io
import json
import math
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import explorer as ex
from explorer.models.pairs import CARD, PairError, export_pair, import_pair
from tests import pictures

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.timeout(300)]
settings.register_profile(
    "here",
    max_examples=60,
    deadline=None,
    derandomize=True,  # a failure in one place is one everywhere
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("here")

FORMATS = {
    "PNG": pictures.encoded(pictures.noise(24, 31)),
    "PNG, 16 bits": pictures.encoded(Image.fromarray(pictures.noise(24, 31)[..., 0].astype("uint16") << 8)),
    "JPEG": pictures.encoded(pictures.noise(24, 31), "JPEG"),
    "JPEG, CMYK": pictures.encoded(Image.new("CMYK", (31, 24), (9, 80, 7, 60)), "JPEG"),
    "WEBP": pictures.encoded(pictures.noise(24, 31), "WEBP"),
    "GIF": pictures.encoded(Image.fromarray(pictures.noise(24, 31)).convert("P"), "GIF"),
    "TIFF": pictures.encoded(pictures.noise(24, 31), "TIFF", compression="tiff_lzw"),
    "BMP": pictures.encoded(pictures.noise(24, 31), "BMP"),
    "AVIF": pictures.encoded(pictures.noise(24, 31), "AVIF"),
    "QOI": pictures.encoded(pictures.noise(24, 31), "QOI"),
}


def check(error: Exception) -> None:
    """One message that a person can read."""
    assert 10 < len(str(error)) < 4000
    assert "Traceback" not in str(error)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file of which some bytes were changed, a piece left out or put in, or the end cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("change", "cut", "drop", "insert", "huge")))
        if kind == "change" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=32))
        else:
            data[place : place + 4] = b"\xff\xff\xff\x7f"  # where it meets a length or a size, an enormous one
    return bytes(data)


@pytest.mark.parametrize("format", FORMATS)
@given(st.data())
def test_damaged_pictures(format: str, data: st.DataObject) -> None:
    try:
        image = ex.load_image(data.draw(damaged(FORMATS[format])), size=data.draw(st.sampled_from((None, 16))))
    except ex.ImageError as error:
        check(error)
        return
    assert image.shape[0] == 3
    assert image.numel() > 0
    assert 0 <= image.min() <= image.max() <= 1


@given(st.binary(max_size=400))
def test_bytes_that_are_no_picture(data: bytes) -> None:
    with pytest.raises(ex.ImageError):
        ex.load_image(data)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
PARTS = ("none", "sigma", "fraction", "kernel", "clip", *"()=,:+|' ", "..", "0.3", "-1", "1e308", "nan", "inf", "5")
WORDS = st.sampled_from([*ex.DISTORTIONS, *PARTS, "21", "\u0663", "\x00", "__import__"])


@settings(max_examples=400)
@given(st.text(max_size=40) | st.lists(WORDS, max_size=12).map("".join))
def test_specs_are_read_or_refused(text: str) -> None:
    try:
        damage = ex.distortion(text)
    except ValueError as error:
        check(error)
        return
    assert ex.distortion(damage.spec) == damage, "what is printed is read as the same"
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    try:
        out = damage(image, seed=0)
    except ValueError as error:
        check(error)  # the size may still be wrong
        return
    assert out.shape == image.shape
    assert torch.isfinite(out).all()
    assert torch.equal(out, damage(image, seed=0))


@settings(max_examples=200)
@given(st.sampled_from(sorted(ex.DISTORTIONS)), st.dictionaries(st.text(max_size=8) | WORDS, ANYTHING, max_size=3))
def test_parameters_of_any_kind(name: str, values: dict[str, Any]) -> None:
    try:
        damage = ex.distortion(name, **values)
    except (ValueError, TypeError) as error:
        check(error)
        return
    assert ex.distortion(damage.spec) == damage


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(sorted(ex.DistillConfig().as_dict())) | st.text(max_size=6), ANYTHING, max_size=4)
)
def test_settings_of_any_kind(values: dict[str, Any]) -> None:
    whole = {**ex.DistillConfig().as_dict(), **values}
    try:
        config = ex.DistillConfig.from_dict(whole)
    except ValueError as error:
        check(error)
        return
    numbers = json.loads(json.dumps(config.as_dict()))
    assert ex.DistillConfig.from_dict(numbers) == config
    assert all(math.isfinite(value) for value in config.weights.values())


@cache
def zipped() -> bytes:
    """A zip of pictures."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"class{number % 2}/{number}.png", pictures.encoded(pictures.noise(20, 20, seed=number)))
    return stream.getvalue()


@cache
def student() -> bytes:
    """A shipped student as one file."""
    with TemporaryDirectory() as folder:
        return export_pair("s14-noise", Path(folder, "pair.zip")).read_bytes()


@given(st.data())
def test_damaged_zips_of_pictures(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "set.zip")
        file.write_bytes(data.draw(damaged(zipped())))
        try:
            assert ex.load_images(file, size=16).stack().shape[1:] == (3, 16, 16)
        except ValueError as error:
            check(error)


@settings(max_examples=25)
@given(st.data())
def test_damaged_students(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        file, target = Path(folder, "pair.zip"), Path(folder, "pair")
        file.write_bytes(data.draw(damaged(student())))
        try:
            import_pair(file, target)
        except PairError as error:
            check(error)
            wrong = target.exists()
        else:
            wrong = ex.load_pair(target).student is None
        assert not wrong, "nothing appears of what was refused, and what was taken is whole"


@settings(max_examples=150)
@given(st.data())
def test_cards_of_any_kind(data: st.DataObject) -> None:
    """A card is a stranger's word: any value in any place is refused, or harmless."""
    with zipfile.ZipFile(io.BytesIO(student())) as archive:
        card = json.loads(archive.read(CARD))
        rest = {name: archive.read(name) for name in archive.namelist() if name != CARD}
    card[data.draw(st.sampled_from(sorted(card)))] = data.draw(ANYTHING)
    with TemporaryDirectory() as folder:
        for name, content in {**rest, CARD: json.dumps(card).encode()}.items():
            Path(folder, name).write_bytes(content)
        try:
            ex.load_pair(folder)
        except (PairError, ValueError, ex.WeightsError) as error:
            check(error)
