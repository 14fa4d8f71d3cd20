"""A rival of the distilled student: restore the picture, then classify it. Ravula et al. 2021 compare with it.

Enters: distorted pictures, and for `restore` what was done to them; `restore_blind` is told nothing. Leaves: pictures
for a backbone that was never told of distortions, or such a backbone in a student's place (`restored_pair`). Needs
scikit-image, which is imported when it is first used. Deliberately ignored: restoration by trained networks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.distortions import Distortion
from explorer.distortions import distortion as parse_distortion
from explorer.distortions.pipeline import Step
from explorer.errors import InputError, MissingExtraError
from explorer.models.backbones import Backbone, expect_backbone
from explorer.models.pairs import Pair

RESTORED = "restored"
"""What the student of `restored_pair` is called beside others."""
_BALANCE = 1e-4  # see `deblur`

# What `restore_blind` takes for damage. Of 7,030 undamaged pictures of Caltech-101 and CIFAR-10 it takes 12 dark ones,
# whose own black pixels lie scattered, for masked, and 7 that were enlarged from 32 px for blurred.
_MISSING_SHARE = 0.02  # of the pixels: fewer black ones may be the picture's own
_SCATTERED = 0.5  # see `scatter`; 0.05 to 0.3 for black areas, 0.6 and more for masks of half of the pixels
_NOISE = 0.02  # see `noise_level`; at most 0.01 for clean pictures
_WIDTH_PX = 3.0  # see `edge_width`; at most 1.3 for photos; 3.7 and more after a Gaussian of 5 px
_BLIND_BALANCE = 3e-3  # a width that is a little wrong asks for more regularisation: of 1e-4 … 1e-1 the best
_FLAT = 1e-6  # pixel values a pixel: no edge
_SMALLEST_PX = 16  # a side, below which there is too little to estimate from


def restore(
    images: Float[Tensor, "batch 3 height width"], distortion: str | Distortion
) -> Float[Tensor, "batch 3 height width"]:
    """Undo a distortion as well as classical restoration can, operator by operator, the last one first.

    An oracle: it is told the operator and its parameters, which nobody who receives a damaged picture knows. So the
    rival "restore, then classify" is made stronger by it, not weaker. Mean PSNR in dB of ten of the project's photos at
    112 px, before and after: gaussian_noise(sigma=0.3) 10.5, 23.2; gaussian_blur(kernel=21, sigma=5) 20.8, 24.5;
    pixel_mask(fraction=0.75) 5.9, 26.1; patch_mask(fraction=0.75) 5.9, 18.5; square_mask(size=56) 10.6, 24.1.

    Args:
        images: distorted pictures, RGB; values outside of [0, 1] may come in.
        distortion: what was done to them, the same for all: one operator or a chain "a + b" of operators in
            `RESTORERS`, with fixed parameters.

    Returns:
        New pictures in [0, 1], of the same dtype and on the same device.

    Raises:
        ValueError: alternatives, ranges, operators that have no restorer, or a mask that later operators hide.
        ImportError: scikit-image is not installed.
    """
    steps = _fixed_steps(parse_distortion(distortion))
    return _each(images, lambda picture: _undone(picture, steps))


def restore_blind(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Restore pictures as somebody can who was told nothing: kind and strength are estimated from each picture.

    In this order, each by what `restore` uses:

    - *missing pixels*: 2 % of the pixels or more are black in all channels, and lie scattered (`scatter`); they are
      inpainted. Black areas stay, for photos have them, too: patch and square masks are not undone.
    - *noise*: its sigma by `noise_level` is 0.02 or more; non-local means with that sigma.
    - *blur*, where neither was found: edges are wider than 3 px by `edge_width`; Wiener's filter with a Gaussian of
      that width, cut at two sigma.

    A picture where nothing is found is left as it is. Mean PSNR in dB of ten of the project's photos (the first of each
    class) at 112 px, before, after, and by `restore`, which is told:

    - gaussian_noise(sigma=0.1) 20.0, 28.4, 28.5; 0.3: 10.5, 23.4, 23.4; 0.5: 6.0, 20.8, 20.8
    - pixel_mask(fraction=0.5) 7.5, 30.1, 30.1; 0.75: 5.8, 26.0, 26.0; 0.9: 5.0, 22.6, 22.6
    - gaussian_blur(kernel=21, sigma=5) 19.7, 21.9, 23.8; (37, 9): 17.6, 19.7, 22.6

    Args:
        images: pictures, RGB, 16 px a side or more; values outside of [0, 1] may come in.

    Returns:
        New pictures in [0, 1], of the same dtype and on the same device.

    Raises:
        ValueError: no batch of pictures, or too small ones.
        ImportError: scikit-image is not installed.
    """
    if images.ndim == 4 and min(images.shape[2:]) < _SMALLEST_PX:
        raise InputError(
            f"what damaged a picture can be estimated in pictures of {_SMALLEST_PX} px a side or more; got "
            f"{images.shape[2]} x {images.shape[3]} px"
        )
    return _each(images, _mended)


