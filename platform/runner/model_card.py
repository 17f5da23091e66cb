"""Model card of a study's best model, for people and for model hubs: origin, training, scores and limits.

The card is Markdown that begins with the metadata that model hubs read (https://huggingface.co/docs/hub/model-cards).
Texts that come from data, paths and errors are escaped. Long lists are truncated, and the card says by how much.
"""

import importlib.metadata
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platform import project
from platform.cluster.node_setup import LIBRARIES
from platform.models.provenance import Origin, origin_of
from platform.runner.plan import Plan
from platform.space import show
from platform.storage.checkpoints import MODEL
from platform.study.request import FINDINGS
from platform.task import PER_CLASS
from platform.training.freezing import Freezing

FILE = "MODEL_CARD.md"
LISTED = 10  # classes, findings or reasons in a list
COLUMNS = 6  # scores in a table
FEW = 20  # a class with fewer training examples is named among the limits
COMMANDS = ("predict", "demo")

_HUB_TASKS = {"map": "object-detection"}  # a hub's name for a task, by the study's metric; others follow from the input
_MAX_CHARACTERS = 300  # of a text from outside
# Characters that Markdown takes for markup: anywhere, at the beginning of a line, and in addresses that become links.
_MARKUP = re.compile(r"([\\`*_\[\]<>#!|~&$^]|^[-+=:]|(?:(?<=^\d)|(?<=^\d\d))[.)](?= )|:(?=//)|(?<=www)\.)")


