"""Every notebook runs from top to bottom, with smaller numbers; and what is stored is of the code that is there."""

import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browsing import chromium
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from notebooks.run import (
    WIDGET,
    execute,
    faults,
    fingerprint,
    machine_paths,
    notebooks,
    outputs,
    read,
    tidy,
    with_parameters,
)

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 2_500_000
REDUCED: dict[str, dict[str, Any]] = {
    "01_what_attention_sees": {"IMAGE_SIZE": 112, "PICTURES": 4, "SEEDS": 1},
    "02_patches_and_similarity": {"IMAGE_SIZE": 112, "PICTURES": 3},
    "03_distil_a_student": {
        "FULL_SIZE": 112,
        "TRAIN_PICTURES": 8,
        "TEST_PICTURES": 4,
        "STEPS": 2,
        "SHORT_STEPS": 2,
        "BATCH": 2,
    },
    "04_embeddings_and_probes": {"SIZE": 56, "LIMIT": 60, "DRAWS": 1, "FRACTIONS": (0.3, 1.0), "LABEL_SEEDS": 2},
    "05_which_level_matters": {"SIZE": 56, "STEPS": 1, "BATCH": 4, "SEEDS": (0, 1), "STUDENTS": ("CLS", "all")}
    | {"TEST_PHOTOS": 12, "ATTRIBUTION_SIZE": 112, "IG_STEPS": (2, 4)},
    "06_bring_your_own": {"SIZE": 56, "SHARE": 0.1, "SWEEP_SHARE": 0.03, "STEPS": 1, "BATCH": 4, "PROCESSES": 1},
    "07_where_the_damage_enters": {"IMAGE_SIZE": 112, "PICTURES": 2},
    "08_what_patches_know": {"IMAGE_SIZE": 112, "PICTURES": 3},
}
"""Notebook -> parameter -> a value that takes less time."""