def restored_pair(teacher: Backbone, distortion: str | Distortion | None = None) -> Pair:
    """The teacher itself in a student's place, which restores each picture before it looks: what there is to be had
    without learning, wherever a student can stand.

        pair = ex.load_pair("s14-noise")
        rival = ex.restored_pair(pair.teacher)
        ex.compare(pair.teacher, photo, "gaussian_noise(sigma=0.3)", {"noise": pair.student, "restored": rival.student})
        ex.sweep({"noise": pair, "restored": rival}, photos)

    Args:
        teacher: as the student's pair has it.
        distortion: None for `restore_blind`, which every picture goes through, clean ones, too; or what was done to
            all pictures, for `restore`, which is told: then clean pictures are harmed.

    Raises:
        ValueError: `restore` cannot undo this distortion; once it looks, that a gradient towards pixels is asked for.
        ImportError: scikit-image is not installed.
    """
    expect_backbone(teacher, "teacher")
    _restoration()
    told = None if distortion is None else parse_distortion(distortion)
    if told is not None:
        _fixed_steps(told)
    given = {field.name: getattr(teacher, field.name) for field in fields(Backbone)}
    source = f"{teacher.source}, on restored pictures"
    student = _Restoring(**{**given, "source": source, "sha256": f"{teacher.sha256} {RESTORED}"}, told=told)
    return Pair(teacher=teacher, student=student, distortion=parse_distortion("none"), card={})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Restoring(Backbone):
    told: Distortion | None

    @property
    def prepared(self) -> str:
        return f"restored, {'blind' if self.told is None else f'told {self.told.spec}'}"

    def normalised(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        if images.requires_grad:
            raise InputError("a restored picture has no gradient: take attention alone, or a student that learned")
        return super().normalised(restore_blind(images) if self.told is None else restore(images, self.told))


def _each(
    images: Float[Tensor, "batch 3 height width"], work: Callable[[np.ndarray], np.ndarray]
) -> Float[Tensor, "batch 3 height width"]:
    """Every picture through `work`, in double precision and "height width 3"."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(
            f"expected a float tensor 'batch 3 height width' with values in [0, 1]; got {images.dtype} "
            f"{tuple(images.shape)}"
        )
    pictures = rearrange(images.detach().to("cpu", torch.float64), "batch c h w -> batch h w c").numpy()
    restored = np.empty_like(pictures)
    for number, picture in enumerate(pictures):
        restored[number] = work(picture)
    return rearrange(torch.from_numpy(restored), "batch h w c -> batch c h w").clamp(0, 1).to(images).contiguous()


def _undone(picture: Float[np.ndarray, "height width 3"], steps: Sequence[Step]) -> Float[np.ndarray, "height width 3"]:
    noise = 0.0
    for step in reversed(steps):
        values = dict(step.values)
        picture = RESTORERS[step.name](picture, values, noise)
        noise = math.hypot(noise, float(values["sigma"])) if step.name == "gaussian_noise" else noise  # type: ignore[arg-type]
    return picture


def _mended(picture: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    masked = float((picture == 0).all(axis=-1).mean()) >= _MISSING_SHARE and scatter(picture) > _SCATTERED
    if masked:
        picture = inpaint_pixels(picture, {}, 0.0)
    sigma = noise_level(picture)
    if sigma >= _NOISE:
        return denoise(picture, {"sigma": sigma}, 0.0)
    width = 0.0 if masked else edge_width(picture)
    return _sharpened(picture, width) if width > _WIDTH_PX else picture


def _sharpened(picture: Float[np.ndarray, "height width 3"], sigma: float) -> Float[np.ndarray, "height width 3"]:
    reach = min(round(2 * sigma), min(picture.shape[:2]) - 2)
    return _wiener(picture, _gaussian(2 * reach + 1, sigma), _BLIND_BALANCE)


# What one picture tells of its damage.


def noise_level(picture: Float[np.ndarray, "height width 3"]) -> float:
    """Standard deviation of white noise, in pixel values, from the finest diagonal details.

    The median of their absolute values, divided by what it is for a sigma of 1 (Donoho and Johnstone 1994, as
    scikit-image's `estimate_sigma`, with the same wavelet). Taken of the channels, and of their differences, where a
    photo's own details nearly cancel and noise of each channel does not: the lower one counts.
    """
    red, green, blue = np.moveaxis(picture, -1, 0)
    channels = np.mean([_fine(red), _fine(green), _fine(blue)])
    differences = np.mean([_fine(red - green), _fine(green - blue)]) / math.sqrt(2)
    return float(min(channels, differences)) / NormalDist().inv_cdf(0.75)


def _fine(channel: Float[np.ndarray, "height width"]) -> float:
    """Median absolute diagonal detail by the second Daubechies wavelet, whose taps have length 1."""
    from scipy.ndimage import correlate1d  # scikit-image brings scipy

    taps = np.array([-0.4829629131445341, 0.8365163037378079, -0.2241438680420134, -0.1294095225512604])
    return float(np.median(np.abs(correlate1d(correlate1d(channel, taps, axis=0), taps, axis=1))))


def edge_width(picture: Float[np.ndarray, "height width 3"]) -> float:
    """Standard deviation in pixels of the Gaussian that blurred a picture's edges; 0 where it shows none.

    Blurred once more, by a Gaussian of 1 px, the steepest twentieth of a picture loses the less steepness the wider
    its edges are: for steps by a ratio of sqrt(1 + 1 / sigma²) (Zhuo and Sim 2011, "Defocus map estimation from a
    single image"; one width for the whole picture here). Noise makes it too low.
    """
    from scipy.ndimage import gaussian_filter

    grey = picture.mean(axis=-1)
    once, twice = _steepness(grey), _steepness(gaussian_filter(grey, 1.0, mode="mirror"))
    steepest = (once >= np.quantile(once, 0.95)) & (once > _FLAT)
    if not steepest.any():
        return 0.0
    ratio = float(np.median(once[steepest] / twice[steepest].clip(min=_FLAT)))
    return 1 / math.sqrt(ratio**2 - 1) if ratio > 1 else 0.0


def _steepness(grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    return np.hypot(*np.gradient(grey))


def scatter(picture: Float[np.ndarray, "height width 3"]) -> float:
    """How a picture's black pixels lie: about 1 where each is black by chance, near 0 where they make up areas.

    How often the right neighbour of a black pixel is not black, as a share of how often any pixel is not.
    """
    black = (picture == 0).all(axis=-1)
    left, right = black[:, :-1], black[:, 1:]
    if not left.any() or black.all():
        return 0.0
    return float((~right[left]).mean() / (~black).mean())


# Restorers of one picture: it, the operator's parameters, and the sigma of noise that was added later (undone by now).

Values = Mapping[str, Any]


def denoise(
    picture: Float[np.ndarray, "height width 3"], values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Non-local means with the known sigma.

    PSNR at sigma 0.1, 0.3 and 0.5: 28.3, 23.4 and 20.9 dB on six photos at 112 px. Total variation with the best of
    three weights came to 27.4, 22.9 and 21.0, wavelets to 25.8, 21.3 and 19.4, OpenCV's means (8 bits) to less.
    """
    sigma = float(values["sigma"])
    if sigma == 0:
        return picture
    return _restoration().denoise_nl_means(
        picture, patch_size=5, patch_distance=6, h=0.5 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )


def deblur(
    picture: Float[np.ndarray, "height width 3"], values: Values, noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Wiener's filter with the known kernel and Laplacian regularisation.

    The blur reflects the picture at its borders. So the blurred picture, reflected likewise, is one period of a
    circular convolution, and nothing rings at the borders. The regularisation is the best power of ten for pictures of
    8 bits; a weaker one would invert the blur almost exactly (44 dB instead of 24 at sigma 5), from digits of float
    pictures that no picture file has.

    Raises:
        ValueError: the kernel is larger than the period.
    """
    height, width = picture.shape[:2]
    kernel = _gaussian(int(values["kernel"]), float(values["sigma"]))
    if len(kernel) > 2 * min(height, width) - 2:
        raise InputError(
            f"a kernel of {len(kernel)} px can be undone in pictures of {len(kernel) // 2 + 2} px a side or more; "
            f"got {height} x {width} px"
        )
    return _wiener(picture, kernel, _BALANCE + 10 * noise)  # what denoising left over would be amplified


def _wiener(
    picture: Float[np.ndarray, "height width 3"], kernel: Float[np.ndarray, "size size"], balance: float
) -> Float[np.ndarray, "height width 3"]:
    height, width = picture.shape[:2]
    period = np.pad(picture, ((0, height - 2), (0, width - 2), (0, 0)), mode="reflect")
    channels = [_restoration().wiener(period[..., c], kernel, balance, clip=False) for c in range(3)]
    return np.stack(channels, axis=-1)[:height, :width]


def _gaussian(size: int, sigma: float) -> Float[np.ndarray, "size size"]:
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return np.outer(taps, taps) / taps.sum() ** 2


def inpaint_pixels(
    picture: Float[np.ndarray, "height width 3"], _values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Biharmonic inpainting: the smoothest surface, the best for scattered pixels.

    What is black in all channels counts as missing: that is what a mask leaves. A picture all black stays black.
    """
    missing = _missing(picture)
    if missing is None:
        return picture
    return _restoration().inpaint_biharmonic(picture, missing, channel_axis=-1)


def inpaint_areas(
    picture: Float[np.ndarray, "height width 3"], _values: Values, _noise: float
) -> Float[np.ndarray, "height width 3"]:
    """Harmonic inpainting: every missing pixel is the mean of its neighbours.

    In larger areas that is better than biharmonic inpainting, which overshoots there (18.2 instead of 16.5 dB on six
    photos with three quarters of the patches missing), and than OpenCV's (17.4). Missing is what is black.
    """
    missing = _missing(picture)
    if missing is None:
        return picture
    from scipy.sparse.linalg import LaplacianNd, spsolve  # scikit-image brings scipy

    laplacian = LaplacianNd(missing.shape, boundary_conditions="neumann", dtype=np.float64).tosparse().tocsc()
    unknown, known = missing.ravel(), ~missing.ravel()
    flat = rearrange(picture, "h w c -> (h w) c").copy()
    rows = laplacian[unknown]
    flat[unknown] = spsolve(rows[:, unknown].tocsc(), -rows[:, known] @ flat[known])
    return flat.reshape(picture.shape)


def _missing(picture: Float[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"] | None:
    """What is black; None where that is nothing, or everything."""
    black = (picture == 0).all(axis=-1)
    return black if black.any() and not black.all() else None


def _restoration() -> ModuleType:
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtraError("restoring pictures needs scikit-image", "baselines") from error
    return restoration


def _fixed_steps(damage: Distortion) -> tuple[Step, ...]:
    """The operators in order of application.

    Raises:
        ValueError: they are not fixed, or cannot be undone.
    """
    steps = tuple(step for step in damage.branches[0] if step.name != "none")  # it may stand there to clip
    if len(damage.branches) > 1 or any(isinstance(value, tuple) for step in steps for _, value in step.values):
        raise InputError(
            f"a restoration needs one fixed distortion, without alternatives (|) and ranges (..); got '{damage}'"
        )
    unknown = [step.name for step in steps if step.name not in RESTORERS]
    if unknown:
        raise InputError(f"'{unknown[0]}' cannot be undone; these can: {', '.join(RESTORERS)}")
    masked = next((number for number, step in enumerate(steps) if step.name in _MASKS), len(steps))
    hiding = [step.name for step in steps[masked:] if step.name not in _MASKS]
    if hiding:
        raise InputError(
            f"'{hiding[0]}' comes after '{steps[masked].name}', so that missing pixels are not 0 any more and cannot "
            f"be told from others; a mask can be undone where it is the last operator; got '{damage}'"
        )
    return steps


RESTORERS: dict[str, Callable[[np.ndarray, Values, float], np.ndarray]] = {
    "gaussian_noise": denoise,
    "gaussian_blur": deblur,
    "pixel_mask": inpaint_pixels,
    "patch_mask": inpaint_areas,
    "square_mask": inpaint_areas,
}
_MASKS = ("pixel_mask", "patch_mask", "square_mask")
