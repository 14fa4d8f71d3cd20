"""Every kind of picture against pixel values known by other means, and every broken one against its error."""

import io
import pickle
import threading
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from inspect import unwrap  # past the type checks of the tests: these are about our own errors
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import (
    bomb,
    encoded,
    icc_profile,
    icon_holding,
    noise,
    png,
    png_chunk,
    smooth,
    swapped_profile,
    twelve_bit_tiff,
)
from PIL import Image, ImageCms, ImageOps
from torchvision.transforms import InterpolationMode, v2

from explorer.data.image import (
    MAX_PIXELS,
    SUFFIXES,
    ImageError,
    check_image,
    encode_image,
    load_image,
    to_pil,
    to_uint8,
)

LEVEL = 1 / 255


def expected(array: np.ndarray) -> torch.Tensor:
    """uint8 "height width 3" -> what load_image has to give."""
    return torch.tensor(array.astype(np.float64) / 255).permute(2, 0, 1).float()


def close(image: torch.Tensor, target: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(image, target, atol=atol, rtol=0)


def pixel(image: torch.Tensor, row: int = 0, col: int = 0) -> list[float]:
    return image[:, row, col].tolist()


# What comes in, and what goes out.


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    array = noise(5, 7)
    data = encoded(array)
    path = tmp_path / "Bild ü.png"
    path.write_bytes(data)
    half_read = io.BytesIO(data)
    half_read.read(20)
    with path.open("rb") as opened:
        sources = [path, str(path), data, bytearray(data), memoryview(data), half_read, opened, Image.fromarray(array)]
        sources += [
            array,
            torch.from_numpy(array).permute(2, 0, 1),
            expected(array),
            expected(array).numpy().transpose(1, 2, 0),
        ]
        images = [load_image(source) for source in sources]
    for image in images:
        close(image, expected(array))
        assert image.dtype == torch.float32
        assert image.is_contiguous()


def test_a_stream_that_cannot_seek() -> None:
    class Pipe:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, size: int = -1) -> bytes:
            return self.data

    array = noise(3, 4)
    close(load_image(Pipe(encoded(array))), expected(array))


def test_the_result_shares_no_memory_with_the_source() -> None:
    array, tensor = np.zeros((4, 4, 3), np.float32), torch.zeros(3, 4, 4)
    for source in (array, tensor):
        image = load_image(source)
        image.fill_(1)
        assert float(source.max()) == 0


def test_the_callers_pil_image_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    path.write_bytes(encoded(smooth(400, 600), "JPEG"))
    with Image.open(path) as image:
        load_image(image, size=10)
        assert image.size == (600, 400)


def test_arrays_of_all_shapes_and_types() -> None:
    grey = noise(4, 6, 1)
    three = expected(np.repeat(grey, 3, axis=2))
    for array in (
        grey,
        grey[..., 0],
        grey[::-1][::-1],
        grey.astype(np.uint16) * 257,
        grey / 255,
        (grey / 255).astype(np.float32),
    ):
        close(load_image(array), three)
    half = (grey / 255).astype(np.float16)
    close(load_image(half), three, atol=1e-3)
    close(load_image(torch.from_numpy(half).permute(2, 0, 1).bfloat16()), three, atol=5e-3)
    big_endian = (grey.astype(np.uint16) * 257).astype(">u2")
    close(load_image(big_endian), three)


