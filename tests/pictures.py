"""Small pictures and picture files for tests, made without the code under test."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random bytes: every pixel differs from its neighbours, so that a turned or shifted picture is noticed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Soft colour ramps, which lossy formats keep to within a few levels."""
    rows, cols = np.mgrid[0:height, 0:width]
    ramps = rows / max(1, height - 1), cols / max(1, width - 1), (rows + cols) / max(1, height + width - 2)
    return np.stack([np.round(255 * ramp) for ramp in ramps], axis=2).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture file."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, colour: int, data: bytes, extra: bytes = b"") -> bytes:
    """A PNG file by hand. `data` are the unfiltered rows, each with its leading 0; colour 0 is grey, 2 is RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", zlib.compress(data)), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int = 20_000, height: int = 10_000) -> bytes:
    """A complete, black 1-bit PNG of 200 megapixels; the file has 24 kB."""
    return png(width, height, 1, 0, bytes(((width + 7) // 8 + 1) * height))


def icc_profile(kind: str = "XYZ") -> bytes:
    """A colour profile that Pillow can make: 'sRGB', 'LAB' or 'XYZ'."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged: a picture of red pixels that carries it is meant to be green."""
    profile = bytearray(icc_profile("sRGB"))
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def twelve_bit_tiff(values: list[int]) -> bytes:
    """One row of 12-bit grey pixels; an even number of them, uncompressed, little-endian."""
    bits = "".join(f"{value:012b}" for value in values)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, tags[tag]) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + directory + bytes(4)


def icon_holding(data: bytes) -> bytes:
    """An icon that declares 16 x 16 pixels and holds this PNG file."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(data), 22) + data
