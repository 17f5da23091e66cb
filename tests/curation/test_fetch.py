"""Tests of the command fetch against a server with every fault."""

import csv
import hashlib
import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from faulty_server import Server, answer, fill, logo, redirect, status
from filelock import FileLock
from PIL import Image

from platform import dataset
from platform.curation import steps
from platform.curation.fetching.download import AGAIN, MAY_PASS, Outcome
from platform.data import sheets
from platform.data.detection import csv_boxes

ROOT = Path(__file__).parents[2]
ALLOW = ("--allow", "127.0.0.1/32")


@pytest.fixture
def server():
    with Server() as running:
        yield running


def fetch(listing: Path, out: Path, *options: str) -> int:
    return dataset.main(["fetch", str(listing), "--out", str(out), *ALLOW, *options])


def command(listing: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "platform.dataset", "fetch", str(listing), "--out", str(out), *ALLOW, *options]


def manifest(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def outcomes(out: Path) -> dict[str, str]:
    return {line["url"]: line["outcome"] for line in manifest(out)}


def table(out: Path) -> list[dict[str, str]]:
    return sheets.read(out / "fetched.csv")[1]


def write_list(file: Path, urls, columns=("label", "x1", "y1", "x2", "y2"), values=("ACME®", 4, 5, 30, 40)) -> Path:
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["url", *columns])
        table.writerows([url, *values] for url in urls)
    return file


def wait_for(hits: int, server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + 30
    while server.hits.total() < hits:
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < end, "asked too slowly"
        time.sleep(0.01)


def test_300_addresses_with_every_fault_end_in_the_manifest(server, tmp_path, capsys):
    with Server("127.0.0.2") as forbidden:
        expected = fill(server, forbidden)
        assert len(expected) == 300
        twice = [url for url, outcome in expected.items() if outcome is Outcome.FETCHED][:3]
        listing = write_list(tmp_path / "list.csv", [*expected, *twice])
        limits = ("--timeout", "1.5", "--tries", "2", "--max-mb", "0.5", "--max-mpx", "1")
        began = time.monotonic()
        code = fetch(listing, tmp_path / "out", *limits, "--concurrent", "16", "--per-host", "6")
        took = time.monotonic() - began
        assert forbidden.hits.total() == 0
    assert code == 0
    lines = manifest(tmp_path / "out")
    assert [line["url"] for line in lines] == list(expected)  # each once, in the order of the list
    got = {line["url"]: (line["outcome"], line["detail"]) for line in lines}
    assert {url: line for url, line in got.items() if line[0] != expected[url]} == {}
    assert took < 25
    assert 1 < max(server.most.values()) <= 6

    tries = {line["url"]: line["tries"] for line in lines}
    later = server.url("/later")  # asks for a day's pause: not asked again
    again = {url for url, outcome in expected.items() if outcome in MAY_PASS} - {later}
    again -= {url for url in again if "no-such-host" in url}
    assert {tries[url] for url in again} == {2}
    assert tries[later] == 1
    assert tries[server.url("/busy0.png")] == 2
    assert all(server.hits[path] == 1 for path in ("/gone0.png", "/page0.png", "/cut.png", "/bomb.png", "/endless"))

    fetched = [line for line in lines if line["outcome"] == "fetched"]
    for line in fetched:
        content = (tmp_path / "out" / line["image"]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert (line["sha256"], line["bytes"], line["width"], line["height"]) == (digest, len(content), 64, 48)
        assert line["image"].startswith(f"images/{digest[:2]}/{digest[:32]}.")
        assert Image.open(tmp_path / "out" / line["image"]).format.lower()[:3] in line["image"].replace("jpg", "jpe")
    images = {line["image"] for line in fetched}
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out/images").rglob("*.*")} == images
    assert len(images) <= len(fetched) - 8 - 5  # copies, and redirects to the same
    rows = table(tmp_path / "out")
    assert len(rows) == len(fetched) + 3  # these addresses are in two rows each
    assert {row["label"] for row in rows} == {"ACME®"}
    output = capsys.readouterr().out
    assert f"{Counter(expected.values())[Outcome.DEAD_LINK]}  dead link" in output
    assert f"python -m platform.dataset clean {tmp_path / 'out'}" in output


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGINT])
def test_what_was_stopped_goes_on_and_asks_nothing_twice(server, tmp_path, killed_by):
    server.delay = 0.03
    server.pages = {f"/{n}": answer(logo(n)) if n % 4 else status(404) for n in range(100)}
    listing = write_list(tmp_path / "list.csv", [server.url(path) for path in server.pages])
    out = tmp_path / "out"
    with subprocess.Popen(
        command(listing, out), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        wait_for(40, server, process)
        process.send_signal(killed_by)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == (130 if killed_by is signal.SIGINT else -9)
    assert errors.decode() == ("Interrupted. " + dataset.INTERRUPTED + "\n" if killed_by is signal.SIGINT else "")
    done = set(outcomes(out))
    assert 20 < len(done) < 100
    assert steps.faults(out, "fetch")
    with (out / "manifest.jsonl").open("a") as stream:
        stream.write('{"url": "http://torn')
    server.delay = 0
    assert fetch(listing, out) == 0
    assert not steps.faults(out, "fetch")
    assert outcomes(out) == {server.url(path): "fetched" if int(path[1:]) % 4 else "dead link" for path in server.pages}
    asked = {server.url(path): hits for path, hits in server.hits.items()}
    assert {asked[url] for url in done} == {1}
    assert max(asked.values()) <= 2
    assert not list(out.glob(".fetching"))
    before, whole = server.hits.total(), (out / "manifest.jsonl").read_bytes()
    assert fetch(listing, out) == 0
    assert server.hits.total() == before
    assert (out / "manifest.jsonl").read_bytes() == whole


def test_a_second_process_is_refused(server, tmp_path, capsys):
    listing = write_list(tmp_path / "list.csv", [server.url("/a")])
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".fetch.lock"):
        assert fetch(listing, tmp_path / "out") == 2
    assert "one process at a time" in capsys.readouterr().err
    assert server.hits.total() == 0


def test_a_disk_that_takes_no_more_stops_it_and_the_rest_comes_later(server, tmp_path):
    server.pages = {f"/{n}": answer(logo(n)) for n in range(60)}
    listing = write_list(tmp_path / "list.csv", [server.url(path) for path in server.pages])

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # the manifest gets longer

    run = subprocess.run(
        command(listing, tmp_path / "out"), cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == ""
    assert "Stopped: [Errno 27] File too large" in run.stdout
    assert fetch(listing, tmp_path / "out") == 0
    assert Counter(outcomes(tmp_path / "out").values()) == {"fetched": 60}
    assert server.hits.total() < 60 + 32 + 1  # only what was under way then


def test_images_that_are_gone_or_altered_are_fetched_again(server, tmp_path):
    server.pages = {f"/{n}": answer(logo(n)) for n in range(3)}
    listing = write_list(tmp_path / "list.csv", [server.url(path) for path in server.pages])
    assert fetch(listing, tmp_path / "out") == 0
    first, second, _ = [tmp_path / "out" / line["image"] for line in manifest(tmp_path / "out")]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"\0")
    table = (tmp_path / "out" / "fetched.csv").stat().st_mtime_ns
    assert fetch(listing, tmp_path / "out") == 0
    assert server.hits == {"/0": 2, "/1": 2, "/2": 1}
    assert second.read_bytes() == logo(1)
    assert first.read_bytes() == logo(0)
    assert (tmp_path / "out" / "fetched.csv").stat().st_mtime_ns == table  # nothing changed in it


