"""A teacher and its student on disk: `load_pair`, and one file to carry a pair elsewhere.

A pair is a folder with `student.safetensors` (an adapter, or the parameters that were trained), `card.json` (what it
was trained from, how, and what came of it) and `history.jsonl` (one record a line). The teacher is not in it: it is
named by its weights' SHA-256, and a student is never put on another one. Only safetensors and JSON are read, never a
pickle. Deliberately ignored: training, and the files that a run keeps beside the pair to be resumed.
"""

import copy
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from explorer.distortions import Distortion, check_own, distortion, own_record
from explorer.errors import InputError, did_you_mean
from explorer.models.adapters import Trainable, put_in, trained_shapes
from explorer.models.architectures import is_known
from explorer.models.backbones import Backbone, ImageSize, as_height_width, identified
from explorer.models.hub import SCHEME, fetch
from explorer.models.loading import load_backbone, rebuilt
from explorer.models.positions import holds_positions
from explorer.models.weights import state_digest
from explorer.system.files import asset_path, atomic_path, new_folder
from explorer.system.replacing import current
from explorer.version import __version__

ON_HUB = "pair"
"""The folder of a repository on a model hub that the three files of a pair are in."""
STUDENT, CARD, HISTORY = "student.safetensors", "card.json", "history.jsonl"
FORMAT = 1
MAX_BYTES = {STUDENT: 4 << 30, CARD: 1 << 20, HISTORY: 256 << 20}
_MAX_SIDE = 4096
_ATTEMPTS = 3
_OWN_DIGEST = "card_sha256"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can name; a clock that was never set is before it

Card = dict[str, Any]


class PairError(InputError):
    """This is no pair, or its parts do not belong together. The message says what is wrong."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A frozen teacher and a student that was made from it. Made by `load_pair`.

    Attributes:
        teacher: sees the clean picture.
        student: sees the distorted one; an adapter is merged into its weights.
        distortion: what the student was trained on.
        card: backbone, weights, config, metrics and versions, as in `card.json`.
        history: the training records, as in `history.jsonl`: step, losses, lr, alignment and so on.
        folder: where it was read from; None for one that was put together by hand.
    """

    teacher: Backbone
    student: Backbone
    distortion: Distortion
    card: Card
    history: tuple[dict[str, Any], ...] = ()
    folder: Path | None = None

    @property
    def weights(self) -> tuple[str, str]:
        """Where the teacher's and the student's weights came from, a line each."""
        return self.teacher.source, self.student.source

    @property
    def runs(self) -> list[Card]:
        """What the card says of each run that the student came of, the first one first; see `DistillConfig.begin`."""
        return _runs(self.card)


@torch.inference_mode(False)  # weights that are made in inference mode can never be differentiated
def load_pair(
    name_or_path: str | os.PathLike,
    teacher: Backbone | None = None,
    image_size: ImageSize | None = None,
    device: str | torch.device = "auto",
) -> Pair:
    """A teacher and its student.

    Args:
        name_or_path: the name of a shipped pair (see `list_pairs`), or the folder of a run, even of one that is still
            going on: then the last checkpoint. "./name" is always a folder. Or what `push_pair` wrote to a model hub,
            "hf://user/name" or, of one commit for ever, "hf://user/name@revision"; the card's "hub" says which it was.
        teacher: the student's teacher, if it is loaded already; None: it is loaded by the card's name.
        image_size: pixels, or (height, width); None for that of `teacher`, or else the one trained at. A student whose
            position embedding was trained has it resampled.
        device: as in `load_backbone`, for a teacher that is not given.

    Raises:
        PairError: no pair is there, its files are damaged or do not belong together, or the teacher's weights are not
            those that the student was trained from.
        WeightsError: the teacher's weights cannot be had.
        RepositoryError: the hub did not give the pair.
    """
    folder = pair_folder(name_or_path)
    card, tensors, history = read_pair(folder)
    if _on_hub(name_or_path):
        card["hub"] = f"{os.fspath(name_or_path).partition('@')[0]}@{folder.parent.name}"
    size = image_size
    if size is None:
        size = teacher.image_size if teacher is not None else tuple(card["image_size"])
    if teacher is None:
        teacher = load_teacher(card["backbone"], {"image_size": card["image_size"], **card["weights"]}, size, device)
    elif teacher.height_width != as_height_width(size):
        raise InputError(
            f"the teacher was loaded at {teacher.image_size} px, but image_size={image_size} was asked for"
        )
    check_teacher(card, teacher)
    return Pair(
        teacher=teacher,
        student=_student(teacher, card, tensors, folder),
        distortion=distortion(card["distortion"]),
        card=card,
        history=history,
        folder=folder,
    )


