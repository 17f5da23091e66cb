"""A model's card: what it is, where it comes from, how well it does and what is not known of it, for people and hubs.

Markdown with the metadata in front that model hubs read (https://huggingface.co/docs/hub/model-cards). Names that come
from the data are escaped; long lists are cut, and it is told by how much.
"""

import importlib.metadata
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platform import project
from platform.cluster.node_setup import LIBRARIES
from platform.models.provenance import Origin, origin_of
from platform.runner.markdown import escaped, facts, placeless, plain, table
from platform.runner.plan import Plan
from platform.space import show
from platform.storage.checkpoints import MODEL
from platform.task import PER_CLASS
from platform.training.freezing import Freezing

FILE = "MODEL_CARD.md"
LISTED = 10  # classes, findings, reasons
COLUMNS = 6  # scores in a table
FEW = 20  # training examples of a class, of which little can be learned
COMMANDS = ("predict", "demo", "serve")

_HUB = {"map": "object-detection"}  # what a hub calls a task, by the metric that decides; else by its input


def write(folder: Path, plan: Plan, result: Mapping[str, Any]) -> Path:
    """Writes the card of a study's best model.

    Args:
        folder: The model's.
        plan: The study's.
        result: As in result.json; "best" is there.

    Returns:
        The card's file.
    """
    from huggingface_hub import ModelCard

    origin = origin_of(result["best"]["config"])
    parts = [
        _head(folder, plan, result, origin),
        _scores(plan, result),
        _certainty(result),
        _data(plan),
        _training(folder, plan, result),
        _search(plan, result),
        _limits(plan, result),
        _use(plan),
        _made_by(plan),
    ]
    text = "\n".join(["---", _metadata(plan, result, origin).to_yaml(), "---", "", "\n\n".join(parts), ""])
    file = folder / FILE
    ModelCard(text, ignore_metadata_errors=True).save(file)
    return file


def _metadata(plan: Plan, result: Mapping[str, Any], origin: Origin) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    request, metric = plan.request, plan.space.metric.removeprefix("val/")
    kind = _HUB.get(metric, f"{plan.task.INPUT}-classification")
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=re.sub(r"[^\w.-]+", "-", plan.dataset.name).strip("-.") or "data",
            dataset_name=plain(plan.dataset.name),
            dataset_split="test",
            dataset_revision=plan.dataset.fingerprint[:16],
            metric_type=key.removeprefix("test/").rpartition("/")[2],
            metric_name=key,
            metric_value=round(value, 6),
        )
        for key, value in _whole(result["best"]["test_metrics"]).items()
        if not key.endswith("loss")
    ]
    licence: dict[str, Any] = {"license": origin.licence_id}
    if origin.licence_id == "other":
        licence |= {"license_name": "see-card", "license_link": FILE}
    return ModelCardData(
        **licence,
        base_model=origin.base_model or None,
        pipeline_tag=kind,
        tags=[request.task, "fine-tuned", "ray-tune", "optuna", "safetensors"],
        model_name=request.name,
        eval_results=results or None,
    )


def _head(folder: Path, plan: Plan, result: Mapping[str, Any], origin: Origin) -> str:
    best, request = result["best"], plan.request
    about = (plan.task.__doc__ or "").strip().partition("\n")[0]
    rows = [("task", f"{request.task}: {about}"), ("fine-tuned from", origin.told), ("licence", origin.licence)]
    rows += [(key, placeless(best["config"][key])) for key in ("architecture", "backbone") if key in best["config"]]
    megabytes = (folder / MODEL).stat().st_size / 1e6
    rows += [("best of the study", f"{request.name}, {best['name']}"), ("file", f"{MODEL}, {megabytes:.1f} MB")]
    warning = "" if origin.licence_id != "unknown" else (
        "\n\nThe licence of the weights that it was fine-tuned from is not known here. It binds this model as well: "
        "look it up before you pass it on."
    )  # fmt: skip
    return f"# {escaped(request.name)}\n\n{facts(rows)}{warning}"


def _scores(plan: Plan, result: Mapping[str, Any]) -> str:
    best = result["best"]["test_metrics"]
    keys = list(_whole(best))[:COLUMNS]
    compared = {"this model": best, **{b["baseline"]: b["test_metrics"] for b in result["baselines"]}}
    compared |= result["references"]
    rows = [[name, *(_number(scores.get(key)) for key in keys)] for name, scores in compared.items()]
    parts = [
        "## Scores on the test split",
        "The search never saw it; the configuration was chosen by the validation split "
        f"({escaped(plan.space.metric)} {_number(result['best']['metrics'].get(plan.space.metric))} there).",
        table(["", *(escaped(key.removeprefix("test/")) for key in keys)], rows),
    ]
    if lost := [t for t in result["trials"] if t["baseline"] and t["status"] != "finished"]:
        names = ", ".join(f"{escaped(trial['baseline'])} ({escaped(trial['status'])})" for trial in lost)
        parts.append(f"Not compared with: {names}.")
    if result["left_out"]:
        why = "; ".join(escaped(placeless(reason)) for reason in result["left_out"])
        parts.append(f"References that could not be had: {why}")
    if ranked := _ranked(best, _class_counts(plan.dataset.summary())):
        nothing = sum(value == 0 for value, *_ in ranked)
        of_how_many = f"The weakest {LISTED} of {len(ranked)} classes; {nothing} scored 0:"
        rows = [[name, score, _number(value), count] for value, count, name, score in ranked[:LISTED]]
        title = of_how_many if len(ranked) > LISTED else "By class, weakest first:"
        parts += [title, table(["class", "score", "value", "in the training split"], rows)]
    return "\n\n".join(parts)


def _ranked(
    best: Mapping[str, float], counts: Mapping[str, Mapping[str, int]]
) -> list[tuple[float, int | str, str, str]]:
    """Value, training examples, class and score of each class's scores: the weakest first, and of equally weak ones
    those that had the most to learn from.
    """
    found = []
    for key, value in best.items():
        score, is_of_a_class, name = key.removeprefix("test/").partition(PER_CLASS)
        if is_of_a_class and math.isfinite(value):
            of_head = counts.get(score.partition("/")[0]) or next(iter(counts.values()), {})
            found.append((value, of_head.get(name, ""), name, score))
    return sorted(found, key=lambda row: (row[0], -row[1] if isinstance(row[1], int) else 0, row[3], row[2]))


def _certainty(result: Mapping[str, Any]) -> str:
    title, confirmed = "## How certain that is", result.get("confirmation")
    if not confirmed or not confirmed["winner"]:
        alone = (
            "One run with one seed: there is no interval. Another seed gives another score, and the best of several "
            "configurations looks better on the validation split than it is."
        )
        return "\n\n".join([title, *([escaped(confirmed["verdict"])] if confirmed else []), alone])
    rows = []
    for row in confirmed["rows"]:
        interval = "none" if row.get("low") is None else f"{_number(row['low'])} to {_number(row['high'])}"
        done = sum(run["status"] == "finished" for run in row["runs"])
        against = [_against(name, other) for name, other in (row.get("against") or {}).items()]
        rows.append(
            [row["name"], f"{done} of {len(row['runs'])}", _number(row.get("mean")), interval, "; ".join(against)]
        )
    titles = ["", "seeds finished", f"mean {escaped(confirmed['test_metric'])}", "95 % interval", "difference to"]
    seeds = ", ".join(map(str, confirmed["seeds"]))
    winner = f"{escaped(confirmed['winner'])}: {'a champion' if confirmed['is_champion'] else 'no champion'}"
    told = [escaped(confirmed[key]) for key in ("verdict", "note") if confirmed.get(key)]
    parts = [
        title,
        *told[:1],
        f"Trained again with the seeds {escaped(seeds)}. This is the winner, {winner}.",
        table(titles, rows),
        *told[1:],
    ]
    return "\n\n".join(parts)


