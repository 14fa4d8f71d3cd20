"""Text to `Distortion` and back, and what is said of text that cannot be read."""

import random

import pytest

from explorer.distortions import DISTORTIONS, Distortion, distortion

CANONICAL = {
    "none": "none",
    "none + none": "none",
    "gaussian_noise": "gaussian_noise(sigma=0.3)",
    "gaussian_noise()": "gaussian_noise(sigma=0.3)",
    " gaussian_noise ( sigma = .25 ) ": "gaussian_noise(sigma=0.25)",
    "gaussian_noise(sigma=1e-05)": "gaussian_noise(sigma=1e-05)",
    "gaussian_noise(sigma=1e+0)+none": "gaussian_noise(sigma=1.0)",
    "gaussian_noise(sigma=-0.0)": "gaussian_noise(sigma=0.0)",
    "gaussian_noise(sigma=0..1)": "gaussian_noise(sigma=0.0..1.0)",
    "gaussian_noise(sigma=.1...3)": "gaussian_noise(sigma=0.1..0.3)",
    "gaussian_noise(sigma=0.2..0.2)": "gaussian_noise(sigma=0.2)",
    "gaussian_noise(clip=true, sigma=1)": "gaussian_noise(sigma=1.0, clip=True)",
    "gaussian_noise(clip=False)": "gaussian_noise(sigma=0.3)",
    "gaussian_noise:3": "gaussian_noise(sigma=0.18, clip=True)",
    "gaussian_noise:3.0": "gaussian_noise(sigma=0.18, clip=True)",
    "gaussian_noise(severity=3)": "gaussian_noise(sigma=0.18)",
    "fog:1.5": "fog(thickness=1.75, decay=2.0, clip=True)",
    "gaussian_blur:1.5": "gaussian_blur(kernel=13, sigma=1.5, clip=True)",
    "fog:1..5": "fog(severity=1.0..5.0, clip=True)",
    "fog(severity=1.5..3)": "fog(severity=1.5..3.0)",
    "fog:2..2": "fog(thickness=2.0, decay=2.0, clip=True)",
    "gaussian_blur:5": "gaussian_blur(kernel=49, sigma=6.0, clip=True)",
    "gaussian_blur(sigma=2)": "gaussian_blur(kernel=21, sigma=2.0)",
    "gaussian_blur(kernel=9.0, sigma=2)": "gaussian_blur(kernel=9, sigma=2.0)",
    "gaussian_blur(kernel=3..9)": "gaussian_blur(kernel=3..9, sigma=5.0)",
    "square_mask|patch_mask+none(clip=True)|none": (
        "square_mask(size=100) | patch_mask(fraction=0.5, patch=14) + none(clip=True) | none"
    ),
}


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_specs_have_one_canonical_form(text, canonical):
    d = distortion(text)
    assert str(d) == d.spec == canonical
    assert distortion(d.spec) == d
    assert hash(distortion(d.spec)) == hash(d)
    assert repr(d) == f"distortion('{canonical}')"


def random_value(parameter, rng):
    values = list(range(parameter.low, parameter.high + 1, 2 if parameter.odd else 1)) if parameter.integer else None
    low, high = sorted(rng.choice(values) if values else rng.uniform(parameter.low, parameter.high) for _ in range(2))
    return rng.choice([f"{low}", f"{low}..{high}"])


def random_term(rng):
    name = rng.choice([*DISTORTIONS, "none"])
    if name in DISTORTIONS and DISTORTIONS[name].severities and rng.random() < 0.2:
        low, high = sorted([rng.randint(1, 5), round(rng.uniform(1, 5), 2)])
        return rng.choice([f"{name}:{low}", f"{name}:{low}..{high}", f"{name}(severity={low}..{high})"])
    parameters = DISTORTIONS[name].parameters if name in DISTORTIONS else ()
    chosen = [f"{one.name}={random_value(one, rng)}" for one in parameters if rng.random() < 0.7]
    chosen += ["clip=True"] * (rng.random() < 0.3)
    rng.shuffle(chosen)
    return f"{name}({', '.join(chosen)})" if chosen or rng.random() < 0.5 else name


