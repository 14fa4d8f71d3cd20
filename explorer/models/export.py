"""A student for other programs, which need nothing of this project to load it: `export_student`.

Enters: a pair. Leaves: one safetensors file for timm; one ONNX file; or a folder for a model hub, which timm, peft and
this project load, and which `push_pair` puts there. An adapter is merged into the weights; what the student was made
from travels as metadata. Deliberately ignored: the teacher, which is the architecture's pretrained model or a file of
its own (`explorer.models.pairs.export_pair` carries a pair to another copy of this project).
"""

import copy
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from explorer.errors import InputError, MissingExtraError, unknown
from explorer.models.adapters import Trainable, save_for_peft
from explorer.models.architectures import architecture_of, is_known, skeleton
from explorer.models.backbones import Backbone
from explorer.models.checkpoints import misfit
from explorer.models.hub import SCHEME, check_repository, upload
from explorer.models.pairs import ON_HUB, Pair, read_pair, write_pair
from explorer.models.students import expect_pair
from explorer.models.weights import ALIASES
from explorer.system.files import atomic_path, new_folder
from explorer.version import __version__

OPSET = 18
ADAPTER = "adapter"
"""The folder in that of format="hf" which peft reads."""


@dataclass(frozen=True, kw_only=True)
class ExportedStudent:
    """A student that other programs load. Made by `export_student`.

    Attributes:
        path: the file, or the folder.
        usage: the Python expression that loads it.
    """

    path: Path
    usage: str


def export_student(
    pair: Pair, file: str | os.PathLike, format: str = "timm", *, attention: bool = False
) -> ExportedStudent:
    """Write a pair's student for other programs, its adapter merged into the weights.

    Args:
        file: where to. A file that is there is replaced; of format="hf" a folder that is not there yet, or is empty.
        format: "timm": a safetensors file for `timm.create_model`, which then computes the student's embedding from
            normalised pictures of the student's image size. "onnx": a file for ONNX runtimes: from `images`, RGB in
            [0, 1], "batch 3 height width" (they are normalised inside), to `embedding`, "batch dim"; any number of
            pictures at once, in float32. "hf": a folder as model hubs have them: a model card, the student for timm,
            the adapter for peft in `adapter/`, and the pair itself in `pair/`.
        attention: of format="onnx": also write `attention`, "batch layer head token": each block's attention row of the
            picture, as `Trace.own_rows` has it, tokens before the patches included.

    Returns:
        Where it is, and the line of Python that loads it.

    Raises:
        ValueError: the format is unknown, the file's name does not fit it, or the student is none that it can hold.
        ImportError: format="onnx" without onnxscript.
        FileExistsError: format="hf", and there is something at `file`.
        OSError: it cannot be written.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if attention and format != "onnx":
        raise InputError(f"attention=True is of format='onnx', whose file can have several outputs; got '{format}'")
    if expect_pair(pair).student.prepared is not None:
        raise InputError(f"a file holds weights alone, and its pictures are prepared, too: {pair.student.prepared}")
    return (partial(_onnx, attention=True) if attention else FORMATS[format])(pair, Path(file))


def push_pair(pair: Pair, repository: str, *, private: bool = False) -> str:
    """Put a pair on a model hub, as `export_student` writes it with format="hf"; `load_pair` takes it from there.

    Args:
        pair: one that `load_pair` read.
        repository: "user/name"; it is made if it is not there. What is in it stays, but for files of the same names.
        private: whether a repository that is made is for its owner alone.

    Returns:
        Where it is for ever: "hf://user/name@commit".

    Raises:
        ValueError: the repository's name, or the pair, is none that can be put there.
        RepositoryError: the hub did not take it.
    """
    check_repository(repository)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, repository.rpartition("/")[2])
        _folder(pair, folder, repository)
        return f"{SCHEME}{repository}@{upload(folder, repository, private)}"


def _timm(pair: Pair, file: Path) -> ExportedStudent:
    _check_suffix(file, ".safetensors", "timm")
    about, arguments = {"architecture": _timm_name(pair.student), **_about(pair)}, _arguments(pair.student)
    with atomic_path(file) as part:
        _save(pair.student.module.state_dict(), part, about)
    usage = f"timm.create_model({about['architecture']!r}, pretrained=False, checkpoint_path={str(file)!r}"
    return ExportedStudent(path=file, usage=f"{usage}{''.join(f', {key}={arguments[key]}' for key in arguments)})")


def _onnx(pair: Pair, file: Path, attention: bool = False) -> ExportedStudent:
    _check_suffix(file, ".onnx", "onnx")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("format='onnx' needs onnxscript", "onnx") from error
    example = torch.zeros(2, 3, *pair.student.height_width)
    with _without_exporters_talk(), torch.inference_mode(False):
        try:
            program = torch.onnx.export(
                _FromPixels(pair.student, attention).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["embedding", "attention"][: 1 + attention],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise InputError(
                f"expected a student that torch can write as ONNX; '{pair.student.name}' is none ({reason:.300})"
            ) from error
    assert program is not None
    program.model.metadata_props.update(_about(pair))
    with atomic_path(file) as part:
        program.save(part, external_data=False)
    return ExportedStudent(path=file, usage=f"onnxruntime.InferenceSession({str(file)!r})")


@contextmanager
def _without_exporters_talk() -> Iterator[None]:
    """Warnings of torch's own code, and what the optimizer of graphs leaves as it is."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


