"""Files made to do harm: what would fill the memory, lead out of the data folder or run code is refused by name."""

import gzip
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertTokenizer

from platform.data import prediction_inputs
from platform.data.classification import dataset as image_classes
from platform.data.classification import digits
from platform.data.detection import dataset as detection
from platform.data.detection.annotations import Kind
from platform.data.findings import Repair
from platform.data.text import dataset as texts
from platform.errors import InputError
from platform.evaluation import zero_shot_baseline
from platform.models import backbones, encoders, open_clip_models, saved_heads, text_encoders

STEMS = ("a", "b", "c", "d", "e", "f")
HEADS = ("genre",)


def refusal(read: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(*arguments, **options)
    assert all(fault.rule and fault.value and fault.remedy for fault in caught.value.faults)
    return str(caught.value)


def png(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (colour, 90, 200)).save(path)
    return path


def huge_png(path: Path, side: int = 60_000) -> Path:
    """A picture of a few bytes that claims to be enormous."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
    return path


def voc(root: Path) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for number, stem in enumerate(STEMS):
        png(root / "JPEGImages" / f"{stem}.png", 40 * number)
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
        annotation = f"<filename>{stem}.png</filename><object><name>cat</name>{box}</object>"
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{annotation}</annotation>")
    return root


def coco(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        png(root / "images" / f"{stem}.png", 40 * number)
    images = [{"id": number, "file_name": f"{stem}.png"} for number, stem in enumerate(STEMS)]
    boxes = [{"image_id": number, "category_id": 1, "bbox": [1, 2, 5, 6]} for number in range(len(STEMS))]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / "annotations.json").write_text(json.dumps(document))
    return root


def yolo(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        png(root / "images" / f"{stem}.png", 40 * number)
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{stem}.txt").write_text("0 .5 .5 .2 .3\n")
    (root / "data.yaml").write_text("names: [cat]\n")
    return root


def boxes(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        png(root / "images" / f"{stem}.png", 40 * number)
    lines = [f"images/{stem}.png,cat,1,2,9,8" for stem in STEMS]
    (root / "annotations.csv").write_text("image,label,x1,y1,x2,y2\n" + "\n".join(lines) + "\n")
    return root


def classes(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        png(root / "cat" / f"{stem}.png", 40 * number)
        png(root / "dog" / f"{stem}.png", 40 * number + 20)
    return root


def table(root: Path) -> Path:
    lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(classes(root).rglob("*.png"))]
    (root / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    return root


def found(dataset: Any, kind: str) -> list[Repair]:
    return [repair for repair in dataset.found.repairs if repair.kind == kind]


# Bombs


@pytest.mark.parametrize(
    ("write", "image", "read"),
    [
        (voc, "JPEGImages/a.png", detection.read),
        (coco, "images/a.png", detection.read),
        (yolo, "images/a.png", detection.read),
        (boxes, "images/a.png", detection.read),
        (classes, "cat/a.png", image_classes.read),
        (table, "cat/a.png", image_classes.read),
    ],
)
def test_a_picture_of_too_many_pixels_is_left_out_and_reported(write, image, read, tmp_path):
    root = write(tmp_path / "data")
    huge_png(root / image)
    [repair] = found(read(root, 0), Kind.BROKEN_IMAGE)
    assert "a.png" in repair.where
    assert "pixels" in repair.where


def test_a_picture_of_too_many_pixels_is_no_input_for_a_prediction(tmp_path):
    file = huge_png(tmp_path / "bomb.png")
    message = refusal(prediction_inputs.check_readable, [file])
    assert "bomb.png" in message
    assert "100,000,000 pixels" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "<!DOCTYPE a [<!ENTITY e0 'ha'>"
            + "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 12))
            + "]><annotation>&e11;</annotation>",
            "EntitiesForbidden",
        ),
        ("<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><annotation>&e;</annotation>", "EntitiesForbidden"),
        ("<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'><annotation>&e;</annotation>", ""),
    ],
)
def test_xml_with_entities_is_left_out_and_reported(content, reason, tmp_path):
    root = voc(tmp_path / "data")
    (root / "Annotations" / "a.xml").write_text(content)
    [repair] = found(detection.read(root, 0), Kind.UNREADABLE_FILE)
    assert repair.where.startswith("Annotations/a.xml")
    assert reason in repair.where
    assert "root:" not in repair.where


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "x" * 300 + ".csv", "\ud800"])
def test_data_of_impossible_names_is_refused(name, tmp_path):
    source = tmp_path / name
    assert "no " in refusal(texts.read, [source], HEADS, "detect", 0)
    assert "no " in refusal(detection.read, source, 0)
    assert "no " in refusal(image_classes.read, source, 0)
    assert "no " in refusal(digits.read, source, tmp_path, 0)


def idx(*sizes: int, content: bytes = b"") -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + content


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_that_claims_more_than_it_can_hold_is_refused(packed, tmp_path):
    content = idx(2**31, 2**15, 2**15, content=bytes(99))
    name = "train-images-idx3-ubyte"
    (tmp_path / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    assert f"announces {2**61:,} bytes" in refusal(digits.read, tmp_path, tmp_path, 0)


def test_a_gzip_bomb_is_refused_unpacked_no_further_than_it_announces(tmp_path):
    size = 2**20
    honest, lying = idx(100 * size, 1, 1, content=bytes(100 * size)), idx(10, 1, 1, content=bytes(100 * size))
    for content, reason in ((honest, "it can hold"), (lying, "10 bytes, and more follow")):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content, 6))
        assert reason in refusal(digits.read, tmp_path, tmp_path, 0)


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_parquet_file_of_many_times_its_size_is_refused(as_dictionary, tmp_path):
    file, rows = tmp_path / "bomb.parquet", 2**18
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.repeat(pyarrow.scalar(0, pyarrow.int8()), rows), ["a" * 999])
    schema = pyarrow.schema({"text": column.type, "genre": column.type})
    made = pyarrow.table({"text": column, "genre": column}, schema)
    pyarrow.parquet.write_table(made, file, compression="zstd", store_schema=as_dictionary)
    assert file.stat().st_size < 2**17
    assert "many times its size" in refusal(texts.read, [file], HEADS, "detect", 0)


def test_weights_that_unpack_to_many_times_their_size_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2**25)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry))
    assert "unpacks to 128 MiB" in refusal(backbones.load, "resnet18", str(tmp_path / "bomb.pth"))


# Ways out of the data folder

OUTSIDE = ["../secret.png", "../../etc/passwd", "/etc/passwd", "..\\secret.png", "images/../../secret.png"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_coco_names_that_lead_out_are_left_out_and_reported(path, tmp_path):
    root = coco(tmp_path / "data")
    png(tmp_path / "secret.png")
    document = json.loads((root / "annotations.json").read_text())
    document["images"].append({"id": 99, "file_name": path})
    (root / "annotations.json").write_text(json.dumps(document))
    dataset = detection.read(root, 0)
    assert [repair.where for repair in found(dataset, Kind.ESCAPING_PATH)] == [f"annotations.json images[6] {path}"]
    assert all(example.path.is_relative_to(root) for example in dataset.examples)


@pytest.mark.parametrize("path", OUTSIDE)
def test_voc_names_that_lead_out_are_left_out_and_reported(path, tmp_path):
    root = voc(tmp_path / "data")
    png(tmp_path / "secret.png")
    (root / "Annotations" / "z.xml").write_text(f"<annotation><filename>{path}</filename></annotation>")
    dataset = detection.read(root, 0)
    repairs = found(dataset, Kind.ESCAPING_PATH) + found(dataset, Kind.MISSING_IMAGE)
    assert [repair.where for repair in repairs] == [f"Annotations/z.xml {path}"]
    assert all(example.path.is_relative_to(root) for example in dataset.examples)


@pytest.mark.parametrize("path", OUTSIDE)
def test_yolo_paths_that_lead_out_find_nothing_outside(path, tmp_path):
    root = yolo(tmp_path / "data")
    png(tmp_path / "secret.png")
    (root / "all.txt").write_text("".join(f"images/{stem}.png\n" for stem in STEMS) + f"{path}\n")
    (root / "data.yaml").write_text(f"names: [cat]\ntrain: [all.txt, '{path}']\n")
    dataset = detection.read(root, 0)
    assert [repair.where for repair in found(dataset, Kind.MISSING_FOLDER)] == [f"data.yaml train: {path}"]
    assert [repair.where for repair in found(dataset, Kind.MISSING_IMAGE)] == ["all.txt line 7"]
    assert all(example.path.is_relative_to(root) for example in dataset.examples)


@pytest.mark.parametrize("path", OUTSIDE)
def test_rows_of_boxes_that_lead_out_are_left_out_and_reported(path, tmp_path):
    root = boxes(tmp_path / "data")
    png(tmp_path / "secret.png")
    with (root / "annotations.csv").open("a") as stream:
        stream.write(f"{path},cat,1,2,9,8\n")
    dataset = detection.read(root, 0)
    assert [repair.where for repair in found(dataset, Kind.ESCAPING_PATH)] == [f"annotations.csv row 8 {path}"]
    assert all(example.path.is_relative_to(root) for example in dataset.examples)


@pytest.mark.parametrize("path", OUTSIDE)
def test_rows_that_lead_out_are_left_out_and_reported(path, tmp_path):
    root = table(tmp_path / "data")
    png(tmp_path / "secret.png")
    with (root / "labels.csv").open("a") as stream:
        stream.write(f"{path},cat\n")
    dataset = image_classes.read(root, 0)
    assert [repair.where for repair in found(dataset, "path that leaves the data folder")] == [
        f"labels.csv line 14 {path}"
    ]
    assert all(example.path.is_relative_to(root) for example in dataset.examples)


@pytest.mark.parametrize(
    ("write", "image", "read"),
    [(coco, "images/a.png", detection.read), (classes, "cat/a.png", image_classes.read)],
)
def test_a_link_is_followed_but_only_a_picture_is_taken_from_there(write, image, read, tmp_path):
    """A link to a picture on another disk is intended; the content of other linked files must not be recorded."""
    root = write(tmp_path / "data")
    (tmp_path / "secret.txt").write_text("the secret")
    (root / image).unlink()
    (root / image).symlink_to(tmp_path / "secret.txt")
    dataset = read(root, 0)
    [repair] = found(dataset, Kind.BROKEN_IMAGE)
    assert "not a picture" in repair.where
    assert "the secret" not in "\n".join(dataset.findings())


@pytest.mark.parametrize(("write", "read"), [(yolo, detection.read), (classes, image_classes.read)])
def test_links_in_a_circle_end(write, read, tmp_path):
    root = write(tmp_path / "data")
    (root / ("images" if write is yolo else "cat") / "up").symlink_to(root)
    (root / "self.png").symlink_to(root / "self.png")
    assert len(read(root, 0).examples) == len(list(root.rglob("?.png")))


@pytest.mark.parametrize(
    ("write", "name"), [(coco, "x.json"), (voc, "Annotations/x.xml"), (yolo, "x.yaml"), (boxes, "fetched.csv")]
)
def test_a_pipe_among_the_annotations_is_not_waited_for(write, name, tmp_path):
    root = write(tmp_path / "data")
    os.mkfifo(root / name)
    assert len(detection.read(root, 0).examples) == len(STEMS)


# Code in data and in models


class Touch:
    """Pickled, a command that leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def marker(tmp_path) -> Any:
    yield tmp_path / "it ran"
    assert not (tmp_path / "it ran").exists()


def spoiled(file: Path, marker: Path) -> list[Path]:
    """The same harm plain, in torch's archive, among weights, and as what a reader stumbles over in another way."""
    files = [file.with_name(f"{kind}-{file.name}") for kind in ("plain", "torch", "among", "late")]
    files[0].write_bytes(pickle.dumps(Touch(marker)))
    torch.save(Touch(marker), files[1])
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "epoch": Touch(marker)}, files[2])
    # An ordered dictionary with the state (None, {}): a TypeError with weights_only, and nothing to plain pickle.
    stumble = b"ccollections\nOrderedDict\n)RN}\x86b0"
    files[3].write_bytes(b"\x80\x02" + stumble + pickle.dumps(Touch(marker), 2)[2:])
    return files


