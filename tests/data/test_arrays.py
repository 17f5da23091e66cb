import threading

import pytest

from platform.data.arrays import in_threads, indices_by_split, write_once
from platform.errors import InputError


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    def fail(partial):
        (partial / "half").write_text("half")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_once(tmp_path / "deep" / "made", fail, 4)
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_existing_folder_is_left_unchanged(tmp_path):
    write_once(tmp_path / "made", lambda partial: (partial / "a").write_text("first"), 5)
    write_once(tmp_path / "made", lambda partial: pytest.fail("filled again"), 2**70)
    assert (tmp_path / "made" / "a").read_text() == "first"
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


def test_two_studies_at_once_end_with_the_work_of_one(tmp_path):
    both_began = threading.Barrier(2)

    def fill(partial):
        both_began.wait()
        for name in "ab":
            (partial / name).write_text(str(threading.get_ident()))

    in_threads(lambda _: write_once(tmp_path / "made", fill, 1), range(2))
    assert len({(tmp_path / "made" / name).read_text() for name in "ab"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="GiB free") as caught:
        write_once(tmp_path / "made", lambda partial: pytest.fail("written"), 2**70, "lower --set image_size")
    assert caught.value.faults[0].remedy == "Free some space, choose another --storage or lower --set image_size."
    assert list(tmp_path.iterdir()) == []


def test_threads_keep_the_order_and_raise():
    assert in_threads(lambda number: number**2, range(50)) == [number**2 for number in range(50)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [1, 0])


def test_numbers_by_split():
    numbers = indices_by_split(["test", "train", "test"])
    assert {split: found.tolist() for split, found in numbers.items()} == {"train": [1], "val": [], "test": [0, 2]}