def test_lines_of_the_manifest_that_cannot_be_read_are_reported_and_asked_again(server, tmp_path, capsys):
    server.pages = {f"/{n}": answer(logo(n)) for n in range(3)}
    listing = write_list(tmp_path / "list.csv", [server.url(path) for path in server.pages])
    assert fetch(listing, tmp_path / "out") == 0
    file = tmp_path / "out" / "manifest.jsonl"
    first, second, third = file.read_text().splitlines()
    file.write_text("\n".join([first[:50], second.replace('"images/', '"../'), third, "null", ""]))
    assert fetch(listing, tmp_path / "out") == 0
    assert "3 lines of manifest.jsonl cannot be read" in capsys.readouterr().out
    assert server.hits == {"/0": 2, "/1": 2, "/2": 1}
    assert [line["outcome"] for line in manifest(tmp_path / "out")] == ["fetched"] * 3


def test_a_list_that_grows_shrinks_and_comes_back(server, tmp_path, capsys):
    server.pages = {f"/{n}": answer(logo(n)) for n in range(5)}
    urls = [server.url(path) for path in server.pages]
    out = tmp_path / "out"
    listing = tmp_path / "list.csv"
    for count, hits in ((3, 3), (5, 5), (2, 5), (5, 5)):
        assert fetch(write_list(listing, urls[:count]), out) == 0
        assert server.hits.total() == hits
        assert list(outcomes(out)) == urls[:count]
        assert [row["url"] for row in table(out)] == urls[:count]


def test_tables_of_later_steps_go_when_what_they_were_made_of_changes(server, tmp_path, capsys):
    server.pages = {f"/{n}": answer(logo(n)) for n in range(2)}
    urls = [server.url(path) for path in server.pages]
    listing, out = write_list(tmp_path / "list.csv", urls), tmp_path / "out"
    assert fetch(listing, out) == 0
    later = [out / "cleaned.csv", out / "split.csv"]
    for file in later:
        file.write_text("image,label,x1,y1,x2,y2\n")
    assert fetch(listing, out) == 0
    assert all(file.exists() for file in later)
    write_list(listing, urls, values=("Other", 1, 2, 3, 4))
    assert fetch(listing, out) == 0
    assert not any(file.exists() for file in later)
    output = capsys.readouterr().out
    assert "fetched.csv has changed; the one before, with all corrections, is fetched.before.csv" in output
    assert "the old one: cleaned.csv, split.csv" in output
    assert "Other" not in (out / "fetched.before.csv").read_text()


def test_again_asks_what_may_have_passed_and_nothing_else(server, tmp_path):
    server.pages = {
        "/ok": answer(logo(1)),
        "/dead": status(404),
        "/busy": status(500),
        "/big": answer(logo(2) + bytes(9000)),
    }
    server.pages["/inside"] = redirect("http://127.0.0.2:1/")
    listing = write_list(tmp_path / "list.csv", [server.url(path) for path in server.pages])
    assert fetch(listing, tmp_path / "out", "--tries", "1", "--max-mb", "0.005") == 0
    ended = [outcome for outcome in outcomes(tmp_path / "out").values() if outcome in AGAIN]
    assert ended == ["server error", "too many bytes", "forbidden address"]
    server.hits.clear()
    server.pages["/busy"] = answer(logo(3))
    assert fetch(listing, tmp_path / "out", "--again", "--tries", "1") == 0
    assert server.hits == {"/busy": 1, "/big": 1, "/inside": 1}
    assert list(outcomes(tmp_path / "out").values()) == [
        "fetched",
        "dead link",
        "fetched",
        "fetched",
        "forbidden address",
    ]


def test_a_host_that_does_not_answer_is_not_waited_for_a_thousand_times(tmp_path):
    urls = [f"http://127.0.0.1:1/{n}.png" for n in range(1000)]
    assert fetch(write_list(tmp_path / "list.csv", urls), tmp_path / "out", "--tries", "2", "--per-host", "10") == 1
    lines = manifest(tmp_path / "out")
    assert {line["outcome"] for line in lines} == {"connection failed"}
    assert 20 <= sum(line["tries"] for line in lines) <= 40
    assert lines[-1]["detail"].startswith("not asked, because 10 addresses of this host failed in a row")


