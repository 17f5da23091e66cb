"""The feature store must not change a search: the same configs, and the same trials pruned at the same epochs."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from platform.data.embedded import scenes
from platform.runner.plan import make_plan
from platform.runner.results import reuse_totals
from platform.runner.run_study import StudyRun
from platform.study.request import Request


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects") / "data"
    return scenes.write_objects(root, seed=1, counts={"train": 120, "val": 60, "test": 20}, size=64)


def test_a_study_decides_the_same_with_the_store(ray_cluster, objects, tmp_path):
    def search(no_reuse: bool) -> list[dict]:
        request = Request(
            "classifier",
            "study",
            str(tmp_path / f"no_reuse={no_reuse}"),
            "e",
            f"sqlite:///{tmp_path / 'mlflow.db'}",
            data=(str(objects),),
            settings=("freeze_depth=3..6",),
            trials=7,
            epochs=4,
            concurrent=1,  # the proposals depend on the order in which trials end
            no_reuse=no_reuse,
        )
        plan = make_plan(request)
        plan = replace(plan, space=replace(plan.space, grace_epochs=1, baselines={}))
        request.folder.mkdir(parents=True)
        study = StudyRun(plan, Console(file=io.StringIO()))
        study.prepare()
        study.search()
        assert study.close("FINISHED") == 0
        return study.records

    plain, kept = search(no_reuse=True), search(no_reuse=False)
    for key in ("config", "status", "epochs"):
        assert [record[key] for record in kept] == [record[key] for record in plain], key
    for before, after in zip(plain, kept, strict=True):
        assert after["metrics"]["val/loss"] == pytest.approx(before["metrics"]["val/loss"], rel=1e-2)
    assert "pruned" in {record["status"] for record in plain}
    assert reuse_totals(kept)["loaded"] > reuse_totals(kept)["computed"] > 0
    assert reuse_totals(plain) == {}
