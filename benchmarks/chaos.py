"""Compare a study under random faults of workers, nodes, driver, checkpoints and MLflow server with one without faults.

python -m benchmarks.chaos --minutes 10
python -m benchmarks.chaos --trials 8 --epochs 40 --every 60 --faults "driver killed"     # what restarts cost

The cluster has two nodes with one core each on one machine and an MLflow server; the driver is the shipped command. For
--minutes there is a fault each --every seconds on average, in random order; then the study runs to its end. A driver
that ended is started again with --resume. The time lost by a fault is the time since the last finished epoch of each
trial that it hit.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks import timing
from platform.cluster.ray_runtime import keep_token_secret
from platform.storage.checkpoints import Checkpoints
from platform.study.event_log import Event, read

ROOT = Path(__file__).resolve().parent.parent
OUTAGE_S = 60
FAULTS = {  # how often in each round
    "worker killed": 6,
    "newest checkpoint damaged, worker killed": 2,
    "node killed": 3,
    "driver killed": 4,
    "driver ended by SIGTERM": 1,
    "Ctrl-C": 1,
    "MLflow server down for a minute": 1,
}


def main() -> None:
    """Print the tables."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--every", type=float, default=30, help="seconds between faults, on average")
    p.add_argument("--faults", help=f"which, comma-separated; of: {', '.join(FAULTS)}")
    p.add_argument("--task", default="classifier")
    p.add_argument("--trials", type=int, default=72)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--seed", type=int, default=None, help="of the faults and their moments")
    options = p.parse_args()
    keep_token_secret()
    os.environ["RAY_AUTH_MODE"] = "token"  # before Ray is imported: it looks once
    seed = time.time_ns() % 2**32 if options.seed is None else options.seed
    faults = {name: FAULTS[name] for name in (options.faults.split(",") if options.faults else FAULTS)}
    ended = {}
    for name, struck in (("left alone", {}), ("struck", faults)):
        with tempfile.TemporaryDirectory() as folder:
            ended[name] = Study(Path(folder), options, random.Random(seed)).run(struck)
    print(
        f"{options.task}, {options.trials} trials of up to {options.epochs} epochs, seed {seed}; {timing.machine()}\n"
    )
    keys = list(ended["struck"]["summary"])
    rows = [[key, *(str(outcome["summary"][key]) for outcome in ended.values())] for key in keys]
    print(timing.table(["", *ended], rows))
    struck = ended["struck"]["faults"]
    print()
    rows = [
        [name, str(loss["times"]), str(loss["survived"]), f"{loss['seconds']:.0f} s"] for name, loss in struck.items()
    ]
    print(timing.table(["fault", "times tried", "times survived", "work lost"], rows))


