"""Serve a page on which a trained model can be tried: it shows the prediction for an image or a sentence, and the most
similar training examples.

python -m platform.demo TASK                        # the best model of the newest study
python -m platform.demo TASK --model STUDY --port 7000
python -m platform.demo TASK --host 0.0.0.0         # for everyone who can reach this machine
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

from platform.errors import Fault, InputError, print_error, raise_if_any
from platform.serving import saved_models
from platform.signals import run_and_exit

GRADIO_VERSION = 6  # oldest major version


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, which are the same for every task."""
    p = saved_models.command_parser("demo", __doc__)
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                   help="address to listen at (default 127.0.0.1: this machine only). At another address, everyone who "
                   "reaches it can use the model and see training examples: there is no password and no "
                   "encryption")  # fmt: skip
    p.add_argument("--port", type=int, metavar="N", help="port to listen at (default: the first free one from 7860)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until Ctrl-C, and return the exit code."""
    options = parser().parse_args(arguments)
    from rich.console import Console

    console = Console()
    with tempfile.TemporaryDirectory(prefix="platform-demo-") as scratch:
        try:
            blocks, address = open_page(options, Path(scratch), console)
        except InputError as error:
            return print_error(Console(stderr=True), error)
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # uploads are deleted after SIGTERM, too
        with contextlib.suppress(KeyboardInterrupt):
            console.print(f"Open [bold]{address}[/] in a browser; end it with Ctrl-C.", soft_wrap=True, highlight=False)
            blocks.block_thread()
    return 0


def open_page(options: argparse.Namespace, scratch: Path, console: Any) -> tuple[Any, str]:
    """Start to serve the page in a thread, and return it and its address. The caller deletes uploads in `scratch`.

    Raises:
        InputError: There is no such task or model, gradio is missing, or the port is taken.
    """
    raise_if_any(_faults(options))
    from platform import task

    task.check_name(options.task)
    module = task.load(options.task)
    set_environment(scratch)
    from platform.serving import demo_page

    with saved_models.model_folder(options.task, options) as folder:
        model = module.load(folder)
        embedding_map, map_problem = _embedding_map(module, model, folder, console)
        title, summary, card = _title(folder, options.model), _summary(folder), _model_card(folder)
    content = demo_page.PageContent(title, summary, card, embedding_map, map_problem)
    blocks = demo_page.page(module, model, content, scratch)
    address = demo_page.serve(blocks, options.host, options.port, scratch)
    if options.host not in demo_page.LOCAL:
        console.print(
            "[yellow]Everyone who reaches this machine at that port can use the model and see training examples. "
            "There is no password and no encryption.[/]",
            soft_wrap=True,
        )
    return blocks, address


def set_environment(scratch: Path) -> None:
    """Set gradio's environment before its import: uploads go to the scratch folder, and no usage data is sent."""
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    for key in ("no_proxy", "NO_PROXY"):  # gradio requests its own page when it starts
        os.environ[key] = ",".join(filter(None, (os.environ.get(key), "127.0.0.1", "localhost")))


def _faults(options: argparse.Namespace) -> list[Fault]:
    faults = []
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if int(version.partition(".")[0] or 0) < GRADIO_VERSION:
        remedy = f'Install it: uv pip install "gradio>={GRADIO_VERSION}"'
        faults.append(Fault(f"the demo needs gradio {GRADIO_VERSION} or newer", version or "none", remedy))
    if options.port is not None and not 1 <= options.port <= 65535:
        faults.append(Fault("--port must lie in 1..65535", str(options.port), "Leave it out."))
    if not _is_own_address(options.host):
        remedy = "Leave it out for this machine only, or use 0.0.0.0 for everyone who can reach it."
        faults.append(Fault("--host must be an address of this machine", options.host, remedy))
    return faults


def _is_own_address(host: str) -> bool:
    """Return True if a page can be served at this address; gradio would try a hundred ports before it fails."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
        return True
    except OSError:
        return False


def _embedding_map(module: Any, model: Any, folder: Path, console: Any) -> tuple[Any, str]:
    """Return the model's embedding map, which is made if it is missing, or None and the reason why there is none."""
    from platform.serving import embedding_map

    try:
        return embedding_map.read(folder), ""
    except InputError as error:
        missing = str(error)
    try:
        console.print("Making the map of the training examples; this happens only once …")
        if reasons := embedding_map.remake(module, model, folder):
            return None, " ".join(reasons)
        return embedding_map.read(folder), ""
    except InputError as error:
        console.print("[yellow]The page has no map of the training examples.[/]")
        return None, f"{missing} It could not be made now: {error}"


def _title(folder: Path, model: str) -> str:
    """Return the study's name; for a model outside a study, e.g. in MLflow, the end of the value of --model."""
    from platform.study.request import EVENT_LOG

    folder = folder.resolve()
    return folder.parent.name if (folder.parent / EVENT_LOG).exists() else Path(model).name or folder.name


def _summary(folder: Path) -> str:
    """Return a line with the model's task, its architecture and its test metric."""
    from platform.storage.checkpoints import read_metadata
    from platform.study.request import RESULT

    metadata = read_metadata(folder)
    config = metadata.get("config", {})
    parts = [str(metadata["task"])]
    parts += [f"{key} {config[key]}" for key in ("architecture", "backbone") if key in config]
    file = folder.parent / RESULT
    result = json.loads(file.read_text()) if folder.name == "best" and file.exists() else {}
    if best := result.get("best"):
        metric = result["metric"].replace("val/", "test/", 1)
        parts += [f"{metric} {best['test_metrics'][metric]:.3f}"] if metric in best["test_metrics"] else []
    return " · ".join(parts)


def _model_card(folder: Path) -> str:
    """Return the model card without its YAML header; "" if there is none."""
    from platform.runner.model_card import FILE

    if not (folder / FILE).exists():
        return ""
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / FILE).text


if __name__ == "__main__":
    run_and_exit(main, "The page was not served yet.")
