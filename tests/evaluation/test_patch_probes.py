"""`fit_patch_probe` against scikit-learn's own pipeline, its file, and the probe that comes with the project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import explorer as ex
from explorer.evaluation.patch_probes import shipped_patch_probe
from explorer.models.trace import Trace
from tests.small import SIZE, network, picture_set, segmented_folder


@pytest.fixture(scope="module")
def seer() -> ex.Backbone:
    return network(1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ex.SegmentedSet:
    return ex.load_segmented(segmented_folder(tmp_path_factory.mktemp("segmented"), seed=0))


@pytest.fixture(scope="module")
def probe(seer: ex.Backbone, pictures: ex.SegmentedSet) -> ex.PatchProbe:
    return ex.fit_patch_probe(seer, pictures)


def traced(seer: ex.Backbone, pictures: ex.SegmentedSet) -> Trace:
    return seer.trace(pictures.images.resized(SIZE).stack())


def test_it_is_scikit_learn_s_own_pipeline(seer: ex.Backbone, pictures: ex.SegmentedSet, probe: ex.PatchProbe) -> None:
    trace = traced(seer, pictures)
    x = trace.patches[:, -1].numpy().reshape(-1, seer.dim)
    # squares of 20 pixels are the patches of a 2 x 2 grid
    values = np.concatenate([np.asarray(Image.open(mask))[10::20, 10::20].ravel() for mask in pictures.masks])
    names = [pictures.classes[value] for value in values.tolist()]
    own = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(x, names)
    assert probe.classes == tuple(own.classes_)
    assert probe.counts == {name: names.count(name) for name in own.classes_}
    found = probe.probabilities(trace)
    assert found.shape == (len(pictures), 2, 2, len(own.classes_))
    np.testing.assert_allclose(found.flatten(0, 2).numpy(), own.predict_proba(x), atol=1e-4)
    assert torch.equal(probe.predict(trace), found.argmax(dim=-1))
    assert (probe.pictures, probe.layer, probe.image_size) == (len(pictures), seer.depth - 1, (SIZE, SIZE))


def test_its_file_says_the_very_same(
    seer: ex.Backbone, pictures: ex.SegmentedSet, probe: ex.PatchProbe, tmp_path: Path
) -> None:
    file = probe.save(tmp_path / "patches.safetensors")
    again = ex.load_patch_probe(file, seer)
    trace = traced(seer, pictures)
    assert torch.equal(again.probabilities(trace), probe.probabilities(trace))
    assert (again.counts, again.layer, again.image_size) == (probe.counts, probe.layer, probe.image_size)
    with pytest.raises(ValueError, match=r"patches.safetensors' was fitted on .* load that one, or fit a probe"):
        ex.load_patch_probe(file, network(2))


def test_a_probe_of_pictures_is_told_from_one_of_patches(
    seer: ex.Backbone, probe: ex.PatchProbe, tmp_path: Path
) -> None:
    patches = probe.save(tmp_path / "patches.safetensors")
    whole = ex.fit_probe(seer, picture_set(tmp_path / "pictures", per_class=2), cache=False)
    pictures = whole.save(tmp_path / "pictures.safetensors")
    with pytest.raises(ValueError, match=r"is a probe of patches.*load_patch_probe reads it"):
        ex.load_probe(patches, seer)
    with pytest.raises(ValueError, match=r"is a probe of pictures.*load_probe reads it"):
        ex.load_patch_probe(pictures)
    content = patches.read_bytes()
    patches.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="is not as it was written"):
        ex.load_patch_probe(patches)


def test_other_patches_are_refused(seer: ex.Backbone, pictures: ex.SegmentedSet, probe: ex.PatchProbe) -> None:
    batch = pictures.images.resized(SIZE).stack()
    with pytest.raises(ValueError, match=r"reads 192 numbers .* after block 11 of .*; got 192 of blocks 0: "):
        probe.predict(seer.trace(batch, layers=[0]))


def test_pictures_of_one_class_or_none_are_refused(seer: ex.Backbone, tmp_path: Path) -> None:
    one = segmented_folder(tmp_path / "one", pictures=2)
    for mask in (one / "masks").iterdir():
        Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(mask)
    pictures = ex.load_segmented(one)
    with pytest.raises(ValueError, match=f"the masks of these pictures show {pictures.classes[0]}"):
        ex.fit_patch_probe(seer, pictures)


@pytest.mark.weights
def test_the_shipped_one_sees_what_an_owl_is(s14: ex.Backbone) -> None:
    probe = shipped_patch_probe(s14.sha256)
    assert probe is not None
    assert shipped_patch_probe(network(1).sha256) is None
    owl = ex.load_image(ex.load_images("photos").path(0).parents[1] / "farm_animal" / "owl.webp", size=224)
    noise = ex.load_pair("s14-noise", teacher=s14)
    seen = ex.compare(s14, owl, "gaussian_noise(sigma=0.3)", noise.student).classes(probe)
    animal = {name: likely.argmax(dim=-1) == probe.classes.index("animal") for name, likely in seen.items()}
    assert animal["teacher_clean"][3:11, 9:14].float().mean() > 0.8, "the owl"
    assert animal["teacher_clean"][:, :8].float().mean() < 0.1, "beside it"
    assert not animal["teacher_distorted"].any()
    assert (animal["student_distorted"] & animal["teacher_clean"]).sum() > 0.7 * animal["teacher_clean"].sum()
