"""What a study advises, in plain sentences, and where its trials do not tell.

How it is found: `platform.reporting.parameter_effects`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.tune.search.sample import Integer

from platform.reporting.charts import counted, number
from platform.reporting.parameter_effects import LEAST_SIDE, LEAST_TRIALS, NEVER, UNFREEZE, UNFREEZE_AT, Split
from platform.reporting.parameter_importance import Importance
from platform.reporting.study_data import FROZEN_STAGES, StudyData, unfreezings
from platform.space import DEPTH
from platform.study.trials import Trial

TOLD, OPEN, CAUTION = "told", "open", "caution"  # kinds of sentences
MOST = 3  # parameters besides freezing that are spoken of
QUESTIONS = {DEPTH: "How many stages to freeze", UNFREEZE: "How to unfreeze", UNFREEZE_AT: "When to unfreeze"}
SCHEDULES = {"never": "Unfreeze nothing", "at_once": "Unfreeze all at once", "gradual": "Unfreeze gradually"}
SCHEDULES |= {"on_plateau": "Unfreeze a stage whenever the score stands still"}

ENDED = {"never": "unfrozen nothing", "at_once": "unfrozen all at once", "gradual": "unfrozen one after the other"}
ENDED |= {"on_plateau": "unfrozen one whenever the score stood still"}


@dataclass(frozen=True)
class Sentence:
    """A piece of advice.

    Attributes:
        kind: "told": the trials tell it; "open": they do not; "caution": what is to be borne in mind.
        lead: What to do, or the question.
        text: How sure that is, and why.
    """

    kind: str
    lead: str
    text: str


def advice(data: StudyData, splits: Mapping[str, Split | None], importances: Sequence[Importance]) -> list[Sentence]:
    """What the trials of a study tell: of freezing and unfreezing always, of other parameters what is clear."""
    if not data.scored:
        return [Sentence(OPEN, "Nothing can be said yet", "No trial of what was searched has a score.")]
    asked = [key for key in QUESTIONS if key in data.space.searched]
    few = [key for key in asked if splits.get(key) is None]
    found = [_on_best(data), *[_on_freezing(data, split) for key in asked if (split := splits.get(key))]]
    found += [_too_few(data, few)] if few else []
    others = sorted(
        (split for key, split in splits.items() if split and key not in QUESTIONS), key=lambda split: split.p
    )
    found += [_told(data, split) for split in others if split.is_clear and not split.confounded][:MOST]
    found += [_confounded(data, split) for split in others if split.is_clear and split.confounded][:MOST]
    found.append(_on_importances(importances))
    return [sentence for sentence in [*found, _on_luck(data), _on_failures(data)] if sentence]


def _on_best(data: StudyData) -> Sentence | None:
    """What the best trial does with the stages."""
    if not (best := data.best) or DEPTH not in best.config:
        return None
    where = "" if data.result.get("best") else " so far"
    return Sentence(TOLD, f"The best trial{where} is {best.name}", _what_it_froze(data, best))


def _what_it_froze(data: StudyData, trial: Trial) -> str:
    """From its first epoch to its last."""
    depth, how = trial.config[DEPTH], str(trial.config.get(UNFREEZE))
    if not depth:
        return "It froze nothing."
    frozen = f"It froze {_stages(data, depth)} at first"
    if how != NEVER and trial.metrics and FROZEN_STAGES in trial.metrics[-1] and not unfreezings(trial):
        return f"{frozen}, and ended before it unfrozen any."
    unfrozen = f" and {ENDED[how]}" if how in ENDED else ""
    at = (
        f", from {trial.config[UNFREEZE_AT]:.0%} of the budget on"
        if trial.first_unfreeze is not None and UNFREEZE_AT in trial.config
        else ""
    )
    return f"{frozen}{unfrozen}{at}."


def _on_freezing(data: StudyData, split: Split) -> Sentence:
    if split.is_clear:
        return _confounded(data, split) if split.confounded else _told(data, split)
    do = _do(data, split)
    by = f"the median is {number(split.difference)} {data.metric} better"
    leaning = f"If anything, {do[0].lower()}{do[1:]}: {by if split.difference > 0 else 'such trials won more often'}"
    trials = f"({counted(split.better, 'trial')} against {split.others})"
    chance = f"{leaning} {trials}, not clearly more than chance (p {_p(split.p)})."
    return Sentence(OPEN, f"{QUESTIONS[split.key]}: the trials do not tell", chance)


def _too_few(data: StudyData, keys: Sequence[str]) -> Sentence:
    asked = [QUESTIONS[key] for key in keys]
    lead = ", ".join([asked[0], *[each[0].lower() + each[1:] for each in asked[1:]]])
    takes = f"A comparison takes {LEAST_TRIALS} trials that it concerns, {LEAST_SIDE} on each side"
    return Sentence(OPEN, f"{lead}: too few trials that differ", f"{takes}. {len(data.scored)} in all have a score.")


def _told(data: StudyData, split: Split) -> Sentence:
    return Sentence(TOLD, _do(data, split), _how_sure(data, split))


def _confounded(data: StudyData, split: Split) -> Sentence:
    others = [f"{key}" if key != "order" else "how late they were proposed" for key in split.confounded]
    also = f" But these trials differ in {' and '.join(others)} as well, which alone may explain it."
    return Sentence(OPEN, f"{_do(data, split)}, perhaps", _how_sure(data, split) + also)


def _do(data: StudyData, split: Split) -> str:
    """What a split advises."""
    key, value, relation = split.key, split.value, split.relation
    if key == DEPTH and (relation, value) in (("=", 0), ("<", 1)):
        return "Freeze nothing"
    if key == DEPTH and isinstance(value, int):
        ways = {"=": "the first ", "≠": "more or fewer than ", "≥": "at least ", "<": "fewer than "}
        return f"Freeze {ways[relation]}{_stages(data, value)}"
    if key == UNFREEZE:
        known = SCHEDULES.get(str(value), f"Unfreeze as {value}")
        return known if relation == "=" else f"Use another unfreezing schedule than {value}"
    if key == UNFREEZE_AT and isinstance(value, float):
        return f"Unfreeze {'after' if relation == '≥' else 'before'} {value:.0%} of the budget"
    words = {"=": "", "≠": "other than ", "≥": "of at least ", "<": "below "}
    return f"Choose {key} {words[relation]}{_value(value)}"


def _how_sure(data: StudyData, split: Split) -> str:
    higher = "higher" if data.space.mode == "max" else "lower"
    text = f"At equal epochs such trials scored {number(abs(split.difference))} {data.metric} {higher} than the others"
    if split.difference <= 0:
        text = "At equal epochs such trials won more often than the others"
    if split.low is not None and split.high is not None:
        text += f" (95 % interval {number(split.low)} to {number(split.high)})"
    return f"{text}: {counted(split.better, 'trial')} against {split.others}, p {_p(split.p)}."


def _on_importances(found: Sequence[Importance]) -> Sentence:
    if not found:
        why = f"That takes {LEAST_TRIALS} whose configurations and scores differ."
        return Sentence(OPEN, "Which parameters matter: too few trials that differ", why)
    trials, chance = found[0].trials, f"chance alone reaches {found[0].chance:.0%}"
    if clear := [each for each in found if each.is_clear]:
        named = ", ".join(f"{each.key} ({each.share:.0%})" for each in clear)
        return Sentence(
            TOLD, f"What made the difference: {named}", f"Shares of what {trials} trials differ in; {chance}."
        )
    most = f"{found[0].key} has the largest share of what {trials} trials differ in, {found[0].share:.0%}"
    return Sentence(OPEN, "Which parameters matter: the trials do not tell", f"{most}, but {chance}.")


def _on_luck(data: StudyData) -> Sentence | None:
    """How sure the winner is."""
    if not data.result.get("best"):
        return None
    if told := data.result.get("confirmation"):
        return Sentence(TOLD if told["is_champion"] else CAUTION, told["verdict"], told["note"])
    luck = "The best score is of one seed, and was picked because it was the best: part of its lead is luck."
    how = "How much, --confirm 3x3 tells: the best three once more, with three seeds each, beside the baselines."
    return Sentence(CAUTION, "Not confirmed yet", f"{luck} {how}")


def _on_failures(data: StudyData) -> Sentence | None:
    failed = sum(trial.status == "failed" for trial in data.searched)
    unscored = len(data.searched) - len(data.scored) - failed
    parts = [f"{failed} that failed"] * bool(failed) + [f"{unscored} without a score yet"] * bool(unscored)
    if not parts:
        return None
    return Sentence(
        CAUTION, "Left out of all this", f"{' and '.join(parts)}, of {counted(len(data.searched), 'searched trial')}."
    )


def _stages(data: StudyData, count: int) -> str:
    """So many stages; of how many, where the search could freeze all of them: its range was not narrowed."""
    domain, narrowed = data.space.params[DEPTH], [each.partition("=")[0] for each in data.request.get("settings", [])]
    if not isinstance(domain, Integer) or DEPTH in narrowed:
        return counted(count, "stage")
    return f"{count} of {counted(domain.upper - 1, 'stage')}"


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
