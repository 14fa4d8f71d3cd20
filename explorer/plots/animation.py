"""A student's recovery as a moving picture, for slides and pages: `animate_recovery`.

Enters: a `Recovery`. Leaves: the bytes of a GIF. Every frame shares one colour scale per row, so that what changes is
the student and not the scale.
"""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from explorer.analysis.measures import MEASURES
from explorer.errors import InputError
from explorer.inspection.recovery import Moment, Recovery
from explorer.plots.overlays import overlay
from explorer.plots.style import number_text, scale_end

_WIDE, _GAP, _SIDE, _TOP, _BOTTOM = 224, 8, 96, 30, 46  # pixels
_INK, _QUIET, _ACCENT, _PAPER = "#1a1a1a", "#5f5f5f", "#0f766e", "white"
_LAST_MS = 2000
_TOLD = ("cls_cosine", "patch_cosine", "attention_js")


def animate_recovery(recovery: Recovery, row: int | None = None, col: int | None = None, seconds: float = 4.0) -> bytes:
    """A GIF of attention and patch similarity beside the teacher's, one frame for each recorded moment.

    Args:
        recovery: with at least one moment.
        row, col: the patch of the reference whose similarity is shown; None: where the reference looks most.
        seconds: how long it takes, without the pause at its end.

    Raises:
        ValueError: there is no such patch, or `seconds` is not above 0.
    """
    if not seconds > 0:
        raise InputError(f"seconds is a length of time above 0; got {seconds}")
    if (row is None) != (col is None):
        raise InputError(f"a patch is named by row and col, both or neither; got row={row}, col={col}")
    if row is None or col is None:
        row, col = recovery.busiest
    frames = _frames(recovery, row, col)
    # One palette for all, or else still parts would flicker; the largest coverage keeps the rare ends of the scales.
    palette = frames[-1].quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    still = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [max(20, round(1000 * seconds / len(frames)))] * (len(frames) - 1) + [_LAST_MS]
    stream = io.BytesIO()
    still[0].save(stream, "GIF", save_all=True, append_images=still[1:], duration=durations, loop=0)
    return stream.getvalue()


def _frames(recovery: Recovery, row: int, col: int) -> list[Image.Image]:
    attention, similarity = recovery.attention(), recovery.similarity(row, col)
    rows = (
        (attention, "viridis", 0.0, scale_end(attention.numpy()), "attention"),
        (similarity, "magma", min(0.0, float(similarity.min())), 1.0, f"similarity\nto patch\n({row}, {col})"),
    )
    (reference, student), view = recovery.called, recovery.view
    columns = f"{reference} · clean", f"before · {view}", f"{student} · {view}"
    tall = round(_WIDE * recovery.clean.shape[1] / recovery.clean.shape[2])
    frames = []
    for number, moment in enumerate(recovery.moments):
        frame = _sheet(columns, [text for *_, text in rows], tall)
        for place, (maps, colormap, low, high, _) in enumerate(rows):
            shown = (recovery.clean, maps[0]), (recovery.distorted, maps[1]), (recovery.distorted, maps[number + 1])
            for column, (picture, values) in enumerate(shown):
                pixels = overlay(picture.clamp(0, 1), values, colormap, low=low, high=high)
                frame.paste(Image.fromarray(pixels).resize((_WIDE, tall)), _corner(place, column, tall))
        _caption(frame, moment, tall, last=recovery.moments[-1].step)
        frames.append(frame)
    return frames


def _sheet(columns: Sequence[str], names: Sequence[str], tall: int) -> Image.Image:
    """What is the same in all frames."""
    width, height = _SIDE + 3 * (_WIDE + _GAP), _TOP + 2 * (tall + _GAP) + _BOTTOM
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(columns):
        draw.text((_corner(0, column, tall)[0], 8), heading, _INK, _font(14))
    for place, name in enumerate(names):
        draw.multiline_text((10, _corner(place, 0, tall)[1] + 4), name, _QUIET, _font(13), spacing=4)
    return sheet


def _caption(frame: Image.Image, moment: Moment, tall: int, last: int) -> None:
    draw, top = ImageDraw.Draw(frame), _TOP + 2 * (tall + _GAP) + 6
    numbers = moment.agreement.as_dict()
    parts = [f"{MEASURES[name].label} {number_text(numbers[name])}" for name in _TOLD]
    draw.text((_SIDE, top), "   ".join([f"step {moment.step} of {last}", *parts]), _INK, _font(14))
    right = _SIDE + 3 * _WIDE + 2 * _GAP
    draw.rectangle((_SIDE, top + 26, right, top + 30), fill="#e3e3e3")
    draw.rectangle((_SIDE, top + 26, _SIDE + (right - _SIDE) * moment.step / max(1, last), top + 30), fill=_ACCENT)


def _corner(place: int, column: int, tall: int) -> tuple[int, int]:
    return _SIDE + column * (_WIDE + _GAP), _TOP + place * (tall + _GAP)


def _font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    return ImageFont.load_default(size)
