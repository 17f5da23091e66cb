"""Projection of embeddings to two dimensions, and a measure of how far apart their classes lie."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

_TSNE_INPUTS = 50  # principal components that t-SNE starts from, as its authors do (van der Maaten & Hinton 2008)
_PERPLEXITY = 30.0
_LEAST = 4  # vectors for a projection


def project(vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Project vectors (N, D) to (N, 2) by PCA and by t-SNE, after scaling each dimension to unit variance.

    Fewer than four vectors are represented by their first two dimensions.

    Returns:
        Points (N, 2) by a title of the method, for PCA with the share of the variance on both axes.
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
    return {f"PCA, {share:.0%} of the variance": components[:, :2], "t-SNE": tsne.fit_transform(components)}


def silhouette(vectors: np.ndarray, classes: Sequence[str]) -> float:
    """Return the mean silhouette coefficient of vectors and their classes, from -1 to 1 (Rousseeuw 1987).

    The distance is the cosine distance, since encoders' features differ in their length. The result is nan if there is
    one class only, or if every vector has a class of its own.
    """
    if not 1 < len(set(classes)) < len(classes):
        return float("nan")
    return float(silhouette_score(vectors, list(classes), metric="cosine"))
