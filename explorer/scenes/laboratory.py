"""What the lab view draws: each network before and after a part of it was replaced, and what each part brings back.

Enters: a `Comparison`, traces of the distorted picture with the replacement, and `ActivationPatching`s. Leaves: the
payload of `labview` in `explorer.web`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from einops import reduce

from explorer.analysis.measures import MEASURES, RECOVERED
from explorer.analysis.similarity import alignment
from explorer.inspection.comparison import Comparison
from explorer.inspection.intervening import ActivationPatching
from explorer.models.trace import Trace
from explorer.scenes.common import Link, Payload, measure_of, quantised
from explorer.scenes.inspection import common_scene

CHANGED = "changed"


def lab_scene(
    comparison: Comparison,
    changed: Mapping[str, Trace],
    *,
    asked: Mapping[str, Any],
    told: str,
    offered: Mapping[str, Sequence[Sequence[str]]],
    patches: Sequence[tuple[int, int]] = (),
    shares: Mapping[str, ActivationPatching] | None = None,
    link: Link = None,
) -> Payload:
    """Pictures, attention of every block (mean of heads), numbers before and after.

    Args:
        comparison: with a clean picture; the views that nothing was done to.
        changed: by network, the trace of the distorted picture with the replacement.
        asked: what the view's controls are set to.
        told: the same in words, such as "head 8.3 as in the clean view"; "" where nothing is replaced.
        offered: choices of its lists, [value, text] each, by name.
        patches: that are replaced, as (row, col).
        shares: of each network, where they were sought.
        link: as in `attention_scene`.
    """
    reference = comparison.reference.trace
    views = [f"{who}_{kind}" for who in changed for kind in ("clean", "distorted", CHANGED)]
    traces = {name: view.trace for name, view in comparison.views.items()}
    traces |= {f"{who}_{CHANGED}": trace for who, trace in changed.items()}
    scene = common_scene(comparison, link, views=views)
    for pane in scene["panes"]:
        trace = traces[pane["id"]]
        rows = trace.own_rows()[0, :, :, trace.prefix :]
        pane["maps"] = quantised(reduce(rows, "layer head patch -> layer patch", "mean").float().cpu(), np.uint16)
    numbers = {name: alignment(reference, trace).as_json() for name, trace in traces.items() if name in views}
    return {
        **scene,
        "layers": list(reference.layers),
        "heads": int(reference.own_rows().shape[2]),
        "measures": [measure_of(MEASURES[name]) for name in RECOVERED],
        "numbers": numbers,
        "asked": dict(asked),
        "told": told,
        "offered": {name: [list(each) for each in choices] for name, choices in offered.items()},
        "patches": [list(place) for place in patches],
        "shares": None if shares is None else {who: _shares(found) for who, found in shares.items()},
    }


def _shares(found: ActivationPatching) -> Payload:
    """A row of each block: its heads, then all heads at once and the perceptron; None where nothing was lost."""
    whole = {
        kind: shares for kind, shares in (("attention", found.attention), ("mlp", found.mlp)) if shares is not None
    }
    columns = np.column_stack([found.heads.numpy(), *(each.numpy() for each in whole.values())])
    rows = [[float(f"{share:.4g}") if np.isfinite(share) else None for share in row] for row in columns]
    return {"rows": rows, "heads": found.heads.shape[1], "whole": list(whole), "cosine": found.cosine}
