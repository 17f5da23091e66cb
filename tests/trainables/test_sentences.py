"""The sentences task on a tiny BERT and a few rows with missing labels, without Ray."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from platform.models import multi_head, saved_heads
from platform.training.context import Context
from platform.training.reporters import ToFolder
from search_spaces.sentences import SPACE
from trainables import sentences

GENRES = {"crime": "murder detective", "cookery": "recipe oven", "travel": "island train"}
TONES = {"good": "wonderful superb", "bad": "dreadful boring"}
WORDS = " ".join([*GENRES.values(), *TONES.values(), "a book about the and"]).split()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    """Write a folder with a BERT of three layers with random weights and its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*special, *dict.fromkeys(WORDS)])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=40, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list:
    """Write a file with genres and one with sentiments; a third of the rows have both."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows: dict[str, list[str]] = {"titles.csv": ["text,genre,sentiment"], "reviews.csv": ["text,sentiment"]}
    for number in range(240):
        genre, tone = rng.choice(list(GENRES)), rng.choice(list(TONES))
        words = [rng.choice(GENRES[genre].split()), rng.choice(TONES[tone].split()), *rng.choice(WORDS[-5:], 4)]
        text = " ".join(rng.permutation(words)) + f" {number}"
        if number % 3 == 0:
            rows["titles.csv"].append(f"{text},{genre},{tone}")
        elif number % 3 == 1:
            rows["titles.csv"].append(f"{text},{genre},")
        else:
            rows["reviews.csv"].append(f"{text},{tone}")
    for name, lines in rows.items():
        (folder / name).write_text("\n".join(lines))
    return [folder / name for name in rows]


@pytest.fixture(scope="module")
def space(backbone):
    return SPACE.override(
        [f"backbone={backbone}", "max_tokens=32", "head_width=64", "lr_head=0.01", "backbone_ratio=1.0"]
    )


@pytest.fixture(scope="module")
def dataset(files, space, tmp_path_factory):
    return sentences.read(files, tmp_path_factory.mktemp("cache"), 0, space)


@pytest.fixture(scope="module")
def data(dataset, space, tmp_path_factory):
    return sentences.prepare(space, dataset, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def train(data, space, tmp_path):
    """Train a config into a folder without Ray."""

    def run(epochs=1, name="trial", prepared=data, **changes) -> ToFolder:
        folder = tmp_path / name
        context = Context("sentences", str(prepared), 0, epochs, space.metric, space.mode, folder=str(folder))
        sentences.train({**space.fixed, **space.start, **changes, "context": asdict(context)})
        return ToFolder(folder)

    return run


def test_a_row_without_a_label_trains_the_other_head_only():
    logits = {"genre": torch.randn(3, 4, requires_grad=True), "sentiment": torch.randn(3, 2, requires_grad=True)}
    parts = multi_head.losses(logits, torch.tensor([[1, -1], [-1, 0], [2, -1]]))
    torch.stack(list(parts.values())).sum().backward()
    assert logits["genre"].grad.abs().sum(1).gt(0).tolist() == [True, False, True]
    assert logits["sentiment"].grad.abs().sum(1).gt(0).tolist() == [False, True, False]
    assert multi_head.losses(logits, torch.tensor([[0, -1]] * 3)).keys() == {"genre"}


def test_losses_are_summed_by_weight_or_by_uncertainty():
    parts = {"genre": torch.tensor(2.0), "sentiment": torch.tensor(0.5)}
    config = {"genre": 0.5, "sentiment": 2.0}
    assert multi_head.weighted(parts, config, None) == 2.0
    found = {head: torch.zeros((), requires_grad=True) for head in (*parts, "absent")}
    optimizer = torch.optim.SGD(found.values(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        multi_head.weighted(parts, config, found).backward()
        optimizer.step()
    # Where the derivative vanishes the variance is twice the loss.
    variances = [float(torch.exp(found[head].detach())) for head in ("genre", "sentiment", "absent")]
    assert variances == pytest.approx([4.0, 1.0, 1.0], rel=1e-3)


def test_it_learns_both_heads_from_partial_labels(train, data):
    reporter = train(epochs=12, dropout=0.0)
    last = reporter.history()[-1]
    assert last["val/genre/f1"] > 0.8
    assert last["val/sentiment/f1"] > 0.8
    assert last["val/f1"] == pytest.approx((last["val/genre/f1"] + last["val/sentiment/f1"]) / 2)
    assert {"train/loss_genre", "train/loss_sentiment", "weight/genre"} <= last.keys()
    model = sentences.load(reporter.folder / "best")
    evaluation = sentences.test(model, data)
    assert {"test/f1", "test/genre/accuracy", "test/sentiment/f1"} <= evaluation.metrics.keys()
    assert len(evaluation.figures) == 2
    assert evaluation.texts.keys() == {
        f"{kind}_{head}.txt" for kind in ("classification_report", "test_texts") for head in ("genre", "sentiment")
    }
    [prediction] = sentences.predict(model, ["a dreadful book about the detective"])
    assert json.loads(json.dumps(prediction)) == prediction
    assert prediction["sentiment"]["class"] == "bad"
    assert prediction["genre"]["class"] == "crime"


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"freeze_depth": 0}, {"embeddings", "layer.0", "layer.1", "genre", "sentiment"}),
        ({"freeze_depth": 9}, {"genre", "sentiment"}),
        ({"freeze_depth": 2, "freeze_genre": True}, {"layer.1", "sentiment"}),
        ({"freeze_depth": 3, "freeze_sentiment": True}, {"genre"}),
        ({"freeze_depth": 3, "freeze_genre": True, "freeze_sentiment": True}, set()),
        ({"freeze_depth": 3, "freeze_genre": True, "freeze_sentiment": True, "weighting": "uncertainty"}, set()),
    ],
)
def test_what_is_frozen_is_what_was_asked_for(train, data, backbone, changes, moved, tmp_path):
    first = sentences.load(train(name="first", layer=-2).folder / "best")
    (tmp_path / "weights").mkdir()
    sentences.write_weights(first, data, tmp_path / "weights")
    start = {"backbone": backbone, "heads": str(tmp_path / "weights" / "heads.safetensors")}
    trained = train(name="second", layer=-2, **start, **changes)
    before = {k: v for k, v in first.module.state_dict().items() if "heads" in k}
    before |= {f"encoder.body.{k}": v for k, v in load_file(f"{backbone}/model.safetensors").items()}
    after = sentences.load(trained.folder / "best").module.state_dict()
    parts = ("embeddings", "layer.0", "layer.1", "genre", "sentiment")
    same = {part: all(torch.equal(after[key], before[key]) for key in after if f".{part}." in key) for part in parts}
    assert {part for part, equal in same.items() if not equal} == moved
    assert ("train/loss" in trained.history()[0]) == bool(moved)


def test_a_study_goes_on_from_the_encoder_and_the_heads_of_another(train, data, space, dataset, tmp_path):
    reporter = train(epochs=3, name="first")
    model = sentences.load(reporter.folder / "best")
    (tmp_path / "weights").mkdir()
    sentences.write_weights(model, data, tmp_path / "weights")
    settings = [f"backbone={tmp_path / 'weights' / 'encoder'}", f"heads={tmp_path / 'weights' / 'heads.safetensors'}"]
    remedies = {fault.remedy for fault in sentences.check(space.override(settings), dataset)}
    assert {"Add --set pooling=mean.", "Add --set layer=-1."} < remedies
    again = space.override([*settings, "layer=-1", "pooling=mean"])
    assert sentences.check(again, dataset) == []
    assert [f.remedy for f in sentences.check(space.override([settings[1], "layer=-1", "pooling=mean"]), dataset)] == [
        "Add --set layer=-2."
    ]
    prepared = sentences.prepare(again, dataset, tmp_path / "cache")
    frozen = {"freeze_depth": 3, "freeze_genre": True, "freeze_sentiment": True}
    config = {**again.fixed, **again.start, **frozen}
    [only] = train(epochs=5, name="second", prepared=prepared, **config).history()
    assert only["val/f1"] == max(epoch["val/f1"] for epoch in reporter.history())


def test_embeddings_of_the_last_stage_are_what_the_heads_see(backbone, space):
    model = sentences.pretrained({**space.fixed, **space.start})
    assert sentences.stage_names(model) == ["embeddings", "layer0", "layer1"]
    texts = ["the detective and the train", "a book"] * 40
    vectors = sentences.embed(model, texts, "layer1")
    assert vectors.shape == (80, 16)
    tokens, mask = sentences._tokenize(model, texts)
    with torch.inference_mode():
        assert np.allclose(vectors, model.module.encoder(tokens, mask, "mean").numpy(), atol=1e-6)
    assert not np.allclose(vectors, sentences.embed(model, texts, "layer0"))


def test_labels_for_pictures_say_where_there_is_none(dataset):
    texts, labels = sentences.labelled(dataset, "train")
    assert len(texts) == len(labels["genre"]) == len(labels["sentiment"])
    assert {"crime", None} <= set(labels["genre"])
    assert {"good", None} <= set(labels["sentiment"])


def test_the_reference_learns_from_the_rows_that_have_the_label(data, space):
    [(name, metrics)] = sentences.references(space, data).items()
    assert "TF-IDF" in name
    assert metrics["test/genre/accuracy"] > 0.9


def test_a_third_head_is_a_column_and_three_lines(files, space, tmp_path, backbone):
    lines = ["text,topic", *(f"a book about {word} {n},{word}" for n in range(20) for word in ("oven", "train"))]
    (tmp_path / "topics.csv").write_text("\n".join(lines))
    params = {**space.params, "head_layers_topic": 0, "loss_weight_topic": 1.0, "freeze_topic": False}
    wider = replace(space, params=params)
    dataset = sentences.read([*files, tmp_path / "topics.csv"], tmp_path, 0, wider)
    assert sentences.check(wider, dataset) == []
    assert list(dataset.classes) == ["genre", "sentiment", "topic"]
    encoder, _ = sentences.text_encoders.load(backbone)
    network = sentences._build(encoder, {**wider.fixed, **wider.start}, dataset.classes)
    assert [stage.name for stage in network.stages()][-3:] == ["genre", "sentiment", "topic"]
    missing = replace(space, params={**space.params, "head_layers_topic": 0})
    assert len(sentences.check(missing, dataset)) == 2


@pytest.mark.parametrize(
    "name", ["type", "keys", "get", "Text", "training", "loss", "layer0", "note", "embeddings", "a.b", "two words"]
)
def test_a_head_may_not_be_called_as_something_else_is(space, name):
    assert not multi_head.is_head_name(name)
    shared = {f"{key}_{name}": 1 for key in ("head_layers", "loss_weight")}
    named = replace(space, params={**space.params, **shared, f"freeze_{name}": False})
    [fault] = sentences.check(named, None)
    better = f"{name}_label".replace(" ", "_").replace(".", "_")
    assert better in fault.remedy
    assert not multi_head.is_head_name("depth")  # freeze_depth is something else
    assert multi_head.is_head_name(better)


def test_a_head_that_has_learned_nothing_is_not_frozen(space):
    [fault] = sentences.check(space.override(["freeze_genre=true"]), None)
    assert "freeze_genre=true with heads=new" in fault.value
    [fault] = sentences.check(space.override(["freeze_genre=true,false"]), None)


def test_a_frozen_head_must_be_in_the_file(train, data, space, dataset, tmp_path):
    model = sentences.load(train(name="first").folder / "best")
    del model.module.heads["sentiment"], model.module.classes["sentiment"], model.module.layers["sentiment"]
    saved_heads.save(model.module, tmp_path / "one.safetensors")
    settings = [f"heads={tmp_path / 'one.safetensors'}", "layer=-2", "pooling=mean", "freeze_sentiment=true"]
    [fault] = sentences.check(space.override(settings), dataset)
    assert "freeze_sentiment=true" in fault.value
    assert sentences.check(space.override([*settings[:3], "freeze_genre=true"]), dataset) == []


def test_what_a_space_cannot_ask_for_is_reported_together(dataset, space, tmp_path):
    wrong = space.override(["pooling=mean", "max_tokens=500", f"heads={tmp_path / 'none.safetensors'}"])
    wrong = replace(
        wrong, params={**wrong.params, "weights": "best", "layer": -9}, start=_without(wrong.start, "layer")
    )
    faults = [str(fault) for fault in sentences.check(wrong, dataset)]
    assert len(faults) == 3
    assert "DEFAULT" in faults[0]
    assert "-3..-1" in faults[1]
    assert "none.safetensors" in faults[2]


def _without(config: dict, key: str) -> dict:
    return {name: value for name, value in config.items() if name != key}
