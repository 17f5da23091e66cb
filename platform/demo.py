"""A page to try a trained model on: give it a picture or a sentence, see what it answers, and what it learned from
that is like it.

python -m platform.demo TASK                        # the newest study's best model
python -m platform.demo TASK --model STUDY --port 7000
python -m platform.demo TASK --host 0.0.0.0         # for all who reach this machine
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

from platform.errors import EXIT_BAD_INPUT
from platform.serving import saved_models
from platform.signals import run_and_exit

NEEDED = 6  # version of gradio


def parser() -> argparse.ArgumentParser:
    """The options, the same for every task."""
    p = argparse.ArgumentParser(
        prog="python -m platform.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task", help="what the model was trained for")
    saved_models.add_options(p)
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                   help="where to listen (default 127.0.0.1: this machine alone). Whoever reaches another one can use "
                   "the model and see training examples: there is no password, and nothing is encrypted")  # fmt: skip
    p.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the page until Ctrl-C; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    from platform.errors import InputError, print_error

    console = Console()
    with tempfile.TemporaryDirectory(prefix="platform-demo-") as scratch:
        try:
            blocks, address = open_page(options, Path(scratch), console)
        except InputError as error:
            print_error(Console(stderr=True), error)
            return EXIT_BAD_INPUT
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # what was uploaded is deleted then, too
        with contextlib.suppress(KeyboardInterrupt):
            console.print(f"Open [bold]{address}[/] in a browser; Ctrl-C ends it.", soft_wrap=True, highlight=False)
            blocks.block_thread()
    return 0


def open_page(options: argparse.Namespace, scratch: Path, console: Any) -> tuple[Any, str]:
    """Starts to serve the page; returns it and its address.

    Args:
        options: Of `parser`.
        scratch: A folder for what is uploaded, which the caller deletes.
        console: Told what there is to know.

    Raises:
        InputError: No such task or model, no gradio, no free port.
    """
    from platform.errors import raise_if_any

    raise_if_any(_faults(options))
    from platform import task

    task.check_name(options.task)
    module = task.load(options.task)
    set_environment(scratch)
    from platform.serving import demo_page

    with saved_models.found(options.task, options) as folder:
        model = module.load(folder)
        known, missing = _map(module, model, folder, console)
        shown = demo_page.Shown(_name(folder, options.model), _facts(folder), _card(folder), known, missing)
    blocks = demo_page.page(module, model, shown, scratch)
    address = demo_page.serve(blocks, options.host, options.port, scratch)
    if options.host not in demo_page.LOCAL:
        console.print(
            "[yellow]Whoever reaches this machine at that port can use the model and see examples that it was trained "
            "on. There is no password, and nothing is encrypted.[/]"
        )
    return blocks, address


def set_environment(scratch: Path) -> None:
    """Before gradio is imported: uploads go to a folder of our own, and it tells nobody that it runs."""
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for key in ("no_proxy", "NO_PROXY"):  # it asks itself whether it is up
        os.environ[key] = ",".join(filter(None, (os.environ.get(key), "127.0.0.1", "localhost")))


def _faults(options: argparse.Namespace) -> list:
    from platform.errors import Fault

    faults = []
    try:
        found = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        found = ""
    if int(found.partition(".")[0] or 0) < NEEDED:
        rule, remedy = f"the page needs gradio {NEEDED} or newer", f'Install it: uv pip install "gradio>={NEEDED}"'
        faults.append(Fault(rule, found or "none", remedy))
    if options.port is not None and not 1 <= options.port <= 65535:
        faults.append(Fault("--port must lie in 1..65535", str(options.port), "Leave it out."))
    if not _is_mine(options.host):
        remedy = "Leave it out: for this machine alone; 0.0.0.0: for all who reach it."
        faults.append(Fault("--host must be an address of this machine", options.host, remedy))
    return faults


def _is_mine(host: str) -> bool:
    """Whether a page can be served there. Gradio would try a hundred ports first."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
        return True
    except OSError:
        return False


def _map(module: Any, model: Any, folder: Path, console: Any) -> tuple[Any, str]:
    """The model's embedding map, made now if it is missing and the data is still there; else None, and why."""
    from platform.errors import InputError
    from platform.serving import embedding_map

    try:
        return embedding_map.read(folder), ""
    except InputError as error:
        missing = str(error)
    try:
        console.print("Making the map of the training examples, once …")
        if reasons := embedding_map.remake(module, model, folder):
            return None, " ".join(reasons)
        return embedding_map.read(folder), ""
    except InputError as error:
        console.print("[yellow]There is no map.[/]")
        return None, f"{missing} It could not be made now: {error}"


def _name(folder: Path, asked: str) -> str:
    """The study's name; of a model that lies in none, in MLflow say, what was asked for."""
    from platform.study.request import EVENT_LOG

    folder = folder.resolve()
    return folder.parent.name if (folder.parent / EVENT_LOG).exists() else Path(asked).name or folder.name


def _facts(folder: Path) -> str:
    """What a model is, and how it did on the test split, in a line."""
    from platform.storage.checkpoints import read_metadata
    from platform.study.request import RESULT

    metadata = read_metadata(folder)
    config = metadata.get("config", {})
    told = [str(metadata["task"])]
    told += [f"{key} {config[key]}" for key in ("architecture", "backbone") if key in config]
    file = folder.parent / RESULT
    result = json.loads(file.read_text()) if folder.name == "best" and file.exists() else {}
    if best := result.get("best"):
        metric = result["metric"].replace("val/", "test/", 1)
        told += [f"{metric} {best['test_metrics'][metric]:.3f}"] if metric in best["test_metrics"] else []
    return " · ".join(told)


def _card(folder: Path) -> str:
    """The model card without what only machines read."""
    from platform.runner.model_card import FILE

    if not (folder / FILE).exists():
        return ""
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / FILE).text


if __name__ == "__main__":
    run_and_exit(main, "There is no page yet.")
