"""From a `Comparison` or attributions to what a browser needs to draw it: JSON with pictures and quantised arrays.

The views in `explorer.web` read it; they compute similarities and paint maps themselves, so that nothing is asked of a
server while the pointer moves. Sizes for ViT-S/14 at 224 px: attention of all layers and heads 148 kB for the four
views together (uint16), patch features 393 kB and attention among patches 262 kB for one layer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Float
from torch import Tensor

from explorer.analysis.maps import attention_map
from explorer.analysis.measures import AGREEMENT, MEASURES, RECOVERED
from explorer.analysis.norms import norm_outliers
from explorer.distortions import Distortion, Given
from explorer.evaluation.patch_probes import PatchProbe
from explorer.inspection.attribution import Attribution
from explorer.inspection.attribution_quality import Quality
from explorer.inspection.comparison import Comparison
from explorer.inspection.recovery import Moment, Recovery
from explorer.models.students import network_and_kind
from explorer.models.trace import Grid
from explorer.scenes.common import (
    Link,
    Payload,
    about,
    colormap_tables,
    features_of,
    floats,
    measure_of,
    packed,
    picture_of,
    quantised,
)

_TITLES = {
    "teacher_clean": "Teacher · clean",
    "teacher_distorted": "Teacher · distorted",
    "student_clean": "Student · clean",
    "student_distorted": "Student · distorted",
    "teacher_changed": "Teacher · changed",
    "student_changed": "Student · changed",
}


def attention_scene(comparison: Comparison, link: Link = None, message: str | None = None) -> Payload:
    """What the attention view shows: pictures, the picture's own attention row of every layer and head, norms of patch
    tokens and the limits above which they stand out from the reference's, numbers.

    Args:
        comparison: see `explorer.compare`.
        link: query parameters that reopen this view, or why none can, in words; None where there are no links.
        message: a notice above the view.
    """
    trace = comparison.reference.trace
    scene = common_scene(comparison, link, message)
    for pane in scene["panes"]:
        view = comparison.views[pane["id"]]
        assert view.trace.attention is not None
        pane["attention"] = quantised(view.trace.attention[0, :, :, 0, view.trace.prefix :], np.uint16)
        pane["rollout"] = None if view.rollout is None else quantised(view.rollout.flatten(), np.uint16)
        norms = view.trace.norms
        pane["norms"] = None if norms is None else quantised(norms[0, :, view.trace.prefix :].float(), np.uint16)
    scene["norm_limits"] = None if trace.norms is None else norm_outliers(trace).thresholds.tolist()
    scene["layers"] = list(trace.layers)
    scene["heads"] = scene["panes"][0]["attention"]["shape"][1]
    scene["query_kind"] = trace.query_kind
    scene["measures"] = [measure_of(MEASURES[name]) for name in AGREEMENT]
    scene["numbers"] = {name: agreement.as_json() for name, agreement in comparison.alignments.items()}
    return scene


def patch_scene(
    comparison: Comparison,
    layer: int = -1,
    link: Link = None,
    message: str | None = None,
    probe: PatchProbe | None = None,
) -> Payload:
    """What the patch view shows: patch features of one layer, what each patch attends to, joint PCA colours; and the
    patch that it begins with, which the reference looks at most.

    Features are scaled to 127 patch by patch and rounded; cosines of them are within 0.01 of the exact ones.

    Args:
        layer: whose features.
        link, message: as in `attention_scene`.
        probe: tells the class of each patch, where the layer is the one that it reads.
    """
    trace = comparison.reference.trace
    position = trace.position(layer)
    colours = comparison.colours(layer)
    scene = common_scene(comparison, link, message)
    for pane in scene["panes"]:
        view = comparison.views[pane["id"]]
        pane["patches"] = features_of(view.trace.patches[0, position])
        pane["rows"] = None if view.rows is None else quantised(view.rows[position].float(), np.uint8)
        pane["pca"] = packed((colours[pane["id"]].flatten(0, 1) * 255).round().numpy().astype(np.uint8))
    if probe is not None and probe.layer == trace.layers[position]:
        for pane, likely in zip(scene["panes"], comparison.classes(probe).values(), strict=True):
            chances, found = likely.flatten(0, 1).max(dim=-1)
            pane["classes"], pane["chances"] = packed(found.numpy().astype(np.uint8)), quantised(chances, np.uint8)
        scene["classes"] = {"names": [*probe.classes], "pictures": probe.pictures}
    scene["layer"] = trace.layers[position]
    scene["layers"] = list(trace.layers)
    scene["subject"] = list(divmod(int(attention_map(trace)[0].argmax()), trace.grid.cols))
    return scene


def attribution_scene(
    views: Mapping[str, Attribution],
    judged: Mapping[str, Quality] | None = None,
    *,
    distortion: Distortion,
    weights: Sequence[str],
    seed: int = 0,
    link: Link = None,
) -> Payload:
    """What the attribution view shows: pictures, the heatmap of each over its patches, scores, and how far to trust it.

    Args:
        views: made by `explorer.inspection.attribution.attribute_views`.
        judged: `quality` of each of them, under the same names, where that was asked for.
        distortion, seed: what damaged the picture.
        weights: the teacher's and the student's, a line each, by `sources_of`: equal lines are of equal weights.
        link: as in `attention_scene`.
    """
    distorted = views["teacher_distorted"]
    clean = views["teacher_clean"].image if "teacher_clean" in views else None
    scene = _pictures(views, clean, distorted.image, distorted.grid, distortion, weights, seed, link)
    for pane in scene["panes"]:
        view, quality = views[pane["id"]], (judged or {}).get(pane["id"])
        numbers = {name: getattr(view, name) for name in ("target", "baseline_target", "completeness", "absorbed")}
        numbers |= asdict(quality) if quality else {}
        pane["heatmap"] = floats(view.by_patch())
        pane["numbers"] = {name: value for name, value in numbers.items() if math.isfinite(value or 0)}
        pane["verdict"] = quality.verdict if quality else None
    toward = distorted.toward
    return {
        **scene,
        "method": distorted.method,
        "called": distorted.called,
        "signed": distorted.signed,
        "towards": distorted.towards,
        "label": str(toward[1]) if isinstance(toward, tuple) else None,
    }


def recovery_scene(recovery: Recovery) -> Payload:
    """What the recovery view shows that does not change while a student learns; see `moment_scene` for what does."""
    return {
        "version": 1,
        "grid": list(recovery.grid),
        "size": list(recovery.clean.shape[1:]),
        "colormaps": colormap_tables(),
        "pictures": {"clean": picture_of(recovery.clean), "distorted": picture_of(recovery.distorted)},
        "about": about([recovery.weights], recovery.distortion, recovery.seed, called=recovery.called[0]),
        "called": list(recovery.called),
        "view": recovery.view,
        "measures": [measure_of(MEASURES[name]) for name in RECOVERED],
        "reference": moment_scene(recovery.reference),
    }


def moment_scene(moment: Moment) -> Payload:
    """What a student saw after one step: the picture's own attention row of each head, patch features, agreement."""
    return {
        "step": moment.step,
        "attention": quantised(moment.attention, np.uint8),
        "patches": features_of(moment.patches),
        "agreement": moment.agreement.as_json(),
    }


