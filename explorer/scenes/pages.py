"""A view as one self-contained HTML page, for a lesson or a paper's supplement: `page` makes it, `save_page` writes it.

Enters: a `Comparison`, a `Recovery`, a `Sweep`, a `Benchmark`, or any view's payload as a `Section`. Leaves: the text
of a page that holds pictures, maps, features and the JavaScript that draws them; it needs no server, and its own
security policy forbids it every request. Names and titles are data in it, never markup. The app's "Save page" makes
the same page in the browser, from the same template.
"""

import base64
import gzip
import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeAlias

from explorer.errors import InputError
from explorer.evaluation.benchmarking import Benchmark
from explorer.evaluation.sweeping import Sweep
from explorer.inspection.comparison import Comparison
from explorer.inspection.recovery import Recovery
from explorer.scenes.common import Payload
from explorer.scenes.evaluation import benchmark_scene, sweep_scene
from explorer.scenes.inspection import attention_scene, moment_scene, patch_scene, recovery_scene
from explorer.system.files import atomic_path, is_stream, readable
from explorer.web import page_modules, page_template, stylesheet

MOST_BYTES = 2_000_000
"""What a page of this module's own choosing stays below; it can be sent by mail and kept in a repository."""
_LONG = 400  # characters: longer texts are kept once, apart from where they are used
_PLACE = re.compile(r"%%VX_([A-Z]+)%%")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One view of a page.

    Attributes:
        view: a key of `explorer.web.VIEWS`.
        scenes: its payload; for the patch view one for each layer that can be chosen, the first one shown first.
        state: settings to begin with, as the view's own `state()` gives them.
    """

    view: str
    scenes: tuple[Payload, ...]
    state: Mapping[str, Any] = field(default_factory=dict)


Shown: TypeAlias = Comparison | Recovery | Sweep | Benchmark | Section | Sequence[Section]


def save_page(
    shown: Shown,
    path: str | os.PathLike,
    *,
    title: str = "",
    note: str = "",
    settings: Mapping[str, Any] | None = None,
    layers: Iterable[int] | None = None,
) -> Path:
    """Write `page` to a file, which is complete, or not there; one of that name is replaced. Returns its path.

    Raises:
        ValueError: as `page`, or the name does not end in .html.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm") and not is_stream(target):
        raise InputError(f"a page's name ends in .html; got '{target.name}'")
    text = page(shown, title=title, note=note, settings=settings, layers=layers)
    with atomic_path(target) as part:
        part.write_bytes(text.encode())
    return target


def page(
    shown: Shown,
    *,
    title: str = "",
    note: str = "",
    settings: Mapping[str, Any] | None = None,
    layers: Iterable[int] | None = None,
) -> str:
    """A self-contained HTML page that shows a result the way the app does, at pointer speed and without network.

    Args:
        shown: a `Comparison` (its attention, and its patches), a `Recovery`, a `Sweep`, a `Benchmark`, or one
            or several `Section`s.
        title: of the page; "" for what it shows.
        note: a few words below the title; lines may be broken.
        settings: what the views begin with, under the names of their `state()`: layer=11, head="max", colours="magma",
            pin="teacher_clean,8,8", … Each view takes what it knows.
        layers: blocks whose patches a comparison's page holds, the first one shown first, negative from the last; None
            for the last and as many others as `MOST_BYTES` has room for. Attention is there of all of them.

    Raises:
        ValueError: an unknown view, nothing to show, a setting that JSON cannot hold, or blocks that have no room in
            `MOST_BYTES`.
    """
    chosen = dict(settings or {})
    for name, value in chosen.items():
        _check_setting(name, value)
    if isinstance(shown, Comparison):
        return _comparison_page(shown, title, note, chosen, layers)
    if layers is not None:
        raise InputError("layers are chosen for the page of a Comparison only")
    facts: list[list[str]] = []
    sections = []
    for section in _sections(shown):
        if section.view == "recoveryview" and section.scenes:
            section = _thinned(section, facts)
        sections.append(replace(section, state={**section.state, **chosen}))
    return _render(sections, title, note, facts)


def _sections(shown: Recovery | Sweep | Benchmark | Section | Sequence[Section]) -> list[Section]:
    if isinstance(shown, Recovery):
        moments = [moment_scene(moment) for moment in shown.moments]
        run = {"state": "finished", "steps": moments[-1]["step"], "records": [], "moments": moments}
        return [Section(view="recoveryview", scenes=({**recovery_scene(shown), **run},))]
    if isinstance(shown, Sweep):
        caption = f"{shown.pictures} pictures, neighbours among {shown.gallery}"
        untouched = len(set(shown.weights)) == 1
        return [Section(view="sweepview", scenes=(sweep_scene(shown, untouched=untouched, caption=caption),))]
    if isinstance(shown, Benchmark):
        height, width = shown.image_size
        caption = f"{shown.pictures} pictures at {height} x {width} px"
        untouched = len(set(shown.weights)) == 1
        return [Section(view="benchmarkview", scenes=(benchmark_scene(shown, untouched=untouched, caption=caption),))]
    sections = list(shown) if isinstance(shown, Sequence) else [shown]
    if not all(isinstance(section, Section) for section in sections):
        raise InputError(f"a page shows a Comparison, a Recovery, a Sweep, a Benchmark, or Sections; got {shown!r:.80}")
    return sections


# A comparison: attention of all blocks, patches of as many as there is room for


