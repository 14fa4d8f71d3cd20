"""What the views compute, as plain functions in a browser that draws nothing, against numpy and naive loops."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import fixtures
import numpy as np
import pytest
import torch
from contourpy import contour_generator
from playwright.sync_api import Browser

import explorer as ex
from explorer import metrics, web
from explorer.models.trace import Grid, Trace
from explorer.plots.style import scale_end
from explorer.web.linker import linked

pytestmark = pytest.mark.browser

Call = Callable[..., object]

LOAD = """async (sources) => {
  globalThis.modules = {};
  for (const [name, source] of Object.entries(sources)) {
    modules[name] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  }
}"""
CALL = """([text, values]) => {
  const plain = (node) => {
    if (ArrayBuffer.isView(node)) return Array.from(node);
    if (Array.isArray(node)) return node.map(plain);
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(Object.entries(node).map(([key, each]) => [key, plain(each)]));
  };
  return plain(new Function("modules", ...Object.keys(values), `return ${text}`)(modules, ...Object.values(values)));
}"""
FOLDER = Path(web.__file__).parent
PURE = (
    "arrays",
    "contours",
    "dense",
    "features",
    "format",
    "maps",
    "normscharts",
    "recoverycurves",
    "sayings",
    "scales",
    "settings",
    "sweepdata",
    "sweepgeometry",
)


@pytest.fixture(scope="module")
def call(browser: Browser) -> Iterator[Call]:
    """`call("modules.maps.topMass(map, 0.5)", map=[...])`: what the expression gives."""
    page = browser.new_page()
    page.evaluate(
        LOAD,
        {name: linked(name, lambda module: (FOLDER / f"{module}.js").read_text(encoding="utf-8")) for name in PURE},
    )
    yield lambda text, **values: page.evaluate(CALL, [text, values])
    page.close()


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


# ---------------------------------------------------------------- arrays


def test_a_sentence_says_what_is_kept(call: Call) -> None:
    numbers = {"teacher": {"cls_cosine": 0.166}, "student": {"cls_cosine": 0.894}}
    tell = "modules.sayings.tellKept(damage, numbers, untouched)"
    told = call(tell, damage="Gaussian noise 0.3", numbers=numbers, untouched=False)
    assert told.startswith("Gaussian noise 0.3 costs the teacher 83 % of its agreement")
    assert "the student keeps 89 %" in told
    assert "untouched copy" in call(tell, damage="fog", numbers=numbers, untouched=True)
    assert call(tell, damage="no damage", numbers=numbers, untouched=False).startswith("Nothing is damaged")
    found = "modules.sayings.tellFound(teacher, student, false)"
    assert call(found, teacher=5.2, student=1.0).endswith(
        "finds this patch 5 patches away, the student one patch away."
    )
    assert call(found, teacher=0, student=None) == ""
    assert "3 % of the pictures" in call("modules.sayings.tellNearest(0.03, 0.9, false)")
    assert call("modules.sayings.tellNearest(undefined, 0.9, false)") == ""
    assert "after step 60 it keeps 92 %" in call("modules.sayings.tellLearned(0.7, 0.921, 60)")
    assert "costs the teacher 100 %" in call(
        tell, damage="fog", numbers={"teacher": {"cls_cosine": -0.2}}, untouched=False
    )
    assert call(tell, damage="fog", numbers={}, untouched=False) == ""


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("foreground", "the teacher's foreground overlaps the clean one by 69 %, {}'s by 87 %."),
        ("clusters", "69 % of the teacher's patches stay in their cluster, 87 % of {}'s."),
        ("matches", "the teacher finds 69 % of the patches within one patch of their place, {} 87 %."),
        ("labels", "69 % of the teacher's patches keep their label, 87 % of {}'s."),
    ],
)
def test_a_sentence_says_what_patches_still_know(call: Call, mode: str, said: str) -> None:
    tell = "modules.sayings.tellShared(mode, teacher, student, untouched)"
    asked = {"mode": mode, "teacher": 0.69, "untouched": False}
    assert call(tell, student=0.87, **asked) == f"Under the damage {said.format('the student')}"
    assert call(tell, student=[["mix", 0.87], ["none", None]], **asked) == f"Under the damage {said.format('mix')}"
    copied = call(tell, student=0.69, **{**asked, "untouched": True})
    assert copied == f"Under the damage {said.split(', ')[0]}. The student is its untouched copy.".replace("..", ".")
    assert call("modules.sayings.tellShared(mode, undefined, 0.5, false)", mode=mode) == ""


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((1.0, 0.38, 0.88), "Fog 3 takes 62 % of the teacher's score; the student wins 81 % of it back."),
        ((0.5, 0.1, 0.6), "Fog 3 takes 80 % of the teacher's score; the student wins all of it back."),
        ((1.0, -0.4, 0.3), "Fog 3 takes 100 % of the teacher's score; the student wins 50 % of it back."),
        ((1.0, 0.5, 0.5), "Fog 3 takes 50 % of the teacher's score; the student wins nothing back."),
        ((1.0, 0.5, 0.4), "Fog 3 takes 50 % of the teacher's score; the student loses even more."),
        ((0.5, 0.6, 0.55), "Fog 3 takes nothing of the teacher's score; the student has 110 % of it."),
        ((0.5, 0.25, None), "Fog 3 takes 50 % of the teacher's score."),
        ((-0.1, 0.2, 0.3), ""),
        ((0.5, None, 0.3), ""),
    ],
)
def test_a_sentence_says_what_becomes_of_the_score(call: Call, scores: tuple, said: str) -> None:
    numbers = {
        who: value for who, value in zip(("clean", "teacher", "student"), scores, strict=True) if value is not None
    }
    tell = "modules.sayings.tellScore(damage, numbers, untouched)"
    assert call(tell, damage="Fog 3", numbers=numbers, untouched=False) == said
    if said:
        copied = call(tell, damage="", numbers=numbers, untouched=True)
        assert copied.startswith("The damage takes ")
        assert copied.endswith("The student is its untouched copy.")


def test_nothing_is_lost_where_nothing_is_damaged(call: Call) -> None:
    numbers = {"clean": 0.5, "teacher": 0.5, "student": 0.45}
    told = call("modules.sayings.tellScore('no damage', numbers, false)", numbers=numbers)
    assert told == "Nothing is damaged: the teacher keeps its score; the student has 90 % of it."


@pytest.mark.parametrize("sharpness", [0, 1, 8])
def test_one_scale_ends_where_the_librarys_does(call: Call, generator: np.random.Generator, sharpness: int) -> None:
    """A flat map, one like those of DINO, and one with a few patches far above the others."""
    maps = np.exp(sharpness * generator.normal(size=(4, 256))).astype(np.float32)
    found = call("modules.arrays.scaleEnd(maps)", maps=maps.tolist())
    assert found == pytest.approx(scale_end(*maps), rel=1e-6)
    assert (found < maps.max()) == (sharpness > 1)
    maps[:] = 0
    maps[0, 3] = 0.9
    assert call("modules.arrays.scaleEnd(maps)", maps=maps.tolist()) == pytest.approx(0.9)
    assert scale_end(*maps) == pytest.approx(0.9)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "float32"])
def test_arrays_come_out_as_they_went_in(call: Call, generator: np.random.Generator, dtype: str) -> None:
    values = generator.uniform(0, 120, (3, 4)).astype(dtype)
    got = call("modules.arrays.decodeArray(spec)", spec=fixtures.encode(values, scale=0.5))
    assert (got["shape"], got["scale"]) == ([3, 4], 0.5)
    np.testing.assert_array_equal(got["values"], values.ravel())
    np.testing.assert_allclose(
        call(
            "modules.arrays.scaledSlice(modules.arrays.decodeArray(spec), 4, 4)",
            spec=fixtures.encode(values, scale=0.5),
        ),
        values[1] * 0.5,
    )


def test_what_is_nearest_largest_and_between(call: Call) -> None:
    assert call("modules.arrays.nearestAt([0, 4, 8], 6)") == 1, "of two as near, the first"
    assert call("modules.arrays.nearestAt([0, 4, 8], 7)") == 2
    assert call("modules.arrays.listNearest([3, 7, 11], 8)") == 7
    assert call("modules.arrays.largestAt([1, 5, 5, 2])") == 1
    assert call("modules.arrays.extentOf([[3, 4], [-1]])") == [-1, 4]
    assert call("modules.arrays.extentOf([[3, 4]], 0, 0)") == [0, 4]
    assert call("modules.arrays.largest([[-3], [-4]])") == 0
    assert call("modules.arrays.tableOf(Float32Array.of(1, 2, 3, 1 / 3), 2, 2, 3)") == [[1, 2], [3, 0.333]]


# ---------------------------------------------------------------- maps


@pytest.fixture
def attention(generator: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Layer, head, patch: as numbers, and as it travels."""
    stored = generator.integers(0, 65535, (3, 4, 10)).astype("uint16")
    return stored / 65535, fixtures.encode(stored, scale=1 / 65535)


