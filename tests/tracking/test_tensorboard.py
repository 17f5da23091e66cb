"""A study's curves as TensorBoard itself reads them."""

from pathlib import Path

import pytest
from curves import curves, recorded_curves
from recorded_study import EPOCHS, RecordedStudy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from platform.runner.run_study import GROWING
from platform.study.trials import Trial
from platform.tracking.tensorboard import FOLDER, TensorBoardListener, run_name

START, END = metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG


def follow(recorded_study: RecordedStudy) -> TensorBoardListener:
    log = TensorBoardListener(recorded_study.folder, recorded_study.trial_table)
    recorded_study.trial_table.listeners.append(log)
    return log


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in (folder / FOLDER).rglob("*") if file.is_file()}


def test_each_trial_is_a_run_with_its_curves_and_its_configuration(tmp_path):
    recorded_study = RecordedStudy(tmp_path / "study")
    follow(recorded_study)
    recorded_study.trial(
        "001", [0.1 * n for n in range(1, EPOCHS + 1)], "finished", first_unfreeze=3, batch_size=16, unfreeze="gradual"
    )
    recorded_study.trial("002", [0.1], "pruned", baseline="from scratch", weights="none")
    recorded_study.trial("003", [0.2, 0.3], "failed", error="ValueError: no")
    recorded_study.trial("004", [0.4])
    recorded_study.trial_table.record("best", trial_id="001", metrics={"test/score": 0.75})
    recorded_study.trial_table.record(
        "best", trial_id="001", metrics={"test/score": 0.75}
    )  # once more, by a process after a killed one
    folder = recorded_study.close()
    assert set(curves(folder)) == {"001", "002 from scratch", "003", "004"}
    assert recorded_curves(folder) == curves(folder)
    assert curves(folder, "train/frozen_stages")["001"] == [(n, 2.0 if n <= 3 else 0.0) for n in range(1, EPOCHS + 1)]
    assert curves(folder, "test/score") == {"001": [(EPOCHS, 0.75)]}
    for name, status in {"001": 1, "002 from scratch": 1, "003": None, "004": None}.items():
        run = EventAccumulator(str(folder / FOLDER / name)).Reload()
        found = {
            tag: run.SummaryMetadata(tag).plugin_data.content for tag in (START, END) if tag in run.summary_metadata
        }
        start = metadata.parse_session_start_info_plugin_data(found[START])
        assert start.hparams["lr_head"].number_value == 1e-3
        assert start.hparams["weights"].string_value == ("none" if name.startswith("002") else "starter")
        assert (metadata.parse_session_end_info_plugin_data(found[END]).status if END in found else None) == status


def test_a_killed_process_loses_and_doubles_nothing(tmp_path):
    """The file has less than the event log, or more after a power failure, or half a record: it is written anew."""
    folder = tmp_path / "study"
    recorded_study = RecordedStudy(folder)
    follow(recorded_study)
    recorded_study.trial("001", [0.1, 0.2, 0.3], "finished")
    recorded_study.trial("002", [0.2, 0.3])
    for name in files(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-5] if "001" in name else content * 2)
    (folder / FOLDER / "999").mkdir()
    (folder / FOLDER / "999" / "events.out.tfevents.1.study").write_bytes(content)
    recorded_study.trial_table.event_log.close()
    again = RecordedStudy(folder)
    follow(again)
    again.trial_table.record("trial_start", trial_id="002")
    report = {"trial_id": "002", "metrics": {"val/score": 0.4}, "notes": {}, "last": False}
    again.trial_table.record("report", step=3, **report)
    again.trial_table.record("trial_end", trial_id="002", status="interrupted", error="")
    again.close("KILLED")
    assert curves(folder) == recorded_curves(folder)
    assert curves(folder)["002"] == [(1, 0.2), (2, 0.3), (3, 0.4)]
    names = {f"{FOLDER}/{run}/events.out.tfevents.0.study" for run in ("001", "002")}
    assert files(folder) == names, "the names do not depend on the process: a bucket holds no second file of a run"
    assert not any(name.startswith(FOLDER) for name in GROWING), "it is sent whole, at the end"


def test_what_the_disk_does_not_take_is_reported_once_and_ends_nothing(tmp_path):
    recorded_study, warnings = RecordedStudy(tmp_path / "study"), list[str]()
    (tmp_path / "study" / FOLDER).write_text("in the way")
    log = TensorBoardListener(recorded_study.folder, recorded_study.trial_table, warnings.append)
    recorded_study.trial_table.listeners.append(log)
    recorded_study.trial("001", [0.1, 0.2], "finished")
    recorded_study.close()
    assert warnings == [log.given_up]
    assert warnings[0].startswith("Nothing more is written for TensorBoard: ")


@pytest.mark.parametrize(
    ("baseline", "repeats", "expected"),
    [
        ("pretrained, 10 % of labels", "", "007 pretrained, 10 % of labels"),
        ("", "003", "007"),
        ("../../etc\\<b>\n", "", "007 .._.._etc__b__"),
        ("x" * 300, "", "007 " + "x" * 76),
    ],
)
def test_runs_are_called_so_that_people_know_them_and_stay_in_their_folder(baseline, repeats, expected):
    trial = Trial("007", {}, baseline)
    trial.confirms = repeats
    assert run_name(trial) == expected