def write(folder: Path, plan: Plan, result: Mapping[str, Any]) -> Path:
    """Write the card of a study's best model into the model's folder, and return its file.

    `result` is the content of result.json, with "best".
    """
    from huggingface_hub import ModelCard

    origin = origin_of(result["best"]["config"])
    parts = [
        _heading(folder, plan, result, origin),
        _scores(plan, result),
        _uncertainty(result),
        _data(plan),
        _training(folder, plan, result),
        _search_section(plan, result),
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
    kind = _HUB_TASKS.get(metric, f"{plan.task.INPUT}-classification")
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
        for key, value in _overall(result["best"]["test_metrics"]).items()
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


def _heading(folder: Path, plan: Plan, result: Mapping[str, Any], origin: Origin) -> str:
    best, request = result["best"], plan.request
    about = (plan.task.__doc__ or "").strip().partition("\n")[0]
    rows = [("task", f"{request.task}: {about}"), ("fine-tuned from", origin.source), ("licence", origin.licence)]
    rows += [(key, placeless(best["config"][key])) for key in ("architecture", "backbone") if key in best["config"]]
    megabytes = (folder / MODEL).stat().st_size / 1e6
    rows += [("best of the study", f"{request.name}, {best['name']}"), ("file", f"{MODEL}, {megabytes:.1f} MB")]
    warning = "" if origin.licence_id != "unknown" else (
        "\n\nThe licence of the weights that this model was fine-tuned from is not known here. It binds this model as "
        "well: look it up before you pass the model on."
    )  # fmt: skip
    return f"# {escaped(request.name)}\n\n{facts(rows)}{warning}"


def _scores(plan: Plan, result: Mapping[str, Any]) -> str:
    best = result["best"]["test_metrics"]
    keys = list(_overall(best))[:COLUMNS]
    compared = {"this model": best, **{b["baseline"]: b["test_metrics"] for b in result["baselines"]}}
    compared |= result["references"]
    rows = [[name, *(_number(scores.get(key)) for key in keys)] for name, scores in compared.items()]
    parts = [
        "## Scores on the test split",
        "The search never used this split. The configuration was chosen on the validation split, with "
        f"{escaped(plan.space.metric)} {_number(result['best']['metrics'].get(plan.space.metric))}.",
        table(["", *(escaped(key.removeprefix("test/")) for key in keys)], rows),
    ]
    if lost := [t for t in result["trials"] if t["baseline"] and t["status"] != "finished"]:
        names = ", ".join(f"{escaped(trial['baseline'])} ({escaped(trial['status'])})" for trial in lost)
        parts.append(f"Baselines without scores: {names}.")
    if result["left_out"]:
        why = "; ".join(escaped(placeless(reason)) for reason in result["left_out"])
        parts.append(f"References that could not be computed: {why}")
    if ranked := _ranked(best, _class_counts(plan.dataset.summary())):
        zeros = sum(value == 0 for value, *_ in ranked)
        rows = [[name, score, _number(value), count] for value, count, name, score in ranked[:LISTED]]
        title = "By class, weakest first:"
        if len(ranked) > LISTED:
            title = f"The weakest {LISTED} of {len(ranked)} classes; {zeros} scored 0:"
        parts += [title, table(["class", "score", "value", "in the training split"], rows)]
    return "\n\n".join(parts)


def _ranked(
    best: Mapping[str, float], counts: Mapping[str, Mapping[str, int]]
) -> list[tuple[float, int | str, str, str]]:
    """Rank the scores of single classes, the weakest first; of equally weak ones, those with the most training examples
    first.

    Returns:
        Value, number of training examples ("" if not known), class and name of the score.
    """
    found = []
    for key, value in best.items():
        score, is_of_a_class, name = key.removeprefix("test/").partition(PER_CLASS)
        if is_of_a_class and math.isfinite(value):
            class_counts = counts.get(score.partition("/")[0]) or next(iter(counts.values()), {})
            found.append((value, class_counts.get(name, ""), name, score))
    return sorted(found, key=lambda row: (row[0], -row[1] if isinstance(row[1], int) else 0, row[3], row[2]))


def _uncertainty(result: Mapping[str, Any]) -> str:
    title, confirmed = "## Uncertainty", result.get("confirmation")
    if not confirmed or not confirmed["winner"]:
        one_run = (
            "One run with one seed: there is no interval. Another seed gives another score, and the best of several "
            "configurations looks better on the validation split than it is."
        )
        return "\n\n".join([title, *([escaped(confirmed["verdict"])] if confirmed else []), one_run])
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
    repeated = f"Trained again with the seeds {escaped(seeds)}. This model is the winner, {winner}."
    parts = [title, escaped(confirmed["verdict"]), repeated, table(titles, rows), escaped(confirmed["note"])]
    return "\n\n".join(parts)


def _against(name: str, other: Mapping[str, Any]) -> str:
    interval = "" if other.get("low") is None else f" ({_number(other['low'])} to {_number(other['high'])})"
    chance = "" if other.get("p") is None else f", p {other['p']:.3g}"
    return f"{name}: {_number(other.get('mean'))}{interval}{chance}"


def _data(plan: Plan) -> str:
    request, dataset = plan.request, plan.dataset
    source = " ".join(map(placeless, request.data)) or "embedded in the project"
    rows = [("data", dataset.name), ("read from", source), ("fingerprint", dataset.fingerprint)]
    # A line names the first dozen of many classes.
    rows += [(title, text) for title, text in dataset.lines().items() if not title.startswith("!")]
    rows += [("splits", f"those that were not given were made with the seed {request.seed}, the same for every trial")]
    found = dataset.findings()
    parts = ["## Data", facts(rows)]
    if found:
        listed = "\n".join(f"- {escaped(line)}" for line in found[:LISTED])
        more = f"\n\nAll {len(found)} are in the study's {FINDINGS}." if len(found) > LISTED else ""
        parts.append(f"Repairs, omissions and warnings:\n\n{listed}{more}")
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
    if not depth:
        yield "Freezing: no stage of the backbone was frozen."
        return
    freezing = Freezing(depth, config.get("unfreeze", "never"), config.get("unfreeze_at", 0.5))
    first = freezing.first_unfreeze(epochs)
    how = {"at_once": "all at once", "gradual": "one an epoch from the top down",
           "on_plateau": "one each time the score stood still"}.get(freezing.unfreeze, "")  # fmt: skip
    until = "to the end" if first is None else f"for at least {first} of {epochs} epochs, then unfrozen {how}"
    stages = f"first {depth} stages of the backbone"
    if names:
        frozen_names = names[:depth]
        listed = ", ".join(map(escaped, frozen_names))
        stages = f"first {len(frozen_names)} of {len(names)} stages of the backbone ({listed})"
    yield f"Freezing: the {stages} were frozen, {until}."
    frozen = best["metrics"].get("train/frozen_stages")
    kept = f"In the epoch that was kept, {frozen:.0f} stages were frozen. " if frozen is not None else ""
    yield (
        f"{kept}Frozen tensors were hashed at the start and compared after each epoch that ran them, at each unfreeze "
        "and at the end; the trial would have failed if one had changed."
    )


def _stages(folder: Path, plan: Plan) -> Sequence[str]:
    """Return the names of the backbone's stages, [] if the task does not give them."""
    module: Any = plan.task
    return list(module.stage_names(module.load(folder))) if hasattr(module, "stage_names") else []


def _search_section(plan: Plan, result: Mapping[str, Any]) -> str:
    trials, space = result["trials"], plan.space
    counts = Counter(trial["status"] for trial in trials)
    outcomes = ", ".join(f"{count} {escaped(status)}" for status, count in counts.most_common())
    epochs, seconds = (sum(trial[key] for trial in trials) for key in ("epochs", "seconds"))
    rows = [(key, placeless(show(domain))) for key, domain in space.searched.items()]
    reasons = list(dict.fromkeys(placeless(trial["error"]) for trial in trials if trial["error"]))
    parts = [
        "## Search",
        f"{len(trials)} trials ({outcomes}), {epochs} epochs, {_duration(seconds)} of training in all. Proposed by "
        f"Optuna and pruned by ASHA from {space.grace_epochs} epochs on, for {escaped(space.metric)} ({space.mode}), "
        f"with seed {plan.request.seed}.",
    ]
    if result.get("out_of_time") or result.get("out_of_money"):
        parts.append("The search ended before all trials were run because its budget was used up.")
    if reasons:
        parts.append("Reasons of failed trials: " + "; ".join(map(escaped, reasons[:LISTED])))
    return "\n\n".join([*parts, table(["searched", "in"], rows)])


def _limits(plan: Plan, result: Mapping[str, Any]) -> str:
    lines = [
        "All scores are from data of the same source as the training data. The model was not tested on other data.",
    ]
    for kind, counts in _class_counts(plan.dataset.summary()).items():
        few = sorted((count, name) for name, count in counts.items() if count < FEW)
        if few:
            named = ", ".join(f"{escaped(name)} ({count})" for count, name in few[:LISTED])
            more = f" and {len(few) - LISTED} more" if len(few) > LISTED else ""
            lines.append(
                f"Few training examples, fewer than {FEW} in the training split, {escaped(kind)}: {named}{more}."
            )
    findings = plan.dataset.findings()
    if findings:
        lines.append(f"{len(findings)} findings about the data are listed above; omitted examples were not trained on.")
    confirmed = result.get("confirmation")
    is_confirmed = confirmed is not None and confirmed["winner"]
    known = "The intervals cover the seeds of training" if is_confirmed else "There is no interval"
    lines.append(f"{known}. The scores with another sample of the data or with other splits are not known.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _use(plan: Plan) -> str:
    request = plan.request
    arguments = {"predict": {"image": " PICTURE…", "text": ' "A sentence."'}.get(plan.task.INPUT, " INPUT…")}
    lines = [f"python -m platform.{name} {request.task}{arguments.get(name, '')} --model FOLDER" for name in COMMANDS]
    text = "Run this in the project's root, in an environment with its requirements. FOLDER is the folder of this card."
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
    """Return the number of training examples of each class by kind of label, as far as a data set's summary has it."""
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


def _overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the finite scores that are not those of a single class."""
    return {key: value for key, value in metrics.items() if PER_CLASS not in key and math.isfinite(value)}


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def plain(value: object) -> str:
    """Return a text on one line, at most 300 characters long, without control characters and direction marks."""
    text = re.sub(r"\s+", " ", str(value).encode("utf-8", "replace").decode())
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def placeless(value: object) -> str:
    """Return a text with the folders of absolute paths replaced by "…/": a card is given to others."""
    return re.sub(r"(?:(?<=[\s:,'\"])|^)/(?:[^/\s,]+/)+", "…/", str(value))


def escaped(value: object) -> str:
    """Return a text that Markdown shows literally."""
    return _MARKUP.sub(r"\\\1", plain(value))


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table whose cells are escaped; the titles are not."""
    lines = [titles, ["---"] * len(titles), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """Return a Markdown list of values by title."""
    return "\n".join(f"- **{escaped(title)}**: {escaped(value)}" for title, value in rows)
