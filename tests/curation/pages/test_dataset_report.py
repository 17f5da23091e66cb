"""Tests of a data set's page in a real browser, after each step and for plain annotations."""

import base64
import contextlib
import io
import json
from pathlib import Path

import pytest
from browser import HOSTILE, Opened, check
from PIL import Image
from rich.console import Console

from platform import dataset
from platform.curation import report
from platform.curation.labels import label_table
from platform.curation.pages import dataset_data, dataset_page, thumbnails
from platform.curation.pages.dataset_data import visible
from platform.curation.pages.thumbnails import AS_USED, AS_WRITTEN, OUTSIDE, Crop, Thumbnail, Thumbnails
from platform.data import sheets
from platform.data.detection import csv_boxes
from platform.errors import InputError

BIDI, LONG = "ab\u202egro.live\u202c", "x" * 10_000
SHOWN = visible(HOSTILE)
FINDINGS = ("kind", "action", "detail", "image", "label", "x1", "y1", "x2", "y2", "where", "other")
ONCE = [("light", 1280), ("dark", 390)]


def picture(root: Path, name: str, size=(64, 48), colour="teal") -> str:
    file = root / "images" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return f"images/{name}"


def table(root: Path, name: str, *rows: tuple) -> None:
    columns = csv_boxes.COLUMNS
    sheets.write(root / name, columns, (dict(zip(columns, row, strict=False)) for row in rows))


def cleaning(root: Path, labels=(), findings=(), near=(), summary=None) -> None:
    (root / "cleaning").mkdir(exist_ok=True)
    sheets.write(root / "cleaning" / "labels.csv", label_table.COLUMNS, labels)
    sheets.write(root / "cleaning" / "findings.csv", FINDINGS, findings)
    sheets.write(root / "cleaning" / "near_duplicates.csv", ("image", "group", "distance"), near)
    (root / "cleaning" / "summary.json").write_text(json.dumps(summary or {}))


def fetched(root: Path, *labels: str) -> list[str]:
    """Create a fetched data set with an image and a box for each label, and failed addresses."""
    names = [picture(root, f"aa/{number}.png", colour=(number * 9 % 256, 80, 120)) for number in range(len(labels))]
    table(root, "fetched.csv", *((name, label, 4, 4, 30, 40) for name, label in zip(names, labels, strict=True)))
    lines = [{"url": f"https://a.example/{name}", "outcome": "fetched", "image": name} for name in names]
    lines += [{"url": f"https://b.example/{HOSTILE}", "outcome": "dead link", "detail": HOSTILE, "image": None}]
    lines += [{"url": None, "outcome": "unreadable row", "image": None}]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"url": "cut sho'
    (root / "manifest.jsonl").write_text(text)
    return names


def cleaned(root: Path) -> list[str]:
    """Create a cleaned data set with every kind of finding and with hostile names."""
    names = fetched(root, "Cola", "cola®", "Colo", HOSTILE, BIDI, LONG, "logo", *["Cola"] * 8)
    classes = ["Cola", "Cola", "Colo", HOSTILE, BIDI, LONG]
    table(root, "cleaned.csv", *((name, label, 4, 4, 30, 40) for name, label in zip(names, classes, strict=False)),
          *((name, "Cola", 4, 4, 30, 40) for name in names[7:]))  # fmt: skip
    broken = root / "images" / "aa" / "broken.png"
    broken.write_bytes(b"no picture")
    box = {"x1": 40, "y1": 40, "x2": 10, "y2": 70}
    ask = {"action": "ask", "detail": BIDI, "image": names[0], "label": LONG, **box}
    kinds = [{"kind": f"kind {number} {HOSTILE}", **ask} for number in range(3)]
    cleaning(
        root,
        labels=[
            {"label": "Cola", "boxes": 9, "images": 9, "class": "Cola"},
            {"label": "cola®", "boxes": 1, "class": "Cola", "reason": f"normalised {HOSTILE}", "score": 1.0},
            {"label": "Colo", "boxes": 1, "class": "Colo", "suggestion": "Cola", "suggestion_score": 0.87},
            {"label": HOSTILE, "boxes": 1, "class": HOSTILE, "suggestion": LONG, "suggestion_score": 0.8},
            {"label": "Coca", "boxes": 1, "class": "Cola", "suggestion": "Cola", "decision": "Cola"},
            {"label": "logo", "boxes": 1, "class": "", "reason": "nothing is left of it"},
        ],
        findings=[
            *kinds,
            {"kind": "box partly outside", "action": "repaired", "image": names[1], "label": "Cola", **box,
             "other": "10 40 40 48"},
            {"kind": "broken image", "action": "set aside", "image": "images/aa/broken.png", "detail": HOSTILE},
            {"kind": "same pixels", "action": "set aside", "image": names[1], "other": names[2]},
            {"kind": "image outside", "action": "set aside", "image": "../../etc/passwd", "other": "/etc/passwd"},
            {"kind": "box of no number", "action": "set aside", "image": names[2], **box, "x1": "nan"},
        ],
        near=[{"image": name, "group": 1, "distance": 2} for name in names[8:14]]
        + [{"image": name, "group": 2, "distance": 3} for name in names[:2]],
        summary={"thresholds": {"merge-at": 0.92}, "note": HOSTILE},
    )  # fmt: skip
    return names


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[Path, str]:
    """Return the page of a cleaned data set, which lies beside it, and the output of the command."""
    root = tmp_path_factory.mktemp("cleaned")
    cleaned(root)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert dataset.main(["report", str(root), "--out", str(root / "page.html")]) == 0
    return root / "page.html", output.getvalue()


def test_a_page_after_fetching_tells_what_was_fetched_and_what_comes_next(tmp_path, chromium, capsys):
    fetched(tmp_path, "Cola", "cola®", HOSTILE)
    assert dataset.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / report.PAGE}\n"
    text = check(chromium, tmp_path / report.PAGE, charts=2, sizes=ONCE)
    for part in ("3 images with 3 boxes of 3 labels as they were typed", "of 4 listed", "dead link", "b.example",
                 f"python -m platform.dataset clean {tmp_path}", "has not been cleaned yet", SHOWN):  # fmt: skip
        assert part in text


def test_a_page_after_cleaning_shows_all_that_was_found(page, chromium):
    file, output = page
    assert "7 decisions need a person" in output
    text = check(chromium, file, charts=2)
    for part in (
        "Colo → Cola?\n\n0.87 alike · 1 box",
        f"{SHOWN} → {'x' * 80}… (10,000 characters)?",
        "ab⟨U+202E⟩gro.live⟨U+202C⟩",
        f"--decisions {file.parent}/cleaning/labels.csv",
        "Correct it in fetched.csv",
        f"Kind 0 {HOSTILE[:20]}",
        "logo 1 box, dropped; nothing is left of it",
        "Large groups of nearly the same image 1",
        "All images have 64 × 48 px",
        "2 of 6 spellings were merged into 1 class of another spelling",
        "images/aa/broken.png: " + HOSTILE[:60],
        "Same pixels 1, set aside",
        "8 images in 2 groups, kept",
        "cleaning, merge-at\t0.92",
        "Not split",
    ):
        assert part in text, part
    assert "passwd" not in file.read_text().split("Image outside", 1)[0]
    assert "\u202e" not in text
    assert len(text) < 20_000, "a label of 10,000 characters is not shown as one"


def test_a_split_is_judged_class_by_class(tmp_path, chromium):
    names = [picture(tmp_path, f"{number}.png") for number in range(20)]
    rows = [(name, "Cola", 4, 4, 30, 40, ("train", "train", "val", "test")[n % 4]) for n, name in enumerate(names)]
    rows += [(names[0], "rare", 2, 2, 20, 20, "train")]
    table(tmp_path, "cleaned.csv", *((*row[:6],) for row in rows), (names[0], "one", 2, 2, 9, 9))
    table(tmp_path, "split.csv", *rows, (names[0], "other", 2, 2, 9, 9, "train"))
    cleaning(tmp_path, labels=[{"label": "Cola", "boxes": 20, "class": "Cola"}])
    (tmp_path / "split.json").write_text(json.dumps({"seed": 7, "rare": {"boxes": {"one": 1}}}))
    report.write(tmp_path, tmp_path / "page.html")
    text = check(chromium, tmp_path / "page.html", charts=2, sizes=ONCE)
    for part in (
        "train\t10\t50.0%\t12\t3\t0",
        "val\t5\t25.0%\t5\t1\t2",
        "2 classes have no image in val",
        "Without a class of its own after the split: 1 rare class with 1 box: one.",
        "Cola\t20\t20\t10\t5\t5",
        "split, seed\t7",
        "no label, image or box is in doubt",
        "No image and no box had to be changed",
        "None: no two images are the same",
        "None: every label is the name of its class",
        f"python -m platform.tune detector --data {tmp_path}",
    ):
        assert part in text, part


