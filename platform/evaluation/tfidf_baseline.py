"""What words alone tell: TF-IDF and logistic regression, the plain way that a text encoder must beat."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

NAME = "TF-IDF + logistic regression"


def classify(known: Sequence[str], labels: np.ndarray, asked: Sequence[str]) -> np.ndarray:
    """Learns from labelled texts, by their words and pairs of words, and answers for others.

    Args:
        known: Texts.
        labels: (len(known),) integers.
        asked: Other texts.

    Returns:
        (len(asked),) labels.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=2000))
    return model.fit(known, labels).predict(asked)