def list_pairs() -> list[str]:
    """The names of the pairs that come with the project; `load_pair` takes each of them."""
    try:
        root = asset_path("pairs")
    except FileNotFoundError:
        return []
    return sorted(path.parent.name for path in root.glob(f"*/{CARD}"))


def read_card(name_or_path: str | os.PathLike) -> Card:
    """A pair's card alone, without loading any weights.

    Raises:
        PairError: no pair is there, or its card is damaged.
    """
    return _card(_bytes(pair_folder(name_or_path), CARD))


def export_pair(name_or_path: str | os.PathLike, target: str | os.PathLike, half: bool = False) -> Path:
    """Write a pair as one zip file; of a run, the last checkpoint without what is needed to resume it.

    Args:
        target: the file; replaced if it is there.
        half: store the student in half precision, which takes half of the space.

    Raises:
        PairError: no pair is there, or it is damaged.
    """
    card, tensors, history = read_pair(pair_folder(name_or_path))
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as scratch, atomic_path(Path(target)) as part:
        write_pair(Path(scratch), tensors, card, history)
        with zipfile.ZipFile(part, "w") as archive:
            for name in (CARD, HISTORY, STUDENT):
                archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), Path(scratch, name).read_bytes())
    return Path(target)


def import_pair(file: str | os.PathLike, into: str | os.PathLike) -> Path:
    """Unpack a file that `export_pair` wrote and return the new folder, which `load_pair` takes.

    The file may come from anybody: exactly the three files of a pair are accepted, each up to `MAX_BYTES`, measured
    while unpacking; names with folders in them are refused; nothing appears in `into` before all of it was checked.

    Args:
        into: a folder that is not there yet, or is empty.

    Raises:
        PairError: the file is not a pair.
        FileExistsError: there is something in `into`.
    """
    with new_folder(Path(into), "import") as scratch:
        _unpack(Path(file), scratch)
        read_pair(scratch)
    return Path(into)


def make_card(teacher: Backbone, distortion: Distortion, *, config: Card, metrics: Card, step: int, data: Card) -> Card:
    """What `card.json` holds, but for the digests of the files and of itself, which `write_pair` adds."""
    return {
        "format": FORMAT,
        "backbone": teacher.name,
        "weights": weights_of(identified(teacher)),
        "normalisation": _normalisation(teacher),
        "image_size": list(teacher.height_width),
        "distortion": distortion.spec,
        **({"own_distortions": own_record(distortion)} if distortion.own else {}),
        "trainable": config["trainable"],
        "step": step,
        "config": config,
        "data": data,
        "metrics": metrics,
        "versions": {"explorer": __version__, **{name: _version(name) for name in ("torch", "timm", "peft")}},
    }


def weights_of(teacher: Backbone) -> Card:
    """Which weights a backbone has, as it stands in a card."""
    weights = {"description": teacher.source, "sha256": teacher.sha256, "seed": None}
    if teacher.drawn is None:
        return weights
    seed, *size = teacher.drawn
    return {**weights, "seed": seed, "image_size": size}


