"""Any picture in, float RGB in [0, 1] out; and back to bytes that a browser shows.

Enters: a path, bytes, a file object, a PIL image, an array or a tensor. Leaves: `Float[Tensor, "3 height width"]` in
sRGB, upright (EXIF), on white where the picture was transparent, the first frame where it was animated.
Deliberately ignored: mean and standard deviation (each backbone has its own), 16-bit depth of colour pictures
(Pillow decodes these to 8 bits; grey ones keep 16), colour profiles of 16-bit and float pictures, and URLs, which
are never fetched.
"""

import io
import math
import operator
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from explorer.errors import InputError

MAX_PIXELS = 100_000_000
"""Pictures with more pixels (width times height) are refused, from their header, before anything is decoded."""

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp"),
)
"""How the names of picture files end, in lower case; folders and zip files are searched for these."""
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
"""The same of HEIC photos, which are read where pillow-heif is installed."""


class ImageError(InputError):
    """This picture cannot be shown; the message says what was expected, what came, and how to mend it."""


@runtime_checkable
class Readable(Protocol):
    """A file opened in binary mode, or anything else whose `read` returns bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


Source: TypeAlias = str | os.PathLike | bytes | bytearray | memoryview | Readable | Image.Image | np.ndarray | Tensor
Size: TypeAlias = int | tuple[int, int] | None
CENTRE = (0.5, 0.5)
"""(x, y) of the centre: see `load_image`."""


def load_image(
    source: Source, size: Size = None, *, centering: tuple[float, float] = CENTRE
) -> Float[Tensor, "3 height width"]:
    """Any picture as RGB in [0, 1]: a contiguous float32 tensor on the CPU that shares no memory with the source.

    Args:
        source: a path, the bytes of a picture file, an open binary file, a PIL image, an array (uint8, uint16 or
            float in [0, 1]; height x width, or height x width x 1, 3 or 4) or a tensor (uint8 or float in [0, 1];
            height x width, or 1, 3 or 4 x height x width).
        size: None keeps the picture as it is. A number cuts out the central square with that many pixels a side;
            (height, width) cuts out the largest central rectangle of that shape. Resizing is bicubic, antialiased.
        centering: where what is cut out lies instead, (x, y) as in `PIL.ImageOps.fit`: from 0, the left or the top, to
            1, the right or the bottom; (0.5, 0.5) is the centre.

    Raises:
        ValueError: `size` or `centering` is something else.
        ImageError: it is no picture, or a damaged one, or has more than MAX_PIXELS pixels, or its values are not
            in the range that their type stands for.
    """
    target, place = _target(size), _place(centering)
    picture, what, draft = _picture(source, target)
    return _tensor(picture if target is None else _cover(picture, target, place, what, draft))


def at_size(source: Source, size: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """As `load_image`; but a float tensor that has this size is taken as it is: a damaged picture may leave [0, 1]."""
    return source if is_at(source, size) else load_image(source, size)


def is_at(source: object, size: tuple[int, int]) -> TypeGuard[Tensor]:
    """Whether this is a float tensor "3 height width" of this size."""
    return isinstance(source, Tensor) and source.is_floating_point() and source.shape == (3, *size)


def reads_heic() -> bool:
    """Whether HEIC photos can be read here: pillow-heif is installed."""
    return _heic_reader() is not None


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins like this, with 64 bytes or more, is a picture, of the more common kinds."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or bool(_brands(head) & (_HEIC_BRANDS | _AVIF_BRANDS))


def check_image(source: str | os.PathLike | bytes) -> None:
    """Look at the head of a picture file, and decode nothing: well under a millisecond where decoding takes ten.

    Raises:
        ImageError: it is no picture, or has more than MAX_PIXELS pixels. What is damaged further on passes.
    """
    if isinstance(source, bytes):
        with _opened(io.BytesIO(source), "the picture"):
            return
    path = _existing_file(source)
    what = _quoted(path)
    with _translated(what), path.open("rb") as stream, _opened(stream, what):
        return


def upright_size(source: str | os.PathLike) -> tuple[int, int]:
    """(rows, cols) of a picture file as it is shown, turned as EXIF says; from its head alone.

    Raises:
        ImageError: as for `check_image`.
    """
    path = _existing_file(source)
    what = _quoted(path)
    with _translated(what), path.open("rb") as stream, _opened(stream, what) as image:
        return (
            image.size[::-1] if _orientation(image) < 5 or image.format == "TIFF" else image.size
        )  # TIFF: see `_from_pil`


def besides_pixels(image: Image.Image) -> bytes:
    """What `load_image` heeds of a decoded PIL image beside its mode and its raw values; nothing of most."""
    info = image.info
    heeded = info.get("transparency"), info.get("icc_profile") or None, _UPRIGHT.get(_orientation(image))
    found = (image.getpalette(None), *heeded, _tiff_scale(image))
    return b"" if found == (None, None, None, None, (65535, False)) else repr(found).encode()


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures of these sizes, (rows, cols), can show the same scene whole: within 2 %, for rounding."""
    return 0.98 < size[0] * other[1] / (size[1] * other[0]) < 1.02