class Study:
    """A study on two nodes with injected faults."""

    def __init__(self, folder: Path, options: argparse.Namespace, generator: random.Random) -> None:
        self.folder, self.options, self.generator = folder, options, generator
        self.event_log = folder / "chaos" / "journal.log"
        self.nodes: list[Any] = []
        self.driver: subprocess.Popen | None = None
        self.server: subprocess.Popen | None = None
        self.restarts = 0
        self.back_at = 0.0  # when the server is started again
        self.hits: list[tuple[str, int]] = []  # fault, milliseconds since 1970

    def run(self, faults: dict[str, int]) -> dict[str, Any]:
        """Run the study to its end and return its summary and the losses by fault."""
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        self.port = _free_port()
        try:
            self._serve()
            started = time.monotonic()
            self._drive(cluster.address)
            next_fault, left = started + self._pause(), list[str]()
            while (code := self.driver.poll()) is None or code != 0:  # type: ignore[union-attr]
                if code is not None:
                    if code not in (-signal.SIGKILL, 130):
                        raise SystemExit((self.folder / "log.txt").read_text()[-5000:])
                    self._drive(cluster.address, "--resume")
                if self.back_at and time.monotonic() > self.back_at:
                    self.back_at = 0.0
                    self._serve()
                if faults and time.monotonic() > next_fault and time.monotonic() < started + 60 * self.options.minutes:
                    left = left or self.generator.sample(
                        list(faults), counts=list(faults.values()), k=sum(faults.values())
                    )
                    name = left[-1]
                    if self._strike(name, cluster):
                        left.pop()
                        print(f"{time.monotonic() - started:6.1f} s  {name}", file=sys.stderr)
                        next_fault = time.monotonic() + self._pause()
                time.sleep(0.1)
            seconds = time.monotonic() - started
            if self.back_at:
                self._deliver()
        finally:
            for process in (self.driver, self.server):
                if process:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            cluster.shutdown()
            ray.shutdown()
        return self._count(seconds)

    def _pause(self) -> float:
        return self.generator.uniform(0.5, 1.5) * self.options.every

    def _drive(self, address: str, *more: str) -> None:
        command = [sys.executable, "-m", "platform.tune", self.options.task, "--name", "chaos"]
        command += ["--storage", str(self.folder), *more]
        if not more:
            command += ["--trials", str(self.options.trials), "--epochs", str(self.options.epochs)]
            command += ["--tracking-uri", f"http://127.0.0.1:{self.port}", "--concurrent", "2"]
        else:
            self.restarts += 1
        with (self.folder / "log.txt").open("a") as log:
            environment = {**os.environ, "RAY_ADDRESS": address}
            self.driver = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def _serve(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = subprocess.Popen(command, cwd=self.folder, start_new_session=True, **quiet)
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1)
                return
            time.sleep(0.2)
        raise SystemExit("the MLflow server does not answer")

    def _deliver(self) -> None:
        """Run the command that the study recommends if the server was down at its end."""
        self._serve()
        subprocess.run(
            [sys.executable, "-m", "platform.deliver", "chaos", "--storage", str(self.folder)], cwd=ROOT, check=True
        )

    def _strike(self, name: str, cluster: Any) -> bool:
        """Inject a fault. Returns False if there was no target for it."""
        assert self.driver is not None
        assert self.server is not None
        if not self.event_log.exists() or not any(event.kind == "report" for event in read(self.event_log)):
            return False
        now = int(time.time() * 1000)
        if name.startswith("driver") or name == "Ctrl-C":
            how = {"driver killed": signal.SIGKILL, "Ctrl-C": signal.SIGINT}.get(name, signal.SIGTERM)
            self.driver.send_signal(how)
            self.driver.wait()
        elif name == "node killed":
            node = self.nodes.pop(self.generator.randrange(len(self.nodes)))
            cluster.remove_node(node, allow_graceful=False)
            self.nodes.append(cluster.add_node(num_cpus=1))
        elif name.startswith("MLflow"):
            if self.back_at:
                return False
            os.killpg(self.server.pid, signal.SIGKILL)
            self.back_at = time.monotonic() + OUTAGE_S
        else:
            workers = _workers()
            if not workers:
                return False
            victim = self.generator.choice(workers)
            if name.startswith("newest"):
                running = sorted((self.folder / "chaos" / "trials").glob("*"))
                with_one = [folder for folder in running if Checkpoints(folder).epochs()]
                if not with_one:
                    return False
                newest = max(with_one, key=lambda folder: folder.stat().st_mtime)
                victim.suspend()
                epochs = Checkpoints(newest).epochs()
                if epochs:
                    file = Checkpoints(newest).path(epochs[-1]) / "model.safetensors"
                    with contextlib.suppress(OSError):
                        content = file.read_bytes()
                        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.hits.append((name, now))
        return True

    def _count(self, seconds: float) -> dict[str, Any]:
        from mlflow import MlflowClient

        events = read(self.event_log)
        result = json.loads((self.folder / "chaos" / "result.json").read_text())
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name(self.options.task)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=10_000)
        wrong, epochs = 0, {trial["trial_id"]: trial["epochs"] for trial in result["trials"]}
        for run in runs:
            if run.data.tags["kind"] == "trial":
                steps = Counter(m.step for m in client.get_metric_history(run.info.run_id, result["metric"]))
                expected = set(range(1, epochs[run.data.tags["trial_id"]] + 1))
                wrong += len(expected ^ set(steps)) + sum(count - 1 for count in steps.values())
        status = Counter(trial["status"] for trial in result["trials"])
        kinds = Counter(run.data.tags["kind"] for run in runs)
        summary = {
            "trials asked for": self.options.trials,
            "trials finished or pruned": status["finished"] + status["pruned"],
            "trials failed": status["failed"],
            "MLflow runs of trials, of the study": f"{kinds['trial']}, {kinds['study']}",
            "duplicate or missing steps": wrong,
            "records delivered after the end": result["undelivered"],
            "attempts at trials": sum(trial["attempts"] for trial in result["trials"]),
            "drivers started": 1 + self.restarts,
            f"best {result['metric']}": round(result["best"]["metrics"][result["metric"]], 4),
            "its test score": round(next(iter(result["best"]["test_metrics"].values())), 4),
            "seconds": round(seconds),
        }
        return {"summary": summary, "faults": self._losses(events, result)}

    def _losses(self, events: list[Event], result: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return by fault: how often it was injected and survived, and the seconds of unfinished epochs."""
        losses: dict[str, dict[str, Any]] = defaultdict(lambda: {"times": 0, "survived": 0, "seconds": 0.0})
        ended = {trial["trial_id"]: trial["status"] for trial in result["trials"]}
        for name, when in self.hits:
            hit, since = self._hit(events, when)
            losses[name]["times"] += 1
            losses[name]["survived"] += all(ended.get(trial_id) in ("finished", "pruned") for trial_id in hit)
            losses[name]["seconds"] += sum((when - since[trial_id]) / 1000 for trial_id in hit)
        return dict(sorted(losses.items()))

    def _hit(self, events: list[Event], when: int) -> tuple[list[str], dict[str, int]]:
        """Return the trials whose attempt a fault ended, and the time (ms) of each running trial's last event."""
        running: dict[str, int] = {}
        for event in events:
            trial_id = event.data.get("trial_id", "")
            if event.time_ms <= when:
                if event.kind in ("trial_start", "report"):
                    running[trial_id] = event.time_ms
                elif event.kind == "open":
                    running.clear()
                else:
                    running.pop(trial_id, None)
        after = [event for event in events if event.time_ms > when]
        hit = []
        for trial_id in running:
            own = (event for event in after if event.kind == "open" or event.data.get("trial_id") == trial_id)
            following = next(own, None)
            status = following.data.get("status") if following else None
            if following and (following.kind in ("open", "attempt_failed") or status in ("failed", "interrupted")):
                hit.append(trial_id)
        return hit, running


def _workers() -> list[psutil.Process]:
    """Return the processes that run a trial."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            if process.cmdline()[0].startswith("ray::ImplicitFunc"):  # Ray's name for a trainable
                found.append(process)
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    main()