def test_alpha_in_arrays_is_laid_on_white() -> None:
    half_red = np.array([[[1.0, 0.0, 0.0, 0.5]]])
    assert pixel(load_image(half_red)) == pytest.approx([1, 0.5, 0.5])
    assert pixel(load_image((half_red * 255).astype(np.uint8))) == pytest.approx([1, 0.5, 0.5], abs=LEVEL)
    assert pixel(load_image((half_red * 65535).astype(np.uint16))) == pytest.approx([1, 0.5, 0.5], abs=1e-4)
    assert pixel(load_image(torch.tensor([1.0, 0.0, 0.0, 0.5])[:, None, None])) == pytest.approx([1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 8, 8)), "moveaxis"),
        (np.zeros((2, 8, 8, 3)), "one picture"),
        (np.zeros((8, 8, 2)), "channels"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((8, 8, 3), bool), "bool"),
        (np.full((8, 8, 3), 255.0), "0, 1|255"),
        (np.full((8, 8, 3), -0.1), r"-0\.1"),
        (np.full((8, 8), np.nan), "nan_to_num"),
        (np.full((8, 8), np.inf), "infinite"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (torch.zeros(8, 8, 3), "permute"),
        (torch.zeros(3, 8, 0), "empty"),
        (torch.full((3, 4, 4), 2.0), "expected .0, 1"),
        (None, "NoneType"),
        (17, "int"),
        (io.StringIO("text"), "binary"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_way_out(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        unwrap(load_image)(source)


def test_rounding_errors_just_outside_the_range_are_clipped() -> None:
    image = load_image(np.array([[-1e-6, 1 + 1e-6]]))
    assert image.min() == 0
    assert image.max() == 1


# Kinds of files.


@pytest.mark.parametrize(
    "mode_and_format",
    [
        "1 PNG",
        "L PNG",
        "RGB PNG",
        "P PNG",
        "L BMP",
        "RGB BMP",
        "RGB TIFF",
        "1 TIFF",
        "RGB PPM",
        "1 PPM",
        "P GIF",
        "RGB ICO",
        "RGB QOI",
    ],
)
def test_lossless_files(mode_and_format: str) -> None:
    mode, format = mode_and_format.split()
    image = Image.fromarray(noise(16, 16)).convert(mode)
    options = {"sizes": [(16, 16)]} if format == "ICO" else {}
    close(load_image(encoded(image, format, **options)), expected(np.asarray(image.convert("RGB"))))


def test_webp_jpeg_2000_and_avif() -> None:
    array = smooth(32, 48)
    close(load_image(encoded(array, "WEBP", lossless=True)), expected(array))
    close(load_image(encoded(array, "JPEG2000")), expected(array))
    close(load_image(encoded(array, "AVIF", quality=95)), expected(array), atol=8 * LEVEL)


def test_jpeg_colour_grey_and_cmyk() -> None:
    array = smooth(40, 40)
    close(load_image(encoded(array, "JPEG", quality=95)), expected(array), atol=12 * LEVEL)
    grey = Image.fromarray(array).convert("L")
    close(load_image(encoded(grey, "JPEG", quality=95)), expected(np.asarray(grey.convert("RGB"))), atol=6 * LEVEL)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = load_image(encoded(cmyk, "JPEG", quality=95))
    assert pixel(red, 4, 4) == pytest.approx([1, 0, 0], abs=4 * LEVEL)


def test_a_cmyk_jpeg_with_adobe_marker_is_not_a_negative() -> None:
    data = encoded(
        Image.new("CMYK", (8, 8), (0, 0, 255, 0)), "JPEG", quality=95
    )  # Pillow writes inverted values, as Adobe does
    assert b"Adobe" in data
    assert pixel(load_image(data), 4, 4) == pytest.approx([1, 1, 0], abs=4 * LEVEL)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_colour_models_of_pil_images(mode: str) -> None:
    image = Image.new("RGB", (3, 2), (200, 30, 60)).convert(mode)
    assert pixel(load_image(image)) == pytest.approx([200 / 255, 30 / 255, 60 / 255], abs=4 * LEVEL)


def test_lab() -> None:
    rgb = Image.new("RGB", (3, 2), (200, 30, 60))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    assert lab is not None
    for source in (lab, encoded(lab, "TIFF")):
        assert pixel(load_image(source)) == pytest.approx([200 / 255, 30 / 255, 60 / 255], abs=4 * LEVEL)


def test_sixteen_bit_grey_keeps_its_depth() -> None:
    values = np.array([[0, 1, 256], [30_000, 65_534, 65_535]], np.uint16)
    target = torch.from_numpy(values.astype(np.float32) / 65535).expand(3, 2, 3)
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    sources = [image, encoded(image), encoded(image, "TIFF"), encoded(image, "TIFF", compression="tiff_lzw")]
    sources += [Image.fromarray(values.astype(">u2")), encoded(Image.fromarray(values.astype(">u2")), "TIFF")]
    sources += [b"P5 3 2 65535\n" + values.astype(">u2").tobytes()]
    for source in sources:
        close(load_image(source), target)


def test_sixteen_bit_tiff_where_zero_is_white() -> None:
    values = np.array([[0, 65_535, 16_384]], np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0  # type: ignore[attr-defined]
    assert load_image(data)[0, 0].tolist() == pytest.approx([1, 0, 0.75], abs=1e-4)


def test_twelve_bit_tiff() -> None:
    assert load_image(twelve_bit_tiff([0, 4095, 1024, 2048]))[0, 0].tolist() == pytest.approx(
        [0, 1, 0.25, 0.5], abs=1e-3
    )


def test_sixteen_bit_png_transparency() -> None:
    values = np.array([[1000, 2000]], ">u2")
    data = png(2, 1, 16, 0, b"\0" + values.tobytes(), png_chunk(b"tRNS", (2000).to_bytes(2, "big")))
    assert load_image(data)[0, 0].tolist() == pytest.approx([1000 / 65535, 1])


def test_sixteen_bit_colour_png() -> None:
    values = np.array([[[0, 32_768, 65_535], [256, 512, 1024]]], ">u2")
    image = load_image(png(2, 1, 16, 2, b"\0" + values.tobytes()))
    close(image, torch.from_numpy(values.astype(np.float32) / 65535).permute(2, 0, 1), atol=LEVEL)


@pytest.mark.parametrize("most", [255, 65_535, 65_536])
def test_whole_numbers_of_32_bits_are_refused_for_none_of_them_is_white(most: int) -> None:
    image = Image.fromarray(np.array([[0, most]], np.int32))
    assert image.mode == "I"
    for source in (image, encoded(image, "TIFF")):
        with pytest.raises(ImageError, match=r"32 bits.*array: uint8, uint16, or float in \[0, 1\]"):
            load_image(source)


def test_sixteen_bits_with_a_sign_are_those_without_it_from_zero_on() -> None:
    for value in (30_000, -1):
        data = encoded(Image.fromarray(np.array([[0, value]], np.int16).view(np.uint16)), "TIFF", tiffinfo={339: 2})
        assert Image.open(io.BytesIO(data)).mode == "I"
        if value > 0:
            assert load_image(data)[0, 0].tolist() == pytest.approx([0, value / 65535])
            continue
        with pytest.raises(ImageError, match="whole numbers from -1 to 0; expected 0 to 65535"):
            load_image(data)


def test_float_tiff() -> None:
    values = np.array([[0.0, 0.25], [0.123456, 1.0]], np.float32)
    close(load_image(encoded(Image.fromarray(values), "TIFF")), torch.from_numpy(values).expand(3, 2, 2))
    for wrong in (values * 255, values - 0.5, values * np.nan):
        with pytest.raises(ImageError, match=r"\[0, 1\]|NaN"):
            load_image(encoded(Image.fromarray(wrong), "TIFF"))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 255, 128]]], np.uint8)
    target = [[1, 0, 0], [1, 1, 1], [1 - 128 / 255, 1 - 128 / 255, 1]]
    image = Image.fromarray(rgba)
    sources = [
        image,
        image.convert("RGBa"),
        encoded(image),
        encoded(image, "TIFF"),
        encoded(image, "WEBP", lossless=True, exact=True),
    ]
    for source in sources:
        loaded = load_image(source)
        assert [pixel(loaded, 0, col) for col in range(3)] == [
            pytest.approx(value, abs=1.5 * LEVEL) for value in target
        ]


