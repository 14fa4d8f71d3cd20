"""The controls beside a view: a picture, and a distortion with its parameters and its seed.

Enters: what a widget begins with. Leaves: a picture and a spec, and a call when somebody has changed them. What cannot
be read is told by the widget; see `explorer.distortions` for what a spec is.
"""

import random
from collections.abc import Callable
from typing import Any

import ipywidgets
from jaxtyping import Float
from torch import Tensor

from explorer.data.image import Source, load_image
from explorer.data.sets import ImageSet
from explorer.data.sources import load_images
from explorer.distortions import DISTORTIONS, Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.parameters import Parameter
from explorer.errors import InputError

NONE, WRITTEN = "none", "written"
LARGEST_SEED = 2**31 - 1
_GIVEN, _UPLOADED = "the one that was given", "the uploaded one"
WIDE: dict[str, Any] = {"width": "auto"}
STYLE: dict[str, Any] = {"description_width": "64px"}


def heading(text: str) -> ipywidgets.Widget:
    """A line above a group of controls."""
    return ipywidgets.HTML(f"<b>{text}</b>", layout={"margin": "2px 0 0"})


class DistortionControls(ipywidgets.VBox):
    """Operator, parameters, severity, clip, text and seed.

    Attributes:
        spec, seed: as they are set now; may be set.
        changed: is called when somebody has changed them.
        refused: is called with the error when a text cannot be read; spec stays as it was.
    """

    def __init__(self, spec: str | Distortion, seed: int) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.refused: Callable[[ValueError], None] = lambda error: None  # noqa: ARG005
        self._spec = parse_distortion(spec).spec
        self._quiet = False
        self._operator = ipywidgets.Dropdown(options=_offered(NONE), value=NONE, layout=WIDE)
        self._sliders = ipywidgets.VBox(layout=WIDE)
        self._severity = ipywidgets.ToggleButtons(
            options=[1, 2, 3, 4, 5], value=None, style={"button_width": "36px"}, tooltips=["ImageNet-C severity"] * 5
        )
        self._severity_row = ipywidgets.HBox([ipywidgets.Label("severity"), self._severity])
        self._clip = ipywidgets.Checkbox(description="clip to [0, 1]", indent=False, layout={"width": "120px"})
        self._text = ipywidgets.Text(continuous_update=False, layout=WIDE, placeholder="gaussian_noise(sigma=0.3)")
        self._seed = ipywidgets.BoundedIntText(
            min=0, max=LARGEST_SEED, value=seed, description="seed", style=STYLE, layout={"width": "170px"}
        )
        self._dice = ipywidgets.Button(description="Re-roll", layout={"width": "76px"})
        self._show(parse_distortion(spec))
        self._listen()
        super().__init__(
            [
                heading("Distortion"),
                self._operator,
                self._sliders,
                self._severity_row,
                self._clip,
                self._text,
                ipywidgets.HBox([self._seed, self._dice]),
            ]
        )

    @property
    def spec(self) -> str:
        """The distortion as text."""
        return self._spec

    @spec.setter
    def spec(self, value: str | Distortion) -> None:
        self._spec = (damage := parse_distortion(value)).spec
        self._show(damage)
        self.changed()

    @property
    def seed(self) -> int:
        """The seed of the distortion."""
        return int(self._seed.value)

    @seed.setter
    def seed(self, value: int) -> None:
        if not 0 <= value <= LARGEST_SEED:
            raise InputError(f"seed is a whole number from 0 to {LARGEST_SEED}; got {value}")
        self._seed.value = value

    def _listen(self) -> None:
        self._operator.observe(self._choose_operator, "value")
        self._severity.observe(self._choose_severity, "value")
        self._clip.observe(lambda _: self._from_sliders(), "value")
        self._text.observe(self._read_text, "value")
        self._seed.observe(lambda _: self.changed(), "value")
        self._dice.on_click(lambda _: setattr(self, "seed", random.randrange(10_000)))

    def _choose_operator(self, change: dict[str, Any]) -> None:
        if not self._quiet:
            self.spec = parse_distortion(change["new"])

    def _choose_severity(self, change: dict[str, Any]) -> None:
        if not self._quiet and change["new"] is not None:
            self.spec = parse_distortion(f"{self._operator.value}:{change['new']}")
            self._set(self._severity, change["new"])

    def _from_sliders(self) -> None:
        if self._quiet or self._operator.value in (NONE, WRITTEN):
            return
        values = {slider.parameter: slider.value for slider in self._sliders.children}
        self._spec = parse_distortion(self._operator.value, clip=self._clip.value or None, **values).spec
        self._set(self._text, self._spec)
        self._set(self._severity, None)
        self.changed()

    def _read_text(self, change: dict[str, Any]) -> None:
        if self._quiet:
            return
        try:
            self.spec = change["new"]
        except ValueError as error:
            self.refused(error)

    def _show(self, damage: Distortion) -> None:
        """Set the controls; what sliders cannot show (ranges, combinations), the text tells."""
        steps = [step for branch in damage.branches for step in branch]
        single = len(damage.branches) == 1 and len(steps) == 1
        fixed = dict(steps[0].values) if single else {}
        if single and all(not isinstance(value, tuple) for value in fixed.values()) and "severity" not in fixed:
            self._choose(steps[0].name)
            self._set(self._clip, steps[0].clip)
            self._sliders.children = [self._slider(each, fixed) for each in DISTORTIONS[steps[0].name].parameters]
        else:
            self._choose(WRITTEN if steps else NONE)
            self._sliders.children = []
        entry = DISTORTIONS.get(self._operator.value) if self._sliders.children else None
        self._severity_row.layout.display = None if entry is not None and entry.severities is not None else "none"
        self._clip.layout.display = None if entry is not None else "none"
        self._set(self._severity, None)
        self._set(self._text, damage.spec)

    def _slider(self, parameter: Parameter, values: dict[str, Any]) -> ipywidgets.Widget:
        """A slider over what a parameter allows."""
        step = 2 if parameter.odd else parameter.step
        kind = ipywidgets.IntSlider if parameter.integer else ipywidgets.FloatSlider
        slider = kind(
            value=values.get(parameter.name, parameter.default),
            min=parameter.low,
            max=parameter.high,
            step=step,
            description=parameter.name,
            tooltip=f"{parameter.description} ({parameter.unit})",
            style=STYLE,
            layout=WIDE,
        )
        slider.parameter = parameter.name
        slider.observe(lambda _: self._slide(slider, parameter), "value")
        return slider

    def _slide(self, slider: ipywidgets.Widget, parameter: Parameter) -> None:
        """What is typed beside a slider becomes what the parameter allows."""
        if not self._quiet:
            self._set(slider, parameter.nearest(float(slider.value)))
            self._from_sliders()

    def _choose(self, name: str) -> None:
        self._set(self._operator, name, options=_offered(name))

    def _set(self, control: ipywidgets.Widget, value: object, **others: object) -> None:
        """Without being taken for somebody's wish."""
        before, self._quiet = self._quiet, True
        try:
            for name, each in {**others, "value": value}.items():
                setattr(control, name, each)
        finally:
            self._quiet = before


def _offered(name: str) -> list[tuple[str, str]]:
    """What can be chosen; what no other entry means has its own while it is there."""
    written = [("As written below", WRITTEN)] if name == WRITTEN else []
    return [*((entry.label, name) for name, entry in DISTORTIONS.items()), ("None", NONE), *written]


class PictureControls(ipywidgets.VBox):
    """The picture that was given, one of the photos that come with the project, or an uploaded one.

    Args:
        image: what the widget begins with; any size.
        size: (height, width) in pixels, to which pictures are fitted.

    Attributes:
        picture: as it is fitted; may be set to any source of `explorer.load_image`.
        name: what it is called, for people.
        changed, refused: as in `DistortionControls`.
    """

    def __init__(self, image: Source, size: tuple[int, int]) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.refused: Callable[[ValueError], None] = lambda error: None  # noqa: ARG005
        self._size = size
        self._quiet = False
        self.picture: Float[Tensor, "3 height width"] = load_image(image, size)
        self._own = {_GIVEN: self.picture}
        self._photos = _photos()
        self._choice = ipywidgets.Dropdown(options=self._options(), value=_GIVEN, layout=WIDE)
        self._file = ipywidgets.FileUpload(accept="image/*", multiple=False, layout=WIDE, description="Upload")
        self._choice.observe(self._choose, "value")
        self._file.observe(self._take_in, "value")
        super().__init__([heading("Picture"), self._choice, self._file])

    @property
    def name(self) -> str:
        """Which one it is."""
        return str(self._choice.value)

    def show(self, image: Source) -> None:
        """Take another picture.

        Raises:
            ImageError: it is no picture.
        """
        self._own[_GIVEN] = self.picture = load_image(image, self._size)
        self._put(_GIVEN)

    def _options(self) -> list[tuple[str, str]]:
        photos = [] if self._photos is None else self._photos.names
        return [*((name, name) for name in self._own), *((name.removesuffix(".webp"), name) for name in photos)]

    def _choose(self, change: dict[str, Any]) -> None:
        if self._quiet:
            return
        if change["new"] in self._own:
            self.picture = self._own[change["new"]]
        else:
            assert self._photos is not None, "its names were offered"
            self.picture = self._photos.resized(self._size)[self._photos.names.index(change["new"])][0]
        self.changed()

    def _take_in(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        try:
            self._own[_UPLOADED] = self.picture = load_image(bytes(change["new"][0]["content"]), self._size)
        except ValueError as error:
            self.refused(error)
            return
        self._put(_UPLOADED)

    def _put(self, name: str) -> None:
        self._quiet = True
        try:
            self._choice.options = self._options()
            self._choice.value = name
        finally:
            self._quiet = False
        self.changed()


def _photos() -> ImageSet | None:
    try:
        return load_images("photos")
    except FileNotFoundError:
        return None
