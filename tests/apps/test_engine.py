"""What the app remembers: bounded, and never the answer to another question."""

import threading
from collections import OrderedDict

import pytest

import explorer as ex
from explorer_app.service import engine
from explorer_app.service.engine import BoundedCache


def test_the_cache_stays_below_its_limit_and_drops_the_oldest():
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    for key in range(20):
        assert cache.get(key, lambda key=key: bytes([key]) * 30) == bytes([key]) * 30
        assert sum(map(len, cache.kept.values())) <= 100
    assert list(cache.kept) == [17, 18, 19]
    cache.get(17, lambda: pytest.fail("this was kept"))
    cache.get(20, lambda: bytes(30))
    assert list(cache.kept) == [19, 17, 20]


def test_what_is_larger_than_the_cache_is_kept_alone():
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    cache.get("small", lambda: bytes(10))
    assert len(cache.get("large", lambda: bytes(500))) == 500
    assert list(cache.kept) == ["large"]


def test_a_value_that_could_not_be_made_is_not_kept():
    cache: BoundedCache[int] = BoundedCache(3, lambda _: 1)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 7) == 7


def test_many_threads_make_each_value_once_and_get_their_own():
    cache: BoundedCache[int] = BoundedCache(50, lambda _: 1)
    made: list[int] = []
    wrong: list[tuple[int, int]] = []

    def ask(offset: int) -> None:
        for step in range(200):
            key = (7 * step + offset) % 40
            value = cache.get(key, lambda key=key: made.append(key) or key * key)  # type: ignore[func-returns-value]
            if value != key * key:
                wrong.append((key, value))

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(made) == list(range(40))


def test_models_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch):
    name, load = "vit_tiny_patch16_224", ex.load_backbone
    weights = sum(each.nbytes for each in load(name, source="random", device="cpu").module.parameters())
    monkeypatch.setattr(ex, "load_backbone", lambda *args, **given: load(*args, **given, source="random", device="cpu"))
    monkeypatch.setattr(engine._models, "limit", 2.5 * weights)
    monkeypatch.setattr(engine._models, "kept", OrderedDict())
    first = engine.load_backbone(name, 224)
    assert engine._models.size(first) == weights
    for size in (336, 224, 448):
        engine.load_backbone(name, size)
    assert list(engine._models.kept) == [(name, 224), (name, 448)]
    assert engine.load_backbone(name, 224) is first


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> ex.Backbone:
    """A small untrained model in place of all others, and an empty cache of views."""
    small = ex.load_backbone("vit_tiny_patch16_224", source="random", device="cpu")
    monkeypatch.setattr(engine, "load_backbone", lambda name, size: small)
    monkeypatch.setattr(engine, "_views", BoundedCache(engine.VIEW_CACHE_BYTES, lambda view: view.bytes))
    return small


def test_a_view_is_kept_by_what_was_seen(backbone, monkeypatch):
    looked: list[float] = []
    look = engine.look
    monkeypatch.setattr(engine, "look", lambda model, image: looked.append(float(image.mean())) or look(model, image))  # type: ignore[func-returns-value]
    owl, panda = (engine.photo_path(name) for name in ("farm_animal/owl.webp", "wild_animal/panda.webp"))
    first = engine.compare(owl, "gaussian_noise(sigma=0.3)", "tiny", engine.UNTOUCHED, 224, 0)
    assert len(looked) == 2
    other = engine.compare(panda, "gaussian_noise(sigma=0.3)", "tiny", engine.UNTOUCHED, 224, 0)
    assert len(looked) == 4
    engine.compare(owl, "gaussian_noise(sigma=0.3)", "tiny", engine.UNTOUCHED, 224, 1)
    assert len(looked) == 5, "another seed is another picture, the clean one is known"
    engine.compare(owl, "none", "tiny", engine.UNTOUCHED, 224, 0)
    assert len(looked) == 5, "an undistorted picture is known"
    again = engine.compare(owl, "gaussian_noise(sigma=0.3)", "tiny", engine.UNTOUCHED, 224, 0)
    assert len(looked) == 5
    assert again.numbers() == first.numbers() != other.numbers()
    assert again.numbers() == ex.compare(backbone, ex.load_image(owl, size=224), "gaussian_noise(sigma=0.3)").numbers()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"path": None}, "there is no picture"),
        ({"path": "/nowhere/owl.webp"}, "this picture is not kept any more"),
        ({"distortion": "gaussian_nois"}, "gaussian_noise"),
        ({"pair": "somebody"}, "unknown student 'somebody'"),
    ],
)
def test_what_cannot_be_compared_is_refused(backbone, changed, words):
    good = {"path": engine.photo_path("farm_animal/owl.webp"), "distortion": "none", "backbone": "tiny"}
    asked = {**good, "pair": engine.UNTOUCHED, "size": 224, "seed": 0, **changed}
    with pytest.raises(ValueError, match=words):
        engine.compare(**asked)


def test_students_are_offered_for_their_own_backbone_alone(backbone):
    names = [name for _, name in engine.offered_students("s14")]
    assert names[-1] == engine.UNTOUCHED
    assert set(names[:-1]) == {name for name in ex.list_pairs() if name.startswith("s14")}
    assert [name for _, name in engine.offered_students("clip-b16")] == ["clip-b16-mixture", engine.UNTOUCHED]
    assert engine.offered_students("tiny") == [(engine.UNTOUCHED, engine.UNTOUCHED)]
    with pytest.raises(ValueError, match="was trained from 's14'"):
        engine.load_student("s14-noise", backbone)
    with pytest.raises(ValueError, match="unknown student"):
        engine.load_student("assets/pairs/s14-noise", backbone)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "farm_animal/owl", "", "farm_animal/../farm_animal/owl.webp"])
def test_only_embedded_photos_have_a_path(name):
    with pytest.raises(ValueError, match="no embedded photo"):
        engine.photo_path(name)


def test_a_size_that_is_not_offered_is_refused():
    with pytest.raises(ValueError, match="224, 336, 448"):
        engine.load_backbone("s14", 10_000)


def test_a_refused_picture_is_named_without_its_folder(tmp_path):
    (tmp_path / "notes.png").write_text("this is not a picture")
    with pytest.raises(ValueError, match=r"notes\.png") as refused:
        engine.load_picture(str(tmp_path / "notes.png"), 224)
    assert str(tmp_path) not in str(refused.value)
