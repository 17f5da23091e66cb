"""Measure how a study scales with the nodes of a cluster. All nodes are on one machine, and trials sleep.

python -m benchmarks.scale --nodes 1 2 3 4        trials an hour and utilisation
python -m benchmarks.scale --growth 5000          the controller's time as trials grow, and what 100 GPUs would need

Trials sleep because there may be more nodes than cores; what is measured is the overhead of the engine, Ray and MLflow
(SQLite). Utilisation is the sum of the trials' sleep divided by slots times the wall time from the first trial until
the last event is delivered. The controller's time is the CPU time of the process that searches, with MLflow's thread.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import timing

ROOT = Path(__file__).resolve().parent.parent
SLOTS = 2  # of a node
WINDOW = 500  # trials between two looks at the controller's clock
GPUS, EPOCHS_ON_PAPER = 100, 20


def main() -> None:
    """Print the tables."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--nodes", type=int, nargs="+", default=[])
    p.add_argument("--seconds", type=float, default=2.0, help="of a short trial")
    p.add_argument("--trials", type=int, default=20, help="for each slot")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--growth", type=int, metavar="TRIALS")
    p.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_study(Path(folder), **json.loads(options.one))))
        return
    print(f"{timing.machine()}\n")
    if options.nodes:
        _scale(options)
    if options.growth:
        _grow(options.growth)


def _scale(options: argparse.Namespace) -> None:
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(options.repeats):
        for count in options.nodes:
            for kind, seconds in (("no-op", 0.0), (f"{options.seconds:g} s", options.seconds)):
                trials = options.trials * SLOTS * count
                result = _run(nodes=count, trials=trials, epochs=4, seconds=seconds)
                runs.setdefault((kind, count), []).append({"trials": trials, "waited": trials * seconds, **result})
    rows = []
    for (kind, count), found in sorted(runs.items()):
        hourly = [3600 * one["trials"] / one["wall"] for one in found]
        first = [3600 * one["trials"] / one["wall"] for one in runs[kind, options.nodes[0]]]
        used = [100 * one["waited"] / (SLOTS * count * one["wall"]) for one in found]
        times = timing.spread(timing.ratios(hourly, first))
        shown = timing.spread(used, 1, 0) if kind != "no-op" else ""
        rows.append([kind, str(count), str(SLOTS * count), timing.spread(hourly, 1, 0), times, shown])
    title = f"times {options.nodes[0]} node" + ("s" if options.nodes[0] > 1 else "")
    print(timing.table(["trials", "nodes", "at a time", "trials an hour", title, "utilisation, %"], rows))


def _grow(trials: int) -> None:
    """Measure the controller's time for a trial and for an epoch, by trials of one and of eleven epochs."""
    result = _run(nodes=1, trials=trials, epochs=1, seconds=0.0)
    rows = [
        [f"{count}", f"{1000 * wall / WINDOW:.1f}", f"{1000 * cpu / WINDOW:.1f}"]
        for count, (wall, cpu) in zip(range(WINDOW, trials + 1, WINDOW), result["windows"], strict=False)
    ]
    print(timing.table(["trials so far", "ms a trial", "of them the controller's CPU"], rows))
    few = trials // 10
    short = _run(nodes=1, trials=few, epochs=1, seconds=0.0)
    long = _run(nodes=1, trials=few, epochs=11, seconds=0.0)
    each_epoch = (long["cpu"] - short["cpu"]) / few / 10
    each_trial = result["windows"][-1][1] / WINDOW  # with the most trials that were tried
    print(f"\nA trial of one epoch costs the controller {1000 * each_trial:.1f} ms of CPU with {trials} trials known,")
    print(f"a further epoch {1000 * each_epoch:.1f} ms ({few} trials of 11 epochs against {few} of one).")
    print(f"\n{GPUS} GPUs, a trial on each, {EPOCHS_ON_PAPER} epochs a trial, on paper:\n")
    rows = []
    for minutes in (1, 5, 20, 60):
        a_second = GPUS / (60 * minutes)
        load = a_second * (each_trial + (EPOCHS_ON_PAPER - 1) * each_epoch)
        rows.append([f"{minutes} min", f"{3600 * a_second:,.0f}", f"{100 * load:.1f} %"])
    print(timing.table(["a trial takes", "trials an hour", "the controller is busy"], rows))


