"""Which clean pictures one picture resembles in each of its views: `nearest_pictures`.

Enters: a `Comparison`, its teacher, and clean pictures as a gallery. Leaves: the nearest ones of each view. The gallery
is as the teacher sees it, for all views: a student that sees through the damage lands where its teacher would.
Deliberately ignored: whether the nearest are right. Without a clean picture nobody knows.
"""

from dataclasses import dataclass

from explorer.data.sets import ImageSet, PictureData
from explorer.data.sources import image_set
from explorer.errors import InputError, whole_number
from explorer.evaluation.features import Told, embed
from explorer.evaluation.probes import nearest
from explorer.inspection.comparison import Comparison
from explorer.models.backbones import Backbone


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A picture of the gallery.

    Attributes:
        index: of it in the gallery.
        name: what the gallery calls it.
        label: name of its class; None for pictures without labels.
        cosine: of the two embeddings, the mean of the gallery subtracted from both; 1 is the same.
    """

    index: int
    name: str
    label: str | None
    cosine: float


def nearest_pictures(
    teacher: Backbone,
    comparison: Comparison,
    images: ImageSet | PictureData,
    k: int = 5,
    *,
    progress: Told | None = None,
) -> dict[str, tuple[Neighbour, ...]]:
    """What the picture of a comparison resembles among clean pictures, best first, for each of its views.

        comparison = compare(teacher, None, "night.jpg", student)
        nearest_pictures(teacher, comparison, load_images("photos"))["student_distorted"][0].name

    Args:
        teacher: that of the comparison; it sees the gallery.
        images: the gallery, clean; an `ImageSet`, or what `load_images` makes one of.
        k: how many for each view; fewer where the gallery has fewer.
        progress: is told (pictures done, pictures in all) as the gallery is embedded; the next time it is remembered.

    Raises:
        ValueError: no pictures, k below 1, or a teacher of other weights than the comparison's.
    """
    if teacher.source != comparison.weights[0]:
        raise InputError(f"the teacher of the comparison is {comparison.weights[0]}; got {teacher.source}")
    k = whole_number("k", k, 1)
    images = image_set(images)
    gallery = embed(teacher, images, progress=progress).embedding
    found = {}
    for name, view in comparison.views.items():
        places, cosines = nearest(gallery, view.trace.embedding, min(k, len(images)))
        found[name] = tuple(
            Neighbour(index=index, name=images.names[index], label=_label(images, index), cosine=cosine)
            for index, cosine in zip(places[0].tolist(), cosines[0].tolist(), strict=True)
        )
    return found


def _label(images: ImageSet, index: int) -> str | None:
    return None if images.labels is None else images.classes[images.labels[index]]
