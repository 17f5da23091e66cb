"""How well classes were told apart: scores, a report as text, a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics


def classification(
    targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str], prefix: str, positive: int | None = None
) -> dict[str, float]:
    """Accuracy, precision, recall, F1, and each class's F1.

    Args:
        targets: (N,) true classes, as indices.
        predicted: (N,) likewise.
        classes: Their names.
        prefix: Of the metrics' names, e.g. "val" or "test/genre".
        positive: The class that precision, recall and F1 speak of, where there are two; None: the mean over all classes
            (macro), in which one that does not occur counts for nothing.
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
    """scikit-learn's classification report: precision, recall, F1 and support of each class."""
    labels = range(len(classes))
    return metrics.classification_report(
        targets, predicted, labels=list(labels), target_names=list(classes), digits=3, zero_division=0
    )


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """(C, C) counts; rows are true classes, columns predicted ones."""
    return metrics.confusion_matrix(targets, predicted, labels=range(len(classes)))
