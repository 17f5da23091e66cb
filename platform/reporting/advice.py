"""Advice of a study in plain sentences, and what its trials leave open.

The statistics are in `platform.reporting.parameter_effects`. With fewer than `LEAST_TRIALS` scored trials the advice is
the best trial and one sentence that says why there is no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.tune.search.sample import Integer

from platform.reporting.parameter_effects import FREEZING, LEAST_TRIALS, NEVER, UNFREEZE, UNFREEZE_AT, Effect
from platform.reporting.parameter_importance import Importance
from platform.reporting.study_data import FROZEN_STAGES, StudyData, unfreezings
from platform.space import DEPTH
from platform.study.trials import Trial
from platform.study.wording import as_text, counted, number

CLEAR, OPEN, CAUTION = "clear", "open", "caution"  # kinds of sentences, and their classes in page.css
MOST = 3  # parameters besides freezing that are spoken of
QUESTIONS = {DEPTH: "How many stages to freeze", UNFREEZE: "How to unfreeze", UNFREEZE_AT: "When to unfreeze"}
SCHEDULES = {  # what to do; what a trial did
    "never": ("Unfreeze nothing", "unfroze nothing"),
    "at_once": ("Unfreeze all stages at once", "unfroze all of them at once"),
    "gradual": ("Unfreeze stage by stage", "unfroze them one by one"),
    "on_plateau": ("Unfreeze a stage whenever the score stalls", "unfroze one whenever the score stalled"),
}


@dataclass(frozen=True)
class Sentence:
    """One piece of advice.

    Attributes:
        kind: CLEAR if the trials show it, OPEN if they do not, CAUTION for a limit of the study.
        lead: What to do, or the question.
        text: How sure it is, and why.
    """

    kind: str
    lead: str
    text: str


def advice(data: StudyData, effects: Mapping[str, Effect], importances: Sequence[Importance]) -> list[Sentence]:
    """Return the advice of a study: always about freezing and unfreezing, about other parameters where it is clear."""
    if not data.scored:
        return [Sentence(OPEN, "No advice yet", "No searched trial has a score.")]
    found = [_best_trial(data)]
    if (count := len(data.scored)) < LEAST_TRIALS:
        text = f"Advice takes at least {LEAST_TRIALS} trials with a score, and this study has {count}."
        found.append(Sentence(OPEN, "Too few trials for advice", f"{text} The charts show each of them."))
    else:
        asked = [key for key in FREEZING if key in data.space.searched]
        found += [_freezing(data, effects[key]) for key in asked if key in effects]
        found += [_not_compared(key) for key in asked if key not in effects]
        others = [effect for key, effect in effects.items() if key not in FREEZING and effect.is_clear]
        others.sort(key=lambda effect: (bool(effect.confounded), effect.p))
        found += [_clear(data, effect) for effect in others[:MOST]]
        found.append(_importances(importances))
    return [sentence for sentence in [*found, _confirmation(data), _left_out(data)] if sentence]


def _best_trial(data: StudyData) -> Sentence | None:
    if not (best := data.best) or DEPTH not in best.config:
        return None
    so_far = "" if data.result.get("best") else " so far"
    return Sentence(CLEAR, f"The best trial{so_far} is {best.name}", _freezing_of(data, best))


def _freezing_of(data: StudyData, trial: Trial) -> str:
    """Say what a trial froze, and when it unfroze it."""
    depth, schedule = trial.config[DEPTH], str(trial.config.get(UNFREEZE))
    if not depth:
        return "It froze nothing."
    text = f"It froze {_stages(data, depth)} at first"
    if schedule != NEVER and trial.metrics and FROZEN_STAGES in trial.metrics[-1] and not unfreezings(trial):
        return f"{text} and ended before it unfroze any."
    if schedule in SCHEDULES:
        text += f" and {SCHEDULES[schedule][1]}"
    if trial.first_unfreeze is not None and UNFREEZE_AT in trial.config:
        text += f", beginning at {trial.config[UNFREEZE_AT]:.0%} of the budget"
    return f"{text}."


def _freezing(data: StudyData, effect: Effect) -> Sentence:
    if effect.is_clear:
        return _clear(data, effect)
    do, by = _do(data, effect), "such trials won more often"
    if effect.difference > 0:
        by = f"the median is {number(effect.difference)} {data.metric} better"
    trials = f"{counted(effect.trials, 'trial')} against {effect.others}"
    text = f"If anything, {do[0].lower()}{do[1:]}: {by} ({trials}), not clearly more than chance (p {_p(effect.p)})."
    return Sentence(OPEN, f"{QUESTIONS[effect.key]}: the trials do not show it", text)


def _not_compared(key: str) -> Sentence:
    text = f"A comparison takes {LEAST_TRIALS} trials that the parameter {key} concerns, with several of its values."
    return Sentence(OPEN, f"{QUESTIONS[key]}: too few trials", text)


def _clear(data: StudyData, effect: Effect) -> Sentence:
    """Say what a significant effect advises; a confounded one leaves it open."""
    direction = "higher" if data.space.mode == "max" else "lower"
    text = f"At equal epochs such trials scored {number(effect.difference)} {data.metric} {direction} than the others"
    if effect.difference <= 0:
        text = "At equal epochs such trials won more often than the others"
    if effect.low is not None and effect.high is not None:
        text += f" (95 % interval {number(effect.low)} to {number(effect.high)})"
    text += f": {counted(effect.trials, 'trial')} against {effect.others}, p {_p(effect.p)}."
    if not effect.confounded:
        return Sentence(CLEAR, _do(data, effect), text)
    others = " and ".join("how late they were proposed" if key == "order" else key for key in effect.confounded)
    text += f" But these trials also differ in {others}, which may explain it as well."
    return Sentence(OPEN, f"{_do(data, effect)}, perhaps", text)


def _do(data: StudyData, effect: Effect) -> str:
    """Return the advice of an effect as an instruction."""
    key, low, high = effect.key, effect.values[0], effect.values[-1]
    if key == UNFREEZE:
        return SCHEDULES[low][0] if low in SCHEDULES else f"Unfreeze by the schedule {low}"
    if key == DEPTH:
        few = "" if low == high else f"{low} to " if low else "at most "
        return f"Freeze {few}{_stages(data, high)}" if high else "Freeze nothing"
    if key == UNFREEZE_AT:
        return f"Unfreeze at {low:.0%} to {high:.0%} of the budget"
    return f"Choose {key} {as_text(low)}" if low == high else f"Choose {key} from {as_text(low)} to {as_text(high)}"


def _importances(found: Sequence[Importance]) -> Sentence | None:
    if not found:
        return None
    most, chance = found[0], f"chance alone reaches {found[0].chance:.0%}"
    if clear := [each for each in found if each.is_clear]:
        named = ", ".join(f"{each.key} ({each.share:.0%})" for each in clear)
        text = f"Shares of the variance that a random forest explains between {most.trials} trials; {chance}."
        return Sentence(CLEAR, f"The most important parameters: {named}", text)
    text = f"{most.key} explains most of the variance between {most.trials} trials, {most.share:.0%}, but {chance}."
    return Sentence(OPEN, "Which parameters matter: the trials do not show it", text)


def _confirmation(data: StudyData) -> Sentence | None:
    """Say how sure it is that the best config is better than the others."""
    if not data.result.get("best"):
        return None
    if confirmed := data.result.get("confirmation"):
        return Sentence(CLEAR if confirmed["is_champion"] else CAUTION, confirmed["verdict"], confirmed["note"])
    luck = "The best score comes from one seed and was picked because it was the best, so part of its lead is luck."
    remedy = "--confirm 3x3 measures how much: it trains the best three configs and the baselines over three seeds."
    return Sentence(CAUTION, "Not confirmed yet", f"{luck} {remedy}")


def _left_out(data: StudyData) -> Sentence | None:
    failed = sum(trial.status == "failed" for trial in data.searched)
    unscored = len(data.searched) - len(data.scored) - failed
    parts = [f"{failed} that failed"] * bool(failed) + [f"{unscored} without a score"] * bool(unscored)
    if not parts:
        return None
    text = f"{' and '.join(parts)}, of {counted(len(data.searched), 'searched trial')}."
    return Sentence(CAUTION, "Left out of these comparisons", text)


def _stages(data: StudyData, count: int) -> str:
    """Return a number of stages, with their total where the search's range was not narrowed and so reaches it."""
    domain, narrowed = data.space.params[DEPTH], [each.partition("=")[0] for each in data.request.get("settings", [])]
    if not isinstance(domain, Integer) or DEPTH in narrowed:
        return counted(count, "stage")
    return f"{count} of {counted(domain.upper - 1, 'stage')}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