@pytest.mark.parametrize(
    ("head", "expected"), [(2, lambda x: x[2]), ("mean", lambda x: x.mean(0)), ("max", lambda x: x.max(0))]
)
def test_maps_of_heads(call: Call, attention: tuple[np.ndarray, dict], head: object, expected: Callable) -> None:
    exact, spec = attention
    got = call("modules.maps.mapOfHeads(modules.arrays.decodeArray(spec), head, 1)", spec=spec, head=head)
    np.testing.assert_allclose(got, expected(exact[1]), rtol=1e-6)


def test_one_scale_over_several_attentions(call: Call, attention: tuple[np.ndarray, dict]) -> None:
    exact, spec = attention
    halved = {**spec, "scale": spec["scale"] / 2}
    tops = "modules.maps.topsOf([half, whole].map(modules.arrays.decodeArray))"
    assert call(f"{tops}(3, 2)", half=halved, whole=spec) == pytest.approx(exact[2, 3].max())
    assert call(f"{tops}('mean', 0)", half=halved, whole=spec) == pytest.approx(exact[0].mean(0).max())


def test_divergence_is_symmetric_bounded_and_that_of_numpy(call: Call, generator: np.random.Generator) -> None:
    first, second = generator.uniform(0, 3, (2, 20))
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    expected = float(0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum())
    js = "modules.maps.jensenShannon(first, second)"
    assert call(js, first=first.tolist(), second=second.tolist()) == pytest.approx(expected)
    assert call(js, first=second.tolist(), second=first.tolist()) == pytest.approx(expected)
    assert call(js, first=[1, 0], second=[0, 5]) == pytest.approx(math.log(2))
    assert call(js, first=[1, 3], second=[2, 6]) == pytest.approx(0, abs=1e-12)
    assert call(js, first=[0, 0], second=[0, 0]) == 0


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_the_smallest_set_that_holds_a_share(call: Call, generator: np.random.Generator, share: float) -> None:
    values = generator.exponential(size=30)
    inside = np.array(
        call("modules.maps.topMass(Float64Array.from(map), share)", map=values.tolist(), share=share), bool
    )
    assert values[inside].sum() >= share * values.sum() * (1 - 1e-9)
    assert values[inside].sum() - values[inside].min() < share * values.sum()
    assert values[inside].min() >= values[~inside].max(initial=0)