def test_a_plain_folder_has_a_page_and_stays_as_it_is(scenes_folder, tmp_path, chromium):
    before = sorted(scenes_folder.rglob("*"))
    report.write(scenes_folder, tmp_path / "page.html")
    assert sorted(scenes_folder.rglob("*")) == before
    text = check(chromium, tmp_path / "page.html", charts=2, sizes=ONCE)
    for part in ("40 images with", "10 classes", "Not cleaned", "train\t24\t60.0%"):
        assert part in text


def test_nothing_that_could_be_used_has_a_page_too(tmp_path, chromium):
    table(tmp_path, "fetched.csv")
    report.write(tmp_path, tmp_path / "page.html")
    text = check(chromium, tmp_path / "page.html", charts=0, sizes=ONCE)
    assert "nothing can be trained on this data set" in text


def test_boxes_that_training_would_mend_are_counted(tmp_path):
    name = picture(tmp_path, "a.png")
    table(tmp_path, "annotations.csv", (name, "a", 30, 4, 10, 20), (name, "a", 100, 100, 120, 120), (name, "b"))
    data = dataset_data.read(tmp_path)
    assert [box.box for picture in data.pictures for box in picture.boxes] == [(10, 4, 30, 20)]
    assert {str(repair.kind) for repair in data.repairs} == {"box with inverted corners", "box outside the image",
                                                             "label without a box"}  # fmt: skip


def test_tables_are_searched_and_sorted(page, chromium):
    with Opened(chromium, page[0]) as opened:
        rows = "all => all.filter(row => !row.hidden).map(row => row.cells[0].textContent)"
        opened.page.fill("#classes input", "COLO")
        assert opened.page.eval_on_selector_all("#classes tbody tr", rows) == ["Colo"]
        assert opened.page.inner_text("#classes output") == "1 of 5"
        opened.page.fill("#classes input", "")
        opened.page.click("#classes th:nth-child(2) button")
        assert opened.page.eval_on_selector_all("#classes tbody tr", rows)[0] == "Cola"
        opened.page.fill("#examples input", "Cola")
        assert opened.page.locator("#examples .item:visible").count() == 1
        assert opened.complaints == []


def test_what_is_reported_under_the_pointer_is_text(page, chromium):
    with Opened(chromium, page[0]) as opened:
        bars = opened.page.locator("[data-chart=classes] .mark-rect path")
        texts = []
        for bar in bars.all():
            bar.hover()
            texts.append(opened.page.inner_text("#vg-tooltip-element"))
        assert any(HOSTILE[:30] in text for text in texts)
        assert opened.page.evaluate("window.hacked") is None
        assert opened.page.locator("#vg-tooltip-element img").count() == 0
        assert opened.complaints == []


def test_on_paper_nothing_is_cut_off(page, chromium):
    with Opened(chromium, page[0], "dark") as opened:
        paper = opened.page
        paper.set_viewport_size({"width": 688, "height": 1016})  # of A4 less its margins
        paper.emulate_media(media="print", color_scheme="dark")
        assert paper.evaluate("document.documentElement.scrollWidth") <= 688
        clipped = "all => all.filter(one => one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > 688).length"
        assert paper.eval_on_selector_all(".scroll", clipped) == 0
        assert not any(one.is_visible() for one in paper.query_selector_all(".search, .save, .chart"))
        assert paper.pdf().startswith(b"%PDF")


