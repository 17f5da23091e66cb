"""Classification metrics, compared with counts made by hand."""

import numpy as np
import pytest

from platform.evaluation import classification_metrics

TRUE, PREDICTED = np.array([0, 0, 0, 1, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1, 0, 1])


def test_scores_of_the_positive_class():
    two = classification_metrics.classification(TRUE[:7], PREDICTED[:7], ["no", "yes"], "val", positive=1)
    assert two == {
        "val/accuracy": pytest.approx(5 / 7),
        "val/precision": pytest.approx(3 / 4),
        "val/recall": pytest.approx(3 / 4),
        "val/f1": pytest.approx(3 / 4),
    }


def test_scores_are_the_mean_over_the_classes_that_occur():
    three = classification_metrics.classification(TRUE, PREDICTED, ["a", "b", "c", "never"], "test/x")
    f1 = {"a": 2 / 3, "b": 2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4), "c": 0.0}
    assert three["test/x/f1"] == pytest.approx(np.mean(list(f1.values())))
    assert {key: value for key, value in three.items() if "class" in key} == {
        f"test/x/f1_class/{name}": pytest.approx(value) for name, value in f1.items()
    }


def test_a_positive_class_that_never_occurs_scores_nothing():
    none = classification_metrics.classification(np.zeros(3, int), np.zeros(3, int), ["no", "yes"], "val", positive=1)
    assert (none["val/accuracy"], none["val/f1"]) == (1.0, 0.0)


def test_report_and_confusion_speak_of_all_classes():
    assert "never" in classification_metrics.report(TRUE, PREDICTED, ["a", "b", "c", "never"])
    counts = classification_metrics.confusion(TRUE, PREDICTED, ["a", "b", "c", "never"])
    assert counts.tolist() == [[2, 1, 0, 0], [1, 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
