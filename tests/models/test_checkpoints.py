"""Files that may come from anybody: what they are is told by their bytes, and what does not fit is listed."""

import json
import pickle
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import torch
from torch import nn

from explorer import WeightsError
from explorer.models.checkpoints import HEADER_BYTES, misfit, read_checkpoint, stripped
from explorer.models.weights import load_file, state_digest


class Evil:
    def __reduce__(self) -> tuple:
        return open, ("pickle-was-opened", "w")


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_a_pickle_is_told_by_its_bytes(
    name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Evil(), protocol))
    with pytest.raises(WeightsError, match=rf"'{name}' is a pickle, whatever its name.*can run code"):
        read_checkpoint(path)
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="is a pickle, whatever its name"):
        read_checkpoint(path)
    assert not (tmp_path / "pickle-was-opened").exists()


def container(header: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


TENSOR = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
DAMAGED = {
    "empty": (b"", "has 0 bytes"),
    "a few bytes": (b"\x10\x00\x00", "cut off: it has 3 bytes"),
    "text": (b"version https://git-lfs.github.com/spec/v1", "is no safetensors file"),
    "header cut off": (container(TENSOR[:-10], len(TENSOR)), r"its header should have 61 bytes, and the whole file"),
    "huge header": (container(TENSOR, 1 << 40), r"claims to have 1,099,511,627,776 bytes; expected 16 MiB at most"),
    "just too long": (container(TENSOR, HEADER_BYTES + 1), "claims to have"),
    "body cut off": (container(TENSOR, body=b"1234"), "cannot be read as safetensors"),
    "body too long": (container(TENSOR, body=b"123456789"), "cannot be read as safetensors"),
    "no JSON": (container(b"{{{{{{"), "cannot be read as safetensors"),
    "a shape that lies": (container(TENSOR.replace(b"[2]", b"[9]"), body=b"12345678"), "cannot be read as safetensors"),
    "an overflowing shape": (
        container(TENSOR.replace(b"[2]", b"[4294967296, 4294967296]"), body=b"12345678"),
        "cannot be read as safetensors",
    ),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as error:
        read_checkpoint(path)
    assert str(tmp_path) not in str(error.value)


def test_a_header_of_640_bytes_begins_like_a_pickle_and_is_none(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(container(TENSOR.ljust(640), body=b"\0" * 8))
    assert path.read_bytes().startswith(b"\x80\x02")
    assert torch.equal(read_checkpoint(path)["a"], torch.zeros(2))


def test_prefixes_and_reports() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    state = dict(module.state_dict())
    assert stripped(state, module) == (state, "")
    inner, done = stripped(
        {f"model.{name}": tensor for name, tensor in state.items()} | {"queue": state["0.bias"]}, module
    )
    assert inner.keys() == state.keys()
    assert done == "prefix 'model.' taken off, 1 other left out"
    partly = {f"model.{name}": tensor for name, tensor in state.items() if name != "0.bias"}
    assert stripped(partly, module) == (partly, "")
    assert misfit(state, module) is None
    assert misfit({**state, "0.bias": torch.zeros(5)}, module) == "1 of another shape: 0.bias (5 instead of 2)"
    assert misfit({}, module) == "4 missing of 4: 0.bias, 0.weight, 1.bias, 1.weight"


def test_positions_of_another_grid_are_no_misfit() -> None:
    module = nn.Module()
    module.pos_embed = nn.Parameter(torch.zeros(1, 17, 4))
    assert misfit({"pos_embed": torch.zeros(1, 197, 4)}, module) is None
    assert misfit({"pos_embed": torch.zeros(1, 197, 5)}, module) == (
        "1 of another shape: pos_embed (1 x 197 x 5 instead of 1 x 17 x 4)"
    )


def sharded(folder: Path) -> dict[str, torch.Tensor]:
    """A model in two files, as Hugging Face's programs write it."""
    state = {"a": torch.arange(6.0), "b": torch.ones(2, 3), "c": torch.zeros(4)}
    safetensors.torch.save_file({"a": state["a"], "b": state["b"]}, folder / "model-00001-of-00002.safetensors")
    safetensors.torch.save_file({"c": state["c"], "stray": torch.ones(1)}, folder / "model-00002-of-00002.safetensors")
    places = {"a": 1, "b": 1, "c": 2}
    listed(folder, {name: f"model-0000{place}-of-00002.safetensors" for name, place in places.items()})
    return state


def listed(folder: Path, places: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


INDEX = "model.safetensors.index.json"


def test_several_files_by_their_list_or_their_folder(tmp_path: Path) -> None:
    state = sharded(tmp_path)
    for path in (tmp_path, tmp_path / INDEX):
        read = read_checkpoint(path)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in state)
    assert load_file(tmp_path).sha256 == state_digest(state)


def test_a_missing_file_of_several_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=rf"1 of the 2 files that '{INDEX}' names are missing .*model-00002-of-00002"
    ):
        read_checkpoint(tmp_path)
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(WeightsError, match=rf"'model-00002-of-00002.safetensors' does not hold what '{INDEX}' says: c"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name", ["../{}", "{folder}/{}", "in/{}", "..\\{}", "model.bin", "..", "./{}", "https://example.org/{}"]
)
def test_a_list_leads_nowhere_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    (folder := tmp_path / "model").mkdir()
    listed(folder, {"a": name.format("secret.safetensors", folder=tmp_path)})
    with pytest.raises(WeightsError, match=r"expected .safetensors files in its own folder"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": {}}}', "[" * 9999],
)
def test_lists_that_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(WeightsError, match=rf"'{INDEX}' is no list of safetensors files .*expected 'weight_map'"):
        read_checkpoint(tmp_path / INDEX)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file at .*or a folder with one"):
        read_checkpoint(tmp_path)
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "mine.safetensors")
    assert list(read_checkpoint(tmp_path)) == ["a"]
    safetensors.torch.save_file({"b": torch.ones(1)}, tmp_path / "yours.safetensors")
    with pytest.raises(
        WeightsError, match=r"holds several files of weights \('mine.safetensors', 'yours.safetensors'\)"
    ):
        read_checkpoint(tmp_path)
    safetensors.torch.save_file({"c": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(read_checkpoint(tmp_path)) == ["c"]


def test_other_containers_are_told(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "weights.npz", **{"Transformer/encoderblock_0/LayerNorm_0/scale": numpy.ones(3)})
    (tmp_path / "weights.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 40)
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 40)
    for ending, what in (("npz", r"a NumPy archive \(.npz\)"), ("gguf", "a GGUF file"), ("h5", "an HDF5 file")):
        with pytest.raises(WeightsError, match=f"'weights.{ending}' is {what}.*only safetensors files are read"):
            read_checkpoint(tmp_path / f"weights.{ending}")