def test_boxes_in_every_unit_and_rows_that_cannot_be_read(server, tmp_path, capsys):
    upright = Image.Exif()
    upright[0x0112] = 6  # to be turned by 90 degrees: 48 wide and 64 high
    server.pages = {"/a": answer(logo(1)), "/turned": answer(logo(2, "JPEG", exif=upright)), "/b": answer(logo(3))}
    rows = [
        {"url": server.url("/a"), "label": "one", "box": [1, 2, 10.5, 20]},
        {
            "url": server.url("/turned"),
            "boxes": [{"label": "half", "box": [0, 0, 0.5, 0.5]}, {"label": "bad", "box": "x"}],
        },
        {"url": server.url("/a"), "label": "two", "bbox_xywh": [30, 20, 5, 6], "split": "train"},
        {"label": "no address"},
        {"url": server.url("/b")},
    ]
    listing = tmp_path / "list.jsonl"
    listing.write_text("\n".join(map(json.dumps, rows)))
    assert fetch(listing, tmp_path / "out") == 0
    keys = ("label", "x1", "y1", "x2", "y2", "split", "row")
    assert [tuple(row[key] for key in keys) for row in table(tmp_path / "out")] == [
        ("one", "1.0", "2.0", "10.5", "20.0", "train", "1"),
        ("half", "0.0", "0.0", "24.0", "32.0", "", "2"),
        ("bad", "", "", "", "", "", "2"),
        ("two", "30.0", "20.0", "35.0", "26.0", "train", "3"),
        ("", "", "", "", "", "", "5"),
    ]
    details = [line["detail"] for line in manifest(tmp_path / "out") if line["outcome"] == "unreadable row"]
    assert details == ["line 2: the box 'x' is not four numbers", "line 4: no url"]
    read = csv_boxes.read(tmp_path / "out")
    assert [len(image.boxes) for image in read.images] == [2, 1, 0]
    assert "2  unreadable row" in capsys.readouterr().out


def test_boxes_that_seem_to_be_something_else_are_reported(server, tmp_path, capsys):
    server.pages = {"/a": answer(logo(1))}
    listing = write_list(tmp_path / "list.csv", [server.url("/a")], ("label", "bbox"), ("a", "[40, 30, 10, 8]"))
    assert fetch(listing, tmp_path / "out") == 0
    assert "run it again with --box xywh" in capsys.readouterr().out
    assert fetch(listing, tmp_path / "out", "--box", "xywh") == 0
    assert "--box" not in capsys.readouterr().out
    assert table(tmp_path / "out")[0]["x2"] == "50.0"
    assert server.hits.total() == 1


def test_all_that_is_wrong_with_the_options_is_reported_at_once_and_nothing_asked(server, tmp_path, capsys):
    listing = write_list(tmp_path / "list.csv", [server.url("/a")])
    (tmp_path / "file").touch()
    wrong = ("--concurrent", "0", "--per-host", "-1", "--timeout", "nan", "--max-mb", "0", "--max-mpx", "1000")
    wrong += ("--tries", "0", "--allow", "10.0.0.1/8", "--label-column", "brand", "--user-agent", "a\nb")
    assert fetch(listing, tmp_path / "file", *wrong) == 2
    output = capsys.readouterr().err
    named = [option for option in wrong[::2] if option != "--out"]
    assert [option for option in [*named, "--out"] if f"· {option} " not in output] == []
    assert server.hits.total() == 0


def test_a_list_from_elsewhere_does_not_steer_the_terminal(server, tmp_path, capsys):
    listing = write_list(tmp_path / "list.csv", [server.url("/\x1b]0;gone\x07")])
    assert fetch(listing, tmp_path / "out") == 1
    output = capsys.readouterr().out
    assert "Not a single image" in output
    assert "\x1b" not in output
