"""TF-IDF and logistic regression, the simple baseline that a text encoder must beat."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

NAME = "TF-IDF + logistic regression"


def classify(train_texts: Sequence[str], labels: np.ndarray, test_texts: Sequence[str]) -> np.ndarray:
    """Fit a classifier of words and pairs of words to texts with class indices, and return those of other texts."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=2000))
    return model.fit(train_texts, labels).predict(test_texts)
