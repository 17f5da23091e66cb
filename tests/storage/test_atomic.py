"""Files and folders are written whole or not at all."""

import pytest

from platform.storage import atomic


def test_a_file_is_replaced_only_when_its_writing_succeeded(tmp_path):
    file = tmp_path / "a.json"
    atomic.write_json(file, {"a": 1})
    with pytest.raises(OSError, match="full"), atomic.new_file(file) as partial:  # noqa: PT012
        partial.write_text("half")
        raise OSError("full")
    assert file.read_text() == '{"a": 1}'
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_only_when_its_writing_succeeded(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(OSError, match="full"), atomic.new_folder(target) as partial:  # noqa: PT012
        (partial / "x").write_text("half")
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with atomic.new_folder(target, replace=True) as partial:
            (partial / "x").write_text(text)
    assert (target / "x").read_text() == "second"
    with pytest.raises(OSError), atomic.new_folder(target) as partial:  # noqa: PT011 (the system's words differ)
        (partial / "x").write_text("third")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (target / "x").read_text() == "second"