@pytest.mark.parametrize(
    ("direction", "before", "after", "word"),
    [
        (1, 0.5, 0.6, "closer"),
        (-1, 0.5, 0.6, "farther"),
        (1, 0.5, 0.5049, "same"),
        (-1, 0.6, 0.5, "closer"),
        (1, None, 0.5, ""),
    ],
)
def test_judgements_follow_the_direction(call: Call, direction: int, before: float, after: float, word: str) -> None:
    asked = {"direction": direction, "before": before, "after": after}
    assert call("modules.maps.judged(direction, before, after, 0.005)", **asked) == word


# ---------------------------------------------------------------- features


def test_cosines_of_stored_rows(call: Call, generator: np.random.Generator) -> None:
    stored = generator.integers(-127, 128, (2, 12, 8)).astype("int8")
    stored[1, 3] = 0
    exact = stored / np.maximum(np.linalg.norm(stored.astype(float), axis=2, keepdims=True), 1)
    decoded = "modules.features.featuresOf(modules.arrays.decodeArray({}))".format
    asked = {"one": fixtures.encode(stored[0]), "other": fixtures.encode(stored[1])}
    got = call(f"modules.features.cosinesTo({decoded('other')}, {decoded('one')}, 5)", **asked)
    np.testing.assert_allclose(got, exact[1] @ exact[0, 5], atol=1e-6)
    assert got[3] == 0, "a row of zeros resembles nothing"
    assert call(f"modules.features.cosinesTo({decoded('one')}, {decoded('other')}, 3)", **asked) == [0] * 12


