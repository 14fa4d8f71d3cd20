"""`AttentionExplorer` and `PatchExplorer`: one picture, clean and distorted, as teacher and student see it.

Enters: a pair or a backbone, a picture, a distortion. Leaves: `comparison`, the very one that `explorer.compare` makes.
A layer, a head or a colour of the attention is a matter of the page alone; another layer of the patches asks the
kernel, which has it already.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from explorer.analysis.maps import Head
from explorer.data.image import Source
from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.errors import InputError
from explorer.evaluation.patch_probes import PatchProbe, shipped_patch_probe
from explorer.inspection.comparison import Comparison, assemble, look, names_damage
from explorer.inspection.comparison import View as Seen
from explorer.models.backbones import Backbone
from explorer.models.students import STUDENT, TEACHER, backbones_of
from explorer.plots.comparison import plot_comparison, plot_pca, plot_similarity
from explorer.plots.patches import plot_classes, plot_clusters, plot_foreground, plot_labels, plot_matches, plot_norms
from explorer.scenes.common import Payload
from explorer.scenes.inspection import attention_scene, patch_scene
from explorer.sessions.latest import Check
from explorer.widgets.base import Explorer, Model, View, as_pairs
from explorer.widgets.controls import DistortionControls, PictureControls

GAUSSIAN_NOISE = "gaussian_noise(sigma=0.3)"

_Drawn = Callable[..., Figure]


class _Comparing(Explorer):
    """What both have in common."""

    def __init__(
        self, view: str, model: Model, image: Source, distortion: str | Distortion, seed: int, settings: dict[str, Any]
    ) -> None:
        if image is None or not names_damage(distortion):
            raise InputError(
                "the widgets damage a clean picture themselves; one that is damaged already is shown by "
                "explorer.save_page(explorer.compare(…), 'page.html') and by explorer.plots"
            )
        self.model = as_pairs(model)
        self._networks = backbones_of(self.model)
        self._pictures = PictureControls(image, self._teacher.height_width)
        self._damage = DistortionControls(distortion, seed)
        self._clean: tuple[Tensor, dict[str, Seen]] | None = None
        self._comparison = self._compare(self._pictures.picture, self._damage.spec, self._damage.seed)
        super().__init__(View(view, payload=self._scene(), settings=settings), [self._pictures, self._damage])
        for controls in (self._pictures, self._damage):
            controls.changed = controls.refused = self._refresh

    @property
    def comparison(self) -> Comparison:
        """What is shown, once what was asked for last has been computed; see `explorer.compare`."""
        self._latest.settle()
        return self._comparison

    @property
    def distortion(self) -> str:
        """The spec of the distortion; may be set."""
        return self._damage.spec

    @distortion.setter
    def distortion(self, spec: str | Distortion) -> None:
        self._damage.spec = spec

    @property
    def seed(self) -> int:
        """The seed of the distortion; may be set."""
        return self._damage.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._damage.seed = seed

    @property
    def image(self) -> Float[Tensor, "3 height width"]:
        """The clean picture; may be set to whatever `explorer.load_image` takes."""
        return self._pictures.picture

    @image.setter
    def image(self, image: Source) -> None:
        self._pictures.show(image)

    def _refresh(self, problem: ValueError | None = None) -> None:
        """See the picture again as the controls say now, and tell what of it could not be read."""
        picture, spec, seed = self._pictures.picture, self._damage.spec, self._damage.seed

        def work(check: Check) -> None:
            if self._made != (id(picture), spec, seed):
                self._comparison = self._compare(picture, spec, seed, check)
            self._draw()
            if problem is not None:
                raise problem

        self._ask(work)

    def _draw(self) -> None:
        self.view.payload = self._scene()

    def _refuse(self, error: ValueError) -> None:
        def work(_: Check) -> None:
            raise error

        self._ask(work)

    def _compare(
        self, picture: Float[Tensor, "3 height width"], spec: str, seed: int, check: Check = lambda: None
    ) -> Comparison:
        """As `explorer.compare` does; what was seen of the clean picture is kept."""
        damage = parse_distortion(spec)
        distorted = damage(picture[None], seed=seed)[0]
        whom = dict(self._networks)
        if whom.get(STUDENT) is self._teacher:
            del whom[STUDENT]
        if self._clean is None or self._clean[0] is not picture:
            self._clean = picture, {f"{who}_clean": look(backbone, picture) for who, backbone in whom.items()}
        views = dict(self._clean[1])
        for who, backbone in whom.items():
            check()
            views[f"{who}_distorted"] = look(backbone, distorted)
        self._made = (id(picture), spec, seed)
        return assemble(picture, distorted, views, damage, seed)

    @property
    def _teacher(self) -> Backbone:
        return self._networks[TEACHER]

    def _scene(self) -> Payload:
        raise NotImplementedError

    def _words(self) -> str:
        found = self._comparison
        whose = {TEACHER: "the teacher", STUDENT: "the untouched copy" if found.untouched else "the student"}
        cosines = (f"{found.alignments[who].cls_cosine:.2f} for {whose.get(who, who)}" for who in found.networks)
        return (
            f"a picture under {found.distortion.told(found.seed)}; CLS cosine with the clean teacher: "
            f"{', '.join(cosines)}"
        )


class AttentionExplorer(_Comparing):
    """Where teacher and student look, in the clean and in the distorted picture: four panes under one scale.

    Args:
        model: a pair; up to four of one teacher, each under a name of one's own; or a backbone, whose student is then
            the untouched copy.
        image: a path, PIL image, array or tensor of any size: its centre is fitted to the backbone's.
        distortion: a spec, see `explorer.distortion`.
        seed: of the distortion.
        layer, head: what is shown at first, as in `explorer.attention_map`.

    Raises:
        ValueError: no picture, an unknown distortion, no such layer.
    """

    def __init__(
        self,
        model: Model,
        image: Source,
        distortion: str | Distortion = GAUSSIAN_NOISE,
        seed: int = 0,
        *,
        layer: int = -1,
        head: Head = "mean",
    ) -> None:
        place = backbones_of(as_pairs(model))[TEACHER].blocks(layer)[0]
        super().__init__("attentionview", model, image, distortion, seed, {"layer": place, "head": head})

    @property
    def layer(self) -> int:
        """The block that is shown; may be set."""
        return int(self.view.settings["layer"])

    @layer.setter
    def layer(self, layer: int) -> None:
        self.view.settings = {**self.view.settings, "layer": self._teacher.blocks(layer)[0]}

    @property
    def head(self) -> Head:
        """The head that is shown, "mean" or "max"; may be set."""
        head: Head = self.view.settings["head"]
        return head

    @head.setter
    def head(self, head: Head) -> None:
        if head not in ("mean", "max") and head not in range(self._teacher.heads):
            raise InputError(f"head is 'mean', 'max' or a number below {self._teacher.heads}; got {head!r}")
        self.view.settings = {**self.view.settings, "head": head}

    def _scene(self) -> Payload:
        return attention_scene(self._comparison)

    def _picture(self) -> Figure:
        if self.view.settings.get("map") == "norms":
            return plot_norms(self._comparison, self.layer)
        return plot_comparison(self._comparison, self.layer, self.head)


class PatchExplorer(_Comparing):
    """Point at a patch: every pane shows at pointer speed what resembles it, or what it attends to. Or see what all
    patches know: foreground, clusters, matches, and labels that you set.

    Args:
        model, image, distortion, seed: as in `AttentionExplorer`.
        layer: whose features are compared at first.
        probe: tells the class of each patch (`explorer.fit_patch_probe`); None for the one that comes with the project,
            where it does for this backbone.

    Raises:
        ValueError: no picture, an unknown distortion, no such layer.
    """

    def __init__(
        self,
        model: Model,
        image: Source,
        distortion: str | Distortion = GAUSSIAN_NOISE,
        seed: int = 0,
        layer: int = -1,
        probe: PatchProbe | None = None,
    ) -> None:
        teacher = backbones_of(as_pairs(model))[TEACHER]
        self._layer, self._probe = teacher.blocks(layer)[0], probe or shipped_patch_probe(teacher.sha256)
        super().__init__("patchview", model, image, distortion, seed, {"layer": self._layer})

    @property
    def layer(self) -> int:
        """The block whose features are compared; may be set."""
        return self._layer

    @layer.setter
    def layer(self, layer: int) -> None:
        self._layer = self._teacher.blocks(layer)[0]
        self._refresh()

    @property
    def pin(self) -> tuple[str, int, int] | None:
        """View, row and column of the pinned patch, if there is one."""
        pin = self.view.settings.get("pin")
        return None if pin is None else (str(pin["pane"]), int(pin["row"]), int(pin["col"]))

    def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "layer" and int(data["layer"]) != self._layer:
            self.layer = int(data["layer"])

    def _draw(self) -> None:
        with self.view.hold_sync():
            self.view.payload = self._scene()
            self.view.settings = {**self.view.settings, "layer": self._layer}

    def _scene(self) -> Payload:
        return patch_scene(self._comparison, self._layer, probe=self._probe)

    def _picture(self) -> Figure:
        settings, layer = self.view.settings, self._layer
        mode, labels = settings.get("mode"), settings.get("labels")
        drawn: dict[object, _Drawn] = {"pca": plot_pca, "foreground": plot_foreground, "matches": plot_matches}
        if mode in drawn:
            return drawn[mode](self._comparison, layer=layer)
        if mode == "clusters":
            return plot_clusters(self._comparison, int(settings.get("clusters", 6)), layer)
        if mode == "classes" and self._probe is not None:
            return plot_classes(self._comparison, self._probe)
        if mode == "labels" and labels:
            return plot_labels(self._comparison, [(each["row"], each["col"], each["label"]) for each in labels], layer)
        grid = self._teacher.grid
        _, row, col = self.pin or ("", grid.rows // 2, grid.cols // 2)
        return plot_similarity(self._comparison, row, col, self._layer)
