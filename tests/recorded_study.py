"""Studies that nobody ran: event logs written as a study writes them, for what a real one rarely comes to."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from platform.reporting.study_data import parse_space
from platform.search.scheduler import PruningScheduler
from platform.study.event_log import EventLog
from platform.study.metadata import DatasetFacts, StudyFacts, as_json
from platform.study.trials import TrialTable

EPOCHS = 9
WORDS = {
    "max_epochs": str(EPOCHS),
    "grace_epochs": "1",
    "metric": "val/score",
    "mode": "max",
    "freeze_depth": "0..5",
    "unfreeze": "one of never, at_once, gradual",
    "unfreeze_at": "0.1..0.7",
    "lr_head": "0.0001..0.1 (log)",
    "batch_size": "one of 4, 8, 16",
    "weights": "starter",
}


class RecordedStudy:
    """Event log of a study, recorded step by step."""

    def __init__(self, folder: Path, trials: int = 10, facts: Mapping[str, Any] | None = None, **words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.words = folder, {"trials": str(trials), **WORDS, **words}
        self.trial_table = TrialTable(EventLog(folder / "journal.log"))
        dataset = DatasetFacts("bricks", "d" * 64, "embedded", {"splits": {"train": {"images": 8}}})
        study = StudyFacts(
            **{
                "tracking_uri": f"sqlite:///{folder}/mlflow.db",
                "experiment": "toys",
                "name": folder.name,
                "id": folder.name,
                "task": "toy",
                "metric": self.words["metric"],
                "mode": self.words["mode"],
                "max_epochs": EPOCHS,
                "tags": {"commit": "abc123"},
                "dataset": dataset,
                **(facts or {}),
            }
        )
        request = {"task": "toy", "name": folder.name, "storage": str(folder.parent), "experiment": "toys"}
        request |= {"tracking_uri": study.tracking_uri, "data": [], "settings": [], "seed": 0, "id": study.id}
        if not self.trial_table.events:
            self.trial_table.record("study", request=request, space=self.words, facts=as_json(study))
        self.trial_table.record("open", cpus=1, gpus=0.0)

    def trial(
        self, trial_id: str, scores: list[float], status: str = "", baseline: str = "", error: str = "",
        first_unfreeze: int | None = None, losses: float = 1.0, **config: Any,
    ) -> None:  # fmt: skip
        """A trial with an epoch for each score, and its end if it has one."""
        point = {"freeze_depth": 2, "unfreeze": "never", "unfreeze_at": 0.4, "lr_head": 1e-3, "batch_size": 8}
        point |= {"weights": "starter", **config}
        self.trial_table.record("trial", trial_id=trial_id, config=point, baseline=baseline)
        self.trial_table.record("trial_start", trial_id=trial_id)
        for step, score in enumerate(scores, start=1):
            frozen = float(point["freeze_depth"] if first_unfreeze is None or step <= first_unfreeze else 0)
            metrics = {"val/score": score, "train/loss": losses / step, "train/frozen_stages": frozen}
            report = {"metrics": metrics, "notes": {}, "last": step == EPOCHS, "first_unfreeze": first_unfreeze}
            self.trial_table.record("report", trial_id=trial_id, step=step, **report)
        if status:
            self.trial_table.record("trial_end", trial_id=trial_id, status=status, error=error)

    def close(self, status: str = "FINISHED", **result: Any) -> Path:
        """The end of the work on it; with a result if there is one."""
        self.trial_table.record("close", status=status)
        self.trial_table.event_log.close()
        if result:
            usual: dict[str, Any] = {"best": None, "baselines": [], "references": {}, "left_out": [], "reuse": {}}
            (self.folder / "result.json").write_text(json.dumps(usual | result))
        return self.folder

    def best(self, trial_id: str, **metrics: float) -> dict[str, Any]:
        """ "best" of a result, and a picture of it."""
        figures = self.folder / "figures"
        figures.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 255, (400, 700, 3), dtype=np.uint8)
        Image.fromarray(noise).save(figures / "test_images.png")
        (figures / "classification_report.txt").write_text("precision <b>recall</b>")
        trial = self.trial_table.trials[trial_id]
        scores = {"test/score": 0.6, "test/score_class/a": 0.5, **metrics}
        return {"trial_id": trial_id, "name": trial.name, "config": trial.config, "metrics": trial.metrics[-1],
                "test_metrics": scores, "model": ""}  # fmt: skip


def searched(folder: Path, trials: int, effect: float = 1.0, seed: int = 0) -> Path:
    """A study as ASHA and a random sampler make it: with effect, freezing three stages at a rate of 3e-3 is best."""
    study, generator = RecordedStudy(folder, trials), np.random.default_rng(seed)
    scheduler = PruningScheduler(parse_space(study.words, []))
    for number in range(1, trials + 1):
        depth, schedule = int(generator.integers(0, 6)), str(generator.choice(["never", "at_once", "gradual"]))
        unfreeze_at, rate = float(generator.uniform(0.1, 0.7)), float(10 ** generator.uniform(-4, -1))
        size = int(generator.choice([4, 8, 16]))
        first_unfreeze = math.ceil(unfreeze_at * EPOCHS) if schedule != "never" and depth else None
        worth = 0.5 - effect * (0.04 * abs(depth - 3) + 0.1 * (math.log10(rate) + 2.5) ** 2) + 0.03 * generator.normal()
        scores, status = list[float](), "finished"
        for epoch in range(1, EPOCHS + 1):
            scores.append(worth * (1 - math.exp(-epoch / 3)) + 0.01 * generator.normal())
            if scheduler.prunes(str(number), epoch, scores[-1], first_unfreeze):
                status = "pruned"
                break
        config = {
            "freeze_depth": depth,
            "unfreeze": schedule,
            "unfreeze_at": unfreeze_at,
            "lr_head": rate,
            "batch_size": size,
        }
        study.trial(f"{number:03d}", scores, status, first_unfreeze=first_unfreeze, **config)
    return study.close()
