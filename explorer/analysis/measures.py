"""What is measured, in the one table that plots, command line, app, widgets and browser read: `MEASURES`.

Deliberately ignored: how it is measured (`explorer.analysis.similarity`, `explorer.evaluation`).
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, and how it is told.

    Attributes:
        name: its key in results, tables and payloads.
        label: how people call it.
        help: one sentence on what it is, and what its ends mean.
        better: 1 where more is better, -1 where less is.
        low, high: its range; None: without bound.
        best: the value of what has not changed at all; None where that depends on the pictures.
        unit: "nats", "share" or nothing.
    """

    name: str
    label: str
    help: str
    better: Literal[1, -1] = 1
    low: float = 0.0
    high: float | None = 1.0
    best: float | None = 1.0
    unit: str = ""

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.better > 0 else "↓"

    def told(self, value: float | None) -> str:
        """A value in words for a table."""
        if value is None:
            return "-"
        return f"{value:.0%}" if self.unit == "share" else f"{value:.3f}"


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            name="cls_cosine",
            label="CLS cosine",
            help="Cosine between the global embedding of the distorted picture and the reference. 1: the picture as a "
            "whole means the same to the model.",
        ),
        Measure(
            name="patch_cosine",
            label="patch cosine",
            help="Cosine between the features of each patch and the reference's patch at the same place, averaged. 1: "
            "every place means the same.",
        ),
        Measure(
            name="attention_js",
            label="attention JS",
            help="Jensen-Shannon divergence between the attention and the reference's, in nats, averaged over heads. "
            "0: the same places are looked at; 0.69: entirely different ones.",
            better=-1,
            high=math.log(2),
            best=0.0,
            unit="nats",
        ),
        Measure(
            name="attention_kl",
            label="attention KL",
            help="Kullback-Leibler divergence from the reference's attention, in nats. 0: the same; it grows without "
            "bound where the reference looks and this model does not.",
            better=-1,
            high=None,
            best=0.0,
            unit="nats",
        ),
        Measure(
            name="attention_iou",
            label="attention IoU",
            help="Overlap of the patches that hold the top 60 % of the attention with those of the reference: common "
            "patches divided by all of them. 1: the same set.",
        ),
        Measure(
            name="cka",
            label="CKA",
            help="Centred kernel alignment of the patch features with the reference: do the patches resemble each "
            "other in the same way? 1: yes, 0: not at all.",
        ),
        Measure(
            name="displacement",
            label="displacement",
            help="Cosine distance in feature space between a picture's feature and the teacher's feature of the same "
            "picture when it is clean, averaged over the pictures. 0: nothing has moved. Distances must be read here, "
            "never off the plot.",
            better=-1,
            high=2.0,
            best=0.0,
        ),
        Measure(
            name="nearest_label",
            label="1-NN label",
            help="The share of pictures whose nearest other clean picture, as the teacher sees it, has the same label. "
            "100 %: the neighbourhood still means the same. Measured in feature space, not on the plot.",
            best=None,
            unit="share",
        ),
        Measure(
            name="retrieval",
            label="retrieval@1",
            help="The share of pictures whose nearest clean picture is their own original. 100 %: each is found again "
            "in spite of the damage. Measured in feature space, not on the plot.",
            unit="share",
        ),
    )
}
"""Name -> measure, in the order in which they are shown."""
AGREEMENT = ("cls_cosine", "patch_cosine", "attention_js", "attention_kl", "attention_iou", "cka")
"""Those of one picture with the clean teacher, as `explorer.alignment` gives them."""
NEIGHBOURS = ("retrieval", "nearest_label")
"""Those of a picture among others."""
RECOVERED = ("cls_cosine", "patch_cosine", "attention_js", "attention_iou")
"""Those that are told while a student learns."""
CURVES = ("cls_cosine", "patch_cosine", "attention_js", "nearest_label")
"""Those that are drawn by the strength of a distortion."""
