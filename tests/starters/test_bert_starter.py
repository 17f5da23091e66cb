"""The shipped BERT loads, has the hash in the README and is better than chance; its script is deterministic."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoTokenizer

from platform.data.embedded import blurbs
from platform.models import text_encoders
from starters import bert

FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
# What makes the script small: it is run with these in two processes.
SMALL = {"REVIEWS": 20, "VOCABULARY": 200, "HIDDEN": 8, "LAYERS": 2, "BATCH": 4}


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_shipped_files_are_small_and_the_readmes():
    files = list(text_encoders.STARTER.iterdir())
    assert {file.name for file in files} == FILES
    assert sum(file.stat().st_size for file in files) <= 8e6
    readme = (text_encoders.STARTER.parent / "README.md").read_text()
    assert [file.name for file in files if digest(file) not in readme] == []


def test_transformers_reads_the_folder_as_we_do():
    encoder, tokenizer = text_encoders.load("starter")
    theirs = AutoModel.from_pretrained(text_encoders.STARTER).eval()
    same = AutoTokenizer.from_pretrained(text_encoders.STARTER)
    text = "It isn't dull at all, this Crème brûlée of a book."
    assert tokenizer(text)["input_ids"] == same(text)["input_ids"]
    pieces = tokenizer.convert_ids_to_tokens(same(text)["input_ids"])
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
    ids, mask = (torch.from_numpy(array) for array in text_encoders.tokenize(tokenizer, [text, "A book."], 64))
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(encoder.states(ids, mask), theirs(ids, mask).last_hidden_state)


@torch.no_grad()
def features(weights: bool, texts: list[str]) -> np.ndarray:
    torch.manual_seed(0)
    encoder, tokenizer = text_encoders.load("starter", weights=weights, layer=-2)
    ids, mask = (torch.from_numpy(array) for array in text_encoders.tokenize(tokenizer, texts, 64))
    return encoder(ids, mask, "mean").numpy()


@pytest.mark.parametrize("head", ["genre", "sentiment"])
def test_its_features_tell_more_than_those_of_random_weights(head):
    rows = [row for row in blurbs.blurbs(0) if getattr(row, head) and row.split != "val"]
    labels = np.array([getattr(row, head) for row in rows])
    train = np.array([row.split == "train" for row in rows])
    scores = []
    for weights in (True, False):
        found = features(weights, [row.text for row in rows])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000))
        scores.append(model.fit(found[train], labels[train]).score(found[~train], labels[~train]))
    assert scores[0] > scores[1] + 0.1


def test_no_sentence_of_the_embedded_validation_and_test_is_read(monkeypatch):
    rows = blurbs.blurbs(0)
    held_out = {row.text for row in rows if row.split != "train"}
    monkeypatch.setattr(blurbs, "blurbs", lambda seed: rows)
    drawn = iter([*sorted(held_out)[:2], "A new one.", *sorted(held_out)[2:4], "Another.", "Of", "one", "book."])
    monkeypatch.setattr(blurbs, "sentence", lambda *_: next(drawn))
    monkeypatch.setattr(bert, "REVIEWS", 3)
    assert bert.generate_reviews(seed=0) == [["Of", "one", "book."]]


def test_the_sentences_of_a_generated_document_are_of_one_genre():
    documents = bert.generate_reviews(seed=3)[:10]
    assert all(len(set(document)) == len(document) > 1 for document in documents)
    assert documents == bert.generate_reviews(seed=3)[:10] != bert.generate_reviews(seed=4)[:10]


def test_neighbours_come_from_one_document():
    made_up, found = [[f"m{n}{s}" for s in "abc"] for n in range(9)], [[f"f{n}{s}" for s in "ab"] for n in range(9)]
    drawn = bert.pairs(np.random.default_rng(0), made_up, found)
    assert len(drawn) == 2 * bert.BATCH
    first, second = drawn[::2], drawn[1::2]
    assert all(a[:2] == b[:2] and a != b for a, b in zip(first, second, strict=True))
    assert sum(a[0] == "m" for a in first) == bert.SHARE * bert.BATCH


def test_the_loss_is_small_where_neighbours_are_alike():
    torch.manual_seed(0)
    apart = torch.randn(8, 64)
    assert bert.contrastive_loss(apart.repeat_interleave(2, 0)) < 0.1
    assert bert.contrastive_loss(torch.randn(16, 64)) > 1
    assert bert.contrastive_loss(torch.ones(16, 64)).item() == pytest.approx(np.log(8))


def test_prose_is_paragraphs_of_sentences(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(
        '"""One.\n\nThis is a first sentence of six words. It is followed by another such sentence.\n\n  a = 1\n"""'
    )
    monkeypatch.setattr(bert, "topics", {})
    monkeypatch.setattr(bert, "PACKAGES", ())
    monkeypatch.setattr(bert.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path), "purelib": str(tmp_path)})
    assert bert.read_prose() == [["This is a first sentence of six words.", "It is followed by another such sentence."]]


def test_the_command_gives_the_same_bytes_in_two_processes(tmp_path):
    command = "import platform.data\nfrom starters import bert\nimport sys\n"
    command += "".join(f"bert.{name} = {value!r}\n" for name, value in SMALL.items())
    command += "bert.read_prose = lambda: [['One line of a manual.', 'Another one beside it.']]\nbert.main()"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", command, "--steps", "2", "--out", str(tmp_path / name)],
            cwd=text_encoders.STARTER.parent.parent,
            stdout=subprocess.DEVNULL,
        )
        for name in ("first", "second")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert {file.name for file in (tmp_path / "first").iterdir()} == FILES
    for name in FILES:
        assert digest(tmp_path / "first" / name) == digest(tmp_path / "second" / name), name
    encoder, _ = text_encoders.load(str(tmp_path / "first"))
    assert encoder.hidden == 8
