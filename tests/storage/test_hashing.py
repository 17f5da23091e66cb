"""Keys of cached results change with the facts that they depend on."""

import os

from platform.storage.hashing import file_state, key_of


def test_a_key_tells_configurations_apart():
    assert key_of({"a": 1, "b": 2.0}) == key_of({"b": 2.0, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert key_of({"a": 1}) != key_of({"a": "1"})


def test_a_file_written_anew_has_another_state(tmp_path):
    file = tmp_path / "folder" / "weights.bin"
    file.parent.mkdir()
    assert file_state(file) == []
    file.write_bytes(b"one")
    before = file_state(file)
    assert before == file_state(file.parent)
    os.utime(file, ns=(1, 1))
    assert file_state(file) != before
    assert file_state(file.parent) != before
