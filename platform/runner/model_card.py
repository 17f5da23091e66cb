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
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from platform import project
from platform.cluster.node_setup import LIBRARIES
from platform.models.provenance import Origin, origin_of
from platform.runner.plan import Plan
from platform.space import show
from platform.storage.checkpoints import MODEL
from platform.study.request import FINDINGS
from platform.study.wording import markdown_table
from platform.task import PER_CLASS
from platform.training.freezing import Freezing

FILE = "MODEL_CARD.md"
LISTED = 10  # classes, findings or reasons in a list
COLUMNS = 6  # scores in a table
FEW = 20  # a class with fewer training examples is named among the limits

_HUB_TASKS = {"map": "object-detection"}  # a hub's name for a task, by the study's metric; others follow from the input
_MAX_CHARACTERS = 300  # of a text from outside
# Characters that Markdown takes for markup: anywhere, at the beginning of a line, and in addresses that become links.
_MARKUP = re.compile(r"([\\`*_\[\]<>#!|~&$^]|^[-+=:]|(?:(?<=^\d)|(?<=^\d\d))[.)](?= )|:(?=//)|(?<=www)\.)")


class Markdown(str):
    """Text that is Markdown already. All other texts are escaped when the card is written."""

    __slots__ = ()


def write(folder: Path, plan: Plan, result: Mapping[str, Any]) -> Path:
    """Write the card of a study's best model into the model's folder, and return its file.

    `result` is the content of result.json, with "best".
    """
    from huggingface_hub import ModelCard

    best, trials, summary = result["best"], result["trials"], plan.dataset.summary()
    origin, confirmed = origin_of(best["config"]), result.get("confirmation")
    ranked = _ranked(best["test_metrics"], _class_counts(summary))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markdown) else escaped(value),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["placeless"] = placeless
    environment.globals |= {"facts": facts, "table": table, "listed": _listed, "number": _number, "duration": _duration}
    text = environment.get_template("model_card.md.j2").render(
        metadata=Markdown(_metadata(plan, result, origin).to_yaml()),
        request=plan.request,
        space=plan.space,
        result=result,
        best=best,
        origin=origin,
        most=LISTED,
        heading=_heading(folder, plan, best, origin),
        scores=_scores(result),
        lost=[f"{t['baseline']} ({t['status']})" for t in trials if t["baseline"] and t["status"] != "finished"],
        ranked=[[name, score, _number(value), count] for value, count, name, score in ranked],
        zeros=sum(value == 0 for value, *_ in ranked),
        confirmed=confirmed,
        repeated=[_repeated(row) for row in confirmed["rows"]] if confirmed and confirmed["winner"] else [],
        data=_data(plan),
        findings=plan.dataset.findings(),
        findings_file=Markdown(FINDINGS),
        freezing=_freezing(folder, plan, best) if best["config"].get("freeze_depth") else None,
        trial=next((trial for trial in trials if trial["trial_id"] == best["trial_id"]), None),
        config=[(k, f"{v:.4g}" if isinstance(v, float) else placeless(v)) for k, v in sorted(best["config"].items())],
        trials=trials,
        outcomes=[f"{count} {status}" for status, count in Counter(t["status"] for t in trials).most_common()],
        reasons=list(dict.fromkeys(placeless(trial["error"]) for trial in trials if trial["error"])),
        searched=[(key, placeless(show(domain))) for key, domain in plan.space.searched.items()],
        few=_few(summary),
        few_examples=FEW,
        task=Markdown(plan.request.task),
        example=Markdown({"image": "PICTURE…", "text": '"A sentence."'}.get(plan.task.INPUT, "INPUT…")),
        made_with=[
            ("written", f"{datetime.now(UTC):%Y-%m-%d}"),
            ("study", f"{plan.request.name}, {plan.request.id}"),
            ("code", project.commit()),
            ("Python", sys.version.split()[0]),
            *((library, importlib.metadata.version(library)) for library in LIBRARIES),
        ],
    )
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


