"""The demo's page in a real browser: images and sentences, bad input, and no request to another host."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from platform import demo
from platform.errors import EXIT_BAD_INPUT
from platform.serving import embedding_map
from platform.space import Space
from platform.training.context import Context
from search_spaces.classifier import SPACE as IMAGES
from search_spaces.sentences import SPACE as TEXTS
from trainables import classifier, sentences

ROOT = Path(__file__).parent.parent
HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}${7*7}"
playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

recordings: list[list[str]] = []  # addresses that this process connects to, while a fixture records them


def _record_connections(event: str, arguments: tuple) -> None:
    if event == "socket.connect" and recordings and isinstance(arguments[1], tuple):
        recordings[-1].append(str(arguments[1][0]))


sys.addaudithook(_record_connections)


def study(storage: Path, name: str, module, space: Space, source: Path) -> Path:
    """Train a model for an epoch and write it and its map into the folders that a study would use."""
    dataset = module.read([source], storage / ".cache", 0, space)
    data = module.prepare(space, dataset, storage / ".cache")
    trial = storage / name / "trial"
    context = Context(module.__name__.split(".")[1], str(data), 0, 1, space.metric, space.mode, folder=str(trial))
    module.train({**space.fixed, **space.start, "context": asdict(context)})
    shutil.copytree(trial / "best", storage / name / "best")
    assert embedding_map.write(module, module.load(storage / name / "best"), dataset, storage / name / "best") == []
    return storage


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    """Return a folder with a study of light and dark images and one of sentences; some class names are hostile."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), (HOSTILE, 128)):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(rng.integers(low, low + 128, (64, 64, 3), np.uint8)).save(
                folder / "pictures" / name / f"{number}.png"
            )
    rows = [
        f"a {g} book that is {s} {n},{g},{s}" for n in range(9) for g in ("crime", HOSTILE) for s in ("good", "bad")
    ]
    (folder / "texts.csv").write_text("\n".join(["text,genre,sentiment", *rows]))
    tiny = IMAGES.of_depth(5).override(["backbone=mobilenet_v2", "weights=starter", "image_size=64", "augment=0.0"])
    study(folder, "pictures-study", classifier, tiny, folder / "pictures")
    return study(folder, "texts-study", sentences, TEXTS, folder / "texts.csv")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """Return one folder for all pages, as gradio reads it from the environment of the process."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def served(storage, scratch):
    """Serve a page of each study, and yield the addresses by task."""
    pages, addresses, connected = [], {}, []
    recordings.append(connected)
    for task in ("classifier", "sentences"):
        name = "pictures-study" if task == "classifier" else "texts-study"
        options = demo.parser().parse_args([task, "--model", name, "--storage", str(storage)])
        blocks, addresses[task] = demo.open_page(options, scratch, Console())
        pages.append(blocks)
    yield addresses
    for blocks in pages:
        blocks.close(verbose=False)
    recordings.pop()
    assert set(connected) <= {"127.0.0.1", "::1"}, "the server connects only to itself"


@pytest.fixture
def opened(browser, served):
    """Yield a function that opens a page; at the end no page may have requested another host or run injected code."""
    contexts, requested, errors = [], [], []

    def open_(task: str, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requested.append(request.url))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served[task])
        page.wait_for_selector("#map svg.map")
        return page

    yield open_
    for context in contexts:
        context.close()
    allowed = (*served.values(), "data:", "blob:")
    assert [url for url in requested if not url.startswith(allowed)] == []
    assert errors == []


def upload(page, file: Path) -> None:
    page.set_input_files("#input input[type=file]", str(file))


def test_an_image_is_predicted_and_marked_on_the_map(opened, tmp_path):
    page = opened("classifier")
    assert page.locator("#map .input").count() == 0
    assert page.locator("#map g circle[r='3.4'], #map g path, #map g rect").count() >= 14, "the training examples"
    Image.new("RGB", (300, 200), "white").save(tmp_path / "light.jpg")
    upload(page, tmp_path / "light.jpg")
    page.wait_for_selector("#answer [role=status] .bars li")
    assert page.locator("#answer .bars li").count() == 2
    page.wait_for_selector("#map .input")
    page.wait_for_selector("#near .near img")
    assert page.locator("#near .near li").count() == page.locator("#map .neighbours circle").count() == 10
    everything = page.locator("body").inner_text()
    assert HOSTILE in everything, "shown as text"
    assert "49" not in page.locator("#map .legend").inner_text(), "and not evaluated"
    page.get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
    page.wait_for_selector("#map .input", state="detached")


def test_an_example_of_the_test_split_is_predicted(opened, tmp_path):
    page = opened("classifier")
    page.locator("#examples button").first.click()
    page.wait_for_selector("#map .input")
    assert page.locator("#answer .bars li").count() == 2
    page.get_by_label("Clear").or_(page.get_by_label("Remove")).first.click()
    page.wait_for_selector("#map .input", state="detached")
    (tmp_path / "text.png").write_text("not an image")
    upload(page, tmp_path / "text.png")
    page.wait_for_selector("#answer [role=alert] >> text=not a picture")


def test_a_file_that_is_not_an_image_gives_a_message(opened, tmp_path):
    page = opened("classifier")
    (tmp_path / "text.jpg").write_text("not an image")
    upload(page, tmp_path / "text.jpg")
    assert "not a picture" in page.locator("#answer [role=alert]").inner_text()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    page.reload()
    upload(page, tmp_path / "bomb.png")
    page.wait_for_selector("#answer [role=alert] >> text=pixels")
    (tmp_path / "large.png").write_bytes(bytes((20 << 20) + 1))
    page.reload()
    upload(page, tmp_path / "large.png")
    page.wait_for_selector("text=/maximum allowed size|exceeds/i")
    assert page.locator("text=Traceback").count() == 0


def test_a_sentence_is_predicted_by_each_head(opened):
    page = opened("sentences")
    page.fill("#input textarea", "a crime book that is good")
    page.click("#ask")
    page.wait_for_selector("#answer [role=status]")
    assert page.locator("#answer h3").all_inner_texts() == ["genre", "sentiment"]
    assert page.locator("#answer .bars li").count() == 4
    page.wait_for_selector("#map .input")
    page.wait_for_selector("#near .texts li")
    assert page.locator("#near .texts li").count() == 10
    assert "crime" in page.locator("#map .legend").inner_text()
    page.get_by_label("sentiment").check()
    page.wait_for_selector("#map .legend >> text=good")
    assert page.locator("#map .input").count() == 1, "the input keeps its position"


def test_empty_and_too_long_texts_give_messages(opened):
    page = opened("sentences")
    page.click("#ask")
    page.wait_for_selector("#answer [role=alert] >> text=Write a sentence")
    page.fill("#input textarea", "word " * 200_000)
    page.click("#ask")
    page.wait_for_selector("#answer [role=alert] >> text=1,000,000 characters")
    page.fill("#input textarea", "word " * 1000)
    page.click("#ask")
    page.wait_for_selector("#answer [role=status] >> text=truncated to")


def test_uploads_are_deleted_and_examples_stay(browser, storage, scratch, tmp_path, monkeypatch):
    from platform.serving import demo_page

    monkeypatch.setattr(demo_page, "_KEPT_S", 1)
    monkeypatch.setattr(demo_page, "_CLEANED_S", 1)
    options = demo.parser().parse_args(["classifier", "--model", "pictures-study", "--storage", str(storage)])
    blocks, address = demo.open_page(options, scratch, Console())
    page = browser.new_page()
    page.goto(address)
    Image.new("RGB", (30, 20), "white").save(tmp_path / "upload.png")
    upload(page, tmp_path / "upload.png")
    page.wait_for_selector("#answer [role=status]")
    for _ in range(100):
        if not list((scratch / "uploads").rglob("upload.png")):
            break
        page.wait_for_timeout(100)
    assert not list((scratch / "uploads").rglob("upload.png"))
    page.reload()
    page.wait_for_selector("#examples img")
    page.wait_for_function("[...document.querySelectorAll('#examples img')].every(image => image.complete)")
    widths = page.locator("#examples img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) > 1
    assert all(widths)
    page.close()
    blocks.close(verbose=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(opened, scheme, tmp_path):
    page = opened("classifier", color_scheme=scheme, viewport={"width": 390, "height": 844})
    Image.new("RGB", (900, 100), "black").save(tmp_path / "wide.png")
    upload(page, tmp_path / "wide.png")
    page.wait_for_selector("#near .near img")
    width, screen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= screen
    text, ground = (
        page.evaluate(f"getComputedStyle(document.querySelector('{what}')).{which}")
        for what, which in (("#answer strong", "color"), ("body", "backgroundColor"))
    )
    lights = [sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3])) for colour in (text, ground)]
    assert (lights[0] < 250 < 500 < lights[1]) if scheme == "light" else (lights[1] < 250 < 500 < lights[0])


def test_another_host_name_is_refused_and_the_security_policy_is_sent(served):
    url = urlsplit(served["classifier"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request("GET", "/", headers={"Host": f"elsewhere.example:{url.port}"})
    assert connection.getresponse().status == 400
    connection.close()
    connection.request("GET", "/")
    response = connection.getresponse()
    assert (response.status, "default-src 'self'" in response.headers["Content-Security-Policy"]) == (200, True)
    connection.close()


def test_the_title_is_the_study_or_the_value_of_model(tmp_path):
    study, logged = tmp_path / "birds" / "best", tmp_path / "artifacts" / "best"
    for folder in (study, logged):
        folder.mkdir(parents=True)
    (study.parent / "journal.log").touch()
    assert [demo._title(study, model) for model in ("best", "birds", str(study))] == ["birds"] * 3
    names = [demo._title(logged, model) for model in ("champion:MNIST", "0" * 32, "../given/away/", ".")]
    assert names == ["champion:MNIST", "0" * 32, "away", "best"]


def test_a_page_without_a_map_says_why(browser, storage, scratch, tmp_path):
    shutil.copytree(storage / "texts-study" / "best", tmp_path / "alone" / "best")
    options = demo.parser().parse_args(["sentences", "--model", str(tmp_path / "alone")])
    blocks, address = demo.open_page(options, scratch, Console())
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("#map >> text=There is no map")
    page.fill("#input textarea", "a crime book that is good")
    page.click("#ask")
    page.wait_for_selector("#answer [role=status]")
    page.close()
    blocks.close(verbose=False)


def test_bad_options_are_refused_with_all_faults(storage, tmp_path, capsys, monkeypatch):
    assert demo.main(["sentences", "--model", "none", "--storage", str(storage)]) == EXIT_BAD_INPUT
    assert "Studies of sentences: texts-study" in capsys.readouterr().err
    monkeypatch.setattr(demo, "GRADIO_VERSION", 99)
    assert demo.main(["sentences", "--port", "70000", "--host", "192.0.2.1"]) == EXIT_BAD_INPUT
    errors = capsys.readouterr().err
    assert "needs gradio 99 or newer" in errors
    assert "--port must lie in 1..65535" in errors
    assert "--host must be an address of this machine" in errors


def test_a_taken_port_is_refused(served, storage, capsys):
    port = str(urlsplit(served["sentences"]).port)
    arguments = ["sentences", "--model", "texts-study", "--storage", str(storage), "--port", port]
    assert demo.main(arguments) == EXIT_BAD_INPUT
    assert "free port" in capsys.readouterr().err


def test_the_command_prints_its_address_and_deletes_its_files(storage, tmp_path):
    command = [sys.executable, "-m", "platform.demo", "sentences", "--model", "texts-study", "--storage", str(storage)]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--host", "0.0.0.0"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        printed = ""
        while "Open http" not in printed and (line := process.stdout.readline()):
            printed += line
        assert "There is no password" in printed
        assert [path.name.startswith("platform-demo-") for path in tmp_path.iterdir()] == [True]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []
