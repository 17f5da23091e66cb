"""Models as ONNX give the same outputs in onnxruntime, and the file describes all that is needed to use it."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from platform import export, task
from platform.models import detectors
from platform.serving import onnx_export

TASKS, _ = task.names()
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_models.save(name, root / name / "model") for name in TASKS}


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    files = {name: folder / f"{name}.onnx" for name in TASKS}
    for name, file in files.items():
        assert export.main([name, "--model", str(models[name]), "--out", str(file)]) == 0
    return files


def metadata_of(file: Path) -> dict:
    texts = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    assert texts["card"] == texts["metadata"], "users' programs read the old key"
    return json.loads(texts["metadata"])


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_exported_with_its_metadata(exported, name):
    metadata = metadata_of(exported[name])
    assert metadata["task"] == name
    assert metadata["classes"] == tiny_models.CLASSES[name]
    session = onnxruntime.InferenceSession(exported[name])
    assert all(given.name in metadata for given in session.get_inputs()), "each input is described"
    left = {path.name for path in exported[name].parent.iterdir() if path.name.startswith(".")}
    assert not left, "no partial file is left"


def test_onnxruntime_gives_the_prediction(exported, models):
    module = task.load("classifier")
    model = module.load(models["classifier"])
    pictures = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (90, 120, 3), np.uint8)) for n in range(3)]
    tensors = module.onnx(model).tensors(pictures)
    [shares] = onnxruntime.InferenceSession(exported["classifier"]).run(None, {"images": tensors["images"].numpy()})
    expected = [list(answer["probabilities"].values()) for answer in module.predict(model, pictures)]
    assert shares == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.parametrize("architecture", detectors.ARCHITECTURES)
def test_detectors_are_exported_with_their_postprocessing(architecture, tmp_path, capsys):
    model = tiny_models.save("detector", tmp_path / "model", [f"architecture={architecture}"])
    (tmp_path / "noise").mkdir()  # on a plain background of the embedded pictures a random head's scores are equal
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{number}.png")
    options = ["--model", str(model), "--out", str(tmp_path / "model.onnx"), "--check", str(tmp_path / "noise")]
    assert export.main(["detector", *options]) == 0
    compared = capsys.readouterr().err
    assert int(re.search(r"scores, 1 at a time: (\d+) values", compared).group(1)) > 0, "the model found boxes"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    boxes, labels, scores = session.run(None, {"images": np.zeros((1, 3, 64, 64), np.float32)})
    assert boxes.shape == (len(scores), 4)
    assert labels.dtype == np.int64


def test_the_tokenizer_and_the_metadata_are_enough_for_sentences(exported, models):
    from tokenizers import Tokenizer

    file, texts = exported["sentences"], ["A dull book.", "A wonderful train, and a murder on it."]
    metadata, tokenizer = (
        metadata_of(file),
        Tokenizer.from_file(str(file.with_name("sentences.tokenizer") / "tokenizer.json")),
    )
    tokenizer.enable_truncation(metadata["max_tokens"])
    tokenizer.enable_padding(pad_id=metadata["padding"]["id"], pad_token=metadata["padding"]["token"])
    encoded = tokenizer.encode_batch(texts)
    given = {"tokens": np.array([e.ids for e in encoded]), "mask": np.array([e.attention_mask for e in encoded])}
    session = onnxruntime.InferenceSession(file)
    answers = dict(zip((output.name for output in session.get_outputs()), session.run(None, given), strict=True))
    module = task.load("sentences")
    for row, prediction in enumerate(module.predict(module.load(models["sentences"]), texts)):
        for head, shares in answers.items():
            assert metadata["classes"][head][shares[row].argmax()] == prediction[head]["class"]
            assert shares[row].max() == pytest.approx(prediction[head]["probability"], abs=1e-4)


def test_the_documented_example_needs_no_torch_and_no_project(exported, models, tmp_path):
    code = re.search(r"(    import json\n.*)", export.__doc__, re.DOTALL).group(1)
    code = "\n".join(line[4:] for line in code.splitlines())
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "model.onnx").symlink_to(exported["classifier"])
    code += "\nimport sys; assert not {'torch', 'torchvision', 'transformers'} & set(sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    module = task.load("classifier")
    image = Image.open(tmp_path / "photo.jpg").convert("RGB")
    [prediction] = module.predict(module.load(models["classifier"]), [image])
    name, share = ended.stdout.rsplit(maxsplit=1)
    assert (name, float(share)) == (prediction["class"], pytest.approx(prediction["probability"], abs=1e-3))


def test_a_file_with_other_outputs_is_noticed(models, tmp_path):
    module = task.load("autoencoder")
    graph = module.onnx(module.load(models["autoencoder"]))
    pictures = [Image.new("RGB", (8, 8), (0, 0, 40 * n)) for n in range(5)]
    onnx_export.write(graph, {}, pictures, tmp_path / "model.onnx")

    def compared(forward):
        other = replace(graph, forward=forward)
        found = onnx_export.differences(other, pictures, tmp_path / "model.onnx")
        return onnx_export.is_same(other, found), max(worst for batches in found.values() for _, worst in batches)

    same, worst = compared(graph.forward)
    assert same
    assert worst < 1e-5
    for forward in (
        lambda x: (graph.forward(x)[0] * 1.01,),
        lambda x: (graph.forward(x)[0][1:],),
        lambda x: (graph.forward(x)[0] * torch.nan,),
    ):
        assert compared(forward)[0] is False


@pytest.mark.parametrize(("wrong", "of", "same"), [(0, 4, True), (1, 4, False), (1, 10, True), (2, 10, False)])
def test_a_detector_may_differ_in_one_of_ten_examples(models, wrong, of, same):
    module = task.load("detector")
    graph = module.onnx(module.load(models["detector"]))
    boxes = [(4, float("inf"))] * wrong + [(4, 1e-6)] * (of - wrong)
    found = {"boxes": boxes, "scores": [(1, 1e-6)] * of}
    assert onnx_export.agreeing(found) == (of - wrong, of)
    assert onnx_export.is_same(graph, found) is same


def test_a_detector_that_finds_nothing_is_not_exported(tmp_path, capsys):
    model = tiny_models.save("detector", tmp_path / "model")
    state = load_file(model / "model.safetensors")
    state["net.head.classification_head.cls_logits.bias"].fill_(-50)
    save_file(state, model / "model.safetensors")
    assert export.main(["detector", "--model", str(model), "--out", str(tmp_path / "model.onnx")]) == 1
    assert "nothing was compared" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_given_inputs_are_compared(models, tmp_path, capsys):
    for number in range(3):
        Image.new("RGB", (40, 40), (0, 0, 80 * number)).save(tmp_path / f"{number}.png")
    options = ["--model", str(models["autoencoder"]), "--out", str(tmp_path / "model.onnx"), "--check", str(tmp_path)]
    assert export.main(["autoencoder", *options]) == 0
    assert "Examples compared: 3 of 3 given" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["model.pt", "none/model.onnx", ""])
def test_an_impossible_output_file_is_refused_before_any_work(out, tmp_path, capsys):
    assert export.main(["classifier", "--out", str(tmp_path / out), "--model", "none"]) == 2
    assert "--out FILE.onnx" in capsys.readouterr().err


def test_inputs_beyond_the_limit_are_counted_but_not_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "MOST", 2)
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree")
    for kind, name in (("image", tmp_path), ("text", tmp_path / "lines.txt")):
        examples, given = export._examples(kind, [str(name)])
        assert (len(examples), given) == (2, 3)


def test_a_folder_that_cannot_be_written_ends_the_command_with_a_message(models, capsys):
    options = ["--model", str(models["autoencoder"]), "--out", "/proc/model.onnx"]  # no user can write there
    assert export.main(["autoencoder", *options]) == 1
    assert "Stopped" in capsys.readouterr().err


def test_the_error_for_missing_packages_says_how_to_install_them(tmp_path):
    hide = (
        "import sys; sys.modules['onnxscript'] = None; from platform import export; sys.exit(export.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", hide, "classifier", "--out", str(tmp_path / "model.onnx")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no onnxscript" in ended.stderr
    assert "--extra onnx" in ended.stderr
