"""Embeddings brought to two dimensions for the eye, and a number for how well their classes lie apart."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

_TSNE_INPUTS = 50  # principal components that t-SNE starts from, as its authors do (van der Maaten & Hinton 2008)
_PERPLEXITY = 30.0
_LEAST = 4  # vectors


def project(vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """(N, D) → (N, 2) by PCA and by t-SNE, each dimension scaled to unit variance first; by the method's title.

    PCA's axes are told with their share of the variance. Fewer than four vectors are drawn by their first dimensions.
    """
    scaled = StandardScaler().fit_transform(vectors.astype(np.float64))
    padded = np.pad(scaled, ((0, 0), (0, max(0, 2 - scaled.shape[1]))))
    if len(vectors) < _LEAST:
        return {"too few for a projection": padded[:, :2]}
    pca = PCA(min(_TSNE_INPUTS, *padded.shape), random_state=seed)
    components = pca.fit_transform(padded)
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    share = pca.explained_variance_ratio_[:2].sum()
    points = {f"PCA, {share:.0%} of the variance": components[:, :2], "t-SNE": tsne.fit_transform(components)}
    return points


def silhouette(vectors: np.ndarray, classes: Sequence[str]) -> float:
    """How much nearer each vector is to its own class than to the next: from -1 to 1 (Rousseeuw 1987).

    By cosine, since encoders' features differ in their length; nan where there is one class, or each is on its own.
    """
    if not 1 < len(set(classes)) < len(classes):
        return float("nan")
    return float(silhouette_score(vectors, list(classes), metric="cosine"))
