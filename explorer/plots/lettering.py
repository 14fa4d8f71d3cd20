"""Names of people's own as they stand: no mathematics, and in fonts that have their letters.

Enters: texts of a figure. Leaves: the same texts, drawn as written; a word in the log where a font is missing.
"""

import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from explorer.system.files import readable

_log = logging.getLogger(__name__)


# Names in matplotlib figures.


def as_written(texts: Iterable[Text]) -> None:
    """Draw names that people gave (of classes, files, models) as they stand: `$`, `_` and `\\` are no mathematics.

    Letters that the text's own font does not have are taken from another font of this computer. Where none has them,
    that is told once, and boxes are drawn.
    """
    for text in texts:
        name = _CONTROLS.sub(lambda letter: repr(letter[0])[1:-1], readable(text.get_text()))
        text.set(text=name, parse_math=False, usetex=False)
        own = FT2Font(font_manager.findfont(text.get_fontproperties()))
        missing = frozenset(letter for letter in name if letter != "\n" and not own.get_char_index(ord(letter)))
        if missing:
            fonts = _fonts_with(missing, len(font_manager.fontManager.ttflist))
            text.set_fontfamily([*text.get_fontfamily(), *fonts])


_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # but for line breaks
_WITHOUT_LETTERS = ("Last Resort", "LastResort", ".Last", "Adobe Blank")  # they have a box for everything
_TOLD: set[str] = set()


@lru_cache(maxsize=256)
def _fonts_with(letters: frozenset[str], _installed: int) -> tuple[str, ...]:
    """As few fonts as have these letters, Noto first; what no font has is told."""
    left, chosen = set(letters), []
    entries = [entry for entry in font_manager.fontManager.ttflist if not entry.name.startswith(_WITHOUT_LETTERS)]
    for entry in sorted(entries, key=lambda entry: (not entry.name.startswith("Noto Sans"), entry.name, entry.fname)):
        had = set()
        with suppress(OSError, RuntimeError):  # a font that is damaged, or gone
            font = FT2Font(entry.fname)
            had = {letter for letter in left if font.get_char_index(ord(letter))}
        if had:
            chosen.append(entry.name)
            left -= had
        if not left:
            break
    _tell(sorted(letter for letter in left if unicodedata.category(letter) != "Cf"))  # these are not seen anyway
    return tuple(chosen)


def _tell(letters: list[str]) -> None:
    """Say once for each script that its letters are drawn as boxes."""
    for letter in letters:
        script = unicodedata.name(letter, "UNKNOWN").split()[0].title()
        font = "Noto Sans" if script == "Unknown" else f"Noto Sans {script}"
        if script in ("Cjk", "Hiragana", "Katakana", "Hangul", "Bopomofo", "Ideographic", "Fullwidth", "Halfwidth"):
            script, font = "Chinese, Japanese, Korean", "Noto Sans CJK"
        elif unicodedata.category(letter).startswith("S") or 0x1F000 <= ord(letter) < 0x20000:  # or too new for Python
            script, font = "emoji and symbols", "Noto Emoji"
        if font not in _TOLD:
            _TOLD.add(font)
            _log.warning(
                "no font on this computer has '%s' (%s): such letters are drawn as boxes in figures. Install one that "
                "has them, such as %s, and delete matplotlib's list of fonts in '%s'",
                *(letter, script, font, matplotlib.get_cachedir()),
            )


def quieten() -> None:
    """What was told once, matplotlib does not tell for each letter."""
    if _TOLD:
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
