"""Records learning curves: random points of a task's space, each trained to its full budget, to simulate searches on.

python -m benchmarks.curves classifier --trials 150 --out benchmarks/curves/classifier.json

The file holds each configuration with its score after each epoch.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import timing


def main() -> None:
    """Writes the file."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task")
    p.add_argument("--trials", type=int, default=150)
    p.add_argument("--epochs", type=int)
    p.add_argument("--set", action="append", default=[], dest="settings")
    p.add_argument("--out", type=Path, required=True)
    options = p.parse_args()
    from platform import cluster, study
    from platform.plan import Request, make_plan

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        asked = {"settings": tuple(options.settings), "trials": options.trials, "epochs": options.epochs}
        plan = make_plan(Request(options.task, "curves", folder, "curves", uri, **asked))  # type: ignore[arg-type]
        generator = np.random.default_rng(0)
        # As baselines: they are trained to the end, and the sampler does not see them.
        searched = plan.space.searched.items()
        points = {
            str(number): {key: _plain(domain.sample(random_state=generator)) for key, domain in searched}
            for number in range(options.trials - 1)
        }
        plan = replace(plan, space=replace(plan.space, baselines=points))
        data = plan.task.prepare(plan.space, plan.dataset, plan.request.cache).resolve()
        plan.request.folder.mkdir(parents=True)
        cluster.connect(plan.resources)
        found = study.search(plan, data, Console())
        found.close("FINISHED")
        space = plan.space
        curves = [
            {"config": trial.config, "scores": [round(score, 5) for score in trial.scores(space.metric)]}
            for trial in found.ledger.trials.values()
            if trial.status == "finished"
        ]
    told = {"task": options.task, "metric": space.metric, "mode": space.mode, "machine": timing.machine()}
    told |= {"max_epochs": space.max_epochs, "grace_epochs": space.grace_epochs, "searched": list(space.searched)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(curve) for curve in curves)
    options.out.write_text(f'{json.dumps(told)[:-1]}, "curves": [\n{lines}\n]}}\n')


def _plain(value):
    """NumPy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