def write_pair(folder: Path, tensors: dict[str, Tensor], card: Card, history: Sequence[dict[str, Any]]) -> None:
    """Write the three files into a folder that nobody reads yet."""
    lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in history).encode()
    card = {**card, "student_sha256": state_digest(tensors), "history_sha256": hashlib.sha256(lines).hexdigest()}
    text = json.dumps({**card, _OWN_DIGEST: _card_digest(card)}, indent=1, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
    (folder / HISTORY).write_bytes(lines)
    write_tensors(tensors, folder / STUDENT, like=folder / CARD)


def write_tensors(tensors: dict[str, Tensor], file: Path, like: Path, sha256: str | None = None) -> None:
    """Write a safetensors file that the same people may read as the file `like`; alone, only its owner might.

    Args:
        sha256: is kept in the file, alone: several entries would stand in another order each time.
    """
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"} if sha256 is None else {"sha256": sha256})
    shutil.copymode(like, file)


def read_pair(folder: Path) -> tuple[Card, dict[str, Tensor], tuple[dict[str, Any], ...]]:
    """Card, trained tensors and history, as they were written together.

    Raises:
        PairError: a file is missing, damaged or too large, or they do not belong together.
    """
    for attempt in range(_ATTEMPTS):
        card = _card(_bytes(folder, CARD))
        lines = _bytes(folder, HISTORY)
        try:
            tensors = safetensors.torch.load(_bytes(folder, STUDENT))
        except (SafetensorError, ValueError, KeyError) as error:
            raise PairError(f"{STUDENT} in '{folder}' cannot be read as safetensors ({error})") from error
        written = {STUDENT: card["student_sha256"], HISTORY: card.get("history_sha256")}
        found = {STUDENT: state_digest(tensors), HISTORY: hashlib.sha256(lines).hexdigest()}
        wrong = next((name for name in found if written[name] not in (found[name], None)), None)
        if wrong is None:
            return card, tensors, _history(lines)
        if attempt + 1 < _ATTEMPTS:
            time.sleep(0.2)  # a run that goes on replaced the files while they were read
    assert wrong is not None
    raise PairError(
        f"{wrong} and {CARD} in '{folder}' do not belong together: the card was written for the SHA-256 "
        f"{str(written[wrong])[:12]}, the file has {found[wrong][:12]}. One of them was damaged or exchanged: take the "
        f"pair from a copy, or train it again"
    )


def check_teacher(card: Card, teacher: Backbone) -> None:
    """Raises PairError unless the teacher has the weights and the normalisation that the student was trained with."""
    _check_weights(card["backbone"], card["weights"], teacher)
    learned, given = card.get("normalisation"), _normalisation(teacher)
    if learned not in (None, given):  # cards of before have none
        raise PairError(
            f"the teacher of this student, '{card['backbone']}', normalises pictures by {learned}; the one at hand, "
            f"'{teacher.name}', by {given}: load it under the name, or with the mean and std, of before"
        )


def _normalisation(teacher: Backbone) -> Card:
    return {"mean": list(teacher.mean), "std": list(teacher.std)}


def load_teacher(name: str, weights: Card, image_size: ImageSize, device: str | torch.device = "auto") -> Backbone:
    """The backbone of these weights at an image size; never other weights under the same name.

    Args:
        weights: as in a card: description, sha256, and the seed of random weights or None. Random ones are drawn for
            their own image_size, and resampled to the one that is asked for.

    Raises:
        PairError: what this name brings here are other weights.
        WeightsError: they cannot be had.
    """
    if not is_known(name):
        raise PairError(
            f"'{name}' is neither an alias nor a timm model, but a module of somebody's own: wrap it with "
            f"explorer.wrap_backbone as it was when the student was trained, and pass it: load_pair(..., teacher=...)"
        )
    if weights["seed"] is None:
        backbone = load_backbone(name, image_size=image_size, device=device)
        _check_weights(name, weights, backbone)
        return backbone
    size = tuple(weights.get("image_size", as_height_width(image_size)))
    backbone = load_backbone(name, image_size=size, source="random", device=device, seed=weights["seed"])
    _check_weights(name, weights, backbone)
    return drawn_at(backbone, image_size)


def drawn_at(backbone: Backbone, image_size: ImageSize) -> Backbone:
    """A backbone with random weights at another image size: resampled, for others would be drawn there."""
    if backbone.height_width == as_height_width(image_size):
        return backbone
    return rebuilt(backbone, backbone.module.state_dict(), backbone.grid, image_size)


# Reading.


def pair_folder(name_or_path: str | os.PathLike) -> Path:
    """The folder of a shipped pair, of a run, or of what was fetched from a model hub.

    Raises:
        PairError: there is none.
        RepositoryError: the hub did not give it.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise PairError(f"a pair has a name, or is a folder; got {name_or_path!r:.80}")
    name = os.fspath(name_or_path)
    if _on_hub(name):
        return fetch(name, {f"{ON_HUB}/{file}": limit for file, limit in MAX_BYTES.items()}) / ON_HUB
    shipped = list_pairs()
    if name in shipped:
        return asset_path("pairs") / name
    folder = Path(name)
    if current(folder, CARD).is_file():
        return folder
    if folder.is_dir():
        raise PairError(f"the folder '{folder}' holds no pair: there is no {CARD} in it")
    hint, pairs = did_you_mean(name, shipped) or ".", ", ".join(shipped) or "(none)"
    raise PairError(f"no pair '{name}'{hint} Shipped pairs: {pairs}; or give a run's folder")


def _on_hub(name_or_path: str | os.PathLike) -> bool:
    return os.fspath(name_or_path).startswith(SCHEME)


def _bytes(folder: Path, name: str) -> bytes:
    for _ in range(_ATTEMPTS):
        path = current(folder, name)
        try:
            if path.stat().st_size > MAX_BYTES[name]:
                raise PairError(f"{name} in '{folder}' is larger than {MAX_BYTES[name] >> 20} MiB")
            return path.read_bytes()
        except FileNotFoundError:
            time.sleep(0.05)  # it was moved into its place at this very moment
    raise PairError(f"the folder '{folder}' holds no complete pair: {name} is missing")


def _card(content: bytes) -> Card:
    try:
        card = json.loads(content)
        sealed = _sealed(card) if isinstance(card, dict) else False
    except (ValueError, RecursionError) as error:
        raise PairError(f"{CARD} is not JSON ({error})") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise PairError(f"{CARD} has the format {found!r}; this version of vit-explorer reads format {FORMAT}")
    for name, kind in _FIELDS.items():
        if not isinstance(card.get(name), kind) or isinstance(card[name], bool):
            raise PairError(f"{CARD}: '{name}' should be {kind.__name__}; got {card.get(name)!r}")
    _check_fields(card)
    if not sealed:
        raise PairError(
            f"{CARD} is not as it was written: it was damaged, or changed by hand. Take it from a copy; if you changed "
            f"it yourself, delete its line '{_OWN_DIGEST}'"
        )
    card.pop(_OWN_DIGEST, None)
    return card


def _sealed(card: Card) -> bool:
    """Whether a card has its own digest, or none: under any other name it was damaged in that name."""
    if _OWN_DIGEST in card:
        return bool(card[_OWN_DIGEST] == _card_digest(card))
    return not any(value == _card_digest(card, name) for name, value in card.items())


def _card_digest(card: Card, own: str = _OWN_DIGEST) -> str:
    rest = {name: value for name, value in card.items() if name != own}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


_FIELDS = {
    "backbone": str,
    "weights": dict,
    "image_size": list,
    "distortion": str,
    "trainable": str,
    "step": int,
    "config": dict,
    "data": dict,
    "metrics": dict,
    "versions": dict,
    "student_sha256": str,
}


def _check_fields(card: Card) -> None:
    weights, size = card["weights"], card["image_size"]
    _check_size(size)
    if not isinstance(weights.get("sha256"), str) or not isinstance(weights.get("description"), str):
        raise PairError(f"{CARD}: 'weights' should have a description and a sha256; got {weights!r}")
    seed = weights.setdefault("seed", None)
    if seed is not None and (type(seed) is not int or not 0 <= seed < 1 << 63):
        raise PairError(f"{CARD}: the seed of random weights should be a whole number; got {seed!r}")
    _check_size(weights.get("image_size", size))
    _runs(card)
    try:
        Trainable.parse(card["trainable"])
        check_own(card.get("own_distortions", {}))
        distortion(card["distortion"])
    except ValueError as error:
        raise PairError(f"{CARD}: {error}") from error


def _runs(card: Card) -> list[Card]:
    runs = [card]
    while begun := runs[0]["data"].get("begun_from"):
        kinds = {name: _FIELDS[name] for name in ("step", "image_size", "config", "data")}
        if not isinstance(begun, dict) or any(not isinstance(begun.get(name), kinds[name]) for name in kinds):
            raise PairError(f"{CARD}: 'begun_from' should have {', '.join(kinds)}; got {begun!r:.80}")
        runs.insert(0, begun)
    return runs


def _check_size(size: object) -> None:
    whole = isinstance(size, list) and all(type(side) is int and 0 < side <= _MAX_SIDE for side in size)
    if not whole or len(size) != 2:  # type: ignore[arg-type]
        raise PairError(f"{CARD}: 'image_size' should be [height, width], up to {_MAX_SIDE} pixels; got {size!r}")


def _history(content: bytes) -> tuple[dict[str, Any], ...]:
    try:
        records = tuple(json.loads(line) for line in io.BytesIO(content))
    except (ValueError, RecursionError) as error:
        raise PairError(f"{HISTORY} is not one JSON record a line ({error})") from error
    if not all(isinstance(record, dict) for record in records):
        raise PairError(f"{HISTORY} is not one JSON record a line")
    return records


def _unpack(file: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [entry.filename for entry in archive.infolist()]
            if sorted(names) != sorted(MAX_BYTES):
                raise PairError(
                    f"'{file.name}' is no exported pair: expected exactly {', '.join(sorted(MAX_BYTES))}; got "
                    f"{', '.join(map(repr, names[:5]))}{' …' if len(names) > 5 else ''}"
                )
            for name in names:
                _copy(archive, name, folder / name)
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise PairError(f"'{file.name}' cannot be read as a zip file ({error})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a full disk is no fault of the file
            raise
        raise PairError(f"'{file.name}' is a damaged zip file: it names places that it does not have") from error


def _copy(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    left = MAX_BYTES[name]
    with archive.open(name) as packed, target.open("wb") as plain:
        while block := packed.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise PairError(f"{name} in this file unpacks to more than {MAX_BYTES[name] >> 20} MiB")
            plain.write(block)


# Teacher and student.


def _check_weights(name: str, weights: Card, teacher: Backbone) -> None:
    teacher = identified(teacher)
    if teacher.sha256 != weights["sha256"]:
        advice = f"pass them: load_pair(..., teacher=load_backbone('{name}', source='weights.safetensors'))"
        if weights["seed"] is not None:
            advice = "leave the teacher out, load_pair(..., image_size=...): random weights differ between image sizes"
        raise PairError(
            f"this student was trained from '{name}', {weights['description']} (SHA-256 {weights['sha256'][:12]}), but "
            f"the teacher at hand is '{teacher.name}', {teacher.source} (SHA-256 {teacher.sha256[:12]}). Load the "
            f"weights that it was trained from and {advice}"
        )


def _student(teacher: Backbone, card: Card, tensors: dict[str, Tensor], folder: Path) -> Backbone:
    trainable = Trainable.parse(card["trainable"])
    steps = sum(run["step"] for run in _runs(card))
    source = f"student of {teacher.name}, trained on {card['distortion']} for {steps:,} steps"
    try:
        positions = trainable.kind == "all" or _moves(teacher, trainable, tensors)
        if positions and teacher.height_width != tuple(card["image_size"]):
            module = _resampled(teacher, card, tensors)
        else:
            module = put_in(copy.deepcopy(teacher.module), trainable, tensors).eval()
    except (ValueError, RuntimeError) as error:
        raise PairError(f"the student in '{folder}' does not fit '{teacher.name}': {error}") from error
    return replace(teacher, module=module, source=source, sha256=card["student_sha256"])


def _moves(teacher: Backbone, trainable: Trainable, tensors: dict[str, Tensor]) -> bool:
    """Whether some blocks alone were trained, and have positions of their own, as in BEiT."""
    return holds_positions(tensors) and tensors.keys() == trained_shapes(teacher.module, trainable).keys()


def _resampled(teacher: Backbone, card: Card, tensors: dict[str, Tensor]) -> torch.nn.Module:
    """A student whose positions were trained, at another image size: they are resampled, once, like its teacher's."""
    (rows, cols), (height, width) = teacher.grid, teacher.height_width
    trained = card["image_size"][0] * rows // height, card["image_size"][1] * cols // width
    own = teacher.module.state_dict()
    untrained = {name: tensor for name, tensor in own.items() if name not in tensors}
    if untrained:  # its own positions come back as they were
        own = rebuilt(teacher, own, teacher.grid, tuple(card["image_size"])).module.state_dict()
    module = rebuilt(teacher, {**own, **tensors}, trained, teacher.image_size).module
    module.load_state_dict(untrained, strict=False)
    return module


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