def test_ranks_begin_at_one_and_bear_rounding(call: Call) -> None:
    assert call("modules.features.rankOf(Float64Array.of(0.2, 0.9, 0.5, 0.9000000001), 1)") == 1
    assert call("modules.features.rankOf(Float64Array.of(0.2, 0.9, 0.5, 0.7), 2)") == 3


# ---------------------------------------------------------------- what patches know


def trace_of(stored: np.ndarray, rows: int, cols: int) -> Trace:
    """Features of patches alone, of one picture and one block."""
    return Trace(
        embedding=torch.zeros(1, stored.shape[1]),
        cls=None,
        patches=torch.tensor(stored[None, None], dtype=torch.float32),
        attention=None,
        layers=(0,),
        grid=Grid(rows, cols),
        prefix=0,
    )


@pytest.fixture(scope="module", params=[(16, 16, 384), (9, 14, 32)], ids=["16x16", "9x14"])
def seen(request: pytest.FixtureRequest) -> tuple[list[Trace], str, dict]:
    """Four views as traces of what is stored, and as they travel, with the expression that reads them."""
    rows, cols, dim = request.param
    stored = [fixtures.quantise(values) for values in fixtures.features(rows, cols, dim).values()]
    traces = [trace_of(values, rows, cols) for values in stored]
    views = "views.map((each) => modules.features.featuresOf(modules.arrays.decodeArray(each)))"
    asked = {"views": [fixtures.encode(values) for values in stored], "grid": {"rows": rows, "cols": cols}}
    return traces, views, asked


def flat(maps: tuple) -> np.ndarray:
    """View, patch."""
    return np.stack([each[0].flatten().numpy() for each in maps])


def test_the_foreground_is_the_librarys(call: Call, seen: tuple) -> None:
    traces, views, asked = seen
    expected = flat(ex.foreground(*traces))
    got = call(f"modules.dense.foregroundOf({views}, grid)", **asked)
    np.testing.assert_allclose(got, expected, atol=2e-4)
    masks = expected > 0
    shared = [(masks[0] & mask).sum() / (masks[0] | mask).sum() for mask in masks]
    overlaps = call("values.map((each) => modules.dense.overlapAbove(each, values[0]))", values=expected.tolist())
    assert overlaps == pytest.approx(shared)
    assert call("Number.isNaN(modules.dense.overlapAbove([-1], [0]))")


@pytest.mark.parametrize("clusters", [2, 6, 12])
def test_clusters_are_the_librarys(call: Call, seen: tuple, clusters: int) -> None:
    traces, views, asked = seen
    expected = flat(ex.patch_clusters(*traces, clusters=clusters))
    got = call(f"modules.dense.clustersOf({views}, {clusters})", **asked)
    np.testing.assert_array_equal(got, expected)
    same = call("values.map((each) => modules.dense.sameShare(each, values[0]))", values=expected.tolist())
    assert same == pytest.approx((expected == expected[0]).mean(axis=1))


def test_first_centres_of_many_patches_are_sought_among_some(call: Call) -> None:
    """The same ones as in the library."""
    stored = fixtures.quantise(fixtures.features(32, 33, 12)["teacher_clean"])
    trace = trace_of(stored, 32, 33)
    read = "modules.features.featuresOf(modules.arrays.decodeArray(view))"
    got = call(f"modules.dense.clustersOf([{read}], 5)[0]", view=fixtures.encode(stored))
    np.testing.assert_array_equal(got, ex.patch_clusters(trace, clusters=5).flatten())