def _against(name: str, other: Mapping[str, Any]) -> str:
    interval = "" if other.get("low") is None else f" ({_number(other['low'])} to {_number(other['high'])})"
    chance = "" if other.get("p") is None else f", p {other['p']:.3g}"
    return f"{name}: {_number(other.get('mean'))}{interval}{chance}"


def _data(plan: Plan) -> str:
    from platform.study.request import FINDINGS

    request, dataset = plan.request, plan.dataset
    source = " ".join(map(placeless, request.data)) or "embedded in the project"
    rows = [("data", dataset.name), ("read from", source), ("fingerprint", dataset.fingerprint)]
    # A line names the first dozen of many classes.
    rows += [(title, text) for title, text in dataset.lines().items() if not title.startswith("!")]
    rows += [("splits", f"what was not given was made with the seed {request.seed}, the same for every trial")]
    found = dataset.findings()
    parts = ["## Data", facts(rows)]
    if found:
        listed = "\n".join(f"- {escaped(line)}" for line in found[:LISTED])
        more = f"\n\nAll {len(found)} are in the study's {FINDINGS}." if len(found) > LISTED else ""
        parts.append(f"What was repaired or left out, or should be known:\n\n{listed}{more}")
    return "\n\n".join(parts)


def _training(folder: Path, plan: Plan, result: Mapping[str, Any]) -> str:
    best = result["best"]
    trial: Mapping[str, Any] = next((t for t in result["trials"] if t["trial_id"] == best["trial_id"]), {})
    rows = [(k, f"{v:.4g}" if isinstance(v, float) else placeless(v)) for k, v in sorted(best["config"].items())]
    parts = ["## Training", *_freezing(folder, plan, best)]
    if trial:
        parts.append(f"Trained for {trial['epochs']} of at most {plan.space.max_epochs} epochs, in "
                     f"{_duration(trial['seconds'])}; the best epoch's weights are kept.")  # fmt: skip
    return "\n\n".join([*parts, table(["parameter", "value"], rows)])


def _freezing(folder: Path, plan: Plan, best: Mapping[str, Any]) -> Iterator[str]:
    config, epochs = best["config"], plan.space.max_epochs
    depth = config.get("freeze_depth")
    if depth is None:
        return
    names = _stages(folder, plan)
    of = f" of {len(names)}" if names else ""
    named = f" ({', '.join(map(escaped, names[:depth]))})" if names else ""
    if not depth:
        yield "Freezing: no stage of the backbone was frozen."
        return
    freezing = Freezing(depth, config.get("unfreeze", "never"), config.get("unfreeze_at", 0.5))
    first = freezing.first_unfreeze(epochs)
    how = {"at_once": "all at once", "gradual": "one an epoch from the top down",
           "on_plateau": "one each time the score stood still"}.get(freezing.unfreeze, "")  # fmt: skip
    until = "to the end" if first is None else f"for at least {first} of {epochs} epochs, then unfrozen {how}"
    count = min(depth, len(names) or depth)
    yield f"Freezing: the first {count}{of} stages of the backbone{named} were frozen, {until}."
    frozen = best["metrics"].get("train/frozen_stages")
    kept = f"In the epoch that was kept, {frozen:.0f} were. " if frozen is not None else ""
    yield (
        f"{kept}Frozen tensors were hashed at the start, and compared after each epoch that ran them, at each unfreeze and "
        "in the end; a change would have failed the trial."
    )


def _stages(folder: Path, plan: Plan) -> Sequence[str]:
    """The names of the backbone's stages, where the task tells them."""
    module: Any = plan.task
    return list(module.stage_names(module.load(folder))) if hasattr(module, "stage_names") else []


