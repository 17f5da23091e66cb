"""Text encoders: stage by stage they compute what the models compute, and they can be saved and loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    RobertaConfig,
    RobertaPreLayerNormConfig,
    ViTConfig,
    XLMRobertaConfig,
)

from platform.errors import InputError
from platform.models import text_encoders
from platform.models.stages import assign
from platform.training.freezing import Freezer, Freezing

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dull",
    "book",
    "about",
    "the",
    "sea",
    "is",
    "not",
    "at",
    "all",
]
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30,
    "max_position_embeddings": 20,
}  # fmt: skip
GOOD = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "electra": ElectraConfig(**SIZES, embedding_size=8),
    "distilbert": DistilBertConfig(
        dim=16, n_layers=3, n_heads=2, hidden_dim=32, vocab_size=30, max_position_embeddings=20
    ),
}
REFUSED = {
    "albert": AlbertConfig(**SIZES),
    "gpt2": GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=30),
    "modernbert": ModernBertConfig(
        **SIZES, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
    "mpnet": MPNetConfig(**SIZES),  # its layers need a bias beside states and mask
    "roberta-prelayernorm": RobertaPreLayerNormConfig(**SIZES),  # has a norm after the last layer
    "vit": ViTConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32),
}
IDS = torch.tensor([[2, 5, 6, 7, 8, 9, 3], [2, 12, 6, 3, 0, 0, 0], [2, 13, 14, 15, 6, 3, 0]])
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])


def write(folder: Path, config: PretrainedConfig) -> str:
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=GOOD)
def folder(request, tmp_path) -> str:
    return write(tmp_path, GOOD[request.param])


@pytest.fixture
def bert(tmp_path) -> str:
    return write(tmp_path, GOOD["bert"])


@torch.no_grad()
def test_stage_by_stage_is_what_transformers_computes(folder):
    theirs = AutoModel.from_pretrained(folder).eval()(IDS, MASK, output_hidden_states=True).hidden_states
    for layer in (-1, -2, -3):
        encoder, _ = text_encoders.load(folder, layer=layer)
        state = IDS
        for number, (stage, wanted) in enumerate(zip(encoder.stages(), theirs, strict=False)):
            state = encoder.run(state, MASK, number, number + 1)
            torch.testing.assert_close(state, wanted, rtol=0, atol=1e-6, msg=stage.name)
            assert torch.equal(state, encoder.run(IDS, MASK, 0, number + 1))
        torch.testing.assert_close(state, theirs[layer], rtol=0, atol=1e-6)
        assert torch.equal(state, encoder.states(IDS, MASK))


@torch.no_grad()
def test_padding_changes_nothing(folder):
    encoder, _ = text_encoders.load(folder)
    for pooling in text_encoders.POOLINGS:
        together = encoder(IDS, MASK, pooling)
        for row, length in enumerate(MASK.sum(1)):
            alone = encoder(IDS[row : row + 1, :length], MASK[row : row + 1, :length], pooling)
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_poolings(bert):
    encoder, _ = text_encoders.load(bert)
    states = encoder.states(IDS, MASK)
    assert torch.equal(encoder(IDS, MASK, "cls"), states[:, 0])
    torch.testing.assert_close(encoder(IDS, MASK, "mean")[1], states[1, :4].mean(0))
    torch.testing.assert_close(encoder(IDS, MASK, "max")[1], states[1, :4].amax(0))
    with pytest.raises(ValueError, match="mean, cls, max"):
        encoder(IDS, MASK, "sum")


def test_every_tensor_has_its_stage_and_freezing_a_stage_works(folder):
    encoder, _ = text_encoders.load(folder, layer=-2)
    model = torch.nn.ModuleDict({"encoder": encoder, "head": torch.nn.Linear(16, 2)})
    stages = encoder.stages("encoder")
    assert [stage.name for stage in stages] == ["embeddings", "layer0", "layer1"]
    assert text_encoders.stage_count(folder, -2) == len(stages)
    assert all(stage.backbone for stage in stages)
    with pytest.raises(ValueError, match=r"head\.\w+ belongs to none"):
        assign(model, stages)
    assert set(assign(encoder, encoder.stages()).values()) == {"embeddings", "layer0", "layer1"}
    Freezer(encoder, encoder.stages(), Freezing(depth=2), epochs=1).train()
    encoder(IDS, MASK).sum().backward()
    with_gradient = {name.split("layer.")[-1][0] for name, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradient == {"1"}
    assert {name for name, m in encoder.body.named_modules() if m.training} >= {f"{encoder._path}.1"}
    assert not encoder.layers[0].training


def test_every_parameter_left_learns(folder):
    encoder, _ = text_encoders.load(folder, layer=-2)
    encoder(IDS, MASK).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_what_is_saved_and_what_is_built_is_the_same(folder, tmp_path):
    encoder, tokenizer = text_encoders.load(folder, layer=-2)
    wanted = encoder(IDS, MASK)
    text_encoders.tokenize(tokenizer, ["a dull book"], 3)
    text_encoders.save(tmp_path / "saved", encoder, tokenizer)
    again, same = text_encoders.load(str(tmp_path / "saved"))
    assert torch.equal(again(IDS, MASK), wanted)
    assert same("a dull book about the sea")["input_ids"] == [2, 5, 6, 7, 8, 9, 10, 3]
    theirs = AutoModel.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(theirs(IDS, MASK).last_hidden_state, encoder.states(IDS, MASK), rtol=0, atol=1e-6)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("a book")["input_ids"] == [2, 5, 7, 3]
    built = text_encoders.build(json.loads(json.dumps(encoder.config())))
    assert not torch.equal(built(IDS, MASK), wanted)
    built.load_state_dict(encoder.state_dict())
    assert torch.equal(built(IDS, MASK), wanted)


def test_without_weights_it_is_random_by_torchs_seed(bert):
    torch.manual_seed(5)
    first, _ = text_encoders.load(bert, weights=False)
    torch.manual_seed(5)
    second, _ = text_encoders.load(bert, weights=False)
    third, _ = text_encoders.load(bert, weights=False)
    loaded, _ = text_encoders.load(bert)
    first, second, third, loaded = (e.state_dict() for e in (first, second, third, loaded))
    assert first.keys() == loaded.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    key = "body.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first[key], third[key])
    assert not torch.equal(first[key], loaded[key])


def test_half_precision_files_are_loaded_in_single(bert):
    file = Path(bert) / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, {"format": "pt"})
    config = Path(bert) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float16"}))
    for weights in (True, False):
        encoder, _ = text_encoders.load(bert, weights)
        assert {p.dtype for p in encoder.parameters()} == {torch.float32}
        assert not encoder.training


@pytest.mark.parametrize("name", REFUSED)
def test_other_kinds_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=r"Use one of BERT") as caught:
        text_encoders.load(write(tmp_path, REFUSED[name]))
    assert ("share" in str(caught.value)) == (name == "albert")


@pytest.mark.parametrize("layer", [0, 1, -4])
def test_a_layer_that_is_not_there_is_refused(bert, layer):
    for ask in (text_encoders.load, text_encoders.stage_count):
        with pytest.raises(InputError, match=r"-3\.\.-1"):
            ask(bert, layer=layer)


def break_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    drop_weights(folder)


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lose_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def drop_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def ask_for_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")


def lengthen_vocabulary(folder: Path) -> None:
    BertTokenizer(vocab={word: n for n, word in enumerate([*WORDS, *map(str, range(30))])}).save_pretrained(folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_json, "config.json"),
        (drop_weights, "weights"),
        (pickle_weights, "weights"),
        (cut_weights, "weights"),
        (lose_a_tensor, r"1 missing .*first: encoder\.layer\.1\.output\.dense\.weight"),
        (drop_tokenizer, "a tokenizer"),
        (ask_for_code, "config.json"),
        (lengthen_vocabulary, "30 for"),
    ],
)
def test_a_broken_folder_is_reported(bert, harm, message):
    harm(Path(bert))
    with pytest.raises(InputError, match=message):
        text_encoders.load(bert)


@pytest.mark.parametrize("name", ["", "no/such/folder", "/no/such/folder", "x" * 300, "with\0zero"])
def test_names_of_nothing_are_reported(name):
    with pytest.raises(InputError, match="none for"):
        text_encoders.load(name)


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_model_that_cannot_be_fetched_is_reported(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match=r"none for nobody/nothing-of-this-name.*needs the network"):
        text_encoders.load("nobody/nothing-of-this-name")


def test_token_ids_are_truncated_and_padded(bert, monkeypatch):
    encoder, tokenizer = text_encoders.load(bert)
    texts = ["a dull book", "Not at all", "", "the sea " * 30]
    ids, mask = text_encoders.tokenize(tokenizer, texts, 6)
    assert ids.dtype == np.int32
    assert mask.tolist() == [[True] * 5 + [False], [True] * 5 + [False], [True] * 2 + [False] * 4, [True] * 6]
    assert ids.tolist() == [[2, 5, 6, 7, 3, 0], [2, 12, 13, 14, 3, 0], [2, 3, 0, 0, 0, 0], [2, 9, 10, 9, 10, 3]]
    assert text_encoders.is_truncated(tokenizer, texts, 6) == [False, False, False, True]
    assert text_encoders.is_truncated(tokenizer, texts, 5) == [False, False, False, True], "as long as allowed"
    monkeypatch.setattr(text_encoders, "_CHUNK", 3)
    assert np.array_equal(text_encoders.tokenize(tokenizer, texts, 6)[0], ids)
    assert text_encoders.tokenize(tokenizer, [], 6)[0].shape == (0, 0)
    assert torch.isfinite(encoder(torch.from_numpy(ids), torch.from_numpy(mask))).all()


def test_the_longest_text_fits_and_a_longer_one_does_not(folder):
    encoder, _ = text_encoders.load(folder)
    ids = torch.full((1, encoder.max_tokens), 5)
    assert encoder(ids, torch.ones_like(ids)).shape == (1, encoder.hidden)
    with pytest.raises((IndexError, RuntimeError)):
        encoder(torch.full((1, encoder.max_tokens + 1), 5), torch.ones(1, encoder.max_tokens + 1))
