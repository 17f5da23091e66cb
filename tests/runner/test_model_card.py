"""Model cards: the metadata for hubs, the text for people, and hostile names in both."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ray import tune

from platform.data.classification.dataset import Example, ImageDataset
from platform.data.findings import Findings, Repair
from platform.models.provenance import origin_of
from platform.runner import model_card
from platform.runner.plan import Plan
from platform.space import Space
from platform.study.request import Request

HOSTILE = "a|b\n# <img src=x onerror=alert(1)> [x](http://evil.example) `code` ---\u202e$x$"


def dataset(classes: tuple[str, ...], each: int = 30) -> ImageDataset:
    examples = tuple(
        Example(Path(f"/{n}.png"), label, split, f"{label}-{n}", "")
        for label in range(len(classes))
        for split, count in (("train", each), ("val", 1), ("test", 1))
        for n in range(count)
    )
    found = Findings((Repair("broken image", HOSTILE),), warnings=("a note",))
    return ImageDataset(Path("/data") / "birds: a set", "class folders", classes, examples, False, found)


def plan(folder: Path, classes: tuple[str, ...] = ("finch", "owl"), each: int = 30) -> Plan:
    """Return the plan of a study; its task has only the attributes that a card needs."""
    space = Space(
        params={"lr": tune.loguniform(1e-4, 1e-1), "freeze_depth": tune.randint(0, 4), "backbone": "mobilenet_v2"},
        metric="val/accuracy", mode="max", max_epochs=8, grace_epochs=2, trials=3,
        start={"lr": 1e-2, "freeze_depth": 2}, depth=3,
    )  # fmt: skip
    task = SimpleNamespace(
        __doc__="Tell birds apart.\n\nMore.", INPUT="image",
        load=lambda folder: None, stage_names=lambda model: ["stem", "middle", "top"],
    )  # fmt: skip
    request = Request("birds", "one", str(folder), "birds", "sqlite:///x", data=("/data/birds",))
    return Plan(request, task, space, dataset(classes, each), None)


def result(classes: tuple[str, ...] = ("finch", "owl"), **config) -> dict:
    config = {"lr": 0.01, "freeze_depth": 2, "unfreeze": "gradual", "unfreeze_at": 0.5, "backbone": "mobilenet_v2",
              "weights": "starter", **config}  # fmt: skip
    per_class = {f"test/f1_class/{name}": n / len(classes) for n, name in enumerate(classes)}
    trials = [
        {"trial_id": f"00{n}", "status": status, "baseline": baseline, "error": error, "epochs": 4, "seconds": 40.0}
        for n, (status, baseline, error) in enumerate(
            [("finished", "", ""), ("failed", "", HOSTILE), ("failed", "from scratch", "out of memory")], start=1
        )
    ]
    return {
        "best": {
            "trial_id": "001", "name": "trial 001", "config": config,
            "metrics": {"val/accuracy": 0.75, "train/frozen_stages": 1.0},
            "test_metrics": {"test/accuracy": 0.7, "test/loss": 0.5, "test/precision": float("nan"), **per_class},
        },
        "baselines": [{"baseline": "only the heads", "trial_id": "004", "test_metrics": {"test/accuracy": 0.6}}],
        "references": {"zero-shot": {"test/accuracy": 0.5}},
        "left_out": [], "trials": trials, "confirmation": None,
    }  # fmt: skip


@pytest.fixture
def best(tmp_path) -> Path:
    folder = tmp_path / "one" / "best"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(2_000_000))
    return folder


def written(best: Path, plan: Plan, result: dict) -> ModelCard:
    file = model_card.write(best, plan, json.loads(json.dumps(result)))
    assert file == best / "MODEL_CARD.md"
    return ModelCard.load(file)


def test_a_hub_reads_task_licence_and_scores(best, tmp_path):
    card = written(best, plan(tmp_path), result())
    assert (card.data.pipeline_tag, card.data.license, card.data.model_name) == ("image-classification", "other", "one")
    assert {r.metric_name: r.metric_value for r in card.data.eval_results} == {"test/accuracy": 0.7}
    assert {(r.dataset_name, r.dataset_split) for r in card.data.eval_results} == {("birds: a set", "test")}
    for part in (
        "Tell birds apart.",
        "| this model | 0.700 |",
        "| only the heads | 0.600 |",
        "| zero-shot | 0.500 |",
        "Baselines without scores: from scratch (failed)",
        "out of memory",
        "first 2 of 3 stages of the backbone (stem, middle)",
        "for at least 4 of 8 epochs, then unfrozen one an epoch",
        "In the epoch that was kept, 1 stages were frozen.",
        "3 trials (2 failed, 1 finished), 12 epochs",
        "there is no interval",
        "python -m platform.predict birds PICTURE… --model FOLDER",
        "python -m platform.demo birds --model FOLDER",
        "broken image",
        "starters/README.md",
        "model.safetensors, 2.0 MB",
    ):
        assert part in card.text, part


def test_a_confirmation_is_shown_with_its_intervals(best, tmp_path):
    runs = [{"trial_id": f"001-seed-{n}", "seed": n, "status": s, "metrics": {}, "test_metrics": {}}
            for n, s in enumerate(("finished", "failed", "finished"), start=1)]  # fmt: skip
    against = {"only the heads": {"mean": 0.12, "low": 0.05, "high": 0.2, "p": 0.01, "better": True}}
    first = {"name": "trial 001", "kind": "configuration", "trial_id": "001", "config": {}, "runs": runs, "mean": 0.61,
             "low": 0.58, "high": 0.64, "against": against}  # fmt: skip
    rows = [first, {**first, "name": "only the heads", "kind": "baseline", "low": None, "high": None, "against": {}}]
    confirmed = {"asked": "1x3", "metric": "val/accuracy", "test_metric": "test/accuracy", "seeds": [1, 2, 3],
                 "rows": rows, "winner": "trial 001", "is_champion": True,
                 "verdict": "It holds.", "note": HOSTILE}  # fmt: skip
    card = written(best, plan(tmp_path), {**result(), "confirmation": confirmed})
    assert "| trial 001 | 2 of 3 | 0.610 | 0.580 to 0.640 | only the heads: 0.120 (0.050 to 0.200), p 0.01" in card.text
    assert "| only the heads | 2 of 3 | 0.610 | none |  |" in card.text
    assert "It holds." in card.text
    assert "This model is the winner, trial 001: a champion." in card.text
    assert "there is no interval" not in card.text
    other = written(best, plan(tmp_path), {**result(), "confirmation": {**confirmed, "is_champion": False}})
    assert "This model is the winner, trial 001: no champion." in other.text
    unconfirmed = {**confirmed, "winner": "", "is_champion": False, "verdict": "Nothing is confirmed."}
    alone = written(best, plan(tmp_path), {**result(), "confirmation": unconfirmed}).text
    for part in ("Nothing is confirmed.", "One run with one seed: there is no interval", "- There is no interval."):
        assert part in alone


def test_hostile_names_stay_text(best, tmp_path):
    names = ("owl", HOSTILE)
    card = written(best, plan(tmp_path, names), result(names, weights="none"))
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.text)
    assert not re.search(r"<(img|a|h3|em|strong) ", page)
    assert page.count("<h1>") == 1
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 6, "a class, three splits, a finding, an error"
    assert page.count("a|b # ") == 6, "whole"
    assert "\u202e" not in page


def test_a_list_of_a_thousand_classes_is_truncated(best, tmp_path):
    names = tuple(f"class {n}" for n in range(1000))
    card = written(best, plan(tmp_path, names, each=2), result(names))
    assert "The weakest 10 of 1000 classes; 1 scored 0:" in card.text
    assert "and 990 more" in card.text
    assert "class 900" not in card.text
    assert len(card.content) < 10_000


def test_of_equally_weak_classes_those_with_more_training_examples_come_first():
    scores = {
        "test/map": 0.5,
        **{f"test/map_class/{name}": value for name, value in zip("abcd", (0, 0, 0.5, 0.1), strict=True)},
    }
    ranked = model_card._ranked(scores, {"class": {"a": 3, "b": 30, "c": 900, "d": 1}})
    assert ranked == [(0, 30, "b", "map"), (0, 3, "a", "map"), (0.1, 1, "d", "map"), (0.5, 900, "c", "map")]


def test_references_that_could_not_be_computed_are_named(best, tmp_path):
    what = {**result(), "left_out": ["the tokenizer must be there; found none. Connect."], "references": {}}
    assert "could not be computed: the tokenizer must be there" in written(best, plan(tmp_path), what).text


def test_a_study_without_baselines_and_references_has_a_card(best, tmp_path):
    of, what = plan(tmp_path), result()
    what["best"]["config"] = {"lr": 1.0}
    what["best"]["test_metrics"] = {"test/error": 1.0}
    task = SimpleNamespace(__doc__=None, INPUT="text")
    data = SimpleNamespace(name="", fingerprint="00", summary=dict, lines=dict, findings=list)
    bare = {**what, "baselines": [], "references": {}, "trials": []}
    card = written(best, replace(of, task=task, dataset=data), bare)
    assert card.data.pipeline_tag == "text-classification"
    assert "random weights" in card.text


def test_a_card_has_no_folders_of_this_machine(best, tmp_path):
    (tmp_path / "own.safetensors").write_bytes(b"weights")
    what = result(weights=str(tmp_path / "own.safetensors"), encoder=f"local-dir:{tmp_path}/clip")
    what["trials"][1]["error"] = f"FileNotFoundError: '{tmp_path}/gone.png'"
    card = written(best, plan(tmp_path), what)
    assert str(tmp_path.parent) not in card.content
    assert card.data.license == "unknown"
    for part in (
        "the file own.safetensors, SHA-256",
        "| encoder | local-dir:…/clip |",
        "'…/gone.png'",
        "**read from**: …/birds",
    ):
        assert part in card.text, part
    assert "The licence of the weights that this model was fine-tuned from is not known here." in card.text


@given(st.text(max_size=80))
def test_no_text_leaves_its_cell(text):
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(model_card.table(["x"], [[text]]))
    [cell] = re.findall("<td>(.*)</td>", page)
    assert html.unescape(cell) == model_card.plain(text)


def test_origin_and_licence_of_the_weights(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "w.safetensors").write_bytes(b"x")

    def licence(backbone: str, weights: str) -> tuple[str, str]:
        found = origin_of({"backbone": backbone, "weights": weights})
        return found.licence_id, found.base_model

    assert licence("mobilenet_v2", "starter") == ("other", "")
    assert licence("local-dir:starters/clip", "DEFAULT") == ("other", "")
    assert licence("starter", "DEFAULT") == ("other", "")
    assert licence("resnet18", "none") == ("other", "")
    assert licence(f"local-dir:{tmp_path / 'own'}", "DEFAULT") == ("mit", "")
    assert licence("resnet18", str(tmp_path / "w.safetensors")) == ("unknown", "")
    assert licence("google-bert/no-such-model", "DEFAULT") == ("unknown", "google-bert/no-such-model")
    assert licence("ViT-B-32", "laion2b_s34b_b79k")[1] == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    torchvision = origin_of({"backbone": "resnet18", "weights": "DEFAULT"})
    assert "ResNet18_Weights.IMAGENET1K_V1" in torchvision.source
    assert torchvision.licence.startswith("unknown: torchvision states none")