ALL = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def pictures(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def undescribed(notebook: NotebookNode) -> list[str]:
    """Pictures without a description, in outputs and in texts."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    texts += [output.data["text/html"] for output in outputs(notebook) if "text/html" in output.get("data", {})]
    tags = [tag for text in texts for tag in re.findall(r"<img[^>]*>|!\[\s*\]\([^)]*\)", text)]
    bare = [tag for tag in tags if not re.search(r'alt="[^"]{10,}"', tag)]
    alts = [output.metadata.get("image/png", {}).get("alt", "") for output in pictures(notebook)]
    return bare + [f"a figure's alt text is {alt!r}" for alt in alts if len(alt) < 10]


def local_links(notebook: NotebookNode) -> list[str]:
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", texts)


def of_code(*sources: str) -> NotebookNode:
    return new_notebook(cells=[new_code_cell(source) for source in sources])


@pytest.mark.weights
@ALL
def test_it_runs(path: Path) -> None:
    assert path.stem in REDUCED, f"say in REDUCED which parameters make {path.name} fast"
    notebook = with_parameters(read(path), REDUCED[path.stem])
    assert execute(notebook, seconds=240) == []
    assert pictures(notebook)
    assert undescribed(notebook) == []


@ALL
def test_what_is_stored_is_of_this_code(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.get("vit_explorer", {}).get("code_sha256") == fingerprint(notebook), (
        f"the outputs are of other code: python notebooks/run.py {path.stem}"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert len(pictures(notebook)) >= 3
    assert undescribed(notebook) == []
    assert faults(notebook) == []
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert [output for output in outputs(notebook) if WIDGET in output.get("data", {})] == []
    assert machine_paths(notebook) == []
    assert path.stat().st_size < MOST_BYTES


def page_of(notebook: NotebookNode) -> str:
    """What `jupyter nbconvert --to html` makes of it."""
    return HTMLExporter().from_notebook_node(notebook)[0]


def descriptions(page: str) -> list[str]:
    return re.findall(r'<img alt="(\w+(?:Explorer|Monitor): [^"]+)"', page)


@ALL
def test_a_page_made_of_it_shows_its_widgets(path: Path) -> None:
    """With the words that stand for them in the notebook. Its other cells are left out, which take long to convert."""
    said = re.compile(r"<(\w+(?:Explorer|Monitor): .*)>")
    cells = [cell for cell in read(path).cells if said.search(str(cell.get("outputs", "")))]
    expected = [match[1] for cell in cells for out in cell.outputs if (match := said.match(out.data["text/plain"]))]
    assert expected
    assert descriptions(page_of(new_notebook(cells=cells))) == expected


WIDGETS = """
import explorer as ex
from explorer import widgets
backbone = ex.load_backbone("vit_tiny_patch16_224", image_size=32, source="random", device="cpu")
photos = ex.load_images("photos")
patches = widgets.PatchExplorer(backbone, photos.path(0), "gaussian_noise(sigma=0.3)")
"""


@pytest.mark.browser
def test_a_page_with_the_widgets_state_but_no_network_shows_the_picture(tmp_path: Path) -> None:
    """What is executed is stored with the widget, which only a library from elsewhere can show on a page."""
    notebook = of_code(WIDGETS, "patches", "attention = widgets.AttentionExplorer(backbone, photos.path(1))\nattention")
    assert execute(notebook) == []
    assert notebook.metadata.widgets
    page = page_of(notebook)
    assert page.count(WIDGET) >= 2, "the page knows the widgets"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with chromium() as browser:
        context = browser.new_context(offline=True)
        opened = context.new_page()
        opened.goto((tmp_path / "page.html").as_uri(), wait_until="domcontentloaded")
        for kind in ("PatchExplorer", "AttentionExplorer"):
            picture = opened.locator(f"img[alt^='{kind}: a picture under gaussian_noise']")
            picture.wait_for(state="visible")
            assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 200
        context.close()
    tidy(notebook)
    shown = [output for output in outputs(notebook) if output.output_type == "display_data"]
    assert [set(output.data) for output in shown] == [{"text/html", "image/png", "text/plain"}] * 2
    assert "vx-still" not in str(shown)


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def minutes(path: Path) -> list[tuple[int, bool]]:
    """Of each section: how many it takes, and if it belongs to the short way."""
    found = re.findall(r"^## \d\. .+\n\n\*(\d+) minutes( · short way)?\*$", prose(path), re.MULTILINE)
    return [(int(taken), bool(short)) for taken, short in found]


@ALL
def test_it_is_a_lesson(path: Path) -> None:
    """Minutes that add up, guesses, exercises with hidden solutions, sources, and links that lead somewhere."""
    text, sections = prose(path), minutes(path)
    assert len(sections) == len(re.findall(r"^## \d", text, re.MULTILINE))
    whole, short = sum(taken for taken, _ in sections), sum(taken for taken, is_short in sections if is_short)
    assert f"A lesson of {whole} minutes, or {short} by the short way" in text
    assert short <= 15
    assert text.count("> **Guess first.**") >= len(sections)
    assert text.count("<details>") >= 3
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
    assert re.findall(r"^## (\D.*)", text, re.MULTILINE) == ["What to take away", "Sources"]
    assert re.search(r"arXiv[: ]\d{4}\.\d{4,5}", text)
    assert [link for link in local_links(read(path)) if not (path.parent / link).exists()] == []
    others = {other.name for other in notebooks()} - {path.name}
    assert others <= set(local_links(read(path)))


def test_the_glossary_names_sections_that_exist() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    named = re.findall(r"\[(\d)(?:\.(\d))?\]\((\S+)\)", text)
    assert len(named) > 40
    for lesson, section, link in named:
        (path,) = notebooks(f"0{lesson}")
        assert (DOCS / link).resolve() == path
        assert not section or f"## {section}. " in prose(path)


def test_the_teachers_sheet_has_the_minutes_of_the_lessons() -> None:
    text = (DOCS / "teaching.md").read_text(encoding="utf-8")
    sheets = re.findall(r"\*\*Minutes:\*\*(.+?)Short way: sections ([\d, ]+)\.", text, re.DOTALL)
    for path, (listed, short) in zip(notebooks(), sheets, strict=True):
        assert [int(taken) for taken in re.findall(r"\d+", listed)] == [taken for taken, _ in minutes(path)]
        assert [int(number) - 1 for number in short.split(",")] == [
            i for i, (_, yes) in enumerate(minutes(path)) if yes
        ]


def test_every_entry_has_its_notebook() -> None:
    assert set(REDUCED) <= {path.stem for path in notebooks()}


RAISING = (
    "ipywidgets.interact(lambda x: [][x], x=ipywidgets.IntSlider(0, 0, 3))\nNone",
    "slider = ipywidgets.IntSlider(0, 0, 3)\nipywidgets.interact(lambda x: 6 // (3 - x), x=slider)\nslider.value = 3",
    "button = ipywidgets.Button()\nbutton.on_click(lambda _: {}['pressed'])\nbutton.click()",
    "caught = ipywidgets.Output()\nwith caught:\n    int('captured')",
    "import threading\nthread = threading.Thread(target=lambda: missing)\nthread.start()\nthread.join()",
    "from explorer.widgets.base import View\nView('patchview', error='no such picture')",
)
NOTICED = ("IndexError", "ZeroDivisionError", "KeyError", "ValueError", "NameError", "no such picture")


def test_an_exception_in_a_callback_is_a_fault() -> None:
    """None of them stops a cell."""
    found = "\n".join(execute(of_code("import ipywidgets", *RAISING)))
    assert [error for error in NOTICED if error not in found] == []


@pytest.mark.slow
def test_no_reply_is_missed_while_a_widget_is_written_to() -> None:
    """nbclient alone misses one in most of such runs, and waits for it until the cell's time is over."""
    started = time.monotonic()
    writing = ["with caught:\n    print('written', flush=True)"] * 150
    execute(of_code("import ipywidgets\ncaught = ipywidgets.Output()", *writing), seconds=90)
    assert time.monotonic() - started < 90


def test_tidied_outputs_keep_what_a_reader_needs() -> None:
    notebook = of_code("a", "b")
    shown = {WIDGET: {"model_id": "3f"}, "text/plain": "<Explorer>", "image/png": "iVBO"}
    notebook.cells[0].outputs = [
        new_output("display_data", data=shown, metadata={"image/png": {"alt": "a map"}}),
        new_output("display_data", data={WIDGET: {"model_id": "4f"}, "text/plain": "VBox()"}),
        new_output("stream", name="stderr", text="\rtraining:  50%|#####     | 1/2\n"),
        new_output("stream", name="stderr", text="\rtraining:  50%|#####     | 1/2\nUserWarning: odd\n"),
    ]
    notebook.cells[0].metadata.execution = {"shell.execute_reply": "2026-01-01"}
    notebook.metadata.widgets = {"state": {}}
    tidy(notebook)
    assert "widgets" not in notebook.metadata
    assert "execution" not in notebook.cells[0].metadata
    picture, warning = notebook.cells[0].outputs
    assert set(picture.data) == {"text/plain", "image/png"}
    assert warning.text == "UserWarning: odd\n"
    before = notebook.metadata.vit_explorer.code_sha256
    assert before == fingerprint(notebook)
    notebook.cells[1].source = "c"
    assert before != fingerprint(notebook)


@pytest.mark.parametrize("place", [str(Path.home() / "x"), "/tmp/run-3f", "/home/ada/x.png", r"C:\Users\ada"])
def test_places_of_a_machine_are_noticed(place: str) -> None:
    notebook = of_code("a")
    notebook.cells[0].outputs = [new_output("stream", name="stdout", text=f"a line\nsaved in {place}\n")]
    assert machine_paths(notebook) == [f"saved in {place}"]
    notebook.cells[0].outputs = [new_output("stream", name="stdout", text="1/2 of runs/x\n")]
    assert machine_paths(notebook) == []


def test_parameters_are_replaced_by_name() -> None:
    notebook = of_code("SIZE = 224\nNAMES = ['a', 'b']", "print(SIZE)")
    notebook.cells[0].metadata.tags = ["parameters"]
    assert with_parameters(notebook, {"SIZE": 112}).cells[0].source == "SIZE = 112\nNAMES = ['a', 'b']"
    assert notebook.cells[0].source.startswith("SIZE = 224")
    with pytest.raises(ValueError, match="no such parameters: STEPS; the cell assigns SIZE, NAMES"):
        with_parameters(notebook, {"STEPS": 2})
    notebook.cells[0].source = "SIZE = 2 * other"
    with pytest.raises(ValueError, match="SIZE"):
        with_parameters(notebook, {"SIZE": 112})
    with pytest.raises(ValueError, match="one cell"):
        with_parameters(of_code("SIZE = 1"), {})


def test_a_picture_without_words_is_noticed() -> None:
    notebook = of_code("a")
    notebook.cells[0].outputs = [
        new_output("display_data", data={"image/png": "iVBO"}),
        new_output("display_data", data={"image/png": "iVBO"}, metadata={"image/png": {"alt": "two maps of an owl"}}),
        new_output("display_data", data={"text/html": '<img src="x.png">'}),
    ]
    notebook.cells.append(new_markdown_cell("![](x.png) and ![the owl, clean](y.png)"))
    assert len(undescribed(notebook)) == 3
