"""Measure the cost of recording: the same study with and without delivery to MLflow.

python -m benchmarks.recording

Two trials at a time train a small network for a fixed number of steps on two cores; none is pruned. MLflow uses SQLite,
or a server process on the same machine. The time is from the start of the first trial until the last event is
delivered.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 10


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.recording",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--trials", type=int, default=8)
    p.add_argument("--epoch-seconds", type=float, default=1.0, help="approximate time of an epoch")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--side", nargs=2, metavar=("URI", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.side:
        print(json.dumps(_study(options.side[0], Path(options.side[1]), options)))
        return
    scores: dict[str, list[float]] = {}

    def run(side: str, uri: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.recording", "--side", uri.format(folder=folder), folder]
            command += ["--trials", str(options.trials), "--epoch-seconds", str(options.epoch_seconds)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        output = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{side}: {output['seconds']:.1f} s", file=sys.stderr)
        scores[side] = output["scores"]
        return output["seconds"]

    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as address:
        sides = {
            "off": lambda: run("off", ""),
            "SQLite": lambda: run("SQLite", "sqlite:///{folder}/mlflow.db"),
            "server": lambda: run("server", address),
        }
        seconds = timing.interleaved(sides, options.repeats, warm_up=False)
    if len({json.dumps(value) for value in scores.values()}) > 1:
        raise SystemExit(f"the sides do not compute the same: {scores}")
    print(f"{options.trials} trials of {EPOCHS} epochs; {timing.machine()}\n")
    rows = [
        [name, timing.spread(values, digits=1), timing.spread(timing.ratios(values, seconds["off"]), digits=3)]
        for name, values in seconds.items()
    ]
    print(timing.table(["recording", "seconds", "against off"], rows))


def train(config: dict[str, Any]) -> None:
    """Train a small network for config["steps"] steps an epoch and report a score and twenty more metrics."""
    import torch
    from ray import tune
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(256, 256)
    for epoch in range(1, EPOCHS + 1):
        for _ in range(config["steps"]):
            loss = (model(x).squeeze() - x.sum(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        value = float(loss.detach())
        others = {f"train/loss_{number}": value * number for number in range(20)}
        tune.report({"val/score": -value, **others, "last": epoch == EPOCHS})


def _study(uri: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from types import SimpleNamespace
    from typing import cast

    from ray import tune
    from rich.console import Console

    from platform.cluster import ray_runtime
    from platform.runner.plan import Plan
    from platform.runner.run_study import StudyRun
    from platform.space import Space
    from platform.study.request import Request
    from platform.task import Task

    # All trials are baselines, so that their configs do not depend on the order in which they end.
    steps = round(options.epoch_seconds * 250)
    params = {"seed": tune.randint(0, 1000), "steps": steps}
    baselines = {f"seed {number}": {"seed": number} for number in range(1, options.trials)}
    budget = {"max_epochs": EPOCHS, "grace_epochs": EPOCHS, "trials": options.trials}
    space = Space(
        params,
        metric="val/score",
        mode="max",
        start={"seed": 0},
        baselines=baselines,
        **budget,  # type: ignore[arg-type]
    )
    request = Request("toy", "toy", str(folder), "toy", uri, no_reuse=True)
    request.folder.mkdir()
    data = SimpleNamespace(name="none", fingerprint="0" * 64, findings=list, summary=dict, lines=dict)
    task = SimpleNamespace(train=train, INPUT="text", REQUIREMENTS=())
    plan = Plan(request, cast(Task, task), space, data, ray_runtime.resources(1, 0, None))  # type: ignore[arg-type]
    ray_runtime.connect(plan.resources)
    if not uri:
        _switch_off()
    with (folder / "log.txt").open("w") as log:
        started = time.perf_counter()
        study = StudyRun(plan, Console(file=log, width=160))
        study.data = folder  # there is no data to prepare
        study.search()
        undelivered = study.close("FINISHED")
    seconds = time.perf_counter() - started
    if undelivered:
        raise SystemExit(f"{undelivered} records not delivered: {study.delivery.last_error}")
    scores = sorted(record["metrics"]["val/score"] for record in study.records)
    return {"seconds": seconds, "scores": scores}


def _switch_off() -> None:
    """Write the event log without delivering it."""
    from platform.tracking.delivery import Delivery

    Delivery.start = lambda self: None  # type: ignore[method-assign, assignment]
    Delivery.close = lambda self, timeout=0.0: 0  # type: ignore[method-assign, assignment]


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