def test_grey_with_alpha() -> None:
    image = Image.merge("LA", [Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 51)])
    value = (100 * 51 + 255 * 204) / 255 / 255
    for source in (image, image.convert("La"), encoded(image)):
        assert pixel(load_image(source)) == pytest.approx([value] * 3, abs=2 * LEVEL)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_transparency(format: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    loaded = load_image(encoded(image, format, transparency=1))
    assert pixel(loaded, 0, 0) == [1, 0, 0]
    assert pixel(loaded, 0, 1) == [1, 1, 1]


def test_palette_with_partial_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    loaded = load_image(encoded(image, transparency=bytes([255, 51])))
    assert pixel(loaded, 0, 0) == [1, 0, 0]
    assert pixel(loaded, 0, 1) == pytest.approx([0.8, 1, 0.8], abs=LEVEL)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_colour_that_stands_for_nothing(mode: str) -> None:
    data = encoded(Image.new(mode, (2, 2)), transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert pixel(load_image(data)) == [1, 1, 1]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_show_their_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert pixel(load_image(data), 4, 4) == [1, 0, 0]


# Orientation and colour profiles.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(orientation: int, format: str) -> None:
    upright = noise(4, 6)
    stored = {  # CIPA DC-008, table 4.6.4: where row 0 and column 0 of the stored picture lie
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(stored), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    image = load_image(data)
    close(image, expected(upright))
    with Image.open(io.BytesIO(data)) as opened:
        close(load_image(opened), expected(upright))


def test_orientation_of_a_large_photo_that_is_cut_to_a_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(smooth(800, 2400), "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (2 * 200, 2 * 66))  # 2400 x 800 upright covers 200 x 60 as 200 x 66; twice that, turned
        assert image.size == (600, 200)
        upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    close(load_image(data, size=(200, 60)), load_image(upright, size=(200, 60)))


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_broken_exif_does_not_hide_the_picture(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about the EXIF data
        close(load_image(encoded(smooth(64, 64), "JPEG", quality=95, exif=exif)), expected(smooth(64, 64)), 8 * LEVEL)


def test_colour_profiles_are_applied() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for image in (red, red.convert("RGBA"), red.convert("P")):
        meant_green = load_image(encoded(image, icc_profile=swapped_profile()))
        assert pixel(meant_green) == pytest.approx([0, 1, 0], abs=3 * LEVEL)
    close(load_image(encoded(noise(8, 8), icc_profile=icc_profile("sRGB"))), expected(noise(8, 8)), atol=LEVEL)


@pytest.mark.parametrize(
    "profile",
    [b"broken", b"\0" * 200, icc_profile("LAB"), swapped_profile()[:400]],
    ids=["broken", "empty", "of Lab", "cut off"],  # they hold the time, and tests are named alike in all processes
)
def test_a_profile_that_cannot_apply_counts_as_srgb(profile: bytes) -> None:
    close(load_image(encoded(noise(8, 8), icc_profile=profile)), expected(noise(8, 8)))


def test_orientation_transparency_and_profile_together() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    loaded = load_image(encoded(image, exif=exif, icc_profile=swapped_profile()))
    assert pixel(loaded, 0, 0) == pytest.approx([0, 1, 0], abs=3 * LEVEL)
    assert pixel(loaded, 1, 0) == [1, 1, 1]


def test_a_colour_profile_on_a_grey_picture_is_passed_over() -> None:
    grey = Image.new("L", (2, 2), 77)
    assert pixel(load_image(encoded(grey, icc_profile=swapped_profile()))) == pytest.approx([77 / 255] * 3)


# Sizes.


@pytest.mark.parametrize("shape", [(100, 100), (333, 517), (517, 333), (30, 41), (224, 224), (1, 1), (225, 224)])
@pytest.mark.parametrize("size", [224, 64, 7])
def test_cutting_to_a_square_equals_torchvision(shape: tuple[int, int], size: int) -> None:
    image = Image.fromarray(noise(*shape))
    both = v2.Compose([v2.Resize(size, InterpolationMode.BICUBIC), v2.CenterCrop(size)])
    difference = (load_image(image, size=size) - expected(np.asarray(both(image)))).abs()
    assert difference.max() <= 1.01 * LEVEL  # boxes are kept in single precision
    assert difference.mean() <= 0.02 * LEVEL


@pytest.mark.parametrize("target", [(20, 60), (60, 20), (50, 50), (300, 10)])
@pytest.mark.parametrize("shape", [(90, 120), (41, 33)])
def test_cutting_to_a_rectangle_equals_pillow(shape: tuple[int, int], target: tuple[int, int]) -> None:
    image = Image.fromarray(smooth(*shape))
    loaded = load_image(image, size=target)
    assert loaded.shape == (3, *target)
    fitted = ImageOps.fit(image, (target[1], target[0]), Image.Resampling.BICUBIC)
    close(loaded, expected(np.asarray(fitted)), atol=16 * LEVEL)  # `fit` places the crop to a fraction of a pixel
    assert (loaded - expected(np.asarray(fitted))).abs().mean() < 3 * LEVEL


@pytest.mark.parametrize("centering", [(0.0, 0.0), (0.2, 0.6), (0.5, 0.5), (1.0, 0.4), (1.0, 1.0)])
@pytest.mark.parametrize(("shape", "size"), [((20, 60), 10), ((60, 20), 10), ((20, 20), (10, 20))])
def test_what_is_cut_out_lies_where_pillow_has_it(
    shape: tuple[int, int], size: int | tuple[int, int], centering: tuple[float, float]
) -> None:
    image, (rows, cols) = Image.fromarray(noise(*shape)), (size, size) if isinstance(size, int) else size
    fitted = ImageOps.fit(image, (cols, rows), Image.Resampling.BICUBIC, centering=centering)  # type: ignore[arg-type]
    loaded = load_image(image, size=size, centering=centering)
    close(loaded, expected(np.asarray(fitted)), atol=1.01 * LEVEL)


def test_the_centre_is_what_is_cut_out_unless_it_is_said() -> None:
    array = noise(8, 24)
    close(load_image(array, size=8), expected(array[:, 8:16]))
    close(load_image(array, size=8, centering=(0.25, 1.0)), expected(array[:, 4:12]))
    close(load_image(array / 255, size=8, centering=(1.0, 0.0)), expected(array[:, 16:]))
    close(load_image(array, centering=(0.0, 0.0)), expected(array))


@pytest.mark.parametrize(
    "centering", [(-0.01, 0.5), (0.5, 1.01), (float("nan"), 0.0), (0.5,), 3 * (0.0,), 0.5, "ab", None]
)
def test_a_place_that_is_none_is_refused(centering: object) -> None:
    with pytest.raises(ValueError, match=r"expected centering as \(x, y\), each from 0 to 1; got"):
        unwrap(load_image)(noise(4, 4), centering=centering)


def test_floats_are_resized_as_bytes_are_but_finer() -> None:
    array = noise(50, 70)
    close(load_image(array / 255, size=24), load_image(array, size=24), atol=1.5 * LEVEL)  # Pillow rounds twice
    step = np.zeros((16, 16), np.float32)
    step[:, 8:] = 1
    image = load_image(step, size=40)
    assert 0 <= image.min() <= image.max() <= 1  # bicubic overshoots
    fine = load_image(np.full((9, 9), 0.1234567), size=4)
    assert pixel(fine) == pytest.approx([0.1234567] * 3, abs=1e-6)


def test_upscaling_one_pixel() -> None:
    close(
        load_image(np.array([[[10, 20, 30]]], np.uint8), size=224),
        torch.tensor([10, 20, 30])[:, None, None].expand(3, 224, 224) / 255,
    )


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (1, 1_000_000), (1_000_000, 1)])
def test_extreme_shapes_need_little_memory(shape: tuple[int, int]) -> None:
    array = np.full((*shape, 3), 50, np.uint8)
    array[shape[0] // 2, shape[1] // 2] = 200  # the centre, of which the cut is made
    tracemalloc.start()
    image = load_image(array, size=224)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.shape == (3, 224, 224)
    assert image.max() > 180 / 255
    assert peak < 20e6


def test_a_hundred_million_pixels_in_one_row() -> None:
    array = np.zeros((1, MAX_PIXELS), np.uint8)
    array[0, MAX_PIXELS // 2 - 3 : MAX_PIXELS // 2 + 4] = 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(load_image(array, size=16), torch.full((3, 16, 16), 200 / 255))


def test_large_jpegs_are_decoded_small_but_not_too_small() -> None:
    array = smooth(1600, 2400)
    data = encoded(array, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (2 * 300, 2 * 200))  # twice 200 x 300, which covers 200 x 200
        assert image.size == (600, 400)
        drafted = image.resize((200, 200), Image.Resampling.BICUBIC, box=(100, 0, 500, 400))
    close(load_image(data, size=200), expected(np.asarray(drafted)), atol=1.01 * LEVEL)
    close(load_image(data, size=200), load_image(array, size=200), atol=4 * LEVEL)
    close(load_image(data, size=1500), load_image(Image.open(io.BytesIO(data)), size=1500))


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("size", [50, (20, 50)])
def test_a_jpeg_and_a_png_of_one_scene_are_cut_alike(size: int | tuple[int, int], orientation: int) -> None:
    rows, cols = np.mgrid[0:403, 0:605]
    waves = [np.sin(rows / 9 + cols / 11), np.sin(rows / 8), np.sin(cols / 8)]
    array = np.round(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation  # 9 is none
    jpeg = load_image(encoded(array, "JPEG", quality=100, subsampling=0, exif=exif), size)
    close(jpeg, load_image(encoded(array, exif=exif), size), atol=12 * LEVEL)


@pytest.mark.parametrize("size", [0, -1, (0, 5), (5,), (1, 2, 3), 2.5, "224", True, (20_000, 20_000)])
def test_impossible_sizes(size: object) -> None:
    with pytest.raises(ValueError, match="size"):
        unwrap(load_image)(noise(4, 4), size=size)


# Broken and hostile files.


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_truncated_files(format: str, tmp_path: Path) -> None:
    data = encoded(noise(64, 64), format)
    path = tmp_path / "half.img"
    for kept in (len(data) // 2, 20, 3):
        path.write_bytes(data[:kept])
        with pytest.raises(ImageError, match=r"half\.img") as caught:
            load_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "ICO", "QOI"])
def test_random_damage_gives_a_picture_or_an_image_error(format: str) -> None:
    data = encoded(noise(24, 24), format)
    generator = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(60):
            damaged = bytearray(data)
            for position in generator.integers(0, min(len(data), 300), 4):
                damaged[position] = generator.integers(0, 256)
            try:
                image = load_image(bytes(damaged), size=16)
            except ImageError:
                continue
            assert image.shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"Dear reader, this is a letter, not a picture. " * 5, "holds text"),
        ("Grüße".encode() * 200, "holds text"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG.*PNG first"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (bytes(range(256)), "no known picture format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged"),
    ],
)
def test_files_that_are_no_pictures(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ImageError, match=message):
            load_image(source)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    cases = {
        "missing.png": "does not exist",
        "folder.png": "folder",
        "x" * 5000: "name of a file|not exist",
        "a\0b": "name|exist",
    }
    for name, message in cases.items():
        with pytest.raises(ImageError, match=message):
            load_image(f"{tmp_path}/{name}")
    with pytest.raises(ImageError, match="ordinary file"):
        load_image("/dev/zero")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/cat.jpg",
        "HTTPS://example.org/cat.jpg",
        "ftp://x/y.png",
        "file:///etc/x.png",
        "data:image/png;base64,AAAA",
    ],
)
def test_urls_are_never_fetched(url: str) -> None:
    with pytest.raises(ImageError, match="URL"):
        load_image(url)


def test_two_hundred_megapixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    for source in (path, path.read_bytes()):
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(ImageError, match="megapixels"):
            load_image(source, size=224)
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 1
        assert peak < 5e6


def test_the_limit_is_ours_not_pillows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match="101 megapixels"):
            load_image(bomb(10_100, 10_000))  # Pillow would only warn
        assert load_image(bomb(9_500, 10_000), size=8).shape == (3, 8, 8)
    with pytest.raises(ImageError, match="megapixels"):
        load_image(Image.new("1", (20_000, 10_000)))
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_an_icon_that_lies_about_its_size() -> None:
    assert load_image(icon_holding(encoded(noise(40, 40)))).shape == (3, 40, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError, match="101 megapixels"):
            load_image(icon_holding(bomb(10_100, 10_000)))