def _moved(damage: Distortion) -> Payload:
    """A sentence on it, where a damaged picture was moved onto the clean one."""
    if not isinstance(damage, Given) or not any(damage.shift or ()):
        return {}
    return {"moved": f"The damaged picture is {damage.moved}."}


def common_scene(
    comparison: Comparison, link: Link = None, message: str | None = None, views: Iterable[str] | None = None
) -> Payload:
    """What all views of a comparison draw: a pane for each of its views, or of those that are named."""
    scene = _pictures(
        comparison.views if views is None else views,
        comparison.clean,
        comparison.distorted,
        comparison.reference.trace.grid,
        comparison.distortion,
        comparison.weights,
        comparison.seed,
        link,
        comparison.students if comparison.named else (),
    )
    return {**scene, "untouched_student": comparison.untouched, "message": message or comparison.note}


def _pictures(
    views: Iterable[str],
    clean: Float[Tensor, "3 height width"] | None,
    distorted: Float[Tensor, "3 height width"],
    grid: Grid,
    distortion: Distortion,
    weights: Sequence[str],
    seed: int,
    link: Link,
    names: Sequence[str] = (),
) -> Payload:
    pictures = {"clean": None if clean is None else picture_of(clean), "distorted": picture_of(distorted)}
    panes = []
    for name in views:
        who, view = network_and_kind(name)
        panes.append(
            {
                "id": name,
                "who": who,
                "view": view,
                "title": _TITLES.get(name) or f"{who} · {view}",
                "reference": name == "teacher_clean",
                "picture": pictures["clean" if view == "clean" else "distorted"],
            }
        )
    return {
        "version": 1,
        "grid": list(grid),
        "size": list(distorted.shape[1:]),
        "colormaps": colormap_tables(),
        "panes": panes,
        "untouched_student": weights[0] == weights[1],
        "damage": distortion.label,
        **_moved(distortion),
        "about": about(weights, distortion, seed, clean is not None, names=names),
        "message": None,
        "link": link,
    }