def _comparison_page(
    comparison: Comparison, title: str, note: str, settings: dict[str, Any], layers: Iterable[int] | None
) -> str:
    trace = comparison.reference.trace
    title = title or f"Clean and distorted, teacher and student: {comparison.distortion.spec}"
    if "layer" in settings:
        settings = {**settings, "layer": trace.layers[trace.position(int(settings["layer"]))]}
    first = settings.get("layer", trace.layers[-1])
    wanted = (
        _favourites(trace.layers, first) if layers is None else [trace.layers[trace.position(one)] for one in layers]
    )
    if not wanted:
        raise InputError("layers: expected blocks whose patch features the page holds, such as (-1,); got none")
    attention = Section(view="attentionview", scenes=(attention_scene(comparison),), state=settings)
    text, scenes = _render([attention], title, note, _no_room(wanted)), []
    for layer in dict.fromkeys(wanted):
        scenes.append(patch_scene(comparison, layer))
        patches = Section(view="patchview", scenes=tuple(scenes), state={**settings, "layer": wanted[0]})
        larger = _render([attention, patches], title, note)
        if len(larger.encode()) > MOST_BYTES:
            if layers is not None:
                raise InputError(_too_large(scenes, len(larger.encode())))
            break
        text = larger
    return text


def _favourites(layers: tuple[int, ...], first: int) -> list[int]:
    """The one that is asked for, then the last, the middle, and the quarters."""
    depth = len(layers)
    return [first, layers[-1], *(layers[depth * part // 8] for part in (4, 2, 6))]


def _no_room(wanted: list[int]) -> list[list[str]]:
    return [["Left out", f"patch features: those of block {wanted[0]} alone have no room in {MOST_BYTES / 1e6:.0f} MB"]]


def _too_large(scenes: list[Payload], size: int) -> str:
    blocks = ", ".join(str(scene["layer"]) for scene in scenes)
    return (
        f"with the patches of the blocks {blocks} the page has {size / 1e6:.1f} MB, more than the "
        f"{MOST_BYTES / 1e6:.0f} MB that pages stay below: ask for fewer layers, or take a smaller picture"
    )


# A recovery: as many of its moments as there is room for


def _thinned(section: Section, facts: list[list[str]]) -> Section:
    scene = section.scenes[0]
    moments = scene.get("moments") or []
    if not moments:
        return section
    alone = _render([replace(section, scenes=({**scene, "moments": []},))], "", "")
    largest = max(len(_json(moment)) for moment in moments)
    kept = _spread(moments, max(2, (MOST_BYTES - len(alone.encode())) // largest))
    facts.append(["Steps", f"{len(kept)} of the {len(moments)} recorded"])
    ended = scene["state"] if scene.get("state") in ("finished", "stopped", "failed") else None
    return replace(section, scenes=({**scene, "moments": kept, "state": ended},))


def _spread(moments: list[Payload], count: int) -> list[Payload]:
    """The first, the last, and evenly many between them."""
    if len(moments) <= count:
        return moments
    return [moments[round(place * (len(moments) - 1) / (count - 1))] for place in range(count)]


# The text of a page


def _render(sections: Sequence[Section], title: str, note: str, facts: Sequence[Sequence[str]] = ()) -> str:
    if not sections or not all(section.scenes for section in sections):
        raise InputError("there is nothing to show: a page needs a section, and each section a scene")
    modules = list(dict.fromkeys(source for section in sections for source in page_modules(section.view)))
    title, note = readable(title) or "vit-explorer", readable(note)
    shared: dict[str, int] = {}
    packed = [
        {"view": section.view, "scenes": _shared(_among_themselves(section), shared), "state": dict(section.state)}
        for section in sections
    ]
    content = {
        "title": title,
        "note": note,
        "facts": [list(fact) for fact in facts],
        "sections": packed,
        "texts": [_compressed(text) for text in shared],
    }
    parts = {
        "TITLE": html.escape(title),
        "STYLE": stylesheet(),
        "DATA": _json(content).replace("<", "\\u003c"),
        "MODULES": "\n".join(f'<script type="module">\n{source}</script>' for source in modules),
    }
    return _PLACE.sub(
        lambda place: parts[place[1]], page_template()
    )  # in one pass: what is filled in is not read again


def _json(content: Any) -> str:
    """As text; numbers of numpy are numbers."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"), default=methodcaller("item"))


def _check_setting(name: str, value: Any) -> None:
    try:
        _json(value)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"settings: a page cannot hold {name}={value!r:.80}") from error


def _among_themselves(section: Section) -> tuple[Payload, ...]:
    """The scenes; those of the patch view offer only the layers that the page holds."""
    if section.view != "patchview":
        return section.scenes
    held = sorted(scene["layer"] for scene in section.scenes)
    return tuple({**scene, "layers": held} for scene in section.scenes)


def _shared(node: Any, shared: dict[str, int]) -> Any:
    """The same, with each long text replaced by its place among all of them."""
    if isinstance(node, Mapping):
        return {name: _shared(each, shared) for name, each in node.items()}
    if isinstance(node, list | tuple):
        return [_shared(each, shared) for each in node]
    if isinstance(node, str) and len(node) > _LONG:
        return {"$": shared.setdefault(node, len(shared))}
    return node


@lru_cache(maxsize=64)  # a page is made several times until it has the right size
def _compressed(text: str) -> str | dict[str, str]:
    """Arrays are compressed where that pays; pictures are already."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return text
    if base64.b64encode(raw).decode() != text:
        return text
    smaller = base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()
    return {"gzip": smaller} if len(smaller) < len(text) else text