def test_matches_are_the_librarys(call: Call, seen: tuple) -> None:
    traces, views, asked = seen
    cols = traces[0].grid.cols
    for place, other in enumerate(traces):
        expected = ex.patch_matches(traces[0], other)
        sought = "modules.dense.soughtPatches(grid)"
        got = call(
            f"(([first, ...rest], at) => modules.dense.matchesOf(first, [first, ...rest][at], {sought}, grid.cols))"
            f"({views}, {place})",
            **asked,
        )
        assert [each["sought"] for each in got] == list(range(traces[0].grid.patches))
        assert [list(divmod(each["found"], cols)) for each in got] == expected.positions[0].tolist()
        assert np.mean([each["right"] for each in got]) == pytest.approx(expected.share_right)
    cosines = [float(metrics.cosine(traces[0].patches[:, 0], each.patches[:, 0])) for each in traces]
    got = call(
        f"(([first, ...rest]) => [first, ...rest].map((each) => modules.dense.patchCosine(first, each)))({views})",
        **asked,
    )
    assert got == pytest.approx(cosines, abs=1e-5)


@pytest.mark.parametrize(("rows", "cols"), [(16, 16), (24, 25), (32, 32), (37, 50), (64, 64)])
def test_of_fine_grids_some_patches_are_matched(call: Call, rows: int, cols: int) -> None:
    got = call("modules.dense.soughtPatches({ rows, cols })", rows=rows, cols=cols)
    step = math.ceil(math.sqrt(rows * cols / 600))
    expected = np.arange(rows * cols).reshape(rows, cols)[step // 2 :: step, step // 2 :: step]
    assert got == expected.ravel().tolist()
    assert len(got) <= 650


def test_labels_are_carried_as_by_the_library(call: Call, seen: tuple) -> None:
    traces, views, asked = seen
    clicks = [(2, 3, 1), (7, 12, 2), (5, 5, 1), (8, 0, 6)]
    expected = [ex.propagate_labels(traces[0], each, clicks).flatten().tolist() for each in traces]
    given = [{"at": row * traces[0].grid.cols + col, "label": label} for row, col, label in clicks]
    carried = f"(carry => [carry([]), carry(clicks.slice(0, 1)), carry(clicks)])(modules.dense.createCarrier({views}))"
    nothing, one, all_of_them = call(carried, clicks=given, **asked)
    np.testing.assert_array_equal(all_of_them, expected)
    assert np.unique(nothing).tolist() == [0]
    assert np.unique(one).tolist() == [1]


# ---------------------------------------------------------------- axes and curves


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 0.41), (0, 12345), (2.2, 2.2004), (-7, -6)])
def test_ticks_are_round_and_lie_where_they_should(call: Call, low: float, high: float) -> None:
    around = call("modules.scales.ticksAround(low, high, 4)", low=low, high=high)
    within = call("modules.scales.ticksWithin(low, high, 4)", low=low, high=high)
    room = 1e-6 * (high - low)
    assert around[0] <= low + room
    assert around[-1] >= high - room
    assert all(low - room <= tick <= high + room for tick in within)
    assert 2 <= len(within) <= len(around) <= 9
    for ticks in (around, within):
        gaps = np.diff(ticks)
        np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)
        assert f"{gaps[0]:.6e}"[0] in "1259", "1, 2 or 5 times a power of ten"
    texts = [call("modules.scales.tickText(tick, ticks)", tick=tick, ticks=around) for tick in around]
    assert len(set(texts)) == len(texts), "no two ticks are written alike"


def test_steps_of_a_training_are_whole(call: Call) -> None:
    assert call("modules.scales.ticksAround(0, 3, 8, 1)") == [0, 1, 2, 3]


def test_a_moving_mean_leaves_gaps_as_gaps(call: Call, generator: np.random.Generator) -> None:
    values = generator.normal(size=72)
    values[10] = np.nan
    points = [[step, None if np.isnan(value) else value] for step, value in enumerate(values)]
    smoothed = "modules.recoverycurves.movingMean(points.map(([x, y]) => [x, y ?? NaN]))"
    got = call(f"{smoothed}.map(([, y]) => (Number.isNaN(y) ? null : y))", points=points)
    half = 3  # a 24th of the points
    assert got[10] is None
    for i, value in enumerate(got):
        if i != 10:
            assert value == pytest.approx(np.nanmean(values[max(0, i - half) : i + half + 1]))