class _FromPixels(nn.Module):
    """The student in float32, with what it is asked for as its outputs."""

    def __init__(self, student: Backbone, attention: bool) -> None:
        super().__init__()
        self.module = copy.deepcopy(student.module).cpu().float().requires_grad_(False)
        self._student = student.with_module(self.module)
        self._attention = attention

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"]] | tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch layer head token"]]:
        """The embedding, and attention rows where they are wanted."""
        asked, blocks = "cls" if self._attention else None, self._student.blocks("all")
        _, embedding, rows = self._student.outputs(images, blocks, asked)  # type: ignore[arg-type]
        return (embedding,) if rows is None else (embedding, rows[:, :, :, 0])


def _folder(pair: Pair, folder: Path, repository: str | None = None) -> ExportedStudent:
    from timm.models import save_for_hf

    student, (card, tensors, history) = pair.student, _files_of(pair)
    about, arguments = {"architecture": _timm_name(student), **_about(pair)}, _arguments(student)
    with new_folder(folder, "export") as made:
        save_for_hf(student.module, str(made), {"vit_explorer": about}, arguments, safe_serialization=True)
        _say_what_it_sees(made / "config.json", student)
        shutil.copymode(made / "config.json", made / "model.safetensors")  # alone, only its owner might read it
        (made / ON_HUB).mkdir()
        write_pair(made / ON_HUB, tensors, card, history)
        if Trainable.parse(card["trainable"]).kind == "lora":
            save_for_peft(tensors, made / ADAPTER, _on_a_hub(pair.teacher))
        (made / "README.md").write_text(_model_card(pair, about, folder.name, repository), encoding="utf-8")
    return ExportedStudent(path=folder, usage=f"timm.create_model({f'local-dir:{folder}'!r}, pretrained=True)")


def _say_what_it_sees(config: Path, student: Backbone) -> None:
    """The student's image size and normalisation, where timm left those of the architecture, which takes any size."""
    written = json.loads(config.read_text(encoding="utf-8"))
    seen = {"input_size": (3, *student.height_width), "mean": student.mean, "std": student.std}
    written["pretrained_cfg"] = {**written["pretrained_cfg"], **seen, "test_input_size": None}
    config.write_text(json.dumps(written, indent=2), encoding="utf-8")


def _files_of(pair: Pair) -> tuple[dict[str, Any], dict[str, Tensor], tuple[dict[str, Any], ...]]:
    """Card, trained tensors and history of a pair, as it was loaded.

    Raises:
        ValueError: it was put together by hand, or another one has taken its place since.
    """
    if pair.folder is None:
        raise InputError("expected a pair that load_pair read; got one that was put together by hand, without a card")
    card, tensors, history = read_pair(pair.folder)
    if card["student_sha256"] != pair.card["student_sha256"]:
        raise InputError(f"the pair in '{pair.folder}' is not the one that was loaded from there: load it again")
    return card, tensors, history


def _model_card(pair: Pair, about: dict[str, str], name: str, repository: str | None) -> str:
    """The model card: what the hub reads, and what people do."""
    from huggingface_hub import EvalResult, ModelCardData

    card, student = pair.card, pair.student
    told = {when: (card["metrics"].get(when) or {}).items() for when in ("before", "after")}
    # None is what this model cannot be measured by
    metrics = {when: {name: value for name, value in told[when] if value is not None} for when in told}
    kind = "held-out pictures" if card["data"].get("held_out") else "of the training pictures"
    measured = f"{len(card['data'].get('probe') or ())} {kind}, {pair.distortion.spec}"
    results = [
        EvalResult("image-feature-extraction", "probe", measured, metric, round(value, 4))
        for metric, value in metrics["after"].items()
    ]
    header = ModelCardData(
        base_model=_on_a_hub(pair.teacher),
        eval_results=results or None,
        library_name="timm",
        license=_license(pair.teacher),
        metrics=list(metrics["after"]) or None,
        model_name=name,
        pipeline_tag="image-feature-extraction",
        tags=["timm", "vit-explorer", "distillation", "robustness", "vision-transformer"],
    )
    credit = f" Credit: {ALIASES[student.name].credit}." if student.name in ALIASES else ""
    rows = [f"| {m} | {metrics['before'].get(m, float('nan')):.3f} | {v:.3f} |" for m, v in metrics["after"].items()]
    table = "\n".join(["| measure | before training | after |", "|---|---:|---:|", *rows]) if rows else "Not measured."
    return _CARD.format(
        header=header.to_yaml(),
        name=name,
        repository=repository or "USER/NAME",
        credit=credit,
        measured=measured,
        table=table,
        trainable=card["trainable"],
        steps=sum(run["step"] for run in pair.runs),
        peft=_PEFT.format(**about) if Trainable.parse(card["trainable"]).kind == "lora" else "",
        card=json.dumps(about, indent=1),
        **about,
    )