def _run(**asked: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--one", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{asked}: {result['wall']:.1f} s", file=sys.stderr, flush=True)
    return result


def train(config: dict[str, Any]) -> None:
    """Sleep, and report a score that rises with each epoch and has its optimum at a = 0.3, b = 0.6."""
    from ray import tune

    distance = (config["a"] - 0.3) ** 2 + (config["b"] - 0.6) ** 2
    for epoch in range(1, config["epochs"] + 1):
        time.sleep(config["seconds"] / config["epochs"])
        last = epoch == config["epochs"]
        tune.report({"val/score": epoch / config["epochs"] - distance, "epoch": epoch, "last": last})


def _study(folder: Path, nodes: int, trials: int, epochs: int, seconds: float) -> dict[str, Any]:
    import os
    from types import SimpleNamespace
    from typing import cast

    import ray
    from ray import tune
    from ray.cluster_utils import Cluster
    from rich.console import Console

    from platform.cluster import nodes as of_cluster
    from platform.cluster import ray_runtime
    from platform.runner.plan import Plan
    from platform.runner.run_study import StudyRun
    from platform.space import Space
    from platform.study.event_log import Event
    from platform.study.request import Request
    from platform.study.trials import TrialTable
    from platform.task import Task

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(nodes):
        machines.add_node(num_cpus=SLOTS)
    os.environ["RAY_ADDRESS"] = machines.address
    params: dict[str, Any] = {key: tune.uniform(0.0, 1.0) for key in "ab"} | {"seconds": seconds, "epochs": epochs}
    space = Space(
        params, "val/score", "max", max_epochs=epochs, grace_epochs=epochs, trials=trials, start={"a": 0.5, "b": 0.5}
    )
    request = Request("toy", "toy", str(folder), "toy", f"sqlite:///{folder / 'mlflow.db'}", no_reuse=True)
    request.folder.mkdir()
    data = SimpleNamespace(name="none", fingerprint="0" * 64, findings=list, summary=dict, lines=dict)
    task = SimpleNamespace(train=train, INPUT="text", REQUIREMENTS=())
    ray_runtime.connect(ray_runtime.resources())
    plan = Plan(request, cast(Task, task), space, data, of_cluster.resources(1, 0.0))  # type: ignore[arg-type]
    if plan.resources.concurrent != SLOTS * nodes:
        raise SystemExit(f"{plan.resources.concurrent} slots, {SLOTS * nodes} expected")
    windows, ended, looked = list[tuple[float, float]](), 0, (time.perf_counter(), time.process_time())
    record = TrialTable.record

    def counted(self: TrialTable, kind: str, **data: Any) -> Event | None:
        """Read the clocks after each `WINDOW` trials."""
        nonlocal ended, looked
        event = record(self, kind, **data)
        ended += kind == "trial_end"
        if kind == "trial_end" and ended % WINDOW == 0:
            now = (time.perf_counter(), time.process_time())
            windows.append((now[0] - looked[0], now[1] - looked[1]))
            looked = now
        return event

    TrialTable.record = counted  # type: ignore[method-assign,assignment]
    began = (time.perf_counter(), time.process_time())
    looked = began
    with (folder / "log.txt").open("w") as log:
        study = StudyRun(plan, Console(file=log, width=160))
        study.data = folder  # there is no data to prepare
        study.search()
        undelivered = study.close("FINISHED")
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    done = sum(record["status"] == "finished" for record in study.records)
    if undelivered or done != trials:
        raise SystemExit(f"{done} of {trials} trials finished, {undelivered} records not delivered")
    ray.shutdown()
    machines.shutdown()
    return {"wall": wall, "cpu": cpu, "windows": windows}


if __name__ == "__main__":
    main()
