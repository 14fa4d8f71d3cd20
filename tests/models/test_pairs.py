"""Students on disk: what loads is what was trained, on the teacher that it was trained from, or nothing."""

import copy
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from inspect import unwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from timm import create_model
from torch import Tensor

from explorer import load_backbone
from explorer.distortions import distortion
from explorer.models import pairs
from explorer.models.adapters import Trainable, load_trained, prepare, put_in, trained_tensors
from explorer.models.backbones import Backbone
from explorer.models.pairs import (
    CARD,
    HISTORY,
    STUDENT,
    PairError,
    export_pair,
    import_pair,
    list_pairs,
    load_pair,
    read_card,
)
from explorer.models.weights import state_digest

NAME = "vit_tiny_patch16_224"
PROJECTED = ("qkv", "proj", "fc1", "fc2")


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return load_backbone(NAME, image_size=32, source="random", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained(teacher: Backbone, trainable: str) -> Backbone:
    """A student whose trained parameters all differ from where they began."""
    module = prepare(copy.deepcopy(teacher.module), Trainable.parse(trainable))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=draw)
    return teacher.with_module(module)


def written(folder: Path, teacher: Backbone, student: Backbone, trainable: str) -> Path:
    folder.mkdir()
    tensors = trained_tensors(student.module, Trainable.parse(trainable))
    config = {"trainable": trainable, "steps": 3}
    card = pairs.make_card(
        teacher,
        distortion("pixel_mask(fraction=0.5)"),
        config=config,
        metrics={"after": {}},
        step=3,
        data={"pictures": 7},
    )
    pairs.write_pair(folder, tensors, card, [{"step": 1}, {"step": 2}, {"step": 3}])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, teacher: Backbone) -> Path:
    """A pair with an adapter of rank 3; not to be changed."""
    path = tmp_path_factory.mktemp("pairs") / "adapter"
    return written(path, teacher, trained(teacher, "lora:3"), "lora:3")


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """The same pair, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def changed(card: Path, **fields: object) -> None:
    """A card that somebody changed and signed again."""
    content = {**json.loads(card.read_text()), **fields}
    card.write_text(json.dumps({**content, "card_sha256": pairs._card_digest(content)}))


# What is trained.


def test_an_adapter_changes_nothing_at_first(teacher: Backbone, pictures: Tensor) -> None:
    student = teacher.with_module(prepare(copy.deepcopy(teacher.module), Trainable("lora", 4)))
    assert type(student.module) is type(teacher.module)
    assert torch.equal(student.trace(pictures).embedding, teacher.trace(pictures).embedding)


def test_an_adapter_changes_projections_by_its_rank_and_nothing_else(teacher: Backbone, folder: Path) -> None:
    before = teacher.module.state_dict()
    after = load_pair(folder, teacher=teacher).student.module.state_dict()
    assert before.keys() == after.keys()
    touched = {name for name in before if not torch.equal(before[name], after[name])}
    assert touched == {
        name
        for name in before
        if name.startswith("blocks.") and name.endswith(".weight") and name.split(".")[-2] in PROJECTED
    }
    for name in touched:
        assert int(torch.linalg.matrix_rank((after[name] - before[name]).double(), rtol=1e-4)) == 3, name


def test_a_merged_adapter_is_the_one_that_was_trained(teacher: Backbone, folder: Path, pictures: Tensor) -> None:
    expected = trained(teacher, "lora:3").trace(pictures)
    seen = load_pair(folder, teacher=teacher).student.trace(pictures)
    assert not torch.allclose(teacher.trace(pictures).embedding, expected.embedding, atol=1e-2)
    torch.testing.assert_close(seen.embedding, expected.embedding, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.attention, expected.attention, atol=1e-5, rtol=1e-4)


def test_last_blocks_and_the_final_norm(teacher: Backbone) -> None:
    names = {n for n, p in trained(teacher, "last:2").module.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in names} == {"blocks", "norm"}
    assert {name.split(".")[1] for name in names if name.startswith("blocks")} == {"10", "11"}


@pytest.mark.parametrize("trainable", ["all", "last:2"])
def test_other_students_come_back_to_the_bit(teacher: Backbone, tmp_path: Path, trainable: str) -> None:
    student = trained(teacher, trainable)
    pair = load_pair(written(tmp_path / "pair", teacher, student, trainable), teacher=teacher)
    assert state_digest(pair.student.module.state_dict()) == state_digest(student.module.state_dict())
    assert state_digest(teacher.module.state_dict()) != state_digest(student.module.state_dict())


@pytest.mark.parametrize("trainable", ["lora:3", "last:2"])
def test_trained_tensors_can_be_trained_on(teacher: Backbone, trainable: str) -> None:
    student, choice = trained(teacher, trainable), Trainable.parse(trainable)
    again = load_trained(
        prepare(copy.deepcopy(teacher.module), choice, seed=5), choice, trained_tensors(student.module, choice)
    )
    assert state_digest(again.state_dict()) == state_digest(student.module.state_dict())
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in student.module.parameters()]


def test_an_adapter_reaches_every_matrix_that_it_is_put_on() -> None:
    """BEiT's qkv is used as a bare weight: an adapter around it would never be called."""
    module = create_model("beit_base_patch16_224", embed_dim=48, depth=2, num_heads=2, img_size=32, num_classes=0)
    with torch.no_grad():
        for part in module.parameters():
            part += 0.1  # layer scale and biases begin at or near zero
    prepare(module, Trainable("lora", 2))
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    module(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert len(names) == 2 * 2 * 3
    assert all(module.get_parameter(name).grad is not None for name in names)


@pytest.mark.parametrize("text", ["lora", "lora:0", "lora:-1", "last:0", "ALL", "", "lora:8.5", "lora:99999", 8, None])
def test_unreadable_choices(text: object) -> None:
    with pytest.raises(ValueError, match="'lora:8'"):
        Trainable.parse(text)


def test_choices_that_do_not_fit(teacher: Backbone) -> None:
    with pytest.raises(ValueError, match="12 blocks"):
        prepare(copy.deepcopy(teacher.module), Trainable("last", 13))
    with pytest.raises(ValueError, match="rank 193"):
        prepare(copy.deepcopy(teacher.module), Trainable("lora", 193))


# Loading.


def test_a_pair_finds_its_teacher(folder: Path, pictures: Tensor, teacher: Backbone) -> None:
    pair = load_pair(folder, device="cpu")
    assert pair.teacher.sha256 == teacher.sha256
    assert torch.equal(pair.teacher.trace(pictures).embedding, teacher.trace(pictures).embedding)
    assert pair.distortion.spec == "pixel_mask(fraction=0.5)"
    assert pair.card["config"]["steps"] == 3
    assert [record["step"] for record in pair.history] == [1, 2, 3]
    assert "student of vit_tiny" in pair.student.source


def test_loading_does_not_touch_the_teacher(folder: Path, teacher: Backbone) -> None:
    before = state_digest(teacher.module.state_dict())
    load_pair(folder, teacher=teacher)
    assert state_digest(teacher.module.state_dict()) == before


def test_another_teacher_is_refused(folder: Path) -> None:
    other = load_backbone(NAME, image_size=32, source="random", seed=1, device="cpu")
    with pytest.raises(PairError, match=r"trained from 'vit_tiny.*seed 0.*at hand is 'vit_tiny.*seed 1"):
        load_pair(folder, teacher=other)


def test_a_teacher_that_normalises_otherwise_is_refused(folder: Path, teacher: Backbone) -> None:
    with pytest.raises(PairError, match=r"by .*0\.5, 0\.5, 0\.5.*the one at hand.*0\.4, 0\.5, 0\.5"):
        load_pair(folder, teacher=replace(teacher, mean=(0.4, 0.5, 0.5)))


def test_other_weights_under_the_same_name_are_refused(own: Path) -> None:
    weights = json.loads((own / CARD).read_text())["weights"]
    changed(own / CARD, weights={**weights, "seed": 3})
    with pytest.raises(PairError, match="at hand"):
        load_pair(own, device="cpu")


def test_another_image_size(tmp_path: Path, teacher: Backbone, folder: Path) -> None:
    """An adapter fits any size; a position embedding that was trained is resampled."""
    larger = load_backbone(NAME, image_size=48, source="random", device="cpu")
    object.__setattr__(larger, "sha256", teacher.sha256)  # random weights differ between sizes; pretrained ones do not
    assert load_pair(folder, teacher=larger).student.grid == (3, 3)
    student = trained(teacher, "all")
    pair = load_pair(written(tmp_path / "all", teacher, student, "all"), teacher=larger)
    assert pair.student.module.pos_embed.shape[1] == 10
    assert torch.equal(pair.student.module.blocks[3].attn.qkv.weight, student.module.blocks[3].attn.qkv.weight)
    with pytest.raises(ValueError, match="image_size=64 was asked for"):
        load_pair(folder, teacher=larger, image_size=64)
    with pytest.raises(ValueError, match="image_size"):
        load_pair(folder, image_size=0)


@pytest.mark.parametrize(
    ("trained_at", "size"), [((32, 128), 64), (64, (32, 128)), ((32, 48), (64, 96)), ((48, 80), 32), (32, 48)]
)
def test_a_student_s_positions_are_resampled_from_the_grid_that_it_was_trained_in(
    tmp_path: Path, trained_at: int | tuple[int, int], size: int | tuple[int, int]
) -> None:
    """A grid of 2 x 8 has as many positions as one of 4 x 4. By torch alone, and by the untouched copy, which is the
    teacher at any size."""
    drawn = load_backbone(NAME, image_size=trained_at, source="random", device="cpu")
    student = trained(drawn, "all")
    pair = load_pair(written(tmp_path / "trained", drawn, student, "all"), image_size=size, device="cpu")
    stored = student.module.state_dict()["pos_embed"]
    planes = torch.stack([vector.reshape(drawn.grid) for vector in stored[0, 1:].T])[None]
    moved = torch.nn.functional.interpolate(planes, pair.teacher.grid, mode="bicubic", antialias=True)
    found = pair.student.module.state_dict()["pos_embed"]
    torch.testing.assert_close(found[0, 1:], moved[0].flatten(1).T, atol=1e-6, rtol=0)
    assert torch.equal(found[0, 0], stored[0, 0])

    copied = load_pair(written(tmp_path / "copied", drawn, drawn, "all"), image_size=size, device="cpu")
    images = torch.rand(1, 3, *copied.teacher.height_width, generator=torch.Generator().manual_seed(0))
    seen, expected = (side.trace(images) for side in (copied.student, copied.teacher))
    torch.testing.assert_close(seen.patches, expected.patches, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about how timm resamples them
def test_a_student_whose_last_blocks_hold_positions_opens_at_other_sizes(tmp_path: Path) -> None:
    """BEiT's are in its blocks. By the same student, kept whole."""
    drawn = load_backbone("beit_base_patch16_224", image_size=48, source="random", device="cpu")
    student = trained(drawn, "last:1")
    found, expected = (
        load_pair(written(tmp_path / how, drawn, student, how), image_size=32, device="cpu")
        for how in ("last:1", "all")
    )
    state, table = found.student.module.state_dict(), "blocks.11.attn.relative_position_bias_table"
    for name, tensor in expected.student.module.state_dict().items():
        torch.testing.assert_close(state[name], tensor, atol=1e-6, rtol=0)
    assert not torch.allclose(state[table], found.teacher.module.state_dict()[table], atol=1e-3), "it was trained"


@pytest.mark.parametrize("trainable", ["all", "lora:3"])
def test_a_student_of_a_random_teacher_opens_at_other_sizes(
    tmp_path: Path, teacher: Backbone, folder: Path, trainable: str
) -> None:
    own = folder if trainable != "all" else written(tmp_path / "all", teacher, trained(teacher, "all"), "all")
    larger, again = (load_pair(own, image_size=size, device="cpu") for size in (48, 32))
    assert (larger.teacher.grid, larger.student.grid, larger.teacher.sha256) == ((3, 3), (3, 3), teacher.sha256)
    assert "drawn for 32 x 32 px" in larger.teacher.source
    assert again.teacher.source == teacher.source
    for name, tensor in larger.teacher.module.state_dict().items():
        assert name == "pos_embed" or torch.equal(tensor, teacher.module.state_dict()[name])
    onward = written(tmp_path / "onward", larger.teacher, larger.teacher, "last:1")  # its student, at any size
    for size, expected in ((None, larger.teacher), (32, teacher)):
        found = load_pair(onward, image_size=size, device="cpu").teacher
        assert state_digest(found.module.state_dict()) == state_digest(expected.module.state_dict())


def test_a_random_teacher_that_was_drawn_for_another_size_says_what_to_do(folder: Path) -> None:
    with pytest.raises(PairError, match=r"leave the teacher out, load_pair\(..., image_size=...\)"):
        load_pair(folder, teacher=load_backbone(NAME, image_size=48, source="random", device="cpu"))


def test_cards_of_random_teachers_that_tell_no_size_are_of_the_one_that_was_trained_at(own: Path) -> None:
    weights = json.loads((own / CARD).read_text())["weights"]
    changed(own / CARD, weights={name: value for name, value in weights.items() if name != "image_size"})
    assert load_pair(own, image_size=48, device="cpu").teacher.grid == (3, 3)


def test_names(monkeypatch: pytest.MonkeyPatch, folder: Path, teacher: Backbone) -> None:
    monkeypatch.setattr(pairs, "asset_path", lambda _: folder.parent)
    assert list_pairs() == ["adapter"]
    assert load_pair("adapter", teacher=teacher).card["step"] == 3
    assert read_card("adapter")["trainable"] == "lora:3"
    with pytest.raises(PairError, match="did you mean 'adapter'"):
        load_pair("adaptor")


def test_no_pair(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="holds no pair"):
        load_pair(tmp_path)
    with pytest.raises(PairError, match="no pair 'nowhere/at/all'"):
        load_pair("nowhere/at/all")


# Damage and malice.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "reads format 1"),
        ({"backbone": None}, "'backbone' should be str"),
        ({"step": True}, "'step' should be int"),
        ({"image_size": [32]}, "image_size"),
        ({"image_size": [32, 10**6]}, "image_size"),
        ({"weights": {}}, "description and a sha256"),
        ({"weights": {"sha256": "0", "description": "", "seed": -1}}, "seed"),
        ({"weights": {"sha256": "0", "description": "", "seed": 0, "image_size": [32, 1e9]}}, "image_size"),
        ({"trainable": "everything"}, "'lora:8'"),
        ({"distortion": "gaussian_nose"}, "gaussian_noise"),
        ({"data": {"begun_from": [1]}}, "'begun_from' should have step"),
        ({"data": {"begun_from": {"step": 1, "image_size": [32, 32], "config": {}}}}, "'begun_from' should have step"),
        ({"student_sha256": "0" * 64}, "do not belong together"),
        ({"trainable": "lora:4"}, "should hold floats of the shape"),
        ({"trainable": "last:1"}, "missing"),
        ({"trainable": "all"}, "missing"),
    ],
)
def test_tampered_cards(own: Path, teacher: Backbone, fields: dict, message: str) -> None:
    changed(own / CARD, **fields)
    with pytest.raises(PairError, match=message):
        load_pair(own, teacher=teacher)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10_000, "null"])