_CARD = """\
---
{header}
---

# {name}

A Vision Transformer (`{architecture}`, {image_size} px) that sees pictures under `{distortion}` as its teacher sees
clean ones: a student that was distilled from {base_weights} by vit-explorer {vit_explorer}, without labels
(`{trainable}`, {steps:,} steps).{credit}

## Use

```python
import timm

model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()  # "local-dir:FOLDER" for a copy on disk
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```
{peft}
Teacher and student together, with all that vit-explorer shows of them:

```python
import explorer as ex

pair = ex.load_pair("hf://{repository}")  # "hf://{repository}@REVISION" is the same for ever
```

## Agreement with the teacher

The student under the distortion against the teacher on the clean picture ({measured}):

{table}

Measure it on pictures of your own: `vit-explorer sweep hf://{repository} --images FOLDER`.

## What it was made from

```json
{card}
```
"""
_PEFT = """
`adapter/` holds what was trained, a low-rank adapter for the base weights (SHA-256 of their tensors
`{base_weights_sha256}`): `peft.PeftModel.from_pretrained(base, "adapter")`.
"""


def _on_a_hub(teacher: Backbone) -> str | None:
    """The repository of timm's hub that the weights came from; None: they came from elsewhere."""
    repository = skeleton(architecture_of(teacher.name)).pretrained_cfg.get("hf_hub_id")  # type: ignore[operator,union-attr]
    return repository if repository and f"({repository}," in teacher.source else None


def _license(teacher: Backbone) -> str | None:
    """The licence of the weights, as far as it is known."""
    if teacher.name in ALIASES:
        return ALIASES[teacher.name].license
    config: Any = skeleton(architecture_of(teacher.name)).pretrained_cfg
    return config.get("license") if _on_a_hub(teacher) else None


def _about(pair: Pair) -> dict[str, str]:
    """What a student was made from, for the metadata of its file."""
    student = pair.student
    return {
        "image_size": "x".join(map(str, student.height_width)),
        "mean": ", ".join(map(str, student.mean)),
        "std": ", ".join(map(str, student.std)),
        "base_weights": pair.teacher.source,
        "base_weights_sha256": pair.teacher.sha256,
        "distortion": pair.distortion.spec,
        "vit_explorer": __version__,
    }


def _timm_name(student: Backbone) -> str:
    """The name under which timm builds the student's architecture.

    Raises:
        ValueError: it does not.
    """
    if not is_known(student.name):
        raise InputError(
            f"expected a student that timm can build; got one of '{student.name}', a module of somebody's own. Save "
            f"its weights for the code that it comes from: safetensors.torch.save_model(pair.student.module, "
            f"'student.safetensors')"
        )
    architecture = architecture_of(student.name)
    report = misfit(student.module.state_dict(), skeleton(architecture))
    if report is not None:
        raise InputError(f"the student is not timm's '{architecture}' any more: {report}. Load the pair again")
    return architecture


def _arguments(student: Backbone) -> dict[str, int | tuple[int, int]]:
    """What timm has to be told beside the architecture's name."""
    own = skeleton(architecture_of(student.name)).pretrained_cfg["input_size"][1:]  # type: ignore[index]
    return {"num_classes": 0, **({} if tuple(own) == student.height_width else {"img_size": student.image_size})}


def _check_suffix(file: Path, suffix: str, format: str) -> None:
    if file.suffix != suffix:
        raise InputError(f"format='{format}' writes a file that ends in {suffix}; got '{file}'")


def _save(tensors: dict[str, Tensor], file: Path, about: dict[str, str]) -> None:
    """Write a safetensors file into one that is there, which keeps who may read it."""
    mode = file.stat().st_mode
    try:
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file, about
        )
    except SafetensorError as error:  # a full disk is told so, too
        raise OSError(f"the student could not be written to '{file.parent}' ({error}); free some space") from error
    file.chmod(mode)


FORMATS: dict[str, Callable[[Pair, Path], ExportedStudent]] = {"timm": _timm, "onnx": _onnx, "hf": _folder}