def _heading(folder: Path, plan: Plan, best: Mapping[str, Any], origin: Origin) -> list[tuple[str, object]]:
    about = (plan.task.__doc__ or "").strip().partition("\n")[0]
    config, megabytes = best["config"], (folder / MODEL).stat().st_size / 1e6
    return [
        ("task", f"{plan.request.task}: {about}"),
        ("fine-tuned from", origin.source),
        ("licence", origin.licence),
        *((key, placeless(config[key])) for key in ("architecture", "backbone") if key in config),
        ("best of the study", f"{plan.request.name}, {best['name']}"),
        ("file", f"{MODEL}, {megabytes:.1f} MB"),
    ]


def _scores(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows of the table of test scores."""
    best = result["best"]["test_metrics"]
    keys = list(_overall(best))[:COLUMNS]
    compared = {"this model": best, **{b["baseline"]: b["test_metrics"] for b in result["baselines"]}}
    compared |= result["references"]
    rows = [[name, *(_number(scores.get(key)) for key in keys)] for name, scores in compared.items()]
    return ["", *(key.removeprefix("test/") for key in keys)], rows


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


def _repeated(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the table of trainings with several seeds."""
    interval = "none" if row.get("low") is None else f"{_number(row['low'])} to {_number(row['high'])}"
    done = sum(run["status"] == "finished" for run in row["runs"])
    against = "; ".join(_against(name, other) for name, other in (row.get("against") or {}).items())
    return [row["name"], f"{done} of {len(row['runs'])}", _number(row.get("mean")), interval, against]


def _against(name: str, other: Mapping[str, Any]) -> str:
    interval = "" if other.get("low") is None else f" ({_number(other['low'])} to {_number(other['high'])})"
    chance = "" if other.get("p") is None else f", p {other['p']:.3g}"
    return f"{name}: {_number(other.get('mean'))}{interval}{chance}"


def _data(plan: Plan) -> list[tuple[str, object]]:
    request, dataset = plan.request, plan.dataset
    return [
        ("data", dataset.name),
        ("read from", " ".join(map(placeless, request.data)) or "embedded in the project"),
        ("fingerprint", dataset.fingerprint),
        # A line names the first dozen of many classes.
        *((title, text) for title, text in dataset.lines().items() if not title.startswith("!")),
        ("splits", f"those that were not given were made with the seed {request.seed}, the same for every trial"),
    ]


def _freezing(folder: Path, plan: Plan, best: Mapping[str, Any]) -> dict[str, str]:
    """Return which stages were frozen and until when, as parts of sentences."""
    config, epochs, task = best["config"], plan.space.max_epochs, cast(Any, plan.task)
    names = list(task.stage_names(task.load(folder))) if hasattr(task, "stage_names") else []
    frozen_names = names[: config["freeze_depth"]]
    stages = f"{config['freeze_depth']} stages of the backbone"
    if names:
        stages = f"{len(frozen_names)} of {len(names)} stages of the backbone ({_listed(frozen_names)})"
    freezing = Freezing(config["freeze_depth"], config.get("unfreeze", "never"), config.get("unfreeze_at", 0.5))
    how = {"at_once": "all at once", "gradual": "one an epoch from the top down",
           "on_plateau": "one each time the score stood still"}.get(freezing.unfreeze, "")  # fmt: skip
    first, frozen = freezing.first_unfreeze(epochs), best["metrics"].get("train/frozen_stages")
    return {
        "stages": Markdown(stages),
        "until": "to the end" if first is None else f"for at least {first} of {epochs} epochs, then unfrozen {how}",
        "kept": Markdown("" if frozen is None else f"In the epoch that was kept, {frozen:.0f} stages were frozen. "),
    }


def _few(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the classes with few training examples, by kind of label, the rarest first."""
    rare = {
        kind: sorted((count, name) for name, count in counts.items() if count < FEW)
        for kind, counts in _class_counts(summary).items()
    }
    return {kind: [f"{name} ({count})" for count, name in found] for kind, found in rare.items() if found}


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


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a Markdown table with escaped titles and cells."""
    return Markdown(markdown_table([escaped(title) for title in titles], [[escaped(c) for c in row] for row in rows]))


def facts(rows: Sequence[tuple[str, object]]) -> Markdown:
    """Return a Markdown list of values by title."""
    return Markdown("\n".join(f"- **{escaped(title)}**: {escaped(value)}" for title, value in rows))


def _listed(values: Iterable[object], separator: str = ", ") -> Markdown:
    return Markdown(separator.join(map(escaped, values)))
