"""Search space of a task as data: parameters, metric, budget, first config and baselines.

This module imports neither torch nor mlflow, so that a space can be read, checked and printed at once.
"""

import ast
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform

from platform.errors import Fault, InputError, raise_if_any

DEPTH = "freeze_depth"
# Fields of a space, besides its parameters, that decide how a study searches.
BUDGET = ("trials", "max_epochs", "grace_epochs", "wait_for_unfreezing", "metric", "mode")
FORMER_NAMES = {"thaw_at": "unfreeze_at"}  # of parameters, as earlier versions called them

_MAX_SHOWN = 200  # characters of a value in a message


@dataclass(frozen=True)
class Space:
    """Parameters that a study searches, with the metric and the budget.

    Attributes:
        params: Ray Tune domains (searched) and plain values (fixed) by the parameter's name.
        metric: Reported metric that is optimized, e.g. "val/map".
        mode: "max" or "min".
        max_epochs: Largest number of epochs of a trial.
        grace_epochs: Number of epochs before ASHA may prune a trial.
        trials: Default number of trials of a study.
        start: First values of the searched parameters, the sensible default.
        depth: Number of stages of the backbone for which the space was written, the largest freeze_depth.
        objectives: Metrics whose Pareto-optimal trials are listed; empty for no such list.
        baselines: Configs to compare with, by name, as differences from `start`. They are trained for the full budget,
            and the sampler does not see them.
        wait_for_unfreezing: True to compare a trial that will unfreeze with others only after it has unfrozen and
            trained two more epochs. Until then it is not pruned.
        confirm: Default of `--confirm` for the embedded data, e.g. "1x3".
    """

    params: Mapping[str, Any]
    metric: str
    mode: str
    max_epochs: int
    grace_epochs: int
    trials: int
    start: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    depth: int = 0
    objectives: tuple[str, ...] = ()
    confirm: str = ""
    wait_for_unfreezing: bool = False

    def __post_init__(self) -> None:
        raise_if_any(self._faults())

    @property
    def searched(self) -> dict[str, Domain]:
        """Parameters with a domain."""
        return {key: value for key, value in self.params.items() if isinstance(value, Domain)}

    @property
    def fixed(self) -> dict[str, Any]:
        """Parameters with a plain value."""
        return {key: value for key, value in self.params.items() if not isinstance(value, Domain)}

    @property
    def test_metric(self) -> str:
        """Name of the metric on the test split."""
        return self.metric.replace("val/", "test/", 1)

    def as_maximised(self, score: float) -> float:
        """Return a score, negated if the mode is "min", so that greater is better."""
        return score if self.mode == "max" else -score

    def values(self, key: str) -> tuple:
        """Return every value that a fixed or categorical parameter can take in a study or in its baselines."""
        value = self.params[key]
        own = tuple(value.categories) if isinstance(value, Categorical) else (value,)
        return tuple(dict.fromkeys([*own, *(changes[key] for changes in self.baselines.values() if key in changes)]))

    def may_win(self, config: Mapping[str, Any], baseline: str) -> bool:
        """Check whether a trial can be the best; a baseline (else "") can only if the search could try its config."""
        return not baseline or not self.misfit(config)

    def misfit(self, config: Mapping[str, Any]) -> str:
        """Return the reason why the search could not try a config, "" if it could."""
        for key, value in self.params.items():
            if key not in config:
                return f"{key} was not known"
            if isinstance(value, Domain) and not _holds(value, config[key]):
                return f"{key} was not in {show(value)}"
            if not isinstance(value, Domain) and config[key] != value:
                return f"{key} was not {value}"
        return next((f"{key} is not known" for key in config if key not in self.params), "")

    def baseline_configs(self) -> dict[str, dict[str, Any]]:
        """Return the whole config of each baseline by name; of several that became equal by settings, the last."""
        configs = {name: {**self.fixed, **self.start, **changes} for name, changes in self.baselines.items()}
        names = {repr(sorted(config.items())): name for name, config in configs.items()}
        return {name: configs[name] for name in names.values()}

    def of_depth(self, depth: int) -> "Space":
        """Return the space for a backbone with another number of stages; freeze depths are scaled in proportion."""
        if depth == self.depth or not isinstance(self.params.get(DEPTH), Integer):
            return self

        def moved(config: Mapping[str, Any]) -> dict[str, Any]:
            return {k: round(v * depth / self.depth) if k == DEPTH else v for k, v in config.items()}

        params = {**self.params, DEPTH: Integer(0, depth + 1).uniform()}
        baselines = {name: moved(changes) for name, changes in self.baselines.items()}
        return replace(self, params=params, start=moved(self.start), baselines=baselines, depth=depth)

    def override(self, settings: Sequence[str], **budget: int) -> "Space":
        """Return a space with some parameters fixed or narrowed.

        Former names of parameters are understood.

        Args:
            settings: "key=value" (fixed), "key=low..high" (range, on the parameter's scale) or "key=a,b,c" (choice).
            **budget: max_epochs or trials.

        Raises:
            InputError: With all unknown keys and impossible values.
        """
        params, faults = dict(self.params), list[Fault]()
        for setting in settings:
            key, separator, text = split_setting(setting)
            try:
                if not separator or not text:
                    raise _fault("--set needs key=value", setting or "nothing", "Write e.g. --set lr_head=1e-3.")
                if key not in params:
                    near = difflib.get_close_matches(key, params, n=1)
                    remedy = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(params))}."
                    raise _fault("--set needs a parameter of the space", key or "no name", remedy)
                params[key] = _parse(key, text, self.params[key])
            except InputError as error:
                faults += error.faults
        # Checked here too, so that faults of the budget and of the settings are reported together.
        try:
            grace = min(self.grace_epochs, max(1, budget.get("max_epochs", self.max_epochs)))
            resized = replace(self, grace_epochs=grace, **budget)  # type: ignore[arg-type]
        except InputError as error:
            faults += error.faults
        raise_if_any(faults)
        start = {
            key: _nearest(domain, self.start.get(key, self.params[key]))
            for key, domain in params.items()
            if isinstance(domain, Domain)
        }
        return replace(resized, params=params, start=start)

    def _faults(self) -> list[Fault]:
        faults, searched = [], self.searched
        if self.mode not in ("max", "min"):
            remedy = "Write max if greater is better, else min."
            faults.append(Fault("mode must be 'max' or 'min'", repr(self.mode), remedy))
        if not 1 <= self.grace_epochs <= self.max_epochs:
            budget = f"grace_epochs={self.grace_epochs}, max_epochs={self.max_epochs}"
            faults.append(Fault("1 <= grace_epochs <= max_epochs must hold", budget, "Raise the budget (--epochs)."))
        if self.trials < 1:
            faults.append(Fault("a study needs at least one trial", str(self.trials), "Use --trials 1 or more."))
        for key, domain in searched.items():
            if key not in self.start:
                faults.append(Fault("start must give each searched parameter", f"no {key}", f"Add {key} to start."))
            elif not _holds(domain, self.start[key]):
                rule = f"start must lie within the space; {key} is {show(domain)}"
                faults.append(Fault(rule, repr(self.start[key]), "Move one."))
        for key in (key for key in self.start if key not in searched):
            faults.append(Fault("start may only give searched parameters", key, "Remove it, or give it a domain."))
        for name, changes in self.baselines.items():
            for key in (key for key in changes if key not in self.params):
                faults.append(Fault(f"baseline {name!r} may only change parameters", key, "Add it to params."))
        return faults


