"""Overhead of a trial: proposing, scheduling, recording. Trials that do nothing run with the engine and with Ray Tune
as its documentation shows it.

python -m benchmarks.controller --trials 1000 --stock-trials 100
python -m benchmarks.controller --growth 100 5000

Both sides: TPE proposes six parameters, ASHA stops, MLflow on SQLite records, two trials at a time on two cores. A
trial reports four times and computes nothing, so all its time is overhead. Timed from the first trial until the last
record is delivered, in a process of its own, without the start of Ray. Stock needs seconds a trial, and has fewer of
them.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 4


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.controller",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--trials", type=int, default=1000)
    p.add_argument("--stock-trials", type=int, default=100)
    p.add_argument("--growth", type=int, nargs=2, metavar=("FEW", "MANY"), help="the engine alone, at two sizes")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--side", nargs=3, metavar=("NAME", "TRIALS", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.side:
        name, trials, folder = options.side
        took = {"engine": _engine, "stock": _stock}[name](int(trials), Path(folder))
        print(json.dumps({"seconds": took, "runs": _count_runs(Path(folder))}))
        return
    sides = {"engine": options.trials, "stock": options.stock_trials}
    if options.growth:
        few, many = options.growth
        sides = {f"engine, {few} trials": few, f"engine, {many} trials": many}
    actions = {name: lambda name=name, count=count: _run(name.split(",")[0], count) for name, count in sides.items()}
    seconds = timing.interleaved(actions, options.repeats, warm_up=False)
    each = {name: [value / sides[name] for value in values] for name, values in seconds.items()}
    print(f"{timing.machine()}\n")
    rows = [[name, str(sides[name]), timing.spread(values, 1000, 1)] for name, values in each.items()]
    print(timing.table(["side", "trials", "ms a trial"], rows))
    (one, first), (other, second) = each.items()
    print(f"\n{other} / {one}: {timing.spread(timing.ratios(second, first))}")


def _run(side: str, trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.controller", "--side", side, str(trials), folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    output = json.loads(done.stdout.strip().splitlines()[-1])
    if output["runs"] != trials:
        raise SystemExit(f"{side}: {trials} trials left {output['runs']} runs in MLflow")
    print(f"{side}, {trials} trials: {output['seconds']:.1f} s", file=sys.stderr)
    return output["seconds"]


def train(config: dict[str, Any]) -> None:
    """Report a score that improves with each epoch, and is best at a point that TPE can find."""
    from ray import tune

    distance = math.log10(config["lr"] / 1e-2) ** 2 + (config["a"] - 0.3) ** 2 + 0.1 * config["depth"]
    for epoch in range(1, EPOCHS + 1):
        tune.report({"val/score": epoch / EPOCHS - distance, "train/loss": distance / epoch, "last": epoch == EPOCHS})


def _params() -> dict[str, Any]:
    from ray import tune

    return {
        "lr": tune.loguniform(1e-4, 1e-1),
        "a": tune.uniform(0.0, 1.0),
        "b": tune.uniform(0.0, 1.0),
        "depth": tune.randint(0, 6),
        "kind": tune.choice(["one", "two", "three"]),
        "batch": tune.choice([16, 32, 64]),
    }


def _engine(trials: int, folder: Path) -> float:
    from types import SimpleNamespace
    from typing import cast

    from rich.console import Console

    from platform.cluster import ray_runtime
    from platform.runner.plan import Plan
    from platform.runner.run_study import StudyRun
    from platform.space import Space
    from platform.study.request import Request
    from platform.task import Task

    start = {"lr": 1e-3, "a": 0.5, "b": 0.5, "depth": 3, "kind": "one", "batch": 32}
    space = Space(
        _params(), metric="val/score", mode="max", max_epochs=EPOCHS, grace_epochs=1, trials=trials, start=start
    )
    request = Request("toy", "toy", str(folder), "toy", f"sqlite:///{folder / 'mlflow.db'}", no_reuse=True)
    request.folder.mkdir()
    data = SimpleNamespace(name="none", fingerprint="0" * 64, findings=list, summary=dict, lines=dict)
    task = SimpleNamespace(train=train, INPUT="text", REQUIREMENTS=())
    plan = Plan(request, cast(Task, task), space, data, ray_runtime.resources(1, 0, None))  # type: ignore[arg-type]
    ray_runtime.connect(plan.resources)
    with (folder / "log.txt").open("w") as log:
        started = time.perf_counter()
        study = StudyRun(plan, Console(file=log, width=160))
        study.data = folder  # there is nothing to prepare
        study.search()
        undelivered = study.close("FINISHED")
    if undelivered or len(study.records) != trials:
        raise SystemExit(f"{len(study.records)} trials, {undelivered} records not delivered")
    return time.perf_counter() - started


def _stock(trials: int, folder: Path) -> float:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    tuner = tune.Tuner(
        train,
        param_space=_params(),
        tune_config=tune.TuneConfig(
            metric="val/score",
            mode="max",
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=trials,
        ),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(folder),
            verbose=0,
            callbacks=[MLflowLoggerCallback(f"sqlite:///{folder / 'mlflow.db'}", experiment_name="toy")],
        ),
    )
    started = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - started


def _count_runs(folder: Path) -> int:
    """Return the number of recorded trials, finished or not."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment, found, token = client.get_experiment_by_name("toy"), 0, None
    assert experiment is not None, "nothing was recorded"
    while True:
        page = client.search_runs([experiment.experiment_id], page_token=token, max_results=1000)
        found += sum(run.data.tags.get("kind") != "study" for run in page)
        token = page.token
        if not token:
            return found


if __name__ == "__main__":
    main()