def test_a_curve_breaks_where_there_is_no_number(call: Call) -> None:
    scale = "{ x: (step) => 10 * step, y: (value) => 100 - value }"
    assert (
        call(f"modules.recoverycurves.pathOf([[0, 1], [1, 2], [2, NaN], [3, 4]], {scale})")
        == "M0.0 99.0L10.0 98.0M30.0 96.0"
    )
    assert call("modules.recoverycurves.lastUpTo([[0, 1], [2, NaN], [3, 4]], 2)") == [0, 1]
    assert call("modules.recoverycurves.lastUpTo([[1, 1]], 0)") is None
    assert len(call("modules.recoverycurves.thinned(Array.from({ length: 2001 }, (_, i) => [i, i]))")) <= 402


def test_strengths_are_true_to_scale_unless_they_would_touch(call: Call) -> None:
    places = "modules.sweepgeometry.placesOf({ values, order: values.map((_, i) => i) }, 400)"
    wide = call(f"[{places}.xs, {places}.even, {places}.at(0.75)]", values=[0, 0.5, 1])
    left, middle, right = wide[0]
    assert not wide[1]
    assert (middle - left, wide[2] - left) == (
        pytest.approx((right - left) / 2),
        pytest.approx(0.75 * (right - left), abs=0.02),
    )
    xs, even = call(f"[{places}.xs, {places}.even]", values=[0, 0.001, 1])
    assert even
    np.testing.assert_allclose(np.diff(xs), (right - left) / 2, atol=0.02)


# ---------------------------------------------------------------- words and settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("formatValue(0)", "0"),
        ("formatValue(-0.012345)", "\u22120.0123"),
        ("formatValue(12.3456, true)", "+12.35"),
        ("formatValue(0.00001234)", "1.2e-5"),
        ("formatValue(null)", "\u2013"),
        ("formatFixed(-0.0001, 2)", "0.00"),
        ("formatFixed(-1.25, 1)", "\u22121.3"),
        ("formatFixed(undefined, 2)", "\u2013"),
        ("ordinal(1)", "1st"),
        ("ordinal(12)", "12th"),
        ("ordinal(1022)", "1,022nd"),
        ("counted(1, 'picture')", "1 picture"),
        ("percent(0.125)", "13 %"),
    ],
)
def test_numbers_are_written_for_people(call: Call, text: str, expected: str) -> None:
    assert call(f"modules.format.{text}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("readNumber('0.5', 1, 0, 1)", 0.5),
        ("readNumber(' ', 1, 0, 1)", 1),
        ("readNumber(7, 1, 0, 5)", 5),
        ("readNumber('x', 3, 0, 5)", 3),
        ("readFlag('1', false)", True),
        ("readFlag('no', true)", True),
        ("readFlag(0, true)", False),
        ("readChoice(2, ['1', '2'], '1')", "2"),
        ("readChoice('nonsense', ['1', '2'], '1')", "1"),
        ("writeNames(['owl', 'day, 9 %', ''])", "owl,day%2C 9 %25,"),
        ("readNames('owl,day%2C 9 %25,50 %', null).has('day, 9 %')", True),
    ],
)
def test_settings_take_sense_and_leave_nonsense(call: Call, text: str, expected: object) -> None:
    assert call(f"modules.settings.{text}") == expected


def test_norms_that_stand_out_and_their_histogram(call: Call) -> None:
    here, there = np.random.default_rng(3).gamma(4, size=(2, 96)).astype(np.float32)
    limit = 5.0
    found = call(
        "modules.normscharts.outliersOf(Float32Array.from(a), Float32Array.from(b), limit)",
        a=here.tolist(),
        b=there.tolist(),
        limit=limit,
    )
    ours, theirs = here > limit, there > limit
    assert found["share"] == pytest.approx(ours.mean())
    assert found["overlap"] == pytest.approx((ours & theirs).sum() / (ours | theirs).sum())
    counts = call("modules.normscharts.histogram(Float32Array.from(a), 0, 16)", a=here.tolist())
    assert counts == np.histogram(here, bins=32, range=(0, 16))[0].tolist()