def test_of_thousands_of_classes_each_is_listed_and_what_is_not_shown_is_counted(tmp_path, monkeypatch):
    name = picture(tmp_path, "a.png", (600, 600))
    boxes = [(name, f"class {number}", number % 500, number // 500 * 9, number % 500 + 8, number // 500 * 9 + 8)
             for number in range(3000)]  # fmt: skip
    table(tmp_path, "annotations.csv", *boxes)
    monkeypatch.setattr(thumbnails, "MAX_BYTES", 20_000)
    text, _ = dataset_page.html(dataset_data.read(tmp_path))
    assert text.count('<tr><th scope="row">class ') == 3000
    assert "2,200 rarer classes are not shown" in text
    assert "pictures are left out to keep this page small enough" in text
    assert len(text) < 4_000_000


@pytest.mark.parametrize("damage", ["gone", "layout", "labels"])
def test_what_cannot_be_read_is_reported(tmp_path, capsys, damage):
    cleaned(tmp_path)
    (tmp_path / "cleaning" / "labels.csv").write_text("label,boxes\na,1\n")
    folder = {"gone": tmp_path / "none", "layout": tmp_path / "images", "labels": tmp_path}[damage]
    assert dataset.main(["report", str(folder)]) == 2
    assert {"gone": "no /", "layout": "known layout", "labels": "no class in"}[damage] in capsys.readouterr().err
    assert not (folder / report.PAGE).exists()


def test_a_folder_for_the_page_must_be_there(tmp_path):
    fetched(tmp_path, "Cola")
    options = dataset.parser().parse_args(["report", str(tmp_path), "--out", f"{tmp_path}/no/page.html"])
    with pytest.raises(InputError, match="existing folder"):
        report.run(options, Console())


def test_a_page_that_cannot_be_written_is_reported(tmp_path, capsys):
    fetched(tmp_path, "Cola")
    (tmp_path / "dataset.html").mkdir()
    assert dataset.main(["report", str(tmp_path)]) == 2
    assert "Choose another with --out" in capsys.readouterr().err


def is_drawn(photo: Thumbnail, place: tuple[int, int], colour: str) -> bool:
    """Return whether a thumbnail has approximately a colour at a place."""
    with Image.open(io.BytesIO(base64.b64decode(photo.source.partition(",")[2]))) as image:
        found = image.convert("RGB").getpixel(place)
    return max(abs(a - b) for a, b in zip(found, bytes.fromhex(colour[1:]), strict=True)) < 60


def test_boxes_are_drawn_as_written_and_as_they_are(tmp_path):
    path = tmp_path / picture(tmp_path, "a.png", (300, 200), "#ffffff")
    book = Thumbnails()
    inside = book.request(Crop(path, used=((50, 60, 150, 150),), whole=True, size=(300, 200)))
    outside = book.request(Crop(path, written=((280, 150, 380, 190),), whole=True, size=(380, 200)))
    crop = book.request(Crop(path, used=((100, 100, 140, 120),), size=(120, 80)))
    far = book.request(Crop(path, used=((-50, -50, -10, -10),)))
    gone = book.request(Crop(tmp_path / "none.png", whole=True))
    book.make()
    assert is_drawn(book.made[inside], (100, 60), AS_USED)
    assert is_drawn(book.made[inside], (100, 100), "#ffffff")
    assert is_drawn(book.made[outside], (340, 150), AS_WRITTEN)
    assert is_drawn(book.made[outside], (340, 50), OUTSIDE)
    assert (book.made[crop].width, book.made[crop].height) == (120, 80)
    assert is_drawn(book.made[crop], (60, 20), AS_USED)
    assert book.get(far)
    assert book.get(gone) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Coca-Cola®", "Coca-Cola®"),
        ("Кока-Кола", "Кока-Кола"),
        (" Cola\u00a0", "␣Cola␣"),
        ("Co\u200bla", "Co⟨U+200B⟩la"),
        ("Co\u3000la\u202e\x00\ud800", "Co⟨U+3000⟩la⟨U+202E⟩⟨U+0000⟩⟨U+D800⟩"),
        ("x" * 81, "x" * 80 + "… (81 characters)"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_shown(text, shown):
    assert visible(text) == shown
