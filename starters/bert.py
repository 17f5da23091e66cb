"""Make starters/bert: a small BERT encoder with its WordPiece vocabulary, trained to match sentences of one document.

    OMP_NUM_THREADS=1 python -m starters.bert --out starters/bert

The training is contrastive: a batch holds two sentences of each document, and the model finds the neighbour of each
sentence by the mean of its last hidden states (Giorgi et al. 2021, "DeCLUTR: Deep Contrastive Learning for Unsupervised
Textual Representations"). It uses no labels. However, three of four documents come from the generator of
`platform.data.embedded.blurbs`, and their sentences share a genre and a mood, as in reviews of one book. This is a mild
supervision, and the reason why this starter knows sentences like those of the embedded data. None of these sentences
occurs in the validation or test split of the embedded data of seed 0. The other documents are paragraphs of plain
English that is installed anyway: the prose in the docstrings of the standard library and of a few pinned packages, and
the topics of Python's help(). The result does not replace an encoder trained on a large corpus: on real reviews and
titles TF-IDF is better (benchmarks/RESULTS.md). The number of steps is small on purpose: after more steps the genre is
known before any fine-tuning, and nothing is left to search. With one thread and fixed seeds the same command gives the
same bytes on one machine with the same Python and packages.
"""

import argparse
import ast
import json
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from random import Random

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizer

from platform.data.embedded import blurbs
from platform.models import text_encoders
from platform.training import schedules

LEFT_OUT = ("site-packages", "test", "lib2to3")  # folders of the standard library that are not read
PACKAGES = ("numpy", "scipy", "sklearn", "matplotlib", "networkx", "pandas", "sqlalchemy", "torch")
REVIEWS, SENTENCES = 20_000, 3  # number of generated documents, and of their sentences
SEED_OF_REVIEWS = 1_000_000  # far from any seed of a study
VOCABULARY = 8_000
HIDDEN, LAYERS, HEADS, POSITIONS = 128, 4, 4, 128
TOKENS = 48  # maximum of a sentence
BATCH, SHARE = 64, 0.75  # number of documents, and the share of generated ones
TEMPERATURE = 0.1
PEAK_LR = 1e-3

# A sentence of prose: no code, no table, no formula.
_SENTENCE = re.compile(r"[A-Z][A-Za-z ,;:'()\-]{20,300}?[.!?](?=\s|$)")
_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help=f"batches of {BATCH} documents (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums changes the bytes
    torch.use_deterministic_algorithms(True)
    generated, found = generate_reviews(options.seed), read_prose()
    print(f"{len(generated)} generated documents, {len(found)} found", flush=True)
    tokenizer = learn_vocabulary([sentence for document in [*generated, *found] for sentence in document])
    model = train(tokenizer, generated, found, options.steps, options.seed)
    save(options.out, model, tokenizer)
    for file in sorted(options.out.iterdir()):
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def generate_reviews(seed: int) -> list[list[str]]:
    """Generate documents of sentences of one genre and one sentiment, without those of held-out embedded data."""
    held_out = {blurb.text for blurb in blurbs.blurbs(0) if blurb.split != "train"}
    random, documents = Random(SEED_OF_REVIEWS + seed), []
    for number in range(REVIEWS):
        genre, sentiment = blurbs.GENRES[number % len(blurbs.GENRES)], number // len(blurbs.GENRES) % 2
        drawn = [blurbs.sentence(random, genre, sentiment) for _ in range(SENTENCES)]
        documents.append([text for text in dict.fromkeys(drawn) if text not in held_out])
    return [document for document in documents if len(document) > 1]


def read_prose() -> list[list[str]]:
    """Read paragraphs of two or more sentences of 6 to 40 words from help() and docstrings, ordered by file."""
    standard, installed = (Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib"))
    roots = [path for path in sorted(standard.iterdir()) if path.name not in LEFT_OUT]
    texts = [topics[name] for name in sorted(topics)]
    for root in [*roots, *(installed / name for name in PACKAGES)]:
        for file in [root] if root.suffix == ".py" else sorted(root.rglob("*.py")):
            texts += docstrings(file)
    found: dict[tuple[str, ...], None] = {}
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            sentences = dict.fromkeys(
                s for s in _SENTENCE.findall(" ".join(paragraph.split())) if 6 <= len(s.split()) <= 40
            )
            if len(sentences) > 1:
                found[tuple(sentences)] = None
    return [list(document) for document in found]


def docstrings(file: Path) -> Iterator[str]:
    """Yield all docstrings of a Python file."""
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (SyntaxError, ValueError):  # templates and tests of the parser itself
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def learn_vocabulary(sentences: Sequence[str]) -> BertTokenizer:
    """Learn a vocabulary of VOCABULARY word pieces in lower case and without accents."""
    tokens = list(_SPECIAL.values())
    # Listed beforehand, because the learner would number them in an order that differs from run to run.
    inner = [
        f"##{character}" for character in sorted({c for text in sentences for c in text.lower() if not c.isspace()})
    ]
    learner = BertWordPieceTokenizer(lowercase=True, strip_accents=True)
    learner.train_from_iterator(
        iter(sentences), VOCABULARY, min_frequency=2, special_tokens=[*tokens, *inner], show_progress=False
    )
    return BertTokenizer(
        vocab=dict(sorted(learner.get_vocab().items(), key=lambda item: item[1])),
        strip_accents=True,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **_SPECIAL,  # type: ignore[arg-type]
    )


def train(
    tokenizer: BertTokenizer,
    generated: Sequence[Sequence[str]],
    found: Sequence[Sequence[str]],
    steps: int,
    seed: int,
) -> BertModel:
    """Train an encoder on pairs of sentences."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * HIDDEN,
            max_position_embeddings=POSITIONS,
            pad_token_id=tokenizer.pad_token_id,
        ),
        add_pooling_layer=False,
    )
    model.eval()  # without dropout: no pair is seen often enough to be memorized
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01, betas=(0.9, 0.98))
    start, recent = time.monotonic(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * schedules.factor("one_cycle", step / steps)
        ids, mask = (
            torch.from_numpy(array).long()
            for array in text_encoders.tokenize(tokenizer, pairs(rng, generated, found), TOKENS)
        )
        states = model(ids, mask).last_hidden_state
        loss = contrastive_loss(text_encoders.pool(states, mask, "mean"))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            seconds = time.monotonic() - start
            print(f"step {step + 1}/{steps}  loss {np.mean(recent):.3f}  {seconds:.0f} s", flush=True)
            recent = []
    return model


def pairs(rng: np.random.Generator, generated: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> list[str]:
    """Draw 2 BATCH sentences; sentences 2i and 2i + 1 are of one document."""
    drawn = []
    for number in range(BATCH):
        documents = generated if number < SHARE * BATCH else found
        document = documents[int(rng.integers(len(documents)))]
        drawn += [document[index] for index in rng.choice(len(document), 2, replace=False)]
    return drawn


def contrastive_loss(features: Tensor) -> Tensor:
    """Return the InfoNCE loss of features (2N, D) of pairs, in which rows 2i and 2i + 1 are a pair."""
    unit = F.normalize(features, dim=1)
    logits = unit[::2] @ unit[1::2].T / TEMPERATURE
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def save(folder: Path, model: BertModel, tokenizer: BertTokenizer) -> None:
    """Write files for transformers' AutoModel and AutoTokenizer, in half precision to save space."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**model.config.to_diff_dict(), "architectures": ["BertModel"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.backend_tokenizer.no_truncation()  # the file should not set a maximum length
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