# ---------------------------------------------------------------- contours


@pytest.fixture
def heap(generator: np.random.Generator) -> np.ndarray:
    """Two heaps of points in the plane."""
    return np.concatenate([generator.normal(size=(40, 2)), generator.normal(4, 0.5, size=(25, 2))])


def test_density_is_the_mean_of_gaussians(call: Call, heap: np.ndarray) -> None:
    x, y = heap.T.tolist()
    grid = call("modules.contours.densityGrid(x, y, 0.7, 12)", x=x, y=y)
    for row, col in ((0, 0), (5, 3), (9, 9), (12, 4)):
        at = np.array([grid["x"][0] + col * grid["x"][1], grid["y"][0] + row * grid["y"][1]])
        naive = sum(math.exp(-((at - point) ** 2).sum() / (2 * 0.7**2)) / (2 * math.pi * 0.7**2) for point in heap)
        assert grid["values"][row * grid["size"] + col] == pytest.approx(naive / len(heap), rel=1e-9, abs=1e-12)
    assert [grid["x"][0], grid["x"][0] + 12 * grid["x"][1]] == pytest.approx([min(x) - 2.1, max(x) + 2.1])
    scott = len(heap) ** (-1 / 6) * math.sqrt(heap.var(axis=0).mean())
    assert call("modules.contours.bandwidthOf(x, y)", x=x, y=y) == pytest.approx(scott / 2)


def test_between_the_crossings_density_is_bilinear(call: Call, generator: np.random.Generator) -> None:
    table = generator.random((4, 4))
    grid = {"values": table.ravel().tolist(), "size": 4, "x": [10, 2], "y": [-1, 0.5]}
    for px, py in ((10.3, -0.9), (12, -0.5), (15.9, 0.4)):
        rows, cols = ([np.interp(at, range(4), unit) for unit in np.eye(4)] for at in ((py + 1) / 0.5, (px - 10) / 2))
        naive = sum(rows[row] * cols[col] * table[row, col] for row in range(4) for col in range(4))
        assert call("modules.contours.densityAt(grid, px, py)", grid=grid, px=px, py=py) == pytest.approx(naive)


def test_lines_of_equal_height_are_those_of_another_program(call: Call, generator: np.random.Generator) -> None:
    table = generator.random((9, 9))  # rough, so that many cells are crossed twice
    grid = {"values": table.ravel().tolist(), "size": 9, "x": [0, 1], "y": [0, 1]}
    pieces = call("modules.contours.isoLines(grid, 0.5)", grid=grid)
    lines = contour_generator(z=table, name="serial").lines(0.5)
    theirs = [(*start, *end) for line in lines for start, end in pairwise(line)]
    assert len(pieces) > 40

    def ordered(found: list) -> np.ndarray:
        return np.array(sorted(sorted([tuple(np.round(p[:2], 9)), tuple(np.round(p[2:], 9))]) for p in found))

    np.testing.assert_allclose(ordered(pieces), ordered(theirs), atol=1e-8)


def test_contours_hold_their_share_of_the_points(call: Call, heap: np.ndarray) -> None:
    x, y = heap.T.tolist()
    pieces = np.array(call("modules.contours.densityContours(x, y, [0.6], 200)", x=x, y=y))

    def inside(point: np.ndarray) -> bool:
        """A ray to the right crosses the lines an odd number of times."""
        below, above = (pieces[:, 1] > point[1]), (pieces[:, 3] > point[1])
        cut = pieces[below != above]
        across = cut[:, 0] + (point[1] - cut[:, 1]) / (cut[:, 3] - cut[:, 1]) * (cut[:, 2] - cut[:, 0])
        return bool((across > point[0]).sum() % 2)

    assert sum(map(inside, heap)) == pytest.approx(0.6 * len(heap), abs=1)
    assert call("modules.contours.densityContours([1, 2], [3, 4])") == []
