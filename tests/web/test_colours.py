"""The colours that scripts, style sheet and figures share."""

import re
from pathlib import Path

from explorer import web
from explorer.plots import style

FOLDER = Path(web.__file__).parent


def test_teacher_and_students_have_the_same_colours_everywhere() -> None:
    """In the scripts, in the style sheet and in figures."""
    script, sheet = ((FOLDER / name).read_text(encoding="utf-8").lower() for name in ("networks.js", "views.css"))
    light, dark = (re.findall(r"#[0-9a-f]{6}", line) for line in re.findall(r"(?:light|dark): \[.*\]", script))
    found = re.findall(r"--vx-network\d: light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", sheet)
    assert found == list(zip(light, dark, strict=True))
    assert light == [colour.lower() for colour in (style.COLOURS["teacher"], *style.STUDENTS)]