def test_the_pickles_of_these_tests_do_harm_where_they_are_trusted(tmp_path):
    marker = tmp_path / "it ran"
    for file in spoiled(tmp_path / "weights.pth", marker):
        marker.unlink(missing_ok=True)
        torch.load(file, weights_only=False) if zipfile.is_zipfile(file) else pickle.loads(file.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/tuple", "!x"])
@pytest.mark.parametrize("form", ["names: {tag} [touch '{marker}']\n", "names: [cat, {tag} [x]]\n", "{tag} names: x\n"])
def test_yaml_that_asks_for_objects_is_refused(tag, form, marker, tmp_path):
    root = yolo(tmp_path / "data")
    (root / "data.yaml").write_text(form.format(tag=tag, marker=marker))
    message = refusal(detection.read, root, 0)
    assert Kind.UNREADABLE_FILE in message
    assert "data.yaml" in message


def test_backbone_weights_run_no_code(marker, tmp_path):
    for file in spoiled(tmp_path / "weights.pth", marker):
        message = refusal(backbones.load, "resnet18", str(file))
        assert "without pickled code" in message
        assert str(file) in message


@pytest.mark.parametrize(
    "state",
    [
        [torch.zeros(2)],
        {"state_dict": 3},
        {"conv1.weight": "text"},
        {1: torch.zeros(2)},
        {"conv1.weight": torch.zeros(64, 3, 7, 7).to_sparse()},
        {"conv1.weight": torch.empty(64, 3, 7, 7, device="meta")},
    ],
    ids=["list", "number", "text", "key", "sparse", "meta"],
)
def test_weights_that_are_no_tensors_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    assert "weights.pth" in refusal(backbones.load, "resnet18", str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "~nobody-of-this-name/x", "\ud800"])
def test_weights_of_impossible_names_are_refused(name):
    for read in (backbones.load, encoders.load):
        assert "weights must be a file" in refusal(read, "resnet18", name)
    assert "the weights must be" in refusal(encoders.load, "ViT-B-32", name)
    assert "the model's folder must exist" in refusal(encoders.load, f"local-dir:{name}", "none")


TEXT = {"context_length": 16, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}


def clip_folder(folder: Path, text: dict[str, Any] | None = None, **content: Any) -> str:
    """A small model of open_clip's, as it is on a hub; returns its name."""
    folder.mkdir(exist_ok=True)
    model = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT | (text or {})}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, **content}))
    if text is None and not content:
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def test_open_clip_weights_run_no_code(marker, tmp_path, monkeypatch):
    # With this, torch.load runs code unless weights_only is given, which open_clip's own reader may not do.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    name = clip_folder(tmp_path / "clip")
    digits, images = list("0123456789"), np.zeros((1, 3, 32, 32), np.uint8)
    for file in spoiled(tmp_path / "weights.pt", marker):
        messages = [
            refusal(encoders.load, name, str(file)),
            refusal(zero_shot_baseline.classify, name, str(file), digits, images),
        ]
        assert all("without pickled code" in message and str(file) in message for message in messages)
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    for file in spoiled(tmp_path / "default.bin", marker):
        file.rename(tmp_path / "clip" / "open_clip_pytorch_model.bin")
        assert "open_clip_pytorch_model.bin" in refusal(encoders.load, name, "DEFAULT")


@pytest.mark.parametrize(
    "content",
    [
        {"preprocess_cfg": None},
        {"preprocess_cfg": {"mean": "abc"}},
        {"preprocess_cfg": {"std": [1]}},
        {"model_cfg": {"embed_dim": 8, "vision_cfg": None, "text_cfg": TEXT}},
        {"model_cfg": {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": "x"}},
        {"model_cfg": []},
    ],
)
def test_an_open_clip_folder_of_another_shape_is_refused(content, tmp_path):
    assert "open_clip_config.json" in refusal(encoders.load, clip_folder(tmp_path / "clip", **content), "none")


def own_code(folder: Path, marker: Path) -> None:
    """Puts a module into a model's folder that leaves a file once it is imported."""
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
        "from transformers import BertConfig as Config, BertModel as Model, BertTokenizer as Tokenizer\n"
    )


def test_an_open_clip_folder_cannot_ask_for_its_tokenizers_code(marker, tmp_path):
    folder = tmp_path / "clip"
    clip_folder(folder)
    name = clip_folder(folder, {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}})
    own_code(folder, marker)
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}))
    settings = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\na\n")
    source = open_clip_models.find(name, "DEFAULT")
    assert "its tokenizer" in refusal(zero_shot_baseline._tokenizer, name, source)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dull", "book"]


@pytest.fixture
def bert(tmp_path) -> Path:
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=30,
        max_position_embeddings=20,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path / "bert")
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_pickle_in_a_text_encoders_folder_is_not_opened(bert, marker):
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl", "vocab.pkl"):
        (bert / name).write_bytes(pickle.dumps(Touch(marker)))
    text_encoders.load(str(bert))
    (bert / "model.safetensors").unlink()
    for file in spoiled(bert / "pytorch_model.bin", marker):
        file.rename(bert / "pytorch_model.bin")
        assert "weights (model.safetensors)" in refusal(text_encoders.load, str(bert))


def test_code_in_a_text_encoders_folder_is_not_run(bert, marker):
    own_code(bert, marker)
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    for file in ("config.json", "tokenizer_config.json"):
        changed(bert / file, auto_map=code)
    encoder, _ = text_encoders.load(str(bert))  # of a kind that transformers knows: its own code serves
    text_encoders.build({**encoder.config(), "auto_map": code})
    changed(bert / "config.json", model_type="own")
    assert "a configuration" in refusal(text_encoders.load, str(bert))
    changed(bert / "config.json", model_type="bert", attn_implementation="someone/kernel")
    assert "the kernel someone/kernel" in refusal(text_encoders.load, str(bert))
    assert "the kernel x/y" in refusal(text_encoders.build, {**encoder.config(), "_attn_implementation": "x/y"})


def test_heads_run_no_code_and_say_what_they_are(marker, tmp_path):
    for file in spoiled(tmp_path / "heads.safetensors", marker):
        message = refusal(saved_heads.read, file)
        assert str(file) in message


@pytest.mark.parametrize(
    "change",
    [None, [], {"classes": None}, {"classes": {"genre": 3}}, {"classes": {"genre": [1, 2]}}, {"layers": {}},
     {"layers": {"genre": "2"}}, {"width": 10.5}, {"stages": -1}, {"hidden": None}, {"pooling": 7}],
)  # fmt: skip
def test_heads_that_say_something_else_of_themselves_are_refused(change, tmp_path):
    said = {"classes": {"genre": ["a", "b"]}, "layers": {"genre": 1}, "width": 8, "pooling": "mean", "hidden": 4}
    said |= {"stages": 2}
    save_file({"x": torch.zeros(1)}, tmp_path / "heads.safetensors", {"heads": json.dumps(said)})
    assert saved_heads.read(tmp_path / "heads.safetensors")[0] == said
    other = said | change if isinstance(change, dict) else change
    save_file({"x": torch.zeros(1)}, tmp_path / "heads.safetensors", {"heads": json.dumps(other)})
    assert "heads.safetensors" in refusal(saved_heads.read, tmp_path / "heads.safetensors")


@pytest.mark.parametrize(
    "change",
    ["no JSON", "[" * 9999, "[]", "{}", {"mean": "abc"}, {"std": [0, 0, 0]}, {"crop": 0}, {"torchvision": "nothing"},
     {"torchvision": "resnet50"}, {"torchvision": ["resnet18"]}],
)  # fmt: skip
def test_a_saved_encoder_that_says_something_else_of_itself_is_refused(change, tmp_path):
    file = tmp_path / "encoder.safetensors"
    encoder = encoders.load("mobilenet_v2", "none")
    encoders.save(encoder, file)
    said = json.dumps(encoder.config | change) if isinstance(change, dict) else change
    save_file(load_file(file), file, {"encoder": said})
    assert refusal(encoders.load, "mobilenet_v2", str(file))
    assert refusal(encoders.load_file, file)


def test_a_saved_encoder_of_enormous_claims_is_refused_before_room_is_made(tmp_path):
    file = tmp_path / "encoder.safetensors"
    vision = VISION | {"width": 2**17, "mlp_ratio": 4.0}
    said = {"embed_dim": 8, "vision_cfg": vision, "quick_gelu": False, "mean": [0, 0, 0], "std": [1, 1, 1]}
    save_file({"x": torch.zeros(1)}, file, {"encoder": json.dumps(said)})
    assert "those of its configuration" in refusal(encoders.load_file, file)
