"""`EmbeddingExplorer`: where many pictures lie to the teacher and to the student, clean and distorted.

Enters: a pair, pictures, a distortion. Leaves: `embedding`, the very one that
`explorer.evaluation.embedding.embed_pair` makes, and which pictures somebody chose. The map is a sketch; every distance
is measured in feature space.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import ipywidgets
from matplotlib.figure import Figure
from tqdm import tqdm

from explorer.data.sets import ImageSet
from explorer.distortions import Distortion
from explorer.errors import InputError
from explorer.evaluation.embedding import PairEmbedding, embed_pair, is_embedded, learned_by
from explorer.evaluation.features import Kind, Told
from explorer.evaluation.projection import Projection
from explorer.models.students import STUDENT, TEACHER, backbones_of, networks_of
from explorer.plots.evaluation import plot_projection
from explorer.scenes.common import Payload
from explorer.scenes.evaluation import embedding_scene, sprite
from explorer.sessions.latest import Check
from explorer.widgets.base import Explorer, Model, View, as_pairs
from explorer.widgets.controls import STYLE, WIDE, DistortionControls, heading

Method = Literal["pca", "umap"]
_KINDS = (("global embedding", "embedding"), ("class token of a layer", "cls"), ("mean patch of a layer", "mean patch"))
_PATIENCE_SECONDS = 2.0


class EmbeddingExplorer(Explorer):
    """Many pictures on one map, fitted on the clean ones as the teacher sees them.

    The first map is computed before the widget is there, from the cache of features where it can be; after a change
    of the distortion, Compute starts the work.

    Args:
        pair: a pair; up to four of one teacher, each under a name of one's own; or a backbone, whose student is then
            the untouched copy.
        images: at least two pictures; labels are their classes.
        distortion: a spec; None for the one that the student was trained on, or all students.
        seed: of the distortion, and of UMAP.
        method: "pca" or "umap".
        components: axes of the map, 2 or 3.
        kind, layer: which features, as in `explorer.evaluation.embedding.embed_pair`.
        labels: names, one for each picture, instead of those of the set.

    Raises:
        ValueError: fewer than two pictures, another number of labels, an unknown distortion or method.
    """

    def __init__(
        self,
        pair: Model,
        images: ImageSet,
        distortion: str | Distortion | None = None,
        seed: int = 0,
        method: Method = "pca",
        *,
        components: int = 2,
        kind: Kind = "embedding",
        layer: int = -1,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.model = as_pairs(pair)
        self.images = images if labels is None else _labelled(images, labels)
        self.chosen: str | None = None
        self.selected: tuple[str, ...] = ()
        spec = learned_by(self.model) if distortion is None else distortion
        teacher = backbones_of(self.model)[TEACHER]
        self._damage = DistortionControls(spec, seed)
        self._form = _Form(kind, teacher.blocks(layer)[0], teacher.depth, method, components)
        self._embedding = self._embed_now()
        self._projection = self._embedding.project(method, components, seed)
        view = View("embeddingview", payload=self._scene(), scene={"sprite": sprite(self.images)})
        super().__init__(view, [self._damage, self._form])
        self._connect()

    @property
    def embedding(self) -> PairEmbedding:
        """What is shown, once what was asked for last has been computed."""
        self._latest.settle()
        return self._embedding

    @property
    def projection(self) -> Projection:
        """The map that is shown."""
        self._latest.settle()
        return self._projection

    @property
    def distortion(self) -> str:
        """The spec of the distortion; may be set, then call `compute`."""
        return self._damage.spec

    @distortion.setter
    def distortion(self, spec: str | Distortion) -> None:
        self._damage.spec = spec

    def compute(self) -> None:
        """Look at all pictures as the controls say, in the background."""
        self._refresh(asked=True)

    def stop(self) -> None:
        """Give up what is being computed; what was shown stays."""
        self._latest.drop()

    def _connect(self) -> None:
        for control in self._form.changing:
            control.observe(lambda _: self._refresh(), "value")
        self._damage.changed = self._refresh
        self._damage.refused = lambda error: self._refresh(problem=error)
        self._form.compute.on_click(lambda _: self.compute())
        self._form.stop.on_click(lambda _: self.stop())

    def _wanted(self) -> dict[str, Any]:
        """What `embed_pair` is asked for. All blocks are kept together as soon as one in the middle is wanted."""
        kind, layer = self._form.kind.value, self._form.layer.value
        wanted = {"distortion": self._damage.spec, "seed": self._damage.seed, "kind": kind}
        if kind == "embedding":
            return wanted
        return {**wanted, "layer": layer, "keep": -1 if layer == self._form.layer.max else "all"}

    def _embed_now(self) -> PairEmbedding:
        """The first features, with a bar in the cell where they take their time."""
        wanted = self._wanted()
        # not on stderr, of which a notebook leaves a red line
        with tqdm(desc="features", leave=False, delay=_PATIENCE_SECONDS, file=sys.stdout) as bar:

            def told(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return embed_pair(self.model, self.images, **wanted, progress=told)

    def _refresh(self, asked: bool = False, problem: ValueError | None = None) -> None:
        """Draw what is ready; with `asked`, however long it takes; else say what Compute would do."""
        wanted, method = self._wanted(), cast(Method, self._form.method.value)
        components = int(self._form.components.value)

        def work(check: Check) -> None:
            if problem is not None:
                raise problem
            if not asked and not is_embedded(self.model, self.images, **wanted):
                self._form.tell("not looked at like this yet: press Compute")
                return
            try:
                embedding = embed_pair(self.model, self.images, **wanted, progress=self._telling_progress(check))
                if method == "umap":
                    self._show(embedding, embedding.project("pca", components), "UMAP is on its way; this is PCA")
                check()
                projection = embedding.project(method, components, wanted["seed"])
                check()
                self._show(embedding, projection)
            finally:
                self._form.tell("")

        self._ask(work)

    def _telling_progress(self, check: Check) -> Told:
        def told(done: int, total: int) -> None:
            check()
            self._form.tell(f"{done} of {total} views of pictures", done / max(1, total))

        return told

    def _show(self, embedding: PairEmbedding, projection: Projection, pending: str | None = None) -> None:
        self._embedding, self._projection = embedding, projection
        self.view.payload = self._scene(pending)

    def _scene(self, pending: str | None = None) -> Payload:
        embedding = self._embedding
        kind = embedding.kind if embedding.kind == "embedding" else f"{embedding.kind} of layer {embedding.layer}"
        caption = f"{len(embedding.images)} pictures · {embedding.distortion.spec}, seed {embedding.seed} · {kind}"
        return embedding_scene(embedding, self._projection, chosen=self.chosen, pending=pending, caption=caption)

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "open":
            self.chosen = str(data["name"])
            self.view.payload = {**self.view.payload, "chosen": self._drawn.index(self.chosen)}
        elif name == "select":
            self.selected = tuple(self._drawn[index] for index in data["indices"])

    @property
    def _drawn(self) -> list[str]:
        """The names of the pictures on the map, of which there may be fewer than were looked at."""
        names: list[str] = self.view.payload["pictures"]["names"]
        return names

    def _picture(self) -> Figure:
        return plot_projection(self._projection, arrows=len(self.images) <= 300)

    def _words(self) -> str:
        moved = self._embedding.measures.set_index("view")["displacement"]
        whose = {TEACHER: "the teacher", STUDENT: "the student"}
        far = (f"{moved[f'{who}_distorted']:.2f} for {whose.get(who, who)}" for who in networks_of(moved.index))
        return (
            f"{len(self.images)} pictures under {self._embedding.distortion.spec}; mean distance from the "
            f"clean teacher's place: {', '.join(far)}"
        )


class _Form(ipywidgets.VBox):
    """Which features and which map, Compute and Stop, and how far it is."""

    def __init__(self, kind: str, layer: int, depth: int, method: str, components: int) -> None:
        wide: dict[str, Any] = {"style": STYLE, "layout": WIDE}
        self.kind = ipywidgets.Dropdown(options=_KINDS, value=kind, description="features", **wide)
        self.layer = ipywidgets.IntSlider(
            layer, min=0, max=depth - 1, description="layer", continuous_update=False, **wide
        )
        self.method = ipywidgets.Dropdown(options=[("PCA", "pca"), ("UMAP", "umap")], value=method, **wide)
        self.method.description = "map"
        self.components = ipywidgets.Dropdown(options=[("2-D", 2), ("3-D", 3)], value=components, **wide)
        self.components.description = "axes"
        self.compute = ipywidgets.Button(description="Compute", button_style="primary", layout={"width": "96px"})
        self.stop = ipywidgets.Button(description="Stop", layout={"width": "76px"})
        self.bar = ipywidgets.FloatProgress(0.0, min=0.0, max=1.0, layout={**WIDE, "display": "none"})
        self.note = ipywidgets.Label("", layout={"display": "none"})
        self._show_layer({"new": kind})
        self.kind.observe(self._show_layer, "value")
        rows = [self.kind, self.layer, self.method, self.components, ipywidgets.HBox([self.compute, self.stop])]
        super().__init__([heading("Map"), *rows, self.bar, self.note])

    @property
    def changing(self) -> tuple[ipywidgets.Widget, ...]:
        """What makes another map."""
        return self.kind, self.layer, self.method, self.components

    def tell(self, text: str, share: float | None = None) -> None:
        """How far it is, or what is to be done."""
        self.bar.value = share or 0.0
        self.bar.layout.display = "none" if share is None else None
        self.note.value = text
        self.note.layout.display = None if text else "none"

    def _show_layer(self, change: dict[str, Any]) -> None:
        self.layer.layout.display = "none" if change["new"] == "embedding" else None


def _labelled(images: ImageSet, labels: Sequence[str]) -> ImageSet:
    names = [str(label) for label in labels]
    if len(names) != len(images):
        raise InputError(f"labels are one for each picture: expected {len(images)}, got {len(names)}")
    classes = tuple(dict.fromkeys(names))
    return replace(images, labels=tuple(classes.index(name) for name in names), classes=classes)
