"""Compare a space's start with its baselines over several seeds: no transfer, no pretraining, a head alone.

python -m benchmarks.baselines autoencoder --seeds 0 1 2 --epochs 10 --data DIR

Options other than --seeds are passed on to `python -m platform.tune`. For each seed a study trains the start and the
baselines, without a search; the seed changes the splits, the labels used and the initial weights. The table is
Markdown, of the test split.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import studies


def main() -> None:
    """Print a row for each baseline: the mean of each score over seeds, with the lowest and highest."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.baselines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("task")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    p.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="as platform.tune's"
    )
    options, passed_on = p.parse_known_args()
    from platform import task

    space, _ = task.space_of(task.load(options.task), options.task, options.settings)  # the study reports the faults
    trials = str(1 + len(space.baseline_configs()))
    passed_on += [part for setting in options.settings for part in ("--set", setting)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            command = ["--trials", trials, "--seed", str(seed), *passed_on]
            results.append(studies.run(options.task, f"seed-{seed}", command, Path(folder)))
    rows: dict[str, list[dict[str, float]]] = {}
    for result in results:
        for baseline in result["baselines"]:
            rows.setdefault(baseline["baseline"], []).append(baseline["test_metrics"])
        for name, metrics in result["references"].items():
            rows.setdefault(name, []).append(metrics)
    names = [key for key in next(iter(rows.values()))[0] if "_class/" not in key]
    print(f"| | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for row, metrics in rows.items():
        cells = [studies.spread([m[name] for m in metrics], digits=4) if name in metrics[0] else "" for name in names]
        print(f"| {row} | {' | '.join(cells)} |")
    print(f"seeds {', '.join(map(str, options.seeds))}", file=sys.stderr)


if __name__ == "__main__":
    main()
