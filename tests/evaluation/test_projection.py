"""Maps of features: scikit-learn's numbers, the same map every time, and a ruler that no other view can bend."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from explorer.evaluation import projection
from explorer.evaluation.projection import Projection, project, warm_up

PICTURES, DIM = 60, 16
BOTH = pytest.mark.parametrize("method", ["pca", "umap"])
ELSEWHERE = """
import sys, threading
import numpy as np
from numba.core import event
from explorer.evaluation import projection
from explorer.evaluation.projection import project

compiled = event.RecordingListener()
event.register("numba:compile", compiled)
features = dict(np.load(sys.argv[1]))
maps = [None, None]

def one(number):
    maps[number] = project(features, "umap", fit_on="clean", seed=3).coordinates

threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
np.savez(sys.argv[2], **{f"{name}{number}": maps[number][name] for name in features for number in range(2)})
functions = [happened.data["dispatcher"].py_func for _, happened in compiled.buffer if happened.is_start]
print(*[function.__qualname__ for function in functions if function.__module__.startswith("umap.")])
"""


def made() -> dict[str, np.ndarray]:
    """Three groups of pictures, and the same pictures somewhat and badly damaged."""
    random = np.random.default_rng(0)
    clean = random.normal(size=(PICTURES, DIM)) + 4 * random.normal(size=(3, DIM))[np.arange(PICTURES) % 3]
    clean = clean.astype(np.float32)
    noise = random.normal(size=(2, PICTURES, DIM)).astype(np.float32)
    return {"clean": clean, "some": clean + 0.3 * noise[0], "bad": clean + 2 * noise[1]}


def same(a: Projection, b: Projection, *names: str) -> bool:
    """Whether these views lie on the very same points."""
    return all(np.array_equal(a.coordinates[name], b.coordinates[name]) for name in names)


@pytest.fixture(scope="module")
def warmed() -> None:
    """umap is compiled."""
    warm_up()


def test_pca_is_that_of_scikit_learn() -> None:
    features = made()
    done = project(features, fit_on="some", components=3)
    oracle = PCA(3, svd_solver="full").fit(features["some"].astype(np.float64))
    for name, view in features.items():
        assert np.allclose(done.coordinates[name], oracle.transform(view.astype(np.float64)), atol=1e-10)
    assert done.explained == pytest.approx(oracle.explained_variance_ratio_)


def test_pca_axes_are_the_directions_of_greatest_variance() -> None:
    features = made()["clean"].astype(np.float64)
    done = project({"clean": features})
    values, vectors = np.linalg.eigh(np.cov(features.T))
    assert done.explained == pytest.approx(values[::-1][:2] / values.sum())
    shadow = (features - features.mean(0)) @ vectors[:, ::-1][:, :2]
    assert np.allclose(abs(done.coordinates["clean"]), abs(shadow))  # up to the sign of an axis


@BOTH
def test_the_same_map_every_time(method: str, warmed: None) -> None:
    first, second = (project(made(), method, seed=3) for _ in range(2))
    assert same(first, second, "clean", "some", "bad")


def test_another_seed_is_another_umap(warmed: None) -> None:
    assert not same(project(made(), "umap", seed=3), project(made(), "umap", seed=4), "clean")


@BOTH
def test_other_views_do_not_bend_the_ruler(method: str, warmed: None) -> None:
    features = made()
    full = project(features, method, fit_on="clean")
    turned = project({name: features[name] for name in ("bad", "some", "clean")}, method, fit_on="clean")
    fewer = project({name: features[name] for name in ("clean", "bad")}, method)
    assert same(full, turned, "clean", "some", "bad")
    assert same(full, fewer, "clean", "bad")
    assert list(turned.coordinates) == ["bad", "some", "clean"]


@BOTH
def test_the_map_is_that_of_the_fitted_view(method: str, warmed: None) -> None:
    features = made()
    assert not same(project(features, method), project(features, method, fit_on="bad"), "clean")
    assert same(project(features, method), project(features, method, fit_on="clean"), "clean", "bad")


@BOTH
def test_unchanged_features_stay_in_place(method: str, warmed: None) -> None:
    features = made()
    half = np.where(np.arange(PICTURES)[:, None] < 30, features["clean"], features["bad"])
    done = project({"teacher": features["clean"], "student": features["clean"].copy(), "half": half}, method)
    assert same(done, project({"teacher": features["clean"], "student": features["bad"]}, method), "teacher")
    assert np.array_equal(done.coordinates["teacher"], done.coordinates["student"])
    stayed = (done.coordinates["half"] == done.coordinates["teacher"]).all(axis=1)
    assert stayed.tolist() == [True] * 30 + [False] * 30


def test_of_many_pictures_umap_is_fitted_on_some(warmed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, features = project(made(), "umap"), made()
    monkeypatch.setattr(projection, "UMAP_FITTED", 45)
    done = project(
        {**features, "half": np.where(np.arange(PICTURES)[:, None] < 30, *[features["clean"], features["bad"]])}, "umap"
    )
    assert (whole.fitted, done.fitted, project(made()).fitted) == (PICTURES, 45, PICTURES)
    drawn = np.sort(np.random.default_rng(0).choice(PICTURES, 45, replace=False))
    alone = project({"clean": features["clean"][drawn]}, "umap")
    np.testing.assert_array_equal(done.coordinates["clean"][drawn], alone.coordinates["clean"])
    stayed = (done.coordinates["half"] == done.coordinates["clean"]).all(axis=1)
    assert stayed.tolist() == [True] * 30 + [False] * 30
    places, group = done.coordinates["clean"], np.arange(PICTURES) % 3
    distances = np.linalg.norm(places[:, None] - places[None, drawn], axis=2)
    distances[drawn, np.arange(45)] = np.inf
    assert (group[drawn][distances.argmin(axis=1)] == group).all(), "those that are laid on lie among their like"


@pytest.mark.parametrize("compared", [2000, pytest.param(50, marks=pytest.mark.slow)])
def test_umap_keeps_groups_together(warmed: None, monkeypatch: pytest.MonkeyPatch, compared: int) -> None:
    monkeypatch.setattr(projection, "_COMPARED", compared)
    done = project(made(), "umap", components=3)
    places, group = done.coordinates["some"], np.arange(PICTURES) % 3
    assert places.shape == (PICTURES, 3)
    distances = np.linalg.norm(places[:, None] - done.coordinates["clean"][None], axis=2)
    assert (group[distances.argmin(axis=1)] == group).all()
    assert done.explained is None
    assert same(done, project(made(), "umap", components=3), "some")


def test_two_maps_at_once_and_the_same_map_in_another_process(tmp_path: Path, warmed: None) -> None:
    """A fresh process is asked for two maps at once, where numba takes no two calls. It compiles nothing anew."""
    np.savez(tmp_path / "features.npz", **made())
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "features.npz"), str(tmp_path / "maps.npz")]
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"tau_rand_int", "tau_rand"}, "what umap compiles while it is imported"
    there = np.load(tmp_path / "maps.npz")
    here = project(made(), "umap", fit_on="clean", seed=3)
    for name, places in here.coordinates.items():
        assert np.array_equal(there[f"{name}0"], there[f"{name}1"])
        assert np.array_equal(there[f"{name}0"], places)


def test_umap_says_nothing_that_users_cannot_use(warmed: None) -> None:
    few = {name: view[:4] for name, view in made().items()}  # fewer pictures than neighbours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert project(few, "umap").coordinates["bad"].shape == (4, 2)


def test_warming_up_twice_does_nothing(warmed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_new_umap", lambda *_: pytest.fail("it warmed up a second time"))
    warm_up()


def test_displacement_against_a_loop() -> None:
    features = {name: view.astype(np.float64) for name, view in made().items()}
    done = project(features, fit_on="some")
    centre = features["some"].mean(axis=0)
    for name, view in features.items():
        for picture in range(PICTURES):
            a, b = view[picture] - centre, features["some"][picture] - centre
            expected = 1 - (a @ b) / (np.sqrt(a @ a) * np.sqrt(b @ b))
            assert done.displacement[name][picture] == pytest.approx(expected, abs=1e-12)
    assert (done.displacement["some"] == 0).all()
    assert done.displacement["bad"].mean() > 0.1


def test_displacement_of_a_picture_at_the_centre() -> None:
    fitted = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 2], [0, -2]])  # its mean is its first row
    moved = np.array([[0.0, 0], [0, 0], [1, 0], [0, 5], [3, 0]])
    done = project({"fitted": fitted, "moved": moved})
    assert done.displacement["moved"].tolist() == pytest.approx([0, 1, 2, 0, 1])


@pytest.mark.parametrize("labels", [None, ["cat", "dog", "cow"] * 20, torch.arange(3).repeat(20)])
def test_frame_has_a_row_for_each_picture_of_each_view(labels: Any) -> None:
    done = project(made(), labels=labels, components=3)
    frame = done.frame()
    assert list(frame.columns) == ["x", "y", "z", "view", "index", "label", "displacement"]
    assert list(project(made()).frame().columns[:3]) == ["x", "y", "view"]
    assert len(frame) == 3 * PICTURES
    row = frame[(frame["view"] == "bad") & (frame["index"] == 7)].iloc[0]
    assert row[["x", "y", "z"]].tolist() == done.coordinates["bad"][7].tolist()
    assert row["displacement"] == done.displacement["bad"][7]
    assert row["label"] == (None if labels is None else labels[7])
    assert labels is None or {type(label) for label in done.labels or ()} <= {int, str}


def test_torch_and_numpy_are_alike() -> None:
    tensors = {name: torch.from_numpy(view).requires_grad_() for name, view in made().items()}
    assert same(project(tensors), project(made()), "clean", "some", "bad")
    assert project({name: view.bfloat16() for name, view in tensors.items()}).coordinates["bad"].shape == (PICTURES, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "umpa"}, r"unknown method 'umpa'; did you mean umap\? There are: pca, umap"),
        ({"fit_on": "claen"}, r"'claen'; did you mean clean\? There are: clean, some, bad"),
        ({"components": 4}, "2 or 3; got 4"),
        ({"neighbours": 1}, "neighbours is at least 2; got 1"),
        ({"min_dist": 1.5}, "between 0 and 1; got 1.5"),
        ({"seed": -1}, "seed is a whole number"),
        ({"labels": [0, 1]}, "labels that do not fit: 2 labels for 60 pictures"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project(made(), **options)


def with_nan(view: np.ndarray) -> np.ndarray:
    """One number is missing."""
    view = view.copy()
    view[5, 2] = np.nan
    return view


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clean, bad: {}, "there is no view"),
        (lambda clean, bad: {"clean": clean, "bad": bad[:, :8]}, "'bad' have size 8 and those of 'clean' 16"),
        (lambda clean, bad: {"clean": clean, "bad": bad[:9]}, "'bad' has 9 pictures and 'clean' 60"),
        (lambda clean, bad: {"clean": clean, "bad": with_nan(bad)}, "'bad' has NaN .* 1 of 60 .* picture 5"),
        (lambda clean, bad: {"clean": clean / np.float32(0) if clean.any() else clean}, "NaN or infinite"),
        (lambda clean, bad: {"clean": clean[0]}, r"two axes, \(image, dim\); 'clean' has shape \(16,\)"),
        (lambda clean, bad: {"clean": clean[:1]}, "needs at least . pictures; 'clean' has 1"),
        (lambda clean, bad: {"clean": clean[:0]}, "there are no pictures"),
        (lambda clean, bad: {"clean": clean[:2], "bad": bad[:2]}, "'clean' has 2"),
        (lambda clean, bad: {"clean": clean[:, :1]}, "size 1 cannot make a map of 2 axes"),
        (lambda clean, bad: {"clean": clean[:1].repeat(9, 0), "bad": bad[:9]}, "all 9 pictures of 'clean' have the sa"),
    ],
)
@BOTH
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_features_that_make_no_map(change: Any, message: str, method: str) -> None:
    features = made()
    with pytest.raises(ValueError, match=message):
        project(change(features["clean"], features["bad"]), method)


@BOTH
def test_how_few_pictures_are_enough(method: str, warmed: None) -> None:
    fewest = {"pca": 3, "umap": 4}[method]
    few = made()["clean"]
    assert np.isfinite(project({"clean": few[:fewest]}, method).coordinates["clean"]).all()
    with pytest.raises(ValueError, match=f"at least {fewest} pictures"):
        project({"clean": few[: fewest - 1]}, method)


@pytest.mark.parametrize(("lost", "message"), [(3, "no place for some pictures of far: "), (8, "cannot lay out")])
def test_features_that_umap_can_place_nowhere(lost: int, message: str, warmed: None) -> None:
    line = np.outer(np.arange(1, 9), [1, 0.5])
    away = np.where(np.arange(8)[:, None] < lost, -1, 2)
    with pytest.raises(ValueError, match=rf'{message}.* use method="pca"'):
        project({"line": line, "far": away * line}, "umap")


def test_without_umap_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r'pip install "vit-explorer\[umap\]"; method="pca" needs nothing'):
        project(made(), "umap")
    assert project(made(), "pca").coordinates


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, explorer.evaluation.projection, explorer.evaluation.probes\n"
        "assert not {'sklearn', 'umap', 'numba', 'pandas', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
