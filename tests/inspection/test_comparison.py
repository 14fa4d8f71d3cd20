"""Four views of one picture: the same numbers as by hand, and small enough to keep."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer import alignment, attention_map, compare, distortion, page, rollout
from explorer.analysis.dense import foreground, patch_clusters, patch_matches, propagate_labels
from explorer.analysis.maps import pca_rgb
from explorer.analysis.metrics import cosine, js_divergence
from explorer.analysis.norms import norm_outliers
from explorer.analysis.similarity import patch_similarity
from explorer.inspection import comparison
from explorer.inspection.comparison import VIEWS, look
from explorer.models.backbones import Backbone
from explorer.scenes.inspection import attention_scene, patch_scene
from tests.architectures import backbone, peaked

SPEC = "gaussian_noise(sigma=0.3)"


def single(name: str, **arguments: object) -> Backbone:
    model = backbone(name, **arguments)
    return model.with_module(model.module.float())


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    return single("vit_tiny_patch16_224")


@pytest.fixture(scope="module")
def student() -> Backbone:
    model = single("vit_tiny_patch16_224")
    peaked(model.module, factor=1.1, seed=5)
    return model


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def four(teacher: Backbone, student: Backbone, picture: Tensor) -> comparison.Comparison:
    return compare(teacher, picture, SPEC, student=student, seed=3)


def test_views_are_what_each_backbone_makes_of_each_picture(
    four: comparison.Comparison, teacher: Backbone, student: Backbone, picture: Tensor
) -> None:
    damaged = distortion(SPEC)(picture[None], seed=3)
    assert torch.equal(four.clean, picture)
    assert torch.equal(four.distorted, damaged[0])
    expected = {
        "teacher_clean": teacher.trace(picture[None], attention="full"),
        "teacher_distorted": teacher.trace(damaged, attention="full"),
        "student_clean": student.trace(picture[None], attention="full"),
        "student_distorted": student.trace(damaged, attention="full"),
    }
    assert list(four.views) == list(VIEWS) == list(expected)
    for name, trace in expected.items():
        view = four.views[name]
        assert trace.attention is not None
        assert view.trace.attention is not None
        assert view.rollout is not None
        assert view.rows is not None
        torch.testing.assert_close(view.trace.attention, trace.attention[:, :, :, :1])
        torch.testing.assert_close(view.trace.patches, trace.patches)
        torch.testing.assert_close(view.rollout, rollout(trace)[0])
        among = trace.attention[0].mean(1)[:, 1:, 1:]
        torch.testing.assert_close(view.rows.float(), among, atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(four.maps(4, 1)[name], attention_map(trace, 4, 1)[0])


def test_agreement_is_with_the_teacher_on_the_clean_picture(four: comparison.Comparison) -> None:
    reference = four.reference.trace
    for name, view in (("teacher", "teacher_distorted"), ("student", "student_distorted"), ("student_clean",) * 2):
        expected = alignment(reference, four.views[view].trace).as_dict()
        assert four.alignments[name].as_dict() == pytest.approx(expected)
    assert four.alignments["teacher"].cls_cosine < 0.999
    assert four.alignments["student"].cls_cosine != four.alignments["teacher"].cls_cosine


def test_without_a_student_it_is_the_untouched_copy(teacher: Backbone, picture: Tensor) -> None:
    two = compare(teacher, picture, distortion(SPEC))
    assert two.untouched
    assert two.views["student_distorted"] is two.views["teacher_distorted"]
    assert two.views["student_clean"] is two.views["teacher_clean"]
    assert two.alignments["student"].as_dict() == two.alignments["teacher"].as_dict()
    assert two.alignments["student_clean"].cls_cosine == pytest.approx(1)


def test_numbers_survive_json(four: comparison.Comparison) -> None:
    numbers = json.loads(json.dumps(four.numbers(layer=-2, head=1), allow_nan=False))
    assert numbers["cls_cosine"] == four.alignments["student"].cls_cosine
    assert numbers["teacher"]["attention_js"] == four.alignments["teacher"].attention_js
    assert (numbers["grid"], numbers["layer"], numbers["head"], numbers["seed"]) == ([6, 8], 10, 1, 3)
    assert (numbers["query"], numbers["untouched_student"]) == ("class token", False)
    assert distortion(numbers["distortion"]).spec == distortion(SPEC).spec
    norms = norm_outliers(four.views["student_distorted"].trace, four.reference.trace)
    assert numbers["outliers"]["student_distorted"]["share"] == norms.share[0].tolist()
    assert list(numbers["outliers"]) == list(four.views)
    for name in ("clean", "teacher", "student", "student_clean"):
        view = {"clean": "teacher_clean", "student_clean": name}.get(name, f"{name}_distorted")
        np.testing.assert_allclose(numbers[f"{name}_attention"], four.maps(10, 1)[view], rtol=1e-6)


def test_heads_similarity_and_colours_are_those_of_the_traces(four: comparison.Comparison) -> None:
    heads = four.heads("teacher_distorted")
    assert tuple(heads.shape) == (12, 3, 6, 8)
    torch.testing.assert_close(heads[5, 2], attention_map(four.views["teacher_distorted"].trace, 5, 2)[0])
    similar, colours = four.similarity(2, 7, layer=3), four.colours(layer=3)
    joint = pca_rgb(*(view.trace for view in four.views.values()), layer=3)
    for number, name in enumerate(VIEWS):
        expected = patch_similarity(four.reference.trace, (2, 7), four.views[name].trace, layer=3)[0]
        torch.testing.assert_close(similar[name], expected)
        torch.testing.assert_close(colours[name], joint[number][0])
    assert similar["teacher_clean"][2, 7].item() == pytest.approx(1)
    with pytest.raises(ValueError, match="unknown view 'pupil'; there are: teacher_clean"):
        four.heads("pupil")


def test_what_patches_know_is_that_of_the_traces(four: comparison.Comparison) -> None:
    reference, *others = (view.trace for view in four.views.values())
    scores, kinds = foreground(reference, *others, layer=3), patch_clusters(reference, *others, clusters=4, layer=3)
    for number, name in enumerate(VIEWS):
        trace = four.views[name].trace
        torch.testing.assert_close(four.foreground(3)[name], scores[number][0])
        assert torch.equal(four.clusters(4, 3)[name], kinds[number][0])
        clicks = [(0, 0, 1), (3, 5, 2)]
        assert torch.equal(four.labelled(iter(clicks), 3)[name], propagate_labels(reference, trace, clicks, layer=3)[0])
    matches = four.matches(3)
    assert list(matches) == list(VIEWS[1:])
    for name, found in matches.items():
        assert torch.equal(found.positions, patch_matches(reference, four.views[name].trace, layer=3).positions)


def test_by_layer_is_the_metric_of_each_block(four: comparison.Comparison) -> None:
    frame = four.by_layer()
    assert len(frame) == 3 * 12
    row = frame[(frame["view"] == "student_distorted") & (frame["layer"] == 7)].iloc[0]
    a, b = four.reference.trace, four.views["student_distorted"].trace
    assert a.attention is not None
    assert b.attention is not None
    assert row["attention_js"] == pytest.approx(js_divergence(a.attention[:, 7], b.attention[:, 7]).item(), abs=1e-6)
    assert row["patch_cosine"] == pytest.approx(cosine(a.patches[:, 7], b.patches[:, 7]).item(), abs=1e-6)


def test_where_full_attention_would_not_fit_the_own_rows_are_kept(
    teacher: Backbone, picture: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look(teacher, picture)
    monkeypatch.setattr(comparison, "FULL_ATTENTION_BYTES", 1000)
    small = look(teacher, picture)
    assert (small.rollout, small.rows) == (None, None)
    assert small.trace.attention is not None
    assert whole.trace.attention is not None
    torch.testing.assert_close(small.trace.attention, whole.trace.attention, atol=1e-5, rtol=0)
    assert small.bytes < whole.bytes


def test_a_view_does_not_hold_on_to_the_full_attention(four: comparison.Comparison) -> None:
    kept = four.reference.trace.attention
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes
    assert four.reference.bytes > kept.nbytes


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "vit_relpos_small_patch16_224"])
def test_models_without_class_token(name: str) -> None:
    model = single(name)
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))
    view = look(model, image)
    expected = model.trace(image[None], attention="cls").attention
    assert view.trace.attention is not None
    assert expected is not None
    torch.testing.assert_close(view.trace.attention, expected, atol=1e-6, rtol=0)
    assert (view.rollout is None) == (view.trace.query_kind == "attention pooling")


def test_what_cannot_be_compared(teacher: Backbone, picture: Tensor) -> None:
    other = single("vit_tiny_patch16_224", image_size=(128, 96))
    with pytest.raises(ValueError, match=r"expected a float tensor .*128 x 96 px"):
        compare(teacher, picture, SPEC, student=other)
    with pytest.raises(ValueError, match="96 x 128 px"):
        compare(teacher, picture[:, :64], SPEC)
    with pytest.raises(ValueError, match="gaussian_noise"):
        compare(teacher, picture, "gausian_noise(sigma=0.3)")
    with pytest.raises(ValueError, match="embedding size differ"):
        compare(teacher, picture, SPEC, student=single("vit_small_patch16_rope_224"))


# Several students


@pytest.fixture(scope="module")
def other(teacher: Backbone) -> Backbone:
    model = single("vit_tiny_patch16_224")
    peaked(model.module, factor=1.1, seed=7)
    return model


@pytest.fixture(scope="module")
def several(teacher: Backbone, student: Backbone, other: Backbone, picture: Tensor) -> comparison.Comparison:
    return compare(teacher, picture, SPEC, student={"my_noise": student, "mixture": other}, seed=3)


def test_each_of_several_students_is_seen_as_it_is_alone(
    several: comparison.Comparison, teacher: Backbone, student: Backbone, other: Backbone, picture: Tensor
) -> None:
    assert several.students == ("my_noise", "mixture")
    assert not several.untouched
    changed = f"{teacher.source}, changed since"
    assert several.weights == (teacher.source, changed, changed)
    assert list(several.views)[:3] == ["teacher_clean", "teacher_distorted", "my_noise_clean"]
    assert list(several.alignments) == ["teacher", "my_noise", "mixture", "my_noise_clean", "mixture_clean"]
    agreement = several.frame()
    assert list(agreement.index) == list(several.alignments)
    assert agreement.loc["mixture", "patch_cosine"] == several.alignments["mixture"].patch_cosine
    maps, similar, table = several.maps(4, 1), several.similarity(2, 7, layer=3), several.by_layer()
    assert list(several.colours(3)) == list(several.views)
    assert list(table["view"].unique()) == list(several.views)[1:]
    for name, model in {"my_noise": student, "mixture": other}.items():
        alone = compare(teacher, picture, SPEC, student=model, seed=3)
        for kind in ("clean", "distorted"):
            torch.testing.assert_close(maps[f"{name}_{kind}"], alone.maps(4, 1)[f"student_{kind}"])
            torch.testing.assert_close(similar[f"{name}_{kind}"], alone.similarity(2, 7, 3)[f"student_{kind}"])
            torch.testing.assert_close(several.heads(f"{name}_{kind}"), alone.heads(f"student_{kind}"))
            found, expected = (each[each["view"].str.endswith(kind)] for each in (table, alone.by_layer()))
            found, expected = found[found["view"] == f"{name}_{kind}"], expected[expected["view"] == f"student_{kind}"]
            assert found["patch_cosine"].tolist() == pytest.approx(expected["patch_cosine"].tolist())
        for ours, theirs in ((name, "student"), (f"{name}_clean", "student_clean")):
            assert several.alignments[ours].as_dict() == pytest.approx(alone.alignments[theirs].as_dict())


def test_numbers_of_several_students_stand_by_name(several: comparison.Comparison) -> None:
    numbers = json.loads(json.dumps(several.numbers(layer=-2, head=1), allow_nan=False))
    assert numbers["students"] == ["my_noise", "mixture"]
    assert "cls_cosine" not in numbers  # nobody knows of which of them
    assert numbers["agreement"] == {name: each.as_json() for name, each in several.alignments.items()}
    for name, values in several.maps(10, 1).items():
        np.testing.assert_allclose(numbers["attention"][name], values, rtol=1e-6)


def test_several_students_without_a_clean_picture(
    teacher: Backbone, student: Backbone, other: Backbone, picture: Tensor
) -> None:
    alone = compare(teacher, None, picture, {"noise": student, "mixture": other})
    assert list(alone.views) == ["teacher_distorted", "noise_distorted", "mixture_distorted"]
    expected = alignment(teacher.trace(picture[None]), other.trace(picture[None])).as_dict()
    assert list(alone.alignments) == ["noise", "mixture"]
    assert "how far each student is from the teacher" in str(alone.note)
    assert alone.alignments["mixture"].as_dict() == pytest.approx(expected, abs=1e-5)


def test_a_student_that_is_named_student_is_one_without_a_name(
    four: comparison.Comparison, teacher: Backbone, student: Backbone, picture: Tensor
) -> None:
    assert compare(teacher, picture, SPEC, {"student": student}, seed=3).numbers() == four.numbers()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected 1 to 4 students by name; got none"),
        (list("abcde"), "expected 1 to 4 students by name; got a, b, c, d, e"),
        *(([name], "a student's name is printable text") for name in ("teacher", "clean", "distorted", " ", "a\nb")),
        (["noise", "noise_clean"], "without '_clean' or '_distorted' at its end; got 'noise_clean'"),
    ],
)
def test_names_that_would_be_mistaken(teacher: Backbone, picture: Tensor, names: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(teacher, picture, SPEC, dict.fromkeys(names, teacher))


@pytest.mark.usefixtures("unchecked")
def test_a_student_by_name_is_a_backbone(teacher: Backbone, picture: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected a Backbone for the student 'noise'.*; got 's14-noise'"):
        compare(teacher, picture, SPEC, {"noise": "s14-noise"})


def test_scenes_and_pages_have_the_panes_of_each_student(several: comparison.Comparison) -> None:
    scene, patches = attention_scene(several), patch_scene(several)
    assert scene["numbers"] == {name: each.as_json() for name, each in several.alignments.items()}
    for payload in (scene, patches):
        assert [pane["id"] for pane in payload["panes"]] == list(several.views)
        assert [(pane["who"], pane["title"]) for pane in payload["panes"][3:5]] == [
            ("my_noise", "my_noise · distorted"),
            ("mixture", "mixture · clean"),
        ]
        assert [term for term, _ in payload["about"][1:4]] == ["Teacher", "Student my_noise", "Student mixture"]
    assert '"my_noise_distorted"' in page(several)
