"""Content of the figures, read back from matplotlib's objects."""

import numpy as np
import pytest
from PIL import Image

from platform.evaluation import figures


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_learning_curves_show_losses_and_scores_and_nothing_else():
    history = [
        {
            "train/loss": 1.0 / epoch,
            "train/loss_genre": 0.5,
            "val/genre/loss": 0.4,
            "val/f1": 0.5,
            "val/genre/f1": 0.6,
            "val/genre/accuracy": 0.7,
            "val/f1_class/x": 0.1,
            "config/loss_weight_genre": 2.0,
            "train/frozen_stages": 3,
        }
        for epoch in (1, 2, 3)
    ]
    losses, scores = figures.learning_curves(history, "val/f1").axes
    assert legend(losses) == ["train/loss", "val/genre/loss", "train/loss_genre"]
    assert legend(scores) == ["val/f1", "val/genre/f1"]


def test_a_metric_that_is_a_loss_has_one_panel():
    [axes] = figures.learning_curves([{"train/loss": 1.0, "val/loss": 2.0}] * 2, "val/loss").axes
    assert legend(axes) == ["val/loss", "train/loss"]


def test_unfreezings_are_marked():
    history = [{"train/loss": 1.0, "val/map": 0.1, "train/frozen_stages": frozen} for frozen in (3, 3, 1, 0)]
    losses, _ = figures.learning_curves(history, "val/map").axes
    assert sorted(line.get_xdata()[0] for line in losses.lines if line.get_linestyle() == ":") == [2.5, 3.5]


def test_the_comparison_puts_the_best_first_and_leaves_out_what_has_no_such_score():
    [axes] = figures.comparison({"best": {"a": 0.9}, "other": {"a": 0.5}, "third": {"b": 1.0}}, "a").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["best", "other"]
    places = axes.collections[0].get_offsets().tolist()
    assert [x for x, _ in places] == [0.9, 0.5]
    assert places[0][1] > places[1][1]


def test_a_confusion_matrix_names_the_classes_unless_they_are_too_many():
    [axes] = figures.confusion_matrix(np.array([[3, 1], [0, 4]]), ["even", "odd"], "title").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["even", "odd"]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "4"]
    [many] = figures.confusion_matrix(np.eye(40, dtype=int), [str(n) for n in range(40)], "title").axes
    assert not many.texts


def test_of_many_classes_the_means_and_the_ends_are_drawn():
    curves = {f"class {k}": np.full(101, k / 400) for k in range(400)}
    groups = {"rare": list(curves)[:300], "common": [], "frequent": list(curves)[300:]}
    [axes] = figures.many_precision_recall(curves, groups, "title").axes
    assert legend(axes) == [
        "middle half of the classes", "mean of 400 classes", "300 rare", "100 frequent",
        "best: class 399 1.00", "best: class 398 0.99", "best: class 397 0.99",
        "weakest: class 0 0.00", "weakest: class 1 0.00", "weakest: class 2 0.00",
    ]  # fmt: skip
    assert [line.get_ydata()[0] for line in axes.lines[:3]] == pytest.approx([199.5 / 400, 149.5 / 400, 349.5 / 400])


def test_names_of_classes_are_no_formulas(tmp_path):
    names = ["$5 \\off $10", "a_b^{c"]
    figure = figures.confusion_matrix(np.eye(2, dtype=int), names, "title")
    figure.savefig(tmp_path / "matrix.svg")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names


@pytest.mark.parametrize("size", [(8, 8), (300, 40), (20, 900)])
def test_a_caption_is_below_the_whole_image(size):
    page = figures.captioned(Image.new("L", size), "a rather long caption, longer than the image is wide")
    assert page.width >= min(256, size[0])
    image_height = round(size[1] * max(1.0, 256 / max(size)))
    assert page.height > image_height
    below = np.asarray(page.crop((0, image_height, *page.size)).convert("L"))
    assert below.min() < 100, "there is text"
    assert below.max() == 255


def test_rows_stand_below_each_other_under_their_names():
    page = figures.labelled_strips([Image.new("L", (30, 10), 40)] * 2, ("first", "second"), height=20)
    grey = np.asarray(page.convert("L"))
    assert (grey[:, 100] == 40).sum() == 40
    assert page.width > 60 + 90
