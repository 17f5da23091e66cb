"""What looks as if a search did not do what it was asked to.

Two trainings that differ in what they were asked for end with different weights. Where they do not, what they differ in
had no effect. A searched parameter that no trial read had none either.
"""

from collections.abc import Sequence

from platform.study.trials import Trial
from platform.training.config_audit import TRAINED, UNUSED


def raised(trials: Sequence[Trial]) -> list[str]:
    """A sentence for each pair of trainings that should differ and do not, and for each parameter that none used."""
    told, first = [], dict[str, Trial]()
    for trial in trials:
        if not (digest := trial.notes.get(TRAINED)):
            continue
        other = first.setdefault(digest, trial)
        differ = [key for key in trial.config if trial.config[key] != other.config.get(key)]
        differ += ["the seed"] if trial.seed != other.seed else []
        if other is not trial and differ:
            rule = f"{other.name} and {trial.name} ended with equal weights, though they differ in {', '.join(differ)}"
            told.append(f"{rule}: that had no effect.")
    searched = [trial for trial in trials if trial.is_searched and trial.epochs]
    varied = [
        key for key in (searched[0].config if searched else {}) if len({repr(t.config[key]) for t in searched}) > 1
    ]
    unused = [set(trial.notes.get(UNUSED, "").split(", ")) for trial in searched]
    told += [f"{key} was searched, and no trial used it." for key in varied if all(key in each for each in unused)]
    return told
