"""Text to terms: reads "gaussian_noise(sigma=0.1..0.3) + pixel_mask | gaussian_blur:3" without knowing any operator.

mixture := chain ("|" chain)*            one branch is drawn for each image
chain   := term ("+" term)*              applied in order; + binds tighter than |
term    := name [":" values] | name "(" [argument ("," argument)*] ")"      values after ":" are severities
argument := name "=" (values | True | False)
values  := number | number ".." number
"""

import re
from dataclasses import dataclass, field

from explorer.errors import InputError

EXAMPLES = (
    "'gaussian_noise(sigma=0.3)', 'gaussian_noise:3', "
    "'gaussian_blur + pixel_mask(fraction=0.1..0.5)', 'none | patch_mask'"
)

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:\d+\.(?!\.)\d*|\d+|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<mark>\.\.|[|+:(),=]))"
)
_BOOLEANS = {"True": True, "true": True, "False": False, "false": False}


@dataclass(frozen=True)
class Term:
    """One operator as it was written: its name, a severity, two for a range or None, and its arguments, unchecked."""

    name: str
    severity: int | float | tuple[int | float, int | float] | None = None
    arguments: dict[str, object] = field(default_factory=dict)


def parse(text: str) -> list[list[Term]]:
    """The branches of a spec, each a list of terms in the order of application.

    Raises:
        ValueError: the text does not follow the grammar; the message points at the place.
    """
    reader = _Reader(text)
    branches = [_chain(reader)]
    while reader.skip("|"):
        branches.append(_chain(reader))
    if not reader.done:
        raise reader.error("'+', '|' or the end")
    return branches


def _chain(reader: "_Reader") -> list[Term]:
    terms = [_term(reader)]
    while reader.skip("+"):
        terms.append(_term(reader))
    return terms


def _term(reader: "_Reader") -> Term:
    name = reader.take("name", "the name of a distortion")
    if reader.skip(":"):
        return Term(name, severity=_values(reader, "a severity from 1 to 5"))
    if not reader.skip("("):
        return Term(name)
    arguments: dict[str, object] = {}
    while not reader.skip(")"):
        if arguments and not reader.skip(","):
            raise reader.error("',' or ')'")
        key, value = _argument(reader, taken=arguments)
        arguments[key] = value
    return Term(name, arguments=arguments)


def _argument(reader: "_Reader", taken: dict[str, object]) -> tuple[str, object]:
    if reader.peek() in taken:
        raise reader.error("a parameter that was not given already")
    key = reader.take("name", "the name of a parameter")
    if not reader.skip("="):
        raise reader.error("'='")
    if reader.peek() in _BOOLEANS:
        return key, _BOOLEANS[reader.take("name", "True or False")]
    return key, _values(reader, "a number")


def _values(reader: "_Reader", expected: str) -> int | float | tuple[int | float, int | float]:
    low = _number(reader, expected)
    return (low, _number(reader, "the upper end of the range")) if reader.skip("..") else low


def _number(reader: "_Reader", expected: str) -> int | float:
    text = reader.take("number", expected)
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


class _Reader:
    """A cursor over the tokens of a spec."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    @property
    def done(self) -> bool:
        return not self.text[self.place :].strip()

    def peek(self) -> str | None:
        """The token at the cursor, None at the end and before what is no token."""
        match = self._match()
        return match[match.lastgroup or 0] if match else None

    def skip(self, mark: str) -> bool:
        """Move over `mark` if it is next, and say whether it was."""
        match = self._match()
        if match is None or match["mark"] != mark:
            return False
        self.place = match.end()
        return True

    def take(self, kind: str, expected: str) -> str:
        """Move over what comes next, which must be of this kind, and return it."""
        match = self._match()
        if match is None or match[kind] is None:
            raise self.error(expected)
        self.place = match.end()
        return match[kind]

    def error(self, expected: str) -> InputError:
        rest = self.text[self.place :].strip()
        place = len(self.text) - len(self.text[self.place :].lstrip()) + 1
        where = f"at '{rest}' (character {place})" if rest else "at its end"
        return InputError(f"cannot read distortion '{self.text}' {where}: expected {expected}; examples: {EXAMPLES}")

    def _match(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.place)
