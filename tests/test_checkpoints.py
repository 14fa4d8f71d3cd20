"""Files that may come from anybody: what they are is told by their bytes, and what does not fit is listed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer import WeightsError
from explorer.checkpoints import HEADER_BYTES, misfit, read_checkpoint, stripped


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
