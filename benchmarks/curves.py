"""Recording of learning curves: random configs of a task's space, each trained to its full budget, for simulations.

python -m benchmarks.curves autoencoder --trials 300 --storage FOLDER --out benchmarks/curves/autoencoder.json.gz
python -m benchmarks.curves classifier --trials 150 --storage FOLDER --out benchmarks/curves/classifier.json.gz
python -m benchmarks.curves sentences --trials 47 --storage FOLDER --out benchmarks/curves/sentences.json.gz

and of other data sets, which python -m benchmarks.other_data makes:

python -m benchmarks.curves autoencoder --trials 250 --points 1 --data DIGITS --storage FOLDER --out …/digits.json.gz
python -m benchmarks.curves classifier --trials 124 --points 1 --data OBJECTS --storage FOLDER --out …/objects.json.gz

The file holds the space, and each configuration with its score after each epoch. The command goes on where the file
ends, and records at most --piece configurations at a time; --storage keeps what they share between the pieces.
"""

import argparse
import gzip
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Categorical, Integer, LogUniform
from rich.console import Console

from benchmarks import timing
from platform.space import Space
from platform.training.freezing import Freezing

CURVES = Path(__file__).parent / "curves"


@dataclass(frozen=True)
class Recorded:
    """Content of a file of curves.

    Attributes:
        name: The file's, without its ending.
        space: What was searched, with the budget.
        configs: The recorded points.
        scores: (configurations, epochs), the metric after each epoch.
    """

    name: str
    space: Space
    configs: list[dict[str, Any]]
    scores: np.ndarray

    @classmethod
    def of(cls, file: Path) -> "Recorded":
        """Read a file. The space is the recorded one, even if the task's space has changed since."""
        content = read(file)
        domains = {key: getattr(tune, kind)(*bounds) for key, (kind, *bounds) in content["searched"].items()}
        configs = [content["fixed"] | dict(zip(domains, each["config"], strict=True)) for each in content["curves"]]
        budget = {key: content[key] for key in ("metric", "mode", "max_epochs", "grace_epochs")}
        start = {key: configs[0][key] for key in domains}
        space = Space(content["fixed"] | domains, start=start, trials=len(configs), depth=content["depth"], **budget)
        return cls(file.name.split(".")[0], space, configs, np.array([each["scores"] for each in content["curves"]]))

    def first_unfreeze(self, config: dict[str, Any]) -> int | None:
        """Return how many epochs a config trains before its first unfreezing, None if it never unfreezes."""
        freezing = Freezing(config["freeze_depth"], config["unfreeze"], config["unfreeze_at"])
        return freezing.first_unfreeze(self.space.max_epochs)


def main() -> None:
    """Write the file, or add curves to it."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("task")
    p.add_argument("--trials", type=int, default=300, help="configurations in all")
    p.add_argument("--piece", type=int, default=300, help="configurations that this call records at most")
    p.add_argument("--epochs", type=int)
    p.add_argument("--data", action="append", default=[])
    p.add_argument("--set", action="append", default=[], dest="settings")
    p.add_argument("--points", type=int, default=0, help="seed of the points")
    p.add_argument("--storage", type=Path, required=True, help="a folder for the studies that record")
    p.add_argument("--out", type=Path, required=True)
    options = p.parse_args()
    content = read(options.out) if options.out.exists() else {}
    drawn = content.get("drawn", 0)
    upto = min(options.trials, drawn + options.piece)
    if drawn >= upto:
        raise SystemExit(f"{options.out} has all of its {drawn} points.")
    from platform.cluster import ray_runtime
    from platform.runner.plan import make_plan
    from platform.runner.run_study import StudyRun
    from platform.study.request import Request

    uri = f"sqlite:///{options.storage.resolve()}/mlflow.db"
    data = tuple(str(Path(place).resolve()) for place in options.data)
    asked = {"settings": tuple(options.settings), "data": data, "trials": upto - drawn, "epochs": options.epochs}
    name = f"curves-{time.strftime('%Y%m%d-%H%M%S')}"
    plan = make_plan(Request(options.task, name, str(options.storage.resolve()), "curves", uri, **asked))  # type: ignore[arg-type]
    generator = np.random.default_rng(options.points)
    searched = plan.space.searched.items()
    points = [
        {key: _plain(domain.sample(random_state=generator)) for key, domain in searched} for _ in range(upto)
    ][drawn:]  # fmt: skip
    # As baselines: they are trained to the end, and the sampler does not see them. The first is where it starts.
    others = {str(number): point for number, point in enumerate(points[1:])}
    plan = replace(plan, space=replace(plan.space, start=points[0], baselines=others))
    plan.request.folder.mkdir(parents=True)
    ray_runtime.connect(plan.resources)
    study = StudyRun(plan, Console(width=160))
    study.prepare()
    study.search()
    study.close("FINISHED")
    space, trials = plan.space, list(study.trial_table.trials.values())
    if left := [trial.id for trial in trials if trial.status not in ("finished", "failed")]:
        raise SystemExit(f"The study was stopped. These curves are not recorded: {', '.join(left)}")
    keys = list(space.searched)
    new = [
        {"config": [trial.config[key] for key in keys], "scores": [round(s, 5) for s in trial.scores(space.metric)]}
        for trial in trials
        if trial.status == "finished"
    ]
    head = {"task": options.task, "data": plan.dataset.name, "metric": space.metric, "mode": space.mode}
    head |= {"machine": timing.machine(), "settings": options.settings, "fingerprint": plan.dataset.fingerprint}
    head |= {"max_epochs": space.max_epochs, "grace_epochs": space.grace_epochs, "depth": space.depth}
    head |= {"searched": {key: _domain_as_json(domain) for key, domain in space.searched.items()}}
    head |= {"fixed": space.fixed, "points": options.points}
    if content and (other := [key for key in head if head[key] != content[key]]):
        raise SystemExit(f"{options.out} was recorded with other values of: {', '.join(other)}")
    write(options.out, head | {"drawn": upto, "curves": [*content.get("curves", []), *new]})
    print(f"{options.out}: {upto} drawn, {len(content.get('curves', [])) + len(new)} recorded")


def read(file: Path) -> dict[str, Any]:
    """Return the content of a file of curves."""
    return json.loads(gzip.decompress(file.read_bytes()))


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a file of curves. Equal curves give equal files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    *_, (_, curves) = content.items()
    lines = ",\n".join(json.dumps(curve) for curve in curves)
    head = json.dumps({key: value for key, value in content.items() if key != "curves"})
    partial = file.with_name(f".{file.name}")
    partial.write_bytes(gzip.compress(f'{head[:-1]}, "curves": [\n{lines}\n]}}\n'.encode(), mtime=0))
    partial.replace(file)


def _domain_as_json(domain: Any) -> list:
    """Return the name of the ray.tune function that makes a domain, and its arguments."""
    if isinstance(domain, Categorical):
        return ["choice", list(domain.categories)]
    if isinstance(domain, Integer):
        return ["randint", domain.lower, domain.upper]
    kind = "loguniform" if isinstance(domain.get_sampler(), LogUniform) else "uniform"
    return [kind, domain.lower, domain.upper]


def _plain(value):
    """Return a NumPy number as a Python number."""
    return value.item() if hasattr(value, "item") else value


if __name__ == "__main__":
    main()
