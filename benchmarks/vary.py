"""Measure scores and seconds by the value of one parameter; the others have the values of the space's start.

python -m benchmarks.vary detector freeze_depth 0 1 2 3 4 5 --epochs 12 --data DIR --set weights=FILE
python -m benchmarks.vary classifier views 1 2 4 8 12 --seeds 0 1 2 3 4 --set augment=0.5

Options other than --seeds and --at-once are passed on to `python -m platform.tune`. Each cell is a study of one trial.
Several studies run at a time, a core each, so that only the ratio of the seconds of two rows is meaningful.
"""

import argparse
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import studies


def main() -> None:
    """Print a row for each value: the mean of each score over the seeds, with the lowest and highest."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.vary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("task")
    p.add_argument("parameter", help="parameter of the space")
    p.add_argument("values", nargs="+")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    p.add_argument("--at-once", type=int, default=os.cpu_count(), metavar="N", help="studies at a time, a core each")
    options, passed_on = p.parse_known_args()
    cells = [(f"{options.parameter}={value}", seed) for value in options.values for seed in options.seeds]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool:
        results = list(pool.map(lambda cell: _study(options.task, cell[0], cell[1], passed_on, Path(folder)), cells))
    [metric] = {result["metric"] for result in results}
    names = [metric, *[key for key in results[0]["best"]["test_metrics"] if "class" not in key]]
    print(f"| {options.parameter} | {' | '.join(names)} | seconds an epoch |")
    print("|---" * (len(names) + 2) + "|")
    for value in options.values:
        setting = f"{options.parameter}={value}"
        best_trials = [result["best"] for (s, _), result in zip(cells, results, strict=True) if s == setting]
        scores = [
            studies.spread([{**best["metrics"], **best["test_metrics"]}[name] for best in best_trials])
            for name in names
        ]
        seconds = statistics.mean(best["metrics"]["time/epoch_seconds"] for best in best_trials)
        print(f"| {value} | {' | '.join(scores)} | {seconds:.1f} |")


def _study(task: str, setting: str, seed: int, passed_on: list[str], folder: Path) -> dict[str, Any]:
    options = ["--trials", "1", "--concurrent", "1", "--cpus-per-trial", "1"]
    options += ["--seed", str(seed), "--set", setting, *passed_on]
    return studies.run(task, f"{setting.replace('=', '-')}-seed-{seed}", options, folder)


if __name__ == "__main__":
    main()
