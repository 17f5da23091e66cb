"""Tokenized labelled texts, shared by all trials.

tokens.npy    (N, T) int32, padded at the end
lengths.npy   (N,) int64, tokens of each text
labels.npy    (N, H) int64, an index of each head's classes, MISSING where there is no label
index.json    classes by head, splits
texts.json    the texts themselves, which trials do not need
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from platform.data.arrays import Arrays, load, write_once

if TYPE_CHECKING:
    from platform.data.text.dataset import TextDataset

MISSING = -1


@dataclass(frozen=True)
class TextArrays(Arrays):
    """Opened arrays of labelled texts.

    Attributes:
        tokens: (N, T) int32, memory-mapped.
        lengths: Number of tokens of each text, (N,) int64.
        labels: (N, H) int64, a column for each head.
        folder: Folder of the arrays.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    folder: Path

    @property
    def texts(self) -> list[str]:
        """All texts, read from disk at each access."""
        return json.loads((self.folder / "texts.json").read_text())

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (n, t) and mask (n, t) of some texts, as long as the longest of them."""
        mask = self.mask(indices)
        return self.tokens[indices, : mask.shape[1]].astype(np.int64), mask

    def mask(self, indices: np.ndarray) -> np.ndarray:
        """Return the mask (n, t) of some texts, as long as the longest of them: 1 for a token and 0 for padding."""
        lengths = self.lengths[indices]
        return (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)


def open_arrays(folder: Path) -> TextArrays:
    """Open a folder that `write` wrote; the tokens stay on disk."""
    return TextArrays(**load(folder, "tokens", "lengths", "labels"), folder=folder)


def write(dataset: "TextDataset", tokens: np.ndarray, mask: np.ndarray, folder: Path) -> None:
    """Write a data set as tokens and mask, both (N, T), padded at the end; an existing folder is left unchanged.

    Raises:
        InputError: The disk has not enough room.
    """
    examples = dataset.examples
    rows = [[MISSING if e.labels.get(h) is None else e.labels[h] for h in dataset.classes] for e in examples]
    index = {
        "classes": {head: list(names) for head, names in dataset.classes.items()},
        "splits": [example.split for example in examples],
    }
    texts = [example.text for example in examples]

    def fill(partial: Path) -> None:
        np.save(partial / "tokens.npy", tokens.astype(np.int32))
        np.save(partial / "lengths.npy", mask.sum(axis=1).astype(np.int64))
        np.save(partial / "labels.npy", np.array(rows, np.int64))
        (partial / "index.json").write_text(json.dumps(index, ensure_ascii=False))
        (partial / "texts.json").write_text(json.dumps(texts, ensure_ascii=False))

    write_once(folder, fill, 4 * tokens.size, "lower --set max_tokens")
