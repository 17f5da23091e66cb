"""Classification metrics: scores, a report as text, a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics


def classification(
    targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str], prefix: str, positive: int | None = None
) -> dict[str, float]:
    """Return accuracy, precision, recall and F1, and the F1 of each class.

    Args:
        targets: (N,) indices of the true classes.
        predicted: (N,) indices of the predicted classes.
        classes: Names of the classes.
        prefix: Prefix of the metrics' names, e.g. "val" or "test/genre".
        positive: With two classes, the one that precision, recall and F1 are about. None for the mean over all classes
            (macro), without those that do not occur.
    """
    present = sorted({*targets.tolist(), *predicted.tolist()})
    each = metrics.precision_recall_fscore_support(targets, predicted, labels=present, zero_division=0)
    scores = {f"{prefix}/accuracy": float(np.mean(targets == predicted))}
    for name, values in zip(("precision", "recall", "f1"), each, strict=False):
        chosen = values.mean() if positive is None else values[present.index(positive)] if positive in present else 0.0
        scores[f"{prefix}/{name}"] = float(chosen)
    if positive is None:
        scores |= {f"{prefix}/f1_class/{classes[i]}": float(f1) for i, f1 in zip(present, each[2], strict=True)}
    return scores


def report(targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> str:
    """Return scikit-learn's classification report: precision, recall, F1 and support of each class."""
    return metrics.classification_report(
        targets, predicted, labels=list(range(len(classes))), target_names=list(classes), digits=3, zero_division=0
    )


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return counts (C, C) by true class (row) and predicted class (column)."""
    return metrics.confusion_matrix(targets, predicted, labels=range(len(classes)))