def test_any_spec_survives_the_round_trip():
    rng = random.Random(0)
    seen = set()
    for _ in range(400):
        chains = [" + ".join(random_term(rng) for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
        d = distortion(" | ".join(chains))
        assert len(d.branches) == len(chains)
        assert distortion(str(d)) == d
        assert str(distortion(str(d))) == str(d)
        seen.add(d)
    assert len(seen) > 350


def test_keywords_and_text_mean_the_same():
    assert distortion("gaussian_noise", sigma=0.2) == distortion("gaussian_noise(sigma=0.2)")
    assert distortion("gaussian_noise", sigma=(0.1, 0.2)) == distortion("gaussian_noise(sigma=0.1..0.2)")
    assert distortion("gaussian_blur(kernel=9)", sigma=2, clip=True) == distortion(
        "gaussian_blur(kernel=9,sigma=2,clip=True)"
    )
    assert distortion("none", clip=True) == distortion("none(clip=True)")
    assert distortion("gaussian_noise") != distortion("gaussian_noise", sigma=0.2)


def test_plus_binds_tighter_than_the_bar():
    d = distortion("gaussian_noise + pixel_mask | square_mask")
    assert [[step.name for step in branch] for branch in d.branches] == [
        ["gaussian_noise", "pixel_mask"],
        ["square_mask"],
    ]


def test_a_distortion_comes_back_unchanged():
    d = distortion("gaussian_noise")
    assert isinstance(d, Distortion)
    assert distortion(d) is d
    with pytest.raises(ValueError, match="takes no further parameters"):
        distortion(d, sigma=0.2)
    with pytest.raises(ValueError, match="takes no further parameters"):
        distortion(d, clip=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "at its end: expected the name of a distortion"),
        ("gaussian_noise +", "at its end: expected the name of a distortion"),
        ("| pixel_mask", r"at '\| pixel_mask' \(character 1\): expected the name of a distortion"),
        ("gaussian_noise pixel_mask", r"at 'pixel_mask' \(character 16\): expected '\+', '\|' or the end"),
        ("gaussian_noise(0.3)", r"at '0.3\)' \(character 16\): expected the name of a parameter"),
        ("gaussian_noise(sigma 0.3)", r"at '0.3\)' \(character 22\): expected '='"),
        ("gaussian_noise(sigma=)", r"at '\)' \(character 22\): expected a number"),
        ("gaussian_noise(sigma=nan)", r"at 'nan\)' \(character 22\): expected a number"),
        ("gaussian_noise(sigma=0.1..)", r"at '\)' \(character 27\): expected the upper end of the range"),
        ("gaussian_noise(sigma=0.1", r"at its end: expected ',' or '\)'"),
        ("gaussian_noise(sigma=0.1,)", r"at '\)' \(character 26\): expected the name of a parameter"),
        (
            "gaussian_noise(sigma=1, sigma=2)",
            r"at 'sigma=2\)' \(character 25\): expected a parameter that was not given",
        ),
        ("gaussian_noise:high", r"at 'high' \(character 16\): expected a severity from 1 to 5"),
        ("(none | pixel_mask) + none", r"\(character 1\): expected the name of a distortion"),
        ("__import__('os')", r"at ''os'\)' \(character 12\): expected the name of a parameter"),
    ],
)
def test_an_unreadable_spec_is_pointed_at(text, place):
    with pytest.raises(
        ValueError, match=rf"cannot read distortion '.*{place}.*; examples: 'gaussian_noise\(sigma=0.3\)'"
    ):
        distortion(text)


