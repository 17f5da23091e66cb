"""What freezing costs and saves: one configuration, the start of the space, trained at each freeze depth.

python -m benchmarks.freeze_depth detector --epochs 12 --data DIR --set weights=FILE

Everything but --depths, --seeds and --at-once goes to `python -m platform.tune`. Each cell is a study of one trial; two
run side by side on two cores, so read the seconds as a ratio between rows. The table is Markdown.
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
    """Prints a row per depth: scores as mean over seeds, with the lowest and highest if there are several."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.freeze_depth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("task")
    p.add_argument("--depths", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], metavar="N")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    p.add_argument("--at-once", type=int, default=os.cpu_count(), metavar="N", help="studies at a time, a core each")
    options, passed_on = p.parse_known_args()
    cells = [(depth, seed) for depth in options.depths for seed in options.seeds]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.at_once) as pool:
        results = list(pool.map(lambda cell: _study(options.task, cell[0], cell[1], passed_on, Path(folder)), cells))
    [metric] = {result["metric"] for result in results}
    names = [metric, *[key for key in results[0]["best"]["test_metrics"] if "class" not in key]]
    print(f"| freeze_depth | {' | '.join(names)} | seconds an epoch |")
    print("|---" * (len(names) + 2) + "|")
    for depth in options.depths:
        mine = [result["best"] for (d, _), result in zip(cells, results, strict=True) if d == depth]
        scores = [
            studies.spread([{**best["metrics"], **best["test_metrics"]}[name] for best in mine]) for name in names
        ]
        seconds = statistics.mean(best["metrics"]["time/epoch_seconds"] for best in mine)
        print(f"| {depth} | {' | '.join(scores)} | {seconds:.1f} |")


def _study(task: str, depth: int, seed: int, passed_on: list[str], folder: Path) -> dict[str, Any]:
    options = ["--trials", "1", "--concurrent", "1", "--cpus-per-trial", "1"]
    options += ["--seed", str(seed), "--set", f"freeze_depth={depth}", *passed_on]
    return studies.run(task, f"depth-{depth}-seed-{seed}", options, folder)


if __name__ == "__main__":
    main()
