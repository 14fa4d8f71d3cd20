"""`plot_segmentation`: the masks that were found, in colours that a class keeps."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from explorer import DenseEvaluation, evaluate_dense, load_segmented
from explorer.data.image import to_uint8
from explorer.evaluation.embedding import VIEWS
from explorer.plots import plot_segmentation
from explorer.plots.segmentation import CLASS_COLOURS, _colours
from tests.small import CLASSES, pair, segmented_folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> DenseEvaluation:
    folder = tmp_path_factory.mktemp("segmented")
    train, test = (load_segmented(segmented_folder(folder / name, seed=len(name))) for name in ("train", "test"))
    return evaluate_dense(pair(), train, test)


def panes(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]


@pytest.mark.parametrize("protocol", ["linear", "propagation"])
def test_a_row_shows_the_picture_its_mask_and_four_others(found: DenseEvaluation, protocol: str) -> None:
    figure = plot_segmentation(found, protocol, (2, 5))  # type: ignore[arg-type]
    told = getattr(found, protocol)
    drawn = panes(figure)
    assert len(drawn) == 14
    table = np.array([to_rgb(colour) for colour in CLASS_COLOURS])
    for row, index in enumerate((2, 5)):
        picture, damaged, *masks = drawn[7 * row : 7 * row + 7]
        assert np.array_equal(picture, to_uint8(found.test.images[index][0]))
        assert np.array_equal(damaged, to_uint8(found.distorted(index)))
        expected = [found.test.mask(index), *(told.predicted[view][index] for view in VIEWS)]
        for shown, mask in zip(masks, expected, strict=True):
            assert np.allclose(shown, table[mask])
    headings = [ax.get_title() for ax in figure.axes[3:7]]
    assert headings[2] == f"student, distorted\nmIoU {told.miou['student_distorted'][0]:.2f}"


def test_one_legend_names_what_is_shown(found: DenseEvaluation) -> None:
    (legend,) = plot_segmentation(found).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*CLASSES]
    for patch, colour in zip(legend.get_patches(), CLASS_COLOURS, strict=False):
        assert patch.get_facecolor()[:3] == pytest.approx(to_rgb(colour))


def test_colours_go_by_the_list_of_classes() -> None:
    few, many = _colours({3: "a", 7: "b"}), _colours(range(36))
    assert few[7] == pytest.approx(to_rgb(CLASS_COLOURS[1]))
    assert few[0] == pytest.approx((1, 1, 1))  # of no class
    assert len(np.unique(many[:36].round(3), axis=0)) == 36


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused(found: DenseEvaluation) -> None:
    with pytest.raises(ValueError, match="from 0 to 5; got \\[6\\]"):
        plot_segmentation(found, pictures=(6,))
    with pytest.raises(ValueError, match="got \\[\\]"):
        plot_segmentation(found, pictures=())
    with pytest.raises(ValueError, match="'linear' or 'propagation'"):
        plot_segmentation(found, "knn")  # type: ignore[arg-type]
