"""Compare the throughput of two trials at a time on two cores with that of one at a time.

python -m benchmarks.two_at_a_time

The same trials, with one thread each and nothing frozen, run as a study of one trial at a time and as a study of two.
Their scores must be equal. The rate is in epochs per second, counted after each worker's first report, since workers
start once. For reference the trainable also runs in one process and in two, without Ray, recording or search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
TASK = "classifier"
SETTINGS = ("weights=none", "freeze_depth=0", "batch_norm=updated", "backbone_ratio=1", "augment=0.2")


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.two_at_a_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--trials", type=int, default=4)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--side", nargs=2, metavar=("CONCURRENT", "FOLDER"), help=argparse.SUPPRESS)
    p.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.alone:
        print(_alone(options))
        return
    if options.side:
        print(json.dumps(_study(int(options.side[0]), Path(options.side[1]), options)))
        return
    scores: dict[int, list[float]] = {}

    def run(concurrent: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.two_at_a_time", "--side", str(concurrent), folder]
            command += ["--trials", str(options.trials), "--epochs", str(options.epochs)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        summary = json.loads(done.stdout.strip().splitlines()[-1])
        scores[concurrent] = summary["scores"]
        print(f"{concurrent} at a time: {summary['seconds']:.2f} s an epoch", file=sys.stderr)
        return summary["seconds"]

    def alone(processes: int) -> float:
        from platform.cluster.ray_runtime import MALLOC

        command = [sys.executable, "-m", "benchmarks.two_at_a_time", "--alone", "--epochs", str(options.epochs)]
        with ThreadPoolExecutor(processes) as pool:
            runs = pool.map(
                lambda _: subprocess.run(
                    command, cwd=ROOT, env=os.environ | MALLOC, capture_output=True, text=True, check=True
                ),
                range(processes),
            )
        seconds = 1 / sum(1 / float(done.stdout.split()[-1]) for done in runs)
        print(f"{processes} without the engine: {seconds:.2f} s an epoch", file=sys.stderr)
        return seconds

    sides = {
        "one at a time": lambda: run(1),
        "two at a time": lambda: run(2),
        "one process, no engine": lambda: alone(1),
        "two processes, no engine": lambda: alone(2),
    }
    seconds = timing.interleaved(sides, options.repeats, warm_up=False)
    if scores[1] != scores[2]:
        raise SystemExit(f"the scores of the sides differ: {scores}")
    one, two, bare_one, bare_two = seconds.values()
    print(f"{options.trials} trials of {options.epochs} epochs, {TASK}; {timing.machine()}\n")
    print(
        timing.table(["side", "seconds an epoch"], [[name, timing.spread(values)] for name, values in seconds.items()])
    )
    print(f"\nthroughput, two against one: {timing.spread(timing.ratios(one, two))}")
    print(f"without the engine: {timing.spread(timing.ratios(bare_one, bare_two))}")


def _study(concurrent: int, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    from dataclasses import replace

    from rich.console import Console

    from platform.cluster import ray_runtime
    from platform.runner.plan import make_plan
    from platform.runner.run_study import StudyRun
    from platform.study.request import Request

    os.environ["PYTHONPATH"] = str(ROOT)
    request = Request(
        TASK,
        "study",
        str(folder),
        "two",
        f"sqlite:///{folder / 'mlflow.db'}",
        settings=SETTINGS,
        trials=options.trials,
        epochs=options.epochs,
        concurrent=concurrent,
        cpus_per_trial=1,
    )
    plan = make_plan(request)
    # All trials are baselines that differ in one rate, so that they are the same in whichever order they end.
    rates = {f"rate {number}": {"lr_head": 1e-3 + 1e-4 * number} for number in range(1, options.trials)}
    plan = replace(plan, space=replace(plan.space, baselines=rates))
    data = plan.task.prepare(plan.space, plan.dataset, request.cache).resolve()
    request.folder.mkdir(parents=True)
    ray_runtime.connect(plan.resources)
    with (folder / "log.txt").open("w") as log:
        study = StudyRun(plan, Console(file=log, width=160))
        study.data = data
        study.search()
    study.close("FINISHED")
    epochs = [event for event in study.trial_table.events if event.kind == "report"]
    reports = [(event.time_ms / 1000, event.data["trial_id"]) for event in epochs]
    first = next(n for n in range(len(reports)) if len({trial for _, trial in reports[: n + 1]}) == concurrent)
    rate = (len(reports) - 1 - first) / (reports[-1][0] - reports[first][0])
    scores = {record["name"]: record["metrics"]["val/loss"] for record in study.records}
    return {"seconds": 1 / rate, "scores": [scores[name] for name in sorted(scores)]}


def _alone(options: argparse.Namespace) -> float:
    """Train one trial without the engine, and return the seconds an epoch after the first report."""
    import time
    from dataclasses import asdict

    from platform import task
    from platform.task import space_of
    from platform.training import fit
    from platform.training.context import Context
    from platform.training.reporters import ToFolder

    report_times: list[float] = []

    class Reporter(ToFolder):
        def report(self, epoch, save):
            super().report(epoch, save)
            report_times.append(time.perf_counter())

    fit.ToFolder = Reporter  # type: ignore[misc]
    module = task.load(TASK)
    space, _ = space_of(module, TASK, SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        data = module.prepare(space, module.read([], Path(folder), 0, space), Path(folder))
        trial = f"{folder}/trial"
        context = Context(TASK, str(data), 0, options.epochs, space.metric, space.mode, folder=trial)
        module.train({**space.fixed, **space.start, "context": asdict(context)})
    return (report_times[-1] - report_times[0]) / (len(report_times) - 1)


if __name__ == "__main__":
    main()
