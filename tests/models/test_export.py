"""Students for other programs: what a process without this project loads computes what the student computes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from explorer import Pair, __version__, load_backbone, load_pair
from explorer.distortions import distortion
from explorer.models.backbones import Backbone
from explorer.models.export import export_student
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


@pytest.fixture(scope="module")
def tiny() -> Pair:
    """Untrained, at an image size that is not a square."""
    networks = [load_backbone("vit_tiny_patch16_224", (32, 48), "random", "cpu", seed=seed) for seed in (0, 1)]
    for network in networks:
        peaked(network.module, factor=4.0)
    return Pair(teacher=networks[0], student=networks[1], distortion=distortion("pixel_mask(fraction=0.5)"), card={})


def timm_agrees(exports: dict[str, Pair], folder: Path) -> None:
    """The lines that load them are all that timm needs, in one process for all of them."""
    lines = {name: export_student(pair, folder / f"{name}.safetensors").usage for name, pair in exports.items()}
    for name, pair in exports.items():
        images = normalised(pair.student, pictures(pair.student))
        safetensors.torch.save_file({"images": images}, folder / f"{name}.in")
    elsewhere(folder, LOAD_ALL, json.dumps(lines))
    for name, pair in exports.items():
        found = safetensors.torch.load_file(folder / f"{name}.out")["embedding"]
        torch.testing.assert_close(found, pair.student.trace(pictures(pair.student)).embedding, atol=1e-6, rtol=1e-6)


LOAD_ALL = """
import json, timm, torch
from safetensors.torch import load_file, save_file
for name, line in json.loads(sys.argv[1]).items():
    with torch.inference_mode():
        embedding = eval(line).eval()(load_file(f"{name}.in")["images"])
    save_file({"embedding": embedding.contiguous()}, f"{name}.out")
"""


def test_timm_loads_the_students_of_several_families(tiny: Pair, tmp_path: Path) -> None:
    others = {"distilled": ("deit_tiny_distilled_patch16_224", 224), "dinov2": ("vit_small_patch14_dinov2.lvd142m", 28)}
    exports = {"tiny": tiny}
    for label, (name, size) in others.items():
        teacher, student = (load_backbone(name, size, "random", "cpu", seed=seed) for seed in (0, 1))
        exports[label] = Pair(teacher=teacher, student=student, distortion=distortion("none"), card={})
    timm_agrees(exports, tmp_path)


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


def foreign() -> Backbone:
    """A module of somebody's own."""

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
            return self.blocks(self.patches(x).flatten(2).mT).mean(dim=1)

    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    return wrap_backbone(Own(), blocks="blocks", norm=None, image_size=32, grid=(2, 2), prefix=0, mean=half, std=half)


@pytest.mark.parametrize(
    ("file", "format", "part"),
    [
        ("student.safetensors", "tim", "unknown format 'tim'; did you mean timm"),
        ("student.bin", "timm", r"format='timm' writes a file that ends in \.safetensors; got '.*student\.bin'"),
    ],
)
def test_what_cannot_be_exported_is_said(tmp_path: Path, tiny: Pair, file: str, format: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        export_student(tiny, tmp_path / file, format)
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
        (("--format", "timm"), "--format is of students for other programs"),
    ],
)
def test_bad_words_are_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], part: str) -> None:
    done = run("pairs", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []
