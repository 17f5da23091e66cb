"""Whatever lies in a data folder or is written after --set is used, or refused by name; nothing crashes or hangs."""

import csv
import functools
import gzip
import io
import json
import math
import signal
import string
import struct
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from platform import task
from platform.data.classification import dataset as image_classes
from platform.data.classification import digits
from platform.data.detection import dataset as detection
from platform.data.text import dataset as texts
from platform.errors import InputError

SECONDS = 5  # of the processor's time that an example may take: far more than any does, whatever else is running
STEMS = ("a", "b", "c", "d", "e", "f")
SPLITS = dict(zip(STEMS, ("train", "train", "val", "val", "test", "test"), strict=True))
HEADS = ("genre", "sentiment")

fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
few, some, many = (settings(fuzz, max_examples=count) for count in (15, 30, 80))


@contextmanager
def no_hang():
    """Fails what takes longer than SECONDS, in the middle of it."""

    def fail(*_: Any) -> None:
        pytest.fail(f"it took more than {SECONDS} s")  # no Exception, so that no reader takes it for a broken file

    before = signal.signal(signal.SIGVTALRM, fail)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def used_or_refused(read: Callable[[], Any]) -> bool:
    """Return whether a dataset can be read, or else is refused with faults; all texts can be written to a file."""
    faults = None
    with no_hang():
        try:
            dataset = read()
            if hasattr(dataset, "fingerprint"):
                texts = [dataset.fingerprint, *dataset.findings(), *dataset.lines().values()]
                texts.append(json.dumps(dataset.summary(), ensure_ascii=False))
                "\n".join(texts).encode()
        except InputError as error:
            faults = error.faults
            str(error).encode()
    assert faults is None or faults
    assert all(fault.rule and fault.value and fault.remedy for fault in faults or ())
    return faults is None