def _search(plan: Plan, result: Mapping[str, Any]) -> str:
    trials, space = result["trials"], plan.space
    counts = Counter(trial["status"] for trial in trials)
    told = ", ".join(f"{count} {escaped(status)}" for status, count in counts.most_common())
    epochs, seconds = (sum(trial[key] for trial in trials) for key in ("epochs", "seconds"))
    rows = [(key, placeless(show(domain))) for key, domain in space.searched.items()]
    reasons = list(dict.fromkeys(placeless(trial["error"]) for trial in trials if trial["error"]))
    parts = [
        "## Search",
        f"{len(trials)} trials ({told}), {epochs} epochs, {_duration(seconds)} of training in all. Proposed by Optuna, "
        f"cut by ASHA from {space.grace_epochs} epochs on, for {escaped(space.metric)} ({space.mode}); "
        f"seed {plan.request.seed}.",
    ]
    if result.get("out_of_time") or result.get("out_of_money"):
        parts.append("It ended before all trials were tried: its budget was used up.")
    if reasons:
        parts.append("Failed: " + "; ".join(map(escaped, reasons[:LISTED])))
    return "\n\n".join([*parts, table(["searched", "in"], rows)])


def _limits(plan: Plan, result: Mapping[str, Any]) -> str:
    lines = [
        "One source of data: all scores are of data like that which it learned from. It was not tested on any other.",
    ]
    for kind, counts in _class_counts(plan.dataset.summary()).items():
        few = sorted((count, name) for name, count in counts.items() if count < FEW)
        if few:
            named = ", ".join(f"{escaped(name)} ({count})" for count, name in few[:LISTED])
            more = f" and {len(few) - LISTED} more" if len(few) > LISTED else ""
            lines.append(
                f"Little to learn from, fewer than {FEW} in the training split, {escaped(kind)}: {named}{more}."
            )
    findings = plan.dataset.findings()
    if findings:
        lines.append(f"{len(findings)} findings about the data are listed above; what was left out was not learned.")
    confirmed = result.get("confirmation")
    is_confirmed = confirmed is not None and confirmed["winner"]
    told = "The intervals cover the seeds of training" if is_confirmed else "There is no interval"
    lines.append(f"{told}. What another draw of the data or of its splits would give is not known.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _use(plan: Plan) -> str:
    request = plan.request
    there = [name for name in COMMANDS if (project.ROOT / "platform" / f"{name}.py").exists()]
    given = {"predict": {"image": " PICTURE…", "text": ' "A sentence."'}.get(plan.task.INPUT, " INPUT…")}
    lines = [f"python -m platform.{name} {request.task}{given.get(name, '')} --model FOLDER" for name in there]
    text = "From the project's root, in the environment of its requirements.txt, with this card's folder as FOLDER:"
    return f"## Use\n\n{text}\n\n" + "\n".join(f"    {line}" for line in lines)


def _made_by(plan: Plan) -> str:
    rows = [
        ("written", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("study", f"{plan.request.name}, {plan.request.id}"),
        ("code", project.commit()),
        ("Python", sys.version.split()[0]),
        *((library, importlib.metadata.version(library)) for library in LIBRARIES),
    ]
    return f"## Made with\n\n{facts(rows)}"


def _class_counts(summary: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many training examples each class has, by what is counted, as far as a data set's summary tells."""
    train = (summary.get("splits") or {}).get("train") or {}
    if train and all(isinstance(value, int) for value in train.values()):
        return {"class": dict(train)}
    found = {}
    for key, value in train.items():
        if key.endswith("_per_class"):
            found[key.replace("_", " ")] = dict(value)
        elif key == "labels":
            found |= {head: dict(counts) for head, counts in value.items()}
    return found


def _whole(metrics: Mapping[str, float]) -> dict[str, float]:
    """The finite scores that do not speak of one class."""
    return {key: value for key, value in metrics.items() if PER_CLASS not in key and math.isfinite(value)}


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