def test_pillows_warning_as_an_error_is_still_an_image_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="too many pixels"):
            load_image(bomb(9_500, 10_000))


def test_text_bombs_in_png_chunks() -> None:
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_image(png(1, 1, 8, 0, b"\0\0", chunk))


def test_errors_are_value_errors_and_travel_between_processes() -> None:
    with pytest.raises(ValueError, match="empty") as caught:
        load_image(b"")
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ImageError)


def test_many_threads_decode_at_once() -> None:
    arrays = [noise(30, 40, seed=seed) for seed in range(16)]
    sources = [encoded(array) for array in arrays]
    barrier = threading.Barrier(4)

    def work(number: int) -> torch.Tensor:
        if number < 4:
            barrier.wait()
        return load_image(sources[number])

    with ThreadPoolExecutor(4) as pool:
        for image, array in zip(pool.map(work, range(16)), arrays, strict=True):
            close(image, expected(array))


# Out again.


def test_to_uint8_rounds_and_clips() -> None:
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0]).expand(3, 1, 6)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert to_uint8(values).shape == (1, 6, 3)
    assert to_uint8(values[None].requires_grad_()).shape == (1, 1, 6, 3)
    assert to_uint8(values.to(torch.bfloat16)).dtype == np.uint8


def test_to_uint8_refuses() -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.full((3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="shape"):
        unwrap(to_uint8)(torch.zeros(1, 4, 4))


def test_there_and_back() -> None:
    array = noise(6, 9)
    image = load_image(array)
    assert np.array_equal(to_uint8(image), array)
    assert np.array_equal(np.asarray(to_pil(image)), array)
    close(load_image(encode_image(image)), image)
    flat = load_image(smooth(32, 32))
    close(load_image(encode_image(flat, "webp")), flat, atol=20 * LEVEL)
    assert len(encode_image(image, "webp", quality=10)) < len(encode_image(image, "webp"))


def test_encode_image_refuses() -> None:
    image = torch.zeros(3, 2, 2)
    with pytest.raises(ValueError, match="jpeg"):
        encode_image(image, "jpeg")
    with pytest.raises(ValueError, match="quality"):
        encode_image(image, "png", quality=80)
    with pytest.raises(ValueError, match="shape"):
        unwrap(to_pil)(image[None])


def test_suffixes_are_lower_case_and_known_to_pillow() -> None:
    known = Image.registered_extensions()
    assert all(suffix in known and suffix == suffix.lower() for suffix in SUFFIXES)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "ICO"])
def test_a_look_at_the_head_refuses_what_cannot_be_and_no_more(format: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(noise(20, 30), format))
    check_image(path)
    check_image(path.read_bytes())
    for wrong, message in ((b"", r"is empty"), (b"<svg>", "SVG"), (bomb(), "megapixels")):
        path.write_bytes(wrong)
        for source in (path, str(path), wrong):
            with pytest.raises(ImageError, match=message):
                check_image(source)
    with pytest.raises(ImageError, match="does not exist"):
        check_image(tmp_path / "nothing")