def test_the_examples_in_the_error_can_be_read():
    with pytest.raises(ValueError, match="examples: ") as caught:
        distortion("?")
    examples = str(caught.value).split("examples: ")[1].strip("'").split("', '")
    assert len(examples) == 4
    for example in examples:
        distortion(example)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian_noise", r"'gausian_noise', expected one of: .*, none; did you mean 'gaussian_noise'\?"),
        ("qqq", "distortion 'qqq', expected one of: [a-z_, ]+$"),
        ("gaussian_noise(sigm=1)", r"parameter of gaussian_noise 'sigm'.*: sigma, clip; did you mean 'sigma'\?"),
        ("none(sigma=1)", "unknown parameter of none 'sigma', expected one of: clip"),
        ("gaussian_noise(sigma=3)", r"sigma must lie from 0.0 to 2.0 \(pixel value.*\), got 3"),
        ("gaussian_noise(sigma=-0.1)", "sigma must lie from 0.0 to 2.0 .* got -0.1"),
        ("gaussian_noise(sigma=1e999)", "sigma must lie from 0.0 to 2.0 .* got inf"),
        ("gaussian_noise(sigma=0.1..5)", "sigma must lie from 0.0 to 2.0 .* got 5"),
        ("gaussian_noise(sigma=0.3..0.1)", "range of sigma must go from low to high, got 0.3..0.1"),
        ("gaussian_noise(sigma=True)", "sigma must be a number or a range .* got True"),
        ("gaussian_noise(clip=1)", "clip must be True or False, got 1"),
        ("gaussian_blur(kernel=4)", r"kernel must be odd \(px\), got 4; use 3 or 5"),
        ("gaussian_blur(kernel=4..9)", r"kernel must be odd \(px\), got 4"),
        ("gaussian_blur(kernel=4.5)", r"kernel must be a whole number \(px\), got 4.5"),
        ("pixel_mask:3", r"'pixel_mask' is not in ImageNet-C .* write 'pixel_mask\(fraction=0.5\)'"),
        ("none:1", "'none' is not in ImageNet-C .* write 'none'"),
        ("gaussian_noise:6", "severities go from 1 to 5, got 6"),
        ("gaussian_noise:0.5", "severities go from 1 to 5, got 0.5"),
        ("gaussian_noise:1..5.5", "severities go from 1 to 5, got 5.5"),
        ("gaussian_noise:4..2", "range of severities must go from low to high, got 4..2"),
        ("gaussian_noise(severity=2, sigma=0.1)", "a severity sets every parameter; drop sigma or the severity"),
        ("gaussian_noise(severity=True)", "severity must be a number or a range .* got True"),
        ("pixel_mask(severity=3)", "'pixel_mask' is not in ImageNet-C"),
        ("pixel_mask:1..3", "'pixel_mask' is not in ImageNet-C"),
        ("random_corruption(severity=3)", "takes severities alone, such as 'random_corruption:1..3'"),
        ("random_corruption:1..6", "severities go from 1 to 5, got 6"),
    ],
)  # fmt: skip
def test_wrong_names_and_numbers_are_explained(text, message):
    with pytest.raises(ValueError, match=message):
        distortion(text)


@pytest.mark.parametrize(
    ("spec", "params", "message"),
    [
        ("gaussian_noise(sigma=0.1)", {"sigma": 0.2}, "sigma is given twice"),
        ("gaussian_noise:3", {"sigma": 0.2}, "sigma is given twice"),
        ("gaussian_noise + pixel_mask", {"sigma": 0.2}, "names several operators"),
        ("gaussian_noise | pixel_mask", {"sigma": 0.2}, "names several operators"),
        ("gaussian_noise", {"fraction": 0.2}, "unknown parameter of gaussian_noise 'fraction'"),
        ("gaussian_noise", {"sigma": "0.2"}, "sigma must be a number or a range .* got '0.2'"),
        ("gaussian_noise", {"sigma": float("nan")}, "sigma must lie from .* got nan"),
        ("gaussian_noise", {"sigma": (0.1, 0.2, 0.3)}, r"a pair \(low, high\), got \(0.1, 0.2, 0.3\)"),
        ("gaussian_noise", {"clip": 1}, "clip must be True or False, got 1"),
        (3, {}, "expected a distortion as text or a Distortion, got 3; examples"),
    ],
)
def test_wrong_keywords_are_explained(spec, params, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        distortion(spec, **params)
