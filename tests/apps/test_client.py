"""The named endpoints, asked by `gradio_client` as programs ask them."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pictures
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from serving import Served

import explorer as ex
from explorer.inspection.comparison import VIEWS
from explorer.models.pairs import read_card
from explorer.system.files import asset_path
from explorer_app.service import models

pytestmark = pytest.mark.weights

OWL = asset_path("photos") / "farm_animal" / "owl.webp"
NOISE = "gaussian_noise(sigma=0.3)"
AGREEMENT = {"cls_cosine", "patch_cosine", "attention_kl", "attention_js", "attention_iou", "cka"}
MAPS = ("clean_attention", "teacher_attention", "student_attention", "student_clean_attention")


@pytest.fixture(scope="module")
def client(app: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    opened = Client(app.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def owl(s14: ex.Backbone) -> ex.Comparison:
    """What the library itself makes of the owl."""
    return ex.compare(s14, ex.load_image(OWL, size=224), NOISE)


def compare(client: Client, image: Any = OWL, **given: Any) -> tuple[list[Image.Image], dict[str, Any]]:
    """The pictures and the numbers of `/compare`."""
    return answer(client, "/compare", image, **given)


def answer(client: Client, endpoint: str, image: Any, **given: Any) -> tuple[list[Image.Image], dict[str, Any]]:
    *paths, numbers = client.predict(image=handle_file(image), api_name=endpoint, **given)
    opened = [Image.open(path) for path in paths]
    assert {picture.format for picture in opened} == {"PNG"}
    return opened, numbers


def test_the_endpoints_are_described(client):
    described = client.view_api(return_format="dict")["named_endpoints"]
    names = {endpoint: [each["parameter_name"] for each in call["parameters"]] for endpoint, call in described.items()}
    assert names == {
        "/compare": ["image", "distortion", "backbone", "pair", "layer", "head", "size", "seed"],
        "/patch_similarity": ["image", "distortion", "backbone", "pair", "row", "col", "layer", "size", "seed"],
        "/distill": ["backbone", "distortion", "cls", "patch", "attention", "steps", "size", "seed"],
        "/embed": ["backbone", "pair", "distortion", "method", "seed", "size"],
        "/sweep": ["backbone", "pair", "distortion", "values", "seed", "pictures", "size"],
    }


def test_the_printed_example_works_in_a_copy_of_the_project(client, monkeypatch):
    parameters = client.view_api(return_format="dict")["named_endpoints"]["/compare"]["parameters"]
    example = next(each["example_input"] for each in parameters if each["parameter_name"] == "image")
    monkeypatch.chdir(Path(ex.__file__).parents[1])
    assert answer(client, "/compare", example["path"])[0]


def test_compare_gives_what_the_library_computes(client, owl):
    (figure, clean, distorted, *panes), numbers = compare(client, distortion=NOISE)
    assert figure.width > 600
    assert [picture.size for picture in (clean, distorted)] == [(224, 224)] * 2
    assert len(panes) == len(VIEWS)
    assert all(min(pane.size) >= 224 for pane in panes)
    np.testing.assert_allclose(np.asarray(clean) / 255, owl.clean.permute(1, 2, 0), atol=1 / 255)
    np.testing.assert_allclose(np.asarray(distorted) / 255, owl.distorted.clamp(0, 1).permute(1, 2, 0), atol=1 / 255)
    assert set(numbers) >= AGREEMENT
    expected = owl.numbers()
    for key in AGREEMENT:
        assert numbers[key] == pytest.approx(expected[key], abs=1e-4)
        assert numbers["teacher"][key] == numbers["student"][key], "the student is the untouched copy"
    assert numbers["grid"] == [16, 16]
    assert numbers["untouched_student"] is True
    for key in MAPS:
        assert np.shape(numbers[key]) == (16, 16)
        np.testing.assert_allclose(numbers[key], expected[key], atol=1e-5)
        assert 0 < np.sum(numbers[key]) <= 1 + 1e-6
    assert not np.allclose(numbers["clean_attention"], numbers["teacher_attention"], atol=1e-3)


def test_layer_head_and_seed_are_obeyed(client, owl):
    for layer, head in ((3, "2"), (-2, "max"), (0, "mean")):
        which = head if head in ("mean", "max") else int(head)
        numbers = compare(client, distortion=NOISE, layer=layer, head=head)[1]
        np.testing.assert_allclose(numbers["student_attention"], owl.maps(layer, which)["student_distorted"], atol=1e-5)
        assert (numbers["layer"], numbers["head"]) == (layer % 12, which)
    other = compare(client, distortion=NOISE, seed=7)[1]
    assert other["clean_attention"] == compare(client, distortion=NOISE)[1]["clean_attention"]
    assert not np.allclose(other["teacher_attention"], owl.numbers()["teacher_attention"], atol=1e-4)


def test_no_distortion_is_full_agreement(client):
    numbers = compare(client, distortion="none")[1]
    assert numbers["cls_cosine"] == pytest.approx(1, abs=1e-5)
    assert numbers["attention_js"] == pytest.approx(0, abs=1e-6)
    assert numbers["teacher_attention"] == numbers["clean_attention"]


def test_another_size_has_another_grid(client):
    (_, clean, distorted, *_), numbers = compare(client, distortion="gaussian_blur(kernel=21, sigma=4)", size=336)
    assert clean.size == distorted.size == (336, 336)
    assert numbers["grid"] == [24, 24]
    assert np.shape(numbers["teacher_attention"]) == (24, 24)


def test_patch_similarity_gives_what_the_library_computes(client, owl):
    (figure, *panes), numbers = answer(client, "/patch_similarity", OWL, distortion=NOISE, row=6, col=9)
    assert figure.width > 600
    assert len(panes) == len(VIEWS)
    assert numbers["query"] == [6, 9]
    for name, expected in owl.similarity(6, 9).items():
        got = np.array(numbers["similarity"][name])
        np.testing.assert_allclose(got, expected, atol=1e-4)
        assert list(np.unravel_index(got.argmax(), got.shape)) == numbers["best_match"][name]
        assert np.abs(got).max() <= 1 + 1e-5
    assert numbers["best_match"]["teacher_clean"] == [6, 9]
    early = answer(client, "/patch_similarity", OWL, distortion=NOISE, row=6, col=9, layer=2)[1]
    np.testing.assert_allclose(
        early["similarity"]["teacher_distorted"], owl.similarity(6, 9, 2)["teacher_distorted"], atol=1e-4
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"distortion": "nonsense(sigma=1)"}, "nonsense"),
        ({"distortion": "gaussian_noise(sigma=99)"}, "sigma must lie from 0.0 to 2.0"),
        ({"backbone": "no_such_model"}, "unknown backbone 'no_such_model'"),
        ({"backbone": "resnet50"}, "convolutional network"),
        ({"backbone": "swin_tiny_patch4_window7_224"}, "inside of windows"),
        ({"pair": "somebody"}, "unknown student 'somebody'"),
        ({"layer": 40}, "layer 40"),
        ({"layer": None}, "expected a value for layer"),
        ({"head": "6"}, "heads go from 0 to 5"),
        ({"head": "middle"}, "'mean' or 'max'"),
        ({"size": 225}, "224, 336, 448"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_answered_in_words(client, given, words):
    with pytest.raises(AppError) as refused:
        compare(client, **{"distortion": NOISE, **given})
    assert words in str(refused.value)
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize("pair", ex.list_pairs())
def test_a_shipped_student_sees_through_its_damage(client, pair):
    card = read_card(pair)
    damage = card["distortion"].split(" | ")[0]  # of a mixture its first part
    _, numbers = compare(client, distortion=damage, pair=pair, backbone=card["backbone"])
    assert numbers["untouched_student"] is False
    assert numbers["student"]["cls_cosine"] > numbers["teacher"]["cls_cosine"] + 0.02
    assert numbers["student"]["attention_js"] < numbers["teacher"]["attention_js"]
    assert numbers["student_clean"]["cls_cosine"] < 1


def test_a_patch_outside_of_the_grid_is_refused(client):
    with pytest.raises(AppError, match="16"):
        answer(client, "/patch_similarity", OWL, distortion=NOISE, row=16, col=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.jpg", pictures.encoded(pictures.noise(300, 300), "JPEG")[:9000], "cut.jpg"),
        ("text.png", b"this is not a picture", "holds text"),
        ("bomb.png", pictures.bomb(), "too many pixels"),
        ("empty.png", b"", "empty"),
    ],
)
def test_bad_files_are_answered_in_words(client, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError) as refused:
        compare(client, tmp_path / name, distortion=NOISE)
    assert words in str(refused.value)
    assert "/" not in str(refused.value).split(name)[0], "a folder of the server is told"


def test_files_of_the_server_and_of_others_are_not_read(app):
    """A program may name any path or address; neither may be opened. None of the answers may hold a picture."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(OWL.read_bytes())

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{listener.server_port}/owl.webp"
    public = "https://example.org/owl.webp"
    for image in (
        {"path": str(OWL)},
        {"path": "/etc/passwd"},
        {"path": address, "url": address},
        {"path": public, "url": public},
    ):
        given = [{**image, "meta": {"_type": "gradio.FileData"}}, NOISE, "s14", models.UNTOUCHED, -1, "mean", 224, 0]
        body = json.dumps({"data": given}).encode()
        request = Request(f"{app.url}/gradio_api/call/compare", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as reply:
            event = json.load(reply)["event_id"]
        with urlopen(f"{app.url}/gradio_api/call/compare/{event}", timeout=60) as reply:
            said = reply.read().decode()
            assert said.startswith("event: error"), image
            assert "addresses are not fetched" in said or "url" not in image, said
    listener.shutdown()
    assert not asked


def test_six_clients_at_once_get_their_own_numbers(app, s14, tmp_path):
    """Ten, for five minutes: tests/apps/test_load.py."""
    photos = ex.load_images("photos", size=224)
    chosen = [photos.path(index) for index in range(3, 203, 35)]
    expected = [ex.compare(s14, ex.load_image(path, size=224), NOISE).numbers() for path in chosen]
    assert len({round(numbers["cls_cosine"], 4) for numbers in expected}) == 6
    got: dict[int, dict[str, Any]] = {}
    took: dict[int, float] = {}

    def ask(index: int, path: Path) -> None:
        client = Client(app.url, verbose=False, download_files=tmp_path / str(index))
        started = time.perf_counter()
        got[index] = compare(client, path, distortion=NOISE)[1]
        took[index] = time.perf_counter() - started
        client.close()

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(chosen)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    print(f"six clients at once: the last was answered after {max(took.values()):.1f} s")
    assert sorted(got) == list(range(6))
    for index, numbers in enumerate(expected):
        assert got[index]["cls_cosine"] == pytest.approx(numbers["cls_cosine"], abs=1e-4)
        np.testing.assert_allclose(got[index]["student_attention"], numbers["student_attention"], atol=1e-5)


def test_distill_streams_a_record_for_each_step_and_gives_a_student(client):
    job = client.submit("s14", NOISE, cls=1, patch=0.5, attention=0, steps=3, size=112, seed=0, api_name="/distill")
    records = list(job)
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        expected = record["losses"]["cls"] + 0.5 * record["losses"]["patch"]
        assert record["losses"]["loss"] == pytest.approx(expected, rel=1e-3)
    assert records[-1]["alignment"]["cls_cosine"] <= 1
    (pair,) = {record["pair"] for record in records}
    ours, plain = (compare(client, distortion=NOISE, pair=name)[1] for name in (pair, models.UNTOUCHED))
    assert ours["untouched_student"] is False
    assert ours["student_attention"] != plain["student_attention"]
    assert ours["teacher_attention"] == plain["teacher_attention"]


def test_a_cancelled_job_makes_room(client):
    job = client.submit("s14", NOISE, steps=2000, size=112, api_name="/distill")
    while len(job.outputs()) < 1:
        time.sleep(0.1)
    job.cancel()
    after = client.submit("s14", NOISE, steps=1, size=112, api_name="/distill").result(timeout=120)
    assert after["step"] == 1, "its turn came"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"distortion": "gaussian_nois"}, "gaussian_noise"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**6}, "may take 2000 steps"),
        ({"cls": 0, "patch": 0, "attention": 0}, "weight"),
        ({"size": 113}, "113"),
        ({"backbone": "resnet50", "size": 112}, "resnet50"),
    ],
)
def test_what_cannot_be_distilled_is_told(client, given, words):
    asked = {"backbone": "s14", "distortion": NOISE, "steps": 2, "size": 112, **given}
    with pytest.raises(AppError, match=words):
        client.predict(**asked, api_name="/distill")


# ---------------------------------------------------------------- many pictures


def frame(table: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(table["data"], columns=table["headers"])


def test_embed_gives_a_table_of_all_photos(client):
    table, about = client.predict(backbone="s14", pair="s14-noise", distortion=NOISE, api_name="/embed")
    rows = frame(table)
    assert len(rows) == 4 * 207
    assert {"x", "y", "view", "index", "label", "displacement", "name"} == set(rows.columns)
    measures = {row["view"]: row for row in about["measures"]}
    mean = rows[rows["view"] == "student_distorted"]["displacement"].astype(float).mean()
    assert measures["student_distorted"]["displacement"] == pytest.approx(mean, abs=1e-6)
    assert measures["teacher_clean"]["retrieval"] is None
    assert measures["student_distorted"]["retrieval"] > 5 * measures["teacher_distorted"]["retrieval"]
    again, _ = client.predict(backbone="s14", pair="s14-noise", distortion=NOISE, api_name="/embed")
    assert again == table


def test_sweep_gives_what_the_library_measures(client):
    table, about = client.predict(
        backbone="s14", pair="s14-noise", distortion="gaussian_noise", values="0.1, 0.5", pictures=4, api_name="/sweep"
    )
    rows = frame(table).set_index(["network", "value"])
    pair = ex.load_pair("s14-noise")
    expected = ex.sweep(pair, ex.load_images("photos", size=224, limit=4), "gaussian_noise", (0.1, 0.5), batch_size=4)
    for network in ("teacher", "student"):
        for place, value in enumerate((0.1, 0.5)):
            found = float(rows.loc[(network, value), "cls_cosine"])
            assert found == pytest.approx(expected.rows[network][place]["cls_cosine"], abs=1e-4)
    assert about["pictures"] == 4
    assert about["never_trained"] is False
    assert about["trained_on"] == pair.distortion.spec


@pytest.mark.parametrize(
    ("endpoint", "given", "message"),
    [
        ("/embed", {"method": "tsne"}, "umap"),
        ("/embed", {"pair": "../secret"}, "unknown student"),
        ("/sweep", {"values": "a few"}, "strengths are numbers"),
        ("/sweep", {"distortion": "none"}, "exactly one operator"),
        ("/sweep", {"pictures": 0}, "at least 1"),
    ],
)
def test_bad_requests_for_tables_are_told(client, endpoint, given, message):
    asked = {"backbone": "s14", "pair": "s14-noise", "distortion": NOISE, **given}
    with pytest.raises(AppError, match=message):
        client.predict(**asked, api_name=endpoint)