def test_unreadable_cards(own: Path, content: str) -> None:
    (own / CARD).write_text(content)
    with pytest.raises(PairError, match=CARD):
        load_pair(own)


def tampered_student(own: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Changed tensors with a card that was made to fit them."""
    tensors = safetensors.torch.load_file(own / STUDENT)
    change(tensors)
    safetensors.torch.save_file(tensors, own / STUDENT)
    changed(own / CARD, student_sha256=state_digest(tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.0.attn.qkv.lora_A.weight"), "1 missing .blocks.0.attn.qkv.lora_A"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown .extra"),
        (lambda t: t["blocks.0.attn.qkv.lora_A.weight"].fill_(torch.nan), "not finite"),
        (lambda t: t.update({"blocks.0.attn.qkv.lora_A.weight": torch.zeros(3, 192, dtype=torch.int64)}), "floats"),
    ],
)
def test_tampered_students(own: Path, teacher: Backbone, change: Callable, message: str) -> None:
    tampered_student(own, change)
    with pytest.raises(PairError, match=message):
        load_pair(own, teacher=teacher)


def test_one_flipped_bit_is_noticed(own: Path, teacher: Backbone) -> None:
    content = bytearray((own / STUDENT).read_bytes())
    content[-5] ^= 1
    (own / STUDENT).write_bytes(content)
    with pytest.raises(PairError, match="do not belong together"):
        load_pair(own, teacher=teacher)


@pytest.mark.parametrize("name", [STUDENT, HISTORY])
def test_missing_and_truncated_files(own: Path, teacher: Backbone, name: str) -> None:
    content = (own / name).read_bytes()
    (own / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(PairError, match=name):
        load_pair(own, teacher=teacher)
    (own / name).unlink()
    with pytest.raises(PairError, match=f"{name} is missing"):
        load_pair(own, teacher=teacher)


class Evil:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_opened(own: Path, tmp_path: Path, teacher: Backbone) -> None:
    torch.save(Evil(tmp_path / "ran"), own / STUDENT)
    with pytest.raises(PairError, match="safetensors"):
        load_pair(own, teacher=teacher)
    (own / STUDENT).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(PairError, match="safetensors"):
        load_pair(own, teacher=teacher)
    assert not (tmp_path / "ran").exists()


# One file.


def test_there_and_back(folder: Path, tmp_path: Path, teacher: Backbone) -> None:
    file = export_pair(folder, tmp_path / "pair.zip")
    into = import_pair(file, tmp_path / "new" / "pair")
    assert {path.name for path in into.iterdir()} == {STUDENT, CARD, HISTORY}
    for name in (STUDENT, HISTORY):
        assert (into / name).read_bytes() == (folder / name).read_bytes()
    assert load_pair(into, teacher=teacher).card == load_pair(folder, teacher=teacher).card


def test_half_precision(folder: Path, tmp_path: Path, teacher: Backbone, pictures: Tensor) -> None:
    whole, half = (export_pair(folder, tmp_path / f"{half}.zip", half=half) for half in (False, True))
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    full = load_pair(folder, teacher=teacher).student.trace(pictures).embedding
    rounded = load_pair(import_pair(half, tmp_path / "half"), teacher=teacher).student.trace(pictures).embedding
    assert torch.cosine_similarity(full, rounded, dim=-1).min() > 0.9999
    assert not torch.equal(full, rounded)


def zipped(path: Path, folder: Path, **extra: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (CARD, HISTORY, STUDENT):
            archive.writestr(name, extra.pop(name, (folder / name).read_bytes()))
        for name, content in extra.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/card.json", "..\\evil", "evil.py", "optimizer.safetensors", CARD]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_only_the_three_files_are_taken(folder: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(zipped(tmp_path / "evil.zip", folder), "a") as archive:
        archive.writestr(name, b"{}")
    with pytest.raises(PairError, match=r"expected exactly card\.json, history\.jsonl, student\.safetensors"):
        import_pair(tmp_path / "evil.zip", tmp_path / "deep" / "into")
    assert not (tmp_path / "deep" / "into").exists()
    assert {path.name for path in tmp_path.rglob("*")} == {"evil.zip", "deep"}


def test_a_file_with_too_little(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive:
        archive.write(folder / CARD, CARD)
    with pytest.raises(PairError, match="expected exactly"):
        import_pair(tmp_path / "small.zip", tmp_path / "into")


def test_what_unpacks_to_too_much(folder: Path, tmp_path: Path) -> None:
    file = zipped(tmp_path / "bomb.zip", folder, **{CARD: b" " * (2 << 20)})
    with pytest.raises(PairError, match=r"card\.json in this file unpacks to more than 1 MiB"):
        import_pair(file, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_what_is_wrong_inside(folder: Path, tmp_path: Path) -> None:
    file = zipped(tmp_path / "wrong.zip", folder, **{STUDENT: pickle.dumps(Evil(tmp_path / "ran"))})
    with pytest.raises(PairError, match="safetensors"):
        import_pair(file, tmp_path / "into")
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.zip"]


def test_no_zip(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(PairError, match="cannot be read as a zip"):
        import_pair(tmp_path / "text.zip", tmp_path / "into")
    with pytest.raises(FileNotFoundError):
        import_pair(tmp_path / "nothing.zip", tmp_path / "into")


def test_nothing_is_overwritten(folder: Path, own: Path, tmp_path: Path) -> None:
    file, before = export_pair(folder, tmp_path / "pair.zip"), (own / CARD).read_bytes()
    with pytest.raises(FileExistsError, match="there already"):
        import_pair(file, own)
    assert (own / CARD).read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert import_pair(file, tmp_path / "empty") == tmp_path / "empty"


def test_a_card_holds_json_alone(teacher: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        unwrap(pairs.write_pair)(tmp_path, {}, {"metrics": float("nan")}, [])


def test_put_in_takes_an_untouched_module(teacher: Backbone, folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / STUDENT)
    once = put_in(copy.deepcopy(teacher.module), Trainable("lora", 3), tensors)
    name = "blocks.0.attn.qkv"
    expected = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    torch.testing.assert_close(
        once.blocks[0].attn.qkv.weight - teacher.module.blocks[0].attn.qkv.weight, expected, atol=1e-6, rtol=1e-4
    )