def current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config, or another mapping by parameter, with the current names of its parameters."""
    return {FORMER_NAMES.get(key, key): value for key, value in config.items()}


def former_name_notices(settings: Sequence[str]) -> list[str]:
    """Return a sentence for each setting "key=value" that calls a parameter by a former name."""
    keys = dict.fromkeys(setting.partition("=")[0].strip() for setting in settings)
    return [
        f"{key} is the former name of {FORMER_NAMES[key]}. It still works; please write --set {FORMER_NAMES[key]}=…."
        for key in keys
        if key in FORMER_NAMES
    ]


def split_setting(setting: str) -> tuple[str, str, str]:
    """Split a setting into its key under its current name, the "=" if there is one, and its value."""
    key, separator, text = (part.strip() for part in setting.partition("="))
    return FORMER_NAMES.get(key, key), separator, text


def show(value: Any) -> str:
    """Describe a parameter for people: "0.0001..0.01 (log)", "one of a, b" or the fixed value."""
    if isinstance(value, Categorical):
        return "one of " + ", ".join(str(category) for category in value.categories)
    if isinstance(value, Integer):
        return f"{value.lower}..{value.upper - 1}{_scale(value)}"
    if isinstance(value, Float):
        return f"{value.lower:g}..{value.upper:g}{_scale(value)}"
    return str(value)


def _scale(domain: Domain) -> str:
    return " (log)" if isinstance(domain.get_sampler(), LogUniform) else ""


def _fault(rule: str, value: str, remedy: str) -> InputError:
    shown = value.encode("utf-8", "backslashreplace").decode()  # a command line may hold bytes that are not UTF-8
    return InputError(Fault(rule, shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…", remedy))


def _holds(domain: Any, value: Any) -> bool:
    if isinstance(domain, Categorical):
        return any(value == category and type(value) is type(category) for category in domain.categories)
    if not _is_number(value):
        return False
    if isinstance(domain, Integer):
        return value == int(value) and domain.lower <= value < domain.upper
    return bool(domain.lower <= value <= domain.upper)


def _nearest(domain: Any, value: Any) -> Any:
    """Return the value of a narrowed domain that is nearest to the original start."""
    if _holds(domain, value):
        return value
    if isinstance(domain, Categorical):
        numbers = [category for category in domain.categories if _is_number(category)]
        if not (_is_number(value) and numbers):
            return domain.categories[0]
        return min(numbers, key=lambda number: abs(number - value))
    upper = domain.upper - 1 if isinstance(domain, Integer) else domain.upper
    return max(domain.lower, min(upper, value)) if _is_number(value) else domain.lower


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse(key: str, text: str, current: Any) -> Any:
    """Parse a value, a range or a choice of the command line according to the kind of the parameter."""
    low, dots, high = text.partition("..")
    kind = current.categories[0] if isinstance(current, Categorical) else current
    if dots and not isinstance(kind, str):  # a text may be a path with two dots
        return _range(key, text, _literal(low), _literal(high), current)
    parts = [_convert(key, _literal(part), current) for part in text.split(",")]
    if len(parts) == 1:
        return parts[0]
    return Categorical(list(dict.fromkeys(parts))).uniform()


def _range(key: str, text: str, low: Any, high: Any, current: Any) -> Domain:
    if not isinstance(current, Domain):
        rule = f"{key} is fixed (now {current}) and accepts a choice, not a range"
        raise _fault(rule, text, f"Write --set {key}=a,b,c.")
    if not (_is_number(low) and _is_number(high) and -math.inf < low < high < math.inf):
        rule = f"a range for {key} must be low..high of two numbers"
        raise _fault(rule, text, "Write e.g. --set lr_head=1e-4..1e-2.")
    if isinstance(current, Categorical):
        categories = [c for c in current.categories if isinstance(c, int | float) and low <= c <= high]
        if not categories:
            raise _fault(f"{key} is {show(current)}", text, f"Choose among them: --set {key}=a,b.")
        return Categorical(categories).uniform()
    for bound in (low, high):
        _convert(key, bound, current)
    if isinstance(current, Integer):
        return Integer(int(low), int(high) + 1).uniform()
    is_log = isinstance(current, Float) and isinstance(current.get_sampler(), LogUniform)
    domain = Float(float(low), float(high))
    return domain.loguniform() if is_log and low > 0 else domain.uniform()


def _literal(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:  # too large for any computation
            return text
    return value if isinstance(value, bool | int | float | str) else text


def _convert(key: str, value: Any, current: Any) -> Any:
    """Convert a value to the kind of a parameter and check it."""
    if isinstance(current, Integer | Float):
        if not _is_number(value) or not math.isfinite(value):
            raise _fault(f"{key} is a number, {show(current)}", repr(value), f"Write e.g. --set {key}={current.lower}.")
        if isinstance(current, Integer) and value != int(value):
            raise _fault(f"{key} is a whole number, {show(current)}", repr(value), "Round it.")
        if not _holds(current, value):
            remedy = "Stay within it, or widen the space's file."
            raise _fault(f"{key} must lie in {show(current)}", repr(value), remedy)
        return int(value) if isinstance(current, Integer) else float(value)
    if isinstance(current, Categorical):
        for category in current.categories:
            if value == category and isinstance(value, bool) == isinstance(category, bool):
                return category
        near = difflib.get_close_matches(str(value), [str(c) for c in current.categories], n=1)
        hint = f"Did you mean {near[0]}?" if near else "Choose one of them."
        raise _fault(f"{key} is {show(current)}", repr(value), hint)
    fits = isinstance(current, bool) == isinstance(value, bool)
    if isinstance(current, int | float):
        fits = fits and isinstance(value, int | float) and math.isfinite(value)
        fits = fits and (isinstance(current, float) or value == int(value))
    if not fits:
        rule = f"{key} is a {type(current).__name__} (now {current})"
        raise _fault(rule, repr(value), "Give the same kind of value.")
    return type(current)(value)
