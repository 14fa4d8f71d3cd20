"""Pairs on a model hub, which is one on this machine here: what was pushed is loaded, and a refusal is one line."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer import Pair, load_pair, push_pair
from explorer.models import hub
from explorer.models.pairs import MAX_BYTES
from tests.hub_server import TOKEN, Hub
from tests.models.test_export import on_disk, pictures

ROOT = Path(__file__).parents[2]


def with_hub(endpoint: str, home: Path, script: str, *words: object, token: str = TOKEN) -> Any:
    """What a script prints as JSON in a process of its own: the hub's client reads its settings when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_TOKEN": token}
    environment |= {"HF_HUB_DISABLE_XET": "1"}  # which speaks with servers of its own
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", f"import json, sys\nimport explorer as ex\n{script}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


PUSH_AND_LOAD = """
first, second = (ex.load_pair(folder, device="cpu") for folder in sys.argv[1:3])
told = {"first": ex.push_pair(first, "user/student"), "second": ex.push_pair(second, "user/student")}
told["hub"] = {}
for address in ("hf://user/student", told["first"]):
    pair = ex.load_pair(address, teacher=first.teacher)
    told["hub"][address] = [pair.card["hub"], pair.card["student_sha256"], len(pair.history), str(pair.folder)]
told["errors"] = {}
for address in sys.argv[3:]:
    try:
        ex.load_pair(address)
    except ex.RepositoryError as error:
        told["errors"][address] = str(error)
for repository in ("others/student", "user/full"):
    try:
        ex.push_pair(first, repository)
    except ex.RepositoryError as error:
        told["errors"][f"push {repository}"] = str(error)
print(json.dumps(told))
"""
COMMANDS = """
import contextlib, io
from explorer.cli.main import main
told = []
for words in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        code = main(["pairs", *words.split()])
    told.append((code, out.getvalue(), error.getvalue()))
print(json.dumps(told))
"""


Pushed = tuple[list[Pair], dict[str, Any], Hub, Path]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """Two pairs on a hub that is gone by now; what was told; the hub; where its client keeps what it fetched."""
    folder = tmp_path_factory.mktemp("hub")
    pairs = [on_disk(folder / "first"), on_disk(folder / "second", "lora:2")]
    refused = ("hf://user/nothing", "hf://secret/student", f"hf://user/student@{'0' * 40}")
    with Hub() as server:
        told = with_hub(server.endpoint, folder, PUSH_AND_LOAD, *(pair.folder for pair in pairs), *refused)
    return pairs, told, server, folder


def test_what_was_pushed_is_loaded_the_newest_or_one_for_ever(pushed: Pushed) -> None:
    (first, second), told, server, _ = pushed
    (old, _), (new, _) = server.commits["user/student"]
    assert (told["first"], told["second"]) == (f"hf://user/student@{old}", f"hf://user/student@{new}")
    newest, pinned = told["hub"]["hf://user/student"], told["hub"][told["first"]]
    assert newest[:3] == [told["second"], second.card["student_sha256"], 1]
    assert pinned[:3] == [told["first"], first.card["student_sha256"], 1]


def test_what_came_from_the_hub_computes_the_same(pushed: Pushed) -> None:
    (first, _), told, _, _ = pushed
    again = load_pair(told["hub"][told["first"]][3], teacher=first.teacher)
    images = pictures(first.student)
    assert torch.equal(again.student.trace(images).embedding, first.student.trace(images).embedding)


def test_the_repository_holds_the_folder_for_other_programs_and_no_pickle(pushed: Pushed) -> None:
    _, _, server, _ = pushed
    files = server.commits["user/student"][-1][1]
    pair = [f"pair/{name}" for name in MAX_BYTES]
    adapter = ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    assert sorted(files) == sorted(["README.md", "config.json", "model.safetensors", *adapter, *pair])
    assert b'ex.load_pair("hf://user/student")' in files["README.md"]
    fetched = [each.partition("/resolve/")[2].partition("/")[2] for each in server.asked if "/resolve/" in each]
    assert set(fetched) == {*pair}, "nothing else is fetched"


def test_weights_are_uploaded_as_large_files_each_once(pushed: Pushed) -> None:
    _, _, server, _ = pushed
    weights = {
        content
        for _, files in server.commits["user/student"]
        for name, content in files.items()
        if "safetensors" in name
    }
    sent = [each.removeprefix("PUT /large/") for each in server.asked if each.startswith("PUT /large/")]
    assert len(weights) > 3
    assert sorted(sent) == sorted(hashlib.sha256(content).hexdigest() for content in weights)
    assert server.asked.count("POST /verify") == len(sent)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("hf://user/nothing", "hf://user/nothing could not be fetched: the hub said 404; there is no such repository"),
        ("hf://secret/student", "hf://secret/student could not be fetched: the hub said 401; "),
        (f"hf://user/student@{'0' * 40}", "the hub said 404; there is no such repository, revision or file"),
        (
            "push others/student",
            "hf://others/student was not written: the hub said 403; you may not do this there: log in",
        ),
        ("push user/full", "hf://user/full was not written: the hub said 403; you may not do this there: log in"),
    ],
)
def test_a_hub_that_refuses_is_told_in_one_line(pushed: Pushed, asked: str, part: str) -> None:
    line = pushed[1]["errors"][asked]
    assert part in line
    assert "\n" not in line


def test_without_the_hub_one_commit_is_at_hand_and_the_rest_is_one_line(pushed: Pushed) -> None:
    (first, _), told, server, folder = pushed
    words = [told["first"], "hf://user/student", f"push {first.folder} user/student"]
    (table, *_), *refused = with_hub(server.endpoint, folder, COMMANDS, *words)
    assert table == 0
    for code, out, error in refused:
        assert (code, out, len(error.splitlines())) == (2, "", 1)
        assert "the hub does not answer" in error


def test_what_is_no_address_is_said(pushed: Pushed) -> None:
    (first, _), *_ = pushed
    for address in ("hf://user", "hf://user/name/more", "hf://user/name@", "hf://../name"):
        with pytest.raises(ValueError, match="expected an address such as hf://user/name"):
            load_pair(address)
    with pytest.raises(ValueError, match="expected the name of a repository such as user/name; got 'name'"):
        push_pair(first, "name")


def test_a_file_that_is_too_large_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub() as server:
        server.commits["user/large"] = []
        server.commit("user/large", {"pair/card.json": b"1" * 1000})
        url = f"{server.endpoint}/user/large/resolve/main/pair/card.json"
        monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *_, **__: url)
        with pytest.raises(hub.RepositoryError, match="has more than 0 MiB; it was not fetched"):
            hub.fetch("hf://user/large", {"pair/card.json": 999})
        assert server.asked == ["HEAD /user/large/resolve/main/pair/card.json"]
