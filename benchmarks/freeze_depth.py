"""What freezing costs and saves: one configuration, the start of the space, trained at each freeze depth.

python -m benchmarks.freeze_depth detector --epochs 12 --data DIR --set weights=FILE

Everything but --depths, --seeds and --at-once goes to `python -m platform.tune`. Each cell is a study of one trial; two
run side by side on two cores, so read the seconds as a ratio between rows. The table is Markdown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


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
        scores = [_spread([{**best["metrics"], **best["test_metrics"]}[name] for best in mine]) for name in names]
        seconds = statistics.mean(best["metrics"]["time/epoch_seconds"] for best in mine)
        print(f"| {depth} | {' | '.join(scores)} | {seconds:.1f} |")


def _study(task: str, depth: int, seed: int, passed_on: list[str], folder: Path) -> dict[str, Any]:
    name = f"depth-{depth}-seed-{seed}"
    command = [
        sys.executable,
        "-m",
        "platform.tune",
        task,
        "--trials",
        "1",
        "--concurrent",
        "1",
        "--cpus-per-trial",
        "1",
    ]
    command += ["--name", name, "--storage", str(folder), "--seed", str(seed), "--set", f"freeze_depth={depth}"]
    command += ["--tracking-uri", f"sqlite:///{folder / name}.db", "--json", str(folder / f"{name}.json"), *passed_on]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    result = json.loads((folder / f"{name}.json").read_text())
    print(f"{name} done: {result['metric']} {result['best']['metrics'][result['metric']]:.3f}", file=sys.stderr)
    return result


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


if __name__ == "__main__":
    main()
