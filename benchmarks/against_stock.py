"""Compare the time of the embedded studies with that of the same trials in stock Ray Tune, used as Ray documents it.

python -m benchmarks.against_stock
python -m benchmarks.against_stock --tasks classifier --repeats 1

The engine's side is the shipped command with an empty feature store and nothing pretrained; its data are decoded
before, because the engine decodes them once for all studies. The stock side runs the trials of the study, with the same
numbers of epochs, through a Tuner with OptunaSearch and MLflowLoggerCallback (stock_trainables.py). Both are timed as
whole processes that use all cores; the engine also searches, prunes by ASHA, scores the best trial on the test split
and logs its model, which the stock side does not.

The sides shuffle and augment differently. Their scores are compared by the mean over all trials.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("detector", "classifier", "autoencoder", "sentences")
ALIKE = 0.1  # largest accepted difference of the mean scores


def main() -> None:
    """Print a row for each task, and their sum."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.against_stock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--stock", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.stock:
        _stock(options.stock[0], Path(options.stock[1]))
        return
    rows, sums = [], {"engine": [0.0] * options.repeats, "stock": [0.0] * options.repeats}
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _engine(task, folder, "--trials", "1", "--epochs", "1")  # decodes the data
            sides = {"engine": lambda t=task, f=folder: _engine(t, f), "stock": lambda t=task, f=folder: _run(t, f)}
            seconds = timing.interleaved(sides, options.repeats, warm_up=False)
            means = {name: json.loads((folder / f"{name}.json").read_text())["mean"] for name in sides}
        if abs(means["engine"] - means["stock"]) > ALIKE:
            raise SystemExit(f"{task}: the mean scores of the sides differ: {means}")
        sums = {name: [a + b for a, b in zip(sums[name], seconds[name], strict=True)] for name in sums}
        rows.append(_row(task, seconds, f"{means['engine']:.3f}, {means['stock']:.3f}"))
        print(" | ".join(rows[-1]), file=sys.stderr)
    rows.append(_row("sum", sums, ""))
    print(f"{timing.machine()}\n")
    print(timing.table(["study", "engine, s", "stock, s", "stock / engine", "mean scores"], rows))


def _row(name: str, seconds: dict[str, list[float]], scores: str) -> list[str]:
    spreads = [timing.spread(seconds[side], digits=1) for side in ("engine", "stock")]
    return [name, *spreads, timing.spread(timing.ratios(seconds["stock"], seconds["engine"])), scores]


def _engine(task: str, folder: Path, *more: str) -> float:
    """Empty the feature store, run the shipped command, and return its seconds."""
    cache = folder / "studies" / ".cache"
    for kept in (cache / "features", *cache.glob("*-pretrained")):
        shutil.rmtree(kept, ignore_errors=True)
    name = f"study-{time.time_ns()}"
    command = [sys.executable, "-m", "platform.tune", task, "--name", name, "--storage", str(folder / "studies")]
    command += ["--tracking-uri", f"sqlite:///{folder}/engine.db", "--json", str(folder / "result.json"), *more]
    seconds = _timed(command)
    result = json.loads((folder / "result.json").read_text())
    budget = max(trial["epochs"] for trial in result["trials"])
    ran = [{"config": t["config"], "epochs": t["epochs"], "budget": budget} for t in result["trials"]]
    scores = [trial["metrics"][result["metric"]] for trial in result["trials"]]
    summary = {"trials": ran, "metric": result["metric"], "mean": statistics.mean(scores)}
    (folder / "engine.json").write_text(json.dumps(summary))
    return seconds


def _run(task: str, folder: Path) -> float:
    return _timed([sys.executable, "-m", "benchmarks.against_stock", "--stock", task, str(folder)])


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    seconds = time.perf_counter() - started
    print(f"{command[2]}: {seconds:.1f} s", file=sys.stderr)
    return seconds


def _stock(task: str, folder: Path) -> None:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    from benchmarks.stock_trainables import train

    engine = json.loads((folder / "engine.json").read_text())
    places = (folder / "studies" / ".cache").iterdir()
    kinds = {"detector": "detection-", "classifier": "images-", "autoencoder": "digits-", "sentences": "tokens-"}
    [data] = [p for p in places if p.name.startswith(kinds[task]) and not p.name.endswith("-pretrained") and p.is_dir()]
    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(num_cpus=os.cpu_count(), log_to_driver=False)
    trials, metric = engine["trials"], engine["metric"]
    points = [{"trial": number} for number in range(len(trials))]
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(train, trials=trials, task=task, data=str(data), metric=metric), {"cpu": 1}
        ),
        param_space={"trial": tune.randint(0, len(trials))},
        tune_config=tune.TuneConfig(
            metric=metric,
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=points),
            num_samples=len(trials),
        ),
        run_config=tune.RunConfig(
            name=f"stock-{time.time_ns()}",
            storage_path=str(folder / "stock"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(f"sqlite:///{folder}/stock.db", experiment_name="stock")],
        ),
    )
    grid = tuner.fit()
    if grid.errors or len(grid) != len(trials):
        raise SystemExit(f"{len(grid)} of {len(trials)} trials, {len(grid.errors)} errors: {grid.errors[:1]}")
    tables: list[Any] = [grid[number].metrics_dataframe for number in range(len(grid))]
    best = [table[metric].max() for table in tables]
    (folder / "stock.json").write_text(json.dumps({"mean": float(statistics.mean(best))}))


if __name__ == "__main__":
    main()