# What JSON, XML and text can hold: surrogates without their others, zero bytes, numbers that no float holds, …
words = st.text(max_size=12) | st.text(st.characters(categories=["Cs", "Cc", "Lo"]), max_size=4)
paths = st.sampled_from(
    ["", ".", "..", "/", "../../etc/passwd", "/etc/passwd", "a.png", "images", "\0", "x" * 300, "~", "\ud800.png",
     "images/a.png/", "\\\\host\\share", "a/" * 3000 + "a.png", "CON", "a.png\0.txt"]
)  # fmt: skip
numbers = (
    st.integers(-2, 9)
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 1e308, 5e-324, 2**63, 2**31, 0.1, -0.0, math.nan, math.inf])
)
junk = st.recursive(
    st.none() | st.booleans() | numbers | words | paths,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """Some bytes of a valid file overwritten, left out, put in or repeated."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(made)))
        width = draw(st.sampled_from([0, 1, 1, 2, 4, 40]))
        put = draw(st.binary(max_size=6) | st.sampled_from([b"\0", b"\xff\xfe", b'"', b"\n", b"9" * 5000, b"[" * 3000]))
        made[at : at + width] = put * draw(st.sampled_from([1, 1, 1, 3]))
    return bytes(made[: draw(st.integers(0, len(made)))] if draw(st.booleans()) else made)


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, stem in enumerate(STEMS):
        Image.new("RGB", (16, 12), (40 * number, 90, 200)).save(folder / f"{stem}.png")


# COCO


def coco_document(split: str) -> dict[str, list]:
    stems = [stem for stem in STEMS if SPLITS[stem] == split]
    return {
        "images": [{"id": n, "file_name": f"{stem}.png", "width": 16, "height": 12} for n, stem in enumerate(stems)],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [1, 2, 5, 6]} for n in range(len(stems))],
        "categories": [{"id": 1, "name": "cat"}],
    }


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    pictures(root / "images")
    (root / "annotations").mkdir()
    for split in ("train", "val", "test"):
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco_document(split)))
    assert used_or_refused(lambda: detection.read(root, 0))
    return root


def read_coco(root: Path, content: bytes) -> bool:
    (root / "annotations" / "instances_train.json").write_bytes(content)
    return used_or_refused(lambda: detection.read(root, 0))


entries = {
    "images": st.fixed_dictionaries(
        {},
        optional={
            "id": numbers | junk,
            "file_name": paths | junk,
            "width": numbers | junk,
            "height": numbers | junk,
        },
    ),
    "annotations": st.fixed_dictionaries(
        {},
        optional={
            "image_id": st.sampled_from([0, 1, True, 1.0]) | junk,
            "category_id": st.sampled_from([1, 1.0, "1"]) | junk,
            "bbox": st.lists(numbers, min_size=3, max_size=5) | junk,
            "iscrowd": junk,
        },
    ),
    "categories": st.fixed_dictionaries({}, optional={"id": numbers | junk, "name": words | junk}),
}


@many
@given(data=st.data())
def test_coco_entries_of_any_shape(coco, data):
    document = coco_document("train")
    for key, entry in entries.items():
        document[key] += data.draw(st.lists(entry | junk, max_size=3), label=key)
    if data.draw(st.integers(0, 9)) == 0:
        document[data.draw(st.sampled_from(sorted(document)))] = data.draw(junk)
    read_coco(coco, json.dumps(document).encode())


@some
@given(
    st.binary(max_size=60)
    | mutated(json.dumps(coco_document("train")).encode())
    | junk.map(lambda value: json.dumps(value).encode())
)
def test_coco_files_of_any_bytes(coco, content):
    read_coco(coco, content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"images":' * 50_000,
        json.dumps(coco_document("train")).replace('"id": 0', '"id": 0, "id": 7, "id": 0').encode(),
        json.dumps(coco_document("train")).replace("16", "9" * 5000).encode(),
        json.dumps(coco_document("train")).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(coco_document("train")).encode(),
    ],
)
def test_coco_files_that_are_deep_or_long_or_repeat_themselves(coco, content):
    read_coco(coco, content)


# Pascal VOC

OBJECT = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
SIZE = "<size><width>16</width><height>12</height></size>"
VOC = f"<annotation><filename>a.png</filename>{SIZE}{OBJECT}</annotation>"


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    pictures(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for stem in STEMS:
        (root / "Annotations" / f"{stem}.xml").write_text(VOC.replace("a.png", f"{stem}.png"))
        with (root / "ImageSets" / "Main" / f"{SPLITS[stem]}.txt").open("a") as stream:
            stream.write(f"{stem}\n")
    assert used_or_refused(lambda: detection.read(root, 0))
    return root


def read_voc(root: Path, content: bytes) -> bool:
    (root / "Annotations" / "b.xml").write_bytes(content)
    return used_or_refused(lambda: detection.read(root, 0))


def escaped(value: Any) -> str:
    return "".join(f"&#{ord(letter)};" for letter in str(value))


fields = (numbers.map(str) | words | paths | st.sampled_from(["9" * 5000, "१२", "-1", "1e999"])).map(escaped)


@many
@given(size=st.tuples(fields, fields), corners=st.tuples(*[fields] * 4), name=fields, file=fields)
def test_voc_fields_of_any_text(voc, size, corners, name, file):
    box = "".join(f"<{corner}>{text}</{corner}>" for corner, text in zip(("xmin", "ymin", "xmax", "ymax"), corners))  # noqa: B905
    content = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    content += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>{OBJECT}"
    read_voc(voc, f"<annotation><filename>{file}</filename>{content}</annotation>".encode())


@some
@given(st.binary(max_size=60) | mutated(VOC.encode()))
def test_voc_files_of_any_bytes(voc, content):
    read_voc(voc, content)


@pytest.mark.parametrize(
    "content",
    [
        VOC.replace("16", "9" * 5000),
        VOC.replace("16", "\u0967"),
        "<annotation>" + "<object>" * 100_000,
        "<annotation>" + "<object>" * 100_000 + "</object>" * 100_000 + "</annotation>",
        "<annotation " + " ".join(f'a{n}="1"' for n in range(10_000)) + "/>",
        '<?xml version="1.0" encoding="utf-7"?>' + VOC,
        '<?xml version="1.0" encoding="zlib"?>' + VOC,
        VOC.replace("annotation", "\ud7ff"),
    ],
)
def test_voc_files_that_are_deep_or_long_or_strange(voc, content):
    read_voc(voc, content.encode())


@few
@given(st.lists(words | paths | st.sampled_from(STEMS), max_size=4).map("\n".join))
def test_voc_lists_of_any_text(voc, text):
    file = voc / "ImageSets" / "Main" / "test.txt"
    before = file.read_bytes()
    try:
        file.write_bytes(before + text.encode("utf-8", "surrogatepass"))
        used_or_refused(lambda: detection.read(voc, 0))
    finally:
        file.write_bytes(before)


# CSV

BOXES = "image,label,x1,y1,x2,y2,split\n" + "".join(f"{s}.png,cat,1,2,9,8,{SPLITS[s]}\n" for s in STEMS)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("boxes") / "data"
    pictures(root)
    return root


def read_boxes(root: Path, content: bytes) -> bool:
    (root / "annotations.csv").write_bytes(content)
    return used_or_refused(lambda: detection.read(root, 0))


@many
@given(st.lists(st.lists(numbers.map(str) | words | paths | st.sampled_from(["cat", "val"]), max_size=9), max_size=4))
def test_box_rows_of_any_cells(boxes, rows):
    assert read_boxes(boxes, BOXES.encode())
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    read_boxes(boxes, (BOXES + stream.getvalue()).encode("utf-8", "replace"))


@some
@given(st.binary(max_size=60) | mutated(BOXES.encode()))
def test_box_tables_of_any_bytes(boxes, content):
    read_boxes(boxes, content)
    read_boxes(boxes, BOXES.encode() + content)


@pytest.mark.parametrize(
    ("content", "usable"),
    [
        (BOXES.replace("\n", "\r").encode(), True),
        (BOXES.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"), True),
        (BOXES.replace(",", "\t").encode(), True),
        ((BOXES + "\0" * 3000).encode(), True),
        ((BOXES + "," * 100_000 + "\n").encode(), True),
        ((BOXES + "a.png,cat,1,2,3," + "9" * 5000 + "\n").encode(), True),
        ((BOXES + "x" * 2**21).encode(), False),
        ((BOXES + '"').encode(), False),
        (BOXES.encode("utf-16"), False),
    ],
)
def test_box_tables_as_spreadsheets_save_them_and_longer_than_any(boxes, content, usable):
    assert read_boxes(boxes, content) == usable


# YOLO

YAML = "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: {0: cat, 1: dog}\n"


@pytest.fixture(scope="module")
def yolo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("yolo")
    pictures(root / "all")
    for stem, split in SPLITS.items():
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        (root / "all" / f"{stem}.png").rename(root / "images" / split / f"{stem}.png")
        (root / "labels" / split / f"{stem}.txt").write_text("0 .5 .5 .2 .3\n")
    (root / "all").rmdir()
    (root / "data.yaml").write_text(YAML)
    assert used_or_refused(lambda: detection.read(root, 0))
    return root


def read_yolo(root: Path, content: bytes, label: bytes = b"0 .5 .5 .2 .3\n", name: str = "data.yaml") -> bool:
    (root / name).write_bytes(content)
    (root / "labels" / "train" / "b.txt").write_bytes(label)
    return used_or_refused(lambda: detection.read(root, 0))


numerals = st.sampled_from(["0", "1", "0.5", "1e999", "9" * 5000, "nan", "-inf", "0x1", "٣", "1_0"])


@many
@given(
    st.lists(st.lists(numbers.map(str) | words | numerals, max_size=6).map(" ".join), max_size=4)
    .map("\n".join)
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary(max_size=60)
)
def test_yolo_labels_of_any_text(yolo, label):
    read_yolo(yolo, YAML.encode(), label)


@many
@given(
    st.dictionaries(
        st.sampled_from(["path", "train", "val", "test", "valid", "names", "nc"]) | words,
        st.sampled_from(["images/train", "images/val", ["images/test"], ["cat", "dog"]]) | paths | junk,
        max_size=6,
    )
)
def test_yolo_settings_of_any_shape(yolo, given_settings):
    read_yolo(yolo, json.dumps(given_settings).encode())  # JSON is YAML, nearly


@some
@given(
    st.binary(max_size=60)
    | mutated(YAML.encode())
    | st.text(st.sampled_from("names:-[]{}&*!|>%@`'\"\\xuU0 9,?#\n\t"), max_size=40).map(str.encode)
)
def test_yolo_settings_of_any_bytes(yolo, content):
    read_yolo(yolo, content)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", BOMB + "names: *a59\n"),
        ("data.yaml", "[" * 20_000),
        ("data.yaml", "{" * 20_000),
        ("data.yaml", "- " * 20_000),
        ("data.yaml", "names: &a {0: *a}\n"),
        ("data.yaml", "? &a [*a]\n: b\n"),
        ("data.yaml", 'names: ["\\UFFFFFFFF"]\n'),
        ("data.yaml", 'names: ["\\ud800", "\\0"]\n'),
        ("data.yaml", f"%YAML {'9' * 5000}.1\n---\n{YAML}"),
        ("data.yaml", YAML.replace("images/train", "a/" * 100_000)),
        ("data.yaml", YAML.replace("images/train", "x" * 5000)),
        ("other.yaml", "\n" * 300_000),
        ("other.yaml", "\t \n" * 100_000),
    ],
)
def test_yolo_settings_that_are_deep_or_long_or_strange(yolo, name, content):
    try:
        read_yolo(yolo, content.encode(), name=name)
    finally:
        (yolo / "other.yaml").unlink(missing_ok=True)


# Tables of texts


def table_of(rows: list[list[str]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue()


ROWS = [[f"text {n}", f"{'ab'[n % 2]}", f"{n % 3}"] for n in range(30)]
TABLE = table_of([["text", *HEADS], *ROWS])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


def read_texts(folder: Path, name: str, content: bytes, encoding: str = "detect") -> bool:
    (folder / name).write_bytes(content)
    return used_or_refused(lambda: texts.read([folder / name], HEADS, encoding, 0))


cells = words | st.sampled_from(['"', "a,b", "\n", "\r", "\0", "a" * 140_000, "train", "nan", "1.0", "9" * 5000])
columns = st.lists(st.sampled_from(["text", "split", "TEXT ", "other", *HEADS]) | words, max_size=5)


@many
@given(
    header=columns | st.just(["text", *HEADS]),
    rows=st.lists(st.lists(cells, max_size=5), max_size=4),
    valid=st.booleans(),
    name=st.sampled_from(["a.csv", "a.tsv", "a.tab"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig", "cp1252", "utf-16-le", "cp037"]),
    quoted=st.booleans(),
)
def test_tables_of_any_cells(folder, header, rows, valid, name, encoding, quoted):
    rows = [header, *(ROWS if valid else []), *rows]
    text = table_of(rows) if quoted else "\n".join(",".join(row) for row in rows)
    read_texts(folder, name, text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace"))


@many
@given(
    st.binary(max_size=80)
    | mutated(TABLE.encode())
    | mutated(TABLE.encode("utf-16"))
    | st.binary(max_size=60).map(lambda tail: TABLE.encode() + tail)
)
def test_tables_of_any_bytes(folder, content):
    read_texts(folder, "b.csv", content)


@pytest.mark.parametrize(
    "content",
    [
        "text," + "a," * 200_000,
        "text,genre\n" + '"' + "a" * 300_000,
        "text,genre\n" + "a,b,c\n" * 100_000,
        "text,genre\n" + '""' * 100_000,
        "\n" * 300_000,
        "\r" * 300_000 + "text,genre\n",
    ],
)
def test_tables_that_are_long_or_wide(folder, content):
    assert not read_texts(folder, "c.csv", content.encode())


@some
@given(
    encoding=st.sampled_from(
        ["base64", "zlib", "rot13", "idna", "punycode", "undefined", "unicode_escape", "utf-7", "utf\0", "\ud800",
         "", "mbcs", "../x", "x" * 5000, "utf_16_be"]
    )
    | st.text(max_size=10),
    content=st.just(TABLE.encode()) | st.binary(max_size=40),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_encodings_of_any_name(folder, encoding, content):
    read_texts(folder, "d.csv", content, encoding)


def parquet_of(table: pyarrow.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream, **options)
    return stream.getvalue()


PARQUET = parquet_of(pyarrow.table({"text": [row[0] for row in ROWS], "genre": [row[1] for row in ROWS]}))
kinds = st.sampled_from(
    [pyarrow.timestamp("s"), pyarrow.timestamp("ns", "Europe/Berlin"), pyarrow.date64(), pyarrow.time64("ns"),
     pyarrow.duration("us"), pyarrow.float16(), pyarrow.uint64(), pyarrow.decimal128(38, 3), pyarrow.null(),
     pyarrow.bool_(), pyarrow.large_string(), pyarrow.binary(), pyarrow.string_view(), pyarrow.list_(pyarrow.int8()),
     pyarrow.dictionary(pyarrow.int8(), pyarrow.string())]
)  # fmt: skip


@some
@given(st.binary(max_size=80).map(lambda body: b"PAR1" + body + b"PAR1") | mutated(PARQUET))
def test_parquet_files_of_any_bytes(folder, content):
    read_texts(folder, "a.parquet", content)


@some
@given(
    kind=kinds,
    column=st.sampled_from(["text", "genre", "other", "TEXT"]),
    values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9) | st.just(10**12) | st.none()),
)
def test_parquet_columns_of_any_kind(folder, kind, column, values):
    good = {"text": [row[0] for row in ROWS], "genre": [row[1] for row in ROWS]}
    values = [*values, *[None] * len(ROWS)][: len(ROWS)]
    try:
        made = pyarrow.array(values, pyarrow.int64()).cast(kind)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        made = pyarrow.nulls(len(ROWS), kind)
    try:
        content = parquet_of(pyarrow.table({**{k: pyarrow.array(v) for k, v in good.items()}, column: made}))
    except pyarrow.ArrowException:  # it cannot be written at all
        return
    read_texts(folder, "b.parquet", content)


def test_parquet_texts_and_names_that_are_no_utf_8(folder):
    broken = pyarrow.array([b"\xff\xfe%d" % n for n in range(30)]).view(pyarrow.string())
    labels = pyarrow.array(["a", "b"] * 15)
    assert not read_texts(folder, "c.parquet", parquet_of(pyarrow.table({"text": broken, "genre": labels})))
    content = PARQUET.replace(b"genre", b"\xff\xfenre")
    assert not read_texts(folder, "d.parquet", content)


# Tables of images


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    pictures(root / "images")
    return root


GOOD = [[f"images/{stem}.png", "cat" if n % 2 else "dog", split] for n, (stem, split) in enumerate(SPLITS.items())]


@many
@given(
    header=st.just(["path", "label", "split"]) | st.lists(st.sampled_from(["path", "label", "Split"]) | words),
    rows=st.lists(st.lists(cells | paths | st.sampled_from([*GOOD[0], *GOOD[3]]), max_size=4), max_size=4),
    quoted=st.booleans(),
)
def test_tables_of_images_of_any_cells(labelled, header, rows, quoted):
    rows = [header, *GOOD, *rows]
    text = table_of(rows) if quoted else "\n".join(",".join(row) for row in rows)
    (labelled / "labels.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    used_or_refused(lambda: image_classes.read(labelled, 0))
    used_or_refused(lambda: image_classes.read(labelled / "labels.csv", 0))


@some
@given(st.binary(max_size=80) | mutated(table_of([["path", "label", "split"], *GOOD]).encode()))
def test_tables_of_images_of_any_bytes(labelled, content):
    (labelled / "labels.csv").write_bytes(content)
    used_or_refused(lambda: image_classes.read(labelled / "labels.csv", 0))


# MNIST's files


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


DIGITS = {
    f"{prefix}-{kind}": content
    for prefix, count in (("train", 20), ("t10k", 2))
    for kind, content in {
        "images-idx3-ubyte": idx(np.zeros((10 * count, 2, 2), np.uint8)),
        "labels-idx1-ubyte": idx(np.tile(np.arange(10, dtype=np.uint8), count)),
    }.items()
}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mnist")


def read_digits(root: Path, name: str, content: bytes, packed: bool) -> bool:
    for file in root.iterdir():
        file.unlink()
    for other, whole in DIGITS.items():
        if other != name:
            (root / other).write_bytes(whole)
    (root / (name + ".gz" * packed)).write_bytes(content)
    return used_or_refused(lambda: digits.read(root, root / "cache", 0))


@many
@given(data=st.data(), name=st.sampled_from(sorted(DIGITS)))
def test_idx_files_of_any_bytes(mnist, data, name):
    packed = data.draw(st.sampled_from(["no", "gzip before", "gzip after"]))
    sizes = st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 10, 2**16]), min_size=1, max_size=4)
    claims = sizes.map(lambda s: struct.pack(f">HBB{len(s)}I", 0, 8, len(s), *s) + DIGITS[name][16:])
    content = gzip.compress(DIGITS[name], 1) if packed == "gzip after" else DIGITS[name]
    content = data.draw(mutated(content) | claims | st.binary(max_size=40))
    read_digits(mnist, name, gzip.compress(content, 1) if packed == "gzip before" else content, packed != "no")


# --set


@pytest.fixture(scope="module", params=["detector", "classifier", "autoencoder", "sentences"])
def space(request):
    return task.space(request.param)


bounds = (
    numbers.map(str)
    | st.sampled_from(
        ["1e999", "-1e999", "9" * 320, "9" * 5000, "0x" + "f" * 5000, "9**9**9", "1j", "nan", "inf", "True", "none",
         "(" * 5000, "-" * 5000 + "1", "[" * 99 + "]" * 99, "'" + "a" * 5000, "'\\x00'", "b'a'", "{}", "...", "1_0",
         "\0", "\ud800", "0b1", "1e-400", "5e-324", "1.8e308", "1e308"]
    )
    | words
)  # fmt: skip
values = (
    bounds
    | st.tuples(bounds, bounds).map("..".join)
    | st.lists(bounds, max_size=4).map(",".join)
    | st.text(string.printable, max_size=30)
)


@many
@given(data=st.data())
def test_settings_of_any_text(space, data):
    keys = st.sampled_from(sorted(space.params)) | words
    drawn = data.draw(st.lists(st.tuples(keys, values).map("=".join) | st.text(max_size=20), max_size=3))
    made = []
    if used_or_refused(lambda: made.append(space.override(drawn))):
        assert set(made[0].start) == set(made[0].searched)
        assert all(math.isfinite(value) for value in made[0].fixed.values() if isinstance(value, float))


@pytest.mark.parametrize(
    "text",
    ["a," * 10_000, "(" * 300_000, "-" * 300_000 + "1", "9" * 300_000, "a" * 100_000, "9" * 320, "0x" + "f" * 5000,
     "0..0x" + "f" * 5000, "1e999", "0..1e999", "nan", "nan..nan", "9**9**9", "1," + "9" * 320, "..", ",", "\ud800..1"],
)  # fmt: skip
def test_settings_of_great_length_or_size(space, text):
    for key in space.params:
        used_or_refused(functools.partial(space.override, [f"{key}={text}"]))
    assert not used_or_refused(lambda: space.override([text, f"{text}=1"]))