def crop_box(
    rows: int, cols: int, size: Size, centering: tuple[float, float] = CENTRE
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """What `load_image(…, size, centering=…)` shows of a picture: (left, top, right, bottom) in the picture's own
    pixels; and how large that becomes, (height, width)."""
    target = _target(size) or (rows, cols)
    covering = _covering(rows, cols, target)
    x, y = _place(centering)
    top, bottom = _kept(rows, covering[0], target[0], y)
    left, right = _kept(cols, covering[1], target[1], x)
    return (left, top, right, bottom), target


def to_uint8(image: Float[Tensor, "*batch 3 height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    """One picture or a batch as bytes 0..255, channels last: rounded, and clipped where it leaves [0, 1].

    Raises:
        ValueError: another shape, or NaN in the picture.
    """
    if image.ndim not in (3, 4) or image.shape[-3] != 3:
        raise InputError(f"expected a picture (3, height, width) or a batch of them; got shape {tuple(image.shape)}")
    if image.isnan().any():
        raise InputError("the picture holds NaN, which has no colour; look for what made it (0/0, or inf - inf)")
    values = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(values.movedim(-3, -1).cpu().numpy())


def to_pil(image: Float[Tensor, "3 height width"]) -> Image.Image:
    """A PIL image (mode RGB), rounded and clipped as in `to_uint8`."""
    if image.ndim != 3:
        raise InputError(f"expected one picture (3, height, width); got shape {tuple(image.shape)}")
    return Image.fromarray(to_uint8(image))


def encode_image(image: Float[Tensor, "3 height width"], format: str = "png", quality: int | None = None) -> bytes:
    """The bytes of a PNG file (exact) or a WebP file (lossy, small; `quality` 1..100, 90 if None).

    Raises:
        ValueError: another format, or a quality for PNG, which has none.
    """
    if format not in ("png", "webp"):
        raise InputError(f"format {format!r} is unknown; expected 'png' or 'webp'")
    if format == "png" and quality is not None:
        raise InputError("PNG is exact and has no quality; leave it out, or take format='webp'")
    stream = io.BytesIO()
    options = {} if format == "png" else {"quality": 90 if quality is None else quality}
    to_pil(image).save(stream, format, **options)
    return stream.getvalue()


# From any source to a picture: an 8-bit PIL image (mode RGB), or floats "height width 3" where 8 bits would lose some.
_Picture: TypeAlias = Image.Image | np.ndarray


class _Draft(NamedTuple):
    """How the pixels of a picture, upright, lie in those that were decoded of it: at (x, y) + its own / scale."""

    rows: int
    cols: int
    scale: float = 1
    x: float = 0
    y: float = 0


def _picture(source: object, target: tuple[int, int] | None) -> tuple[_Picture, str, _Draft | None]:
    """The decoded picture, what error messages call it, and how it was decoded if not whole."""
    if isinstance(source, Image.Image):
        return _from_pil(source, "the PIL image"), "the PIL image", None
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array"), "the array", None
    if isinstance(source, Tensor):
        return _from_tensor(source), "the tensor", None
    if isinstance(source, (str, os.PathLike)):
        path = _existing_file(source)
        what = _quoted(path)
        with _translated(what), path.open("rb") as stream:
            return _from_file(stream, what, target)
    data, what = _bytes(source)
    return _from_file(io.BytesIO(data), what, target)


def _existing_file(source: str | os.PathLike) -> Path:
    text = os.fspath(source)
    if isinstance(text, bytes):
        raise ImageError("a path of type bytes was given; decode it to str")
    if re.match(r"[A-Za-z][\w.+-]*://|data:", text):
        raise ImageError(f"{_quoted(text)} is a URL, and nothing is fetched; save the picture and give the file's path")
    path = Path(text)
    try:
        if path.is_dir():
            raise ImageError(f"{_quoted(path)} is a folder, not a picture: give one of the files in it")
        if path.is_file():
            return path
        kind = "is not an ordinary file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:  # too long, or with a null character: no name of a file at all
        if isinstance(error, ImageError):
            raise
        kind = "cannot be the name of a file"
    raise ImageError(f"{_quoted(path)} {kind}; give the path of a picture")


def _bytes(source: object) -> tuple[bytes, str]:
    """The whole content of a file object, from its beginning, or of a buffer."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "the picture"
    if not isinstance(source, Readable):
        raise ImageError(
            f"expected a path, bytes, an open file, a PIL image, an array or a tensor; got {type(source).__name__}"
        )
    name = getattr(source, "name", None)
    what = _quoted(name) if isinstance(name, str) else "the file"
    with _translated(what):
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)  # type: ignore[attr-defined]
        data = source.read()
    if not isinstance(data, bytes):
        raise ImageError(f"{what} gave {type(data).__name__} instead of bytes; open it in binary mode ('rb')")
    return data, what


def _quoted(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= 200 else f"{text[:60]}...{text[-60:]}")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Whatever Pillow and its decoders raise (a dozen types, by accident more than by contract) as one ImageError."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_large(what, f"Pillow says: {error}")) from error
    except MemoryError as error:
        raise ImageError(f"{what} does not fit into memory; make it smaller") from error
    except PermissionError as error:
        raise ImageError(f"{what} may not be read by this user; change its permissions") from error
    except Exception as error:
        raise ImageError(f"{what} cannot be decoded ({error}); it is damaged or cut short: get it again") from error


def _too_large(what: str, detail: str) -> str:
    return f"{what} has too many pixels ({detail}); at most {MAX_PIXELS // 10**6} megapixels: make it smaller"


def _check_pixels(width: int, height: int, what: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{what} is {width} x {height} pixels, which is empty; give a picture of at least 1 x 1")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(what, f"{width} x {height} = {width * height / 1e6:.0f} megapixels"))


# Files.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "AVIF", "JPEG2000", "ICO", "QOI")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_EXPECTED = "expected PNG, JPEG, WebP, GIF, TIFF, BMP, PPM, AVIF, JPEG 2000, ICO or QOI"


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    """What this Pillow has of _FORMATS. Others stay out: EPS would run Ghostscript, TGA takes text for a picture."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _from_file(
    stream: io.BytesIO | io.BufferedReader, what: str, target: tuple[int, int] | None
) -> tuple[_Picture, str, _Draft | None]:
    with _opened(stream, what) as image:
        draft = _draft(image, target) if target is not None and image.format in ("JPEG", "MPO") else None
        return _from_pil(image, what), what, draft


@contextmanager
def _opened(stream: io.BytesIO | io.BufferedReader, what: str) -> Iterator[Image.Image]:
    """Known by its head, not decoded yet."""
    head = stream.read(1024)
    if not head:
        raise ImageError(f"{what} is empty (0 bytes); get it again")
    with _translated(what):
        try:
            image = _heic(stream, what) if _is_heic(head) else Image.open(stream, formats=_formats())
        except UnidentifiedImageError as error:
            raise ImageError(f"{what} {_guess(head)}") from error
        with image:
            _check_pixels(image.width, image.height, what)
            yield image


def _brands(head: bytes) -> frozenset[bytes]:
    """The kinds of file that an ISO container (HEIC, AVIF, MP4) says it is: ISO/IEC 14496-12, 4.3."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset({head[8:12], *(head[start : start + 4] for start in range(16, end, 4))})


def _is_heic(head: bytes) -> bool:
    brands = _brands(head)
    return bool(brands & _HEIC_BRANDS) and not brands & _AVIF_BRANDS


def _heic_reader() -> type[Image.Image] | None:
    """pillow-heif's, if it is there; imported late, for few pictures need it, and never registered with Pillow."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return None
    return HeifImageFile


def _heic(stream: io.BytesIO | io.BufferedReader, what: str) -> Image.Image:
    reader = _heic_reader()
    if reader is None:
        raise ImageError(
            f'{what} is a HEIC photo, which takes pillow-heif: pip install "vit-explorer[heic]", or save it as JPEG'
        )
    stream.seek(0)
    try:
        return reader(stream)  # type: ignore[call-arg]
    except SyntaxError as error:
        raise ImageError(
            f"{what} is a HEIC photo that cannot be decoded ({error}); it is damaged or cut short: get it again"
        ) from error


def _guess(head: bytes) -> str:
    """What a file that no decoder knows may be, and what to do about it."""
    if b"<svg" in head.lower():
        return "is an SVG drawing, which has no pixels yet; save it as PNG first"
    if head.startswith((b"%!PS", b"%PDF")):
        return "is a PostScript or PDF document; save the page as PNG first"
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")):
        return "begins like a picture but cannot be decoded; it is damaged, or of a rare kind: save it as PNG again"
    if b"\0" not in head and _is_text(head):
        return f"holds text, not a picture; {_EXPECTED}"
    return f"is in no known picture format; {_EXPECTED}"


def _is_text(head: bytes) -> bool:
    try:
        head[:-3].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _draft(image: Image.Image, target: tuple[int, int]) -> _Draft | None:
    """Let the JPEG decoder scale a large photo by 1/2, 1/4 or 1/8, to no less than twice what is needed.

    Twice, so that the bicubic filter after it still does the antialiasing (Pillow's own `reducing_gap=2.0`). A pixel
    that is not full, the last one as the picture is stored, counts as far as it is.
    """
    way, (width, height) = _orientation(image), image.size
    cols, rows = (width, height) if way < 5 else (height, width)
    needed = _covering(rows, cols, target)
    drafted = image.draft(None, (2 * needed[way < 5], 2 * needed[way >= 5]))
    if drafted is None:
        return None
    rest = image.width - drafted[1][2], image.height - drafted[1][3]
    x, y = rest if way < 5 else rest[::-1]
    return _Draft(rows, cols, width / drafted[1][2], x if way in (2, 3, 6, 7) else 0, y if way in (3, 4, 7, 8) else 0)


# PIL images. EXIF orientation, tag 0x0112: how the stored picture has to be turned (CIPA DC-008, 4.6.4).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """1..8; 1 (upright) where EXIF data is missing or broken, as in every viewer."""
    try:
        way = int(image.getexif().get(0x0112, 1))
        return way if way in _UPRIGHT else 1
    except Exception:  # Pillow's EXIF parser raises struct.error, SyntaxError, OverflowError and more
        return 1


def _from_pil(image: Image.Image, what: str) -> _Picture:
    _check_pixels(image.width, image.height, what)
    with _translated(what):
        image.load()
        turn = _UPRIGHT.get(_orientation(image))  # after load(), which turns TIFF pictures itself
        upright = image if turn is None else image.transpose(turn)
        return _deep(image, upright, what) if image.mode[0] in "IF" else _rgb(upright)


def _deep(image: Image.Image, upright: Image.Image, what: str) -> _Picture:
    """Modes I;16, I where it holds 16 bits, and F (float grey) as floats "height width 3"."""
    raw = np.asarray(upright)
    if image.mode == "F":
        return _from_array(raw, what)
    if image.mode == "I" and image.format not in ("PNG", "PPM") and _tiff_bits(image) > 16:
        raise ImageError(
            f"{what} has whole numbers of 32 bits (Pillow's mode I), of which none is known to be white; save it with "
            "8 or 16 bits, or give an array: uint8, uint16, or float in [0, 1]"
        )
    full, inverted = _tiff_scale(image)
    if raw.min() < 0 or raw.max() > full:
        raise ImageError(
            f"{what} has whole numbers from {raw.min()} to {raw.max()}; expected 0 to {full}: save it with 8 or 16 bits"
        )
    grey = raw.astype(np.float32) / full
    grey = 1 - grey if inverted else grey
    clear = image.info.get("transparency")  # PNG: one grey value stands for "nothing here"
    return _three(np.where(raw == clear, np.float32(1), grey) if isinstance(clear, int) else grey)


def _tiff_scale(image: Image.Image) -> tuple[int, bool]:
    """The value that stands for full brightness, and whether 0 is white: Pillow leaves both to us in 16-bit TIFFs."""
    inverted = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(262) == 0
    return (4095 if _tiff_bits(image) == 12 else 65535), inverted


def _tiff_bits(image: Image.Image) -> int:
    """BitsPerSample; 32, the most that there are, of what is no TIFF."""
    return max(getattr(image, "tag_v2", {}).get(258, (32,)))


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit modes as sRGB: transparency on white, colour profiles applied."""
    if not image.has_transparency_data:
        return _srgb(image, image.info.get("icc_profile"))
    image, alpha = _split_alpha(image)
    colour = _srgb(image, image.info.get("icc_profile"))
    return Image.composite(colour, Image.new("RGB", image.size, "white"), alpha)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    full = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    bare = full.getchannel("L") if full.mode == "LA" else full.convert("RGB")
    bare.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return bare, full.getchannel("A")


_SRGB = ImageCms.createProfile("sRGB")


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Through the embedded colour profile; one that is broken, or made for another kind of picture, is passed over."""
    if image.mode == "LAB":  # Pillow has no plain conversion
        return _through(image, ImageCms.createProfile("LAB"))
    model = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    if profile and model in ("L", "RGB", "CMYK"):
        try:
            return _through(image.convert(model), ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")


def _through(image: Image.Image, profile: object) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, _SRGB, outputMode="RGB")  # type: ignore[arg-type]
    assert converted is not None, "only inPlace=True returns None"
    return converted


# Arrays and tensors.
def _from_tensor(tensor: Tensor) -> _Picture:
    if tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"expected a tensor (3, height, width), or 1 or 4 channels, or (height, width); got {tuple(tensor.shape)}: "
            f"use permute(2, 0, 1) if the channels come last"
        )
    values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return _from_array((values.movedim(0, -1) if values.ndim == 3 else values).cpu().numpy(), "the tensor")


def _from_array(array: np.ndarray, what: str) -> _Picture:
    if array.ndim == 4:
        raise ImageError(f"expected one picture; got a batch, {array.shape}: give one of it, such as batch[0]")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"expected {what} as (height, width), or (height, width, channels) with 1, 3 or 4 channels; got "
            f"{array.shape}: use numpy.moveaxis(array, 0, -1) if the channels come first, and give one picture only"
        )
    _check_pixels(array.shape[1], array.shape[0], what)
    if array.dtype == np.uint8:
        return _rgb(Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array)))
    return _on_white(_unit_values(array, what))


def _unit_values(array: np.ndarray, what: str) -> np.ndarray:
    """uint16 and float arrays as float32 in [0, 1]; the range is checked, never guessed."""
    if array.dtype.newbyteorder("=") == np.uint16:
        return array.astype(np.float32) / 65535
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{what} has values of type {array.dtype}; expected uint8, uint16, or float in [0, 1]")
    if not np.isfinite(array).all():
        raise ImageError(f"{what} holds NaN or infinite values; replace them, e.g. by numpy.nan_to_num")
    low, high = float(array.min()), float(array.max())
    if low < -1e-5 or high > 1 + 1e-5:  # rounding of float arithmetic is no error
        raise ImageError(
            f"{what} has float values from {low:.4g} to {high:.4g}; expected [0, 1]: scale it, or use uint8"
        )
    return array.astype(np.float32).clip(0, 1)


def _on_white(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2 or values.shape[2] == 1:
        return _three(values.reshape(values.shape[:2]))
    if values.shape[2] == 3:
        return values
    colour, alpha = values[..., :3], values[..., 3:]
    return colour * alpha + (1 - alpha)


def _three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


# Resizing. The numbers are those of torchvision's Resize followed by CenterCrop, but only what is kept is computed.
def _target(size: object) -> tuple[int, int] | None:
    """(height, width) in pixels."""
    if size is None:
        return None
    try:
        height, width = (size, size) if not isinstance(size, (tuple, list)) else size
        target = operator.index(height), operator.index(width)
    except (TypeError, ValueError):
        raise InputError(f"expected size as None, a number of pixels, or (height, width); got {size!r}") from None
    if min(target) < 1 or target[0] * target[1] > MAX_PIXELS or isinstance(size, bool):
        raise InputError(f"expected a size from 1 pixel up to {MAX_PIXELS // 10**6} megapixels; got {size!r}")
    return target


def _place(centering: object) -> tuple[float, float]:
    """(x, y), each from 0 to 1."""
    try:
        x, y = map(float, centering)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        x = y = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise InputError(f"expected centering as (x, y), each from 0 to 1; got {centering!r}")
    return x, y


def _covering(rows: int, cols: int, target: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture of rows x cols, scaled until it just covers the target."""
    height, width = target
    if cols * height >= rows * width:
        return height, max(width, cols * height // rows)
    return max(height, rows * width // cols), width


def _cover(
    picture: _Picture, target: tuple[int, int], place: tuple[float, float], what: str, draft: _Draft | None
) -> _Picture:
    """Scaled to cover the target, and cropped. Crops first: 1 x 2000 pixels never become 224 x 448,000."""
    cols, rows = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
    rows, cols, scale, x, y = draft or _Draft(rows, cols)
    (left, top, right, bottom), _ = crop_box(rows, cols, target, place)
    box = x + left / scale, y + top / scale, x + right / scale, y + bottom / scale
    with _translated(what):
        if isinstance(picture, Image.Image):
            return _resize(picture, box, target)
        bands = [Image.fromarray(np.ascontiguousarray(picture[..., channel])) for channel in range(3)]
        resized = [np.asarray(_resize(band, box, target)) for band in bands]
        return np.stack(resized, axis=2).clip(0, 1)  # bicubic overshoots at edges


def _kept(length: int, scaled: int, target: int, place: float) -> tuple[float, float]:
    """Where what is kept of an axis, `target` of `scaled` pixels, lies among the `length` pixels of the source."""
    start = round((scaled - target) * place)
    return start * length / scaled, (start + target) * length / scaled


def _resize(image: Image.Image, box: tuple[float, float, float, float], target: tuple[int, int]) -> Image.Image:
    """Bicubic from a box in source pixels (left, top, right, bottom).

    Pillow keeps boxes in single precision, too coarse for 10^8 x 1 pixels: so whole pixels around the box are cut out
    first, with room for the filter, which reaches two pixels of the coarser of the two grids.
    """
    left, top, right, bottom = box
    height, width = target
    reach = 2 * max(1, (right - left) / width) + 2, 2 * max(1, (bottom - top) / height) + 2
    x, y = max(0, int(left - reach[0])), max(0, int(top - reach[1]))
    around = x, y, min(image.width, int(right + reach[0]) + 1), min(image.height, int(bottom + reach[1]) + 1)
    cut = image if around == (0, 0, *image.size) else image.crop(around)
    inner = left - x, top - y, min(right - x, cut.width), min(bottom - y, cut.height)
    return cut.resize((width, height), Image.Resampling.BICUBIC, box=inner)


def _tensor(picture: _Picture) -> Float[Tensor, "3 height width"]:
    """By numpy: pictures are loaded in threads, for each of which torch would start a team of threads more."""
    values = np.asarray(picture).transpose(2, 0, 1)
    levels = values.dtype == np.uint8
    return torch.from_numpy(np.divide(values, 255, dtype=np.float32, order="C") if levels else values.copy())
