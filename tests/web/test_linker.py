"""The linker: what a browser makes of modules that were joined, and which it refuses to join."""

import pytest
from opening import Opener

from explorer.web import linker

MODULES = {
    "shapes": (
        'import {\n  SCALE,\n} from "./units.js";\nconst unit = 2;\n\n/** In squares. */\n'
        "export function area(side) {\n  return side * side * unit * SCALE;\n}\n"
    ),
    "units": "const unit = 5;\nexport const SCALE = 10 * unit;\n"
    "globalThis.evaluated = (globalThis.evaluated ?? 0) + 1;\n",
}


def link(**modules: str) -> str:
    return linker.linked("entry", {**MODULES, **modules}.__getitem__)


@pytest.mark.browser
def test_each_module_keeps_its_own_names_and_runs_once(open_view: Opener) -> None:
    source = link(
        entry='import { area } from "./shapes.js";\nimport { SCALE } from "./units.js";\n\nconst unit = 1;\n'
        "export const found = [unit, SCALE, area(3)];\nexport async function later() {\n  return unit;\n}\n"
    )
    assert "In squares" not in source, "comments between functions stay behind"
    page = open_view("sweepview", None)
    got = page.evaluate(
        """async (source) => {
          const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
          return [Object.keys(module).sort(), module.found, await module.later(), globalThis.evaluated];
        }""",
        source,
    )
    assert got == [["found", "later"], [1, 50, 3 * 3 * 2 * 50], 1, 1]


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ({"units": 'import { area } from "./shapes.js";\n'}, "circle: entry -> shapes -> units -> shapes"),
        ({"units": "const SCALE = 1;\n"}, "shapes.js imports SCALE, which units.js does not export"),
        ({"units": "export let SCALE = 1;\n"}, "units.js imports or exports in a way .* export let SCALE"),
        ({"shapes": "export default area;\n"}, "shapes.js imports or exports in a way .* export default area;"),
        ({"shapes": 'import * as units from "./units.js";\n'}, r"import \* as units"),
        ({"shapes": 'import { area as space } from "./units.js";\n'}, "imports area as space"),
    ],
)
def test_what_it_does_not_understand_is_refused(modules: dict[str, str], complaint: str) -> None:
    entry = 'import { area } from "./shapes.js";\n'
    with pytest.raises(ValueError, match=complaint):
        link(entry=entry, **modules)
