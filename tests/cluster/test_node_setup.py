"""Setup of a trial on a node: data that is fetched once and verified, and folders on the node's own disk."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from platform.cluster import node_setup
from platform.cluster.node_setup import Site, UnfitNodeError
from platform.storage import filesystem
from platform.storage.manifest import seal
from platform.training.context import Context


@pytest.fixture
def node(tmp_path, monkeypatch, ray_cluster) -> Path:
    """This node's folder."""
    monkeypatch.setattr(node_setup.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"platform-tune-{os.getuid()}"


@pytest.fixture
def data(tmp_path) -> tuple[str, str]:
    """Place of prepared data, and the digest of its manifest."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "images.npy").write_bytes(os.urandom(1000))
    return str(folder), seal(folder)


def context(data: tuple[str, str], **changes) -> dict:
    site = Site("id", *data, **{"environment": node_setup.environment(), **changes})
    return asdict(Context("toy", "not seen by nodes", 0, 1, "m", "max", trial="007")) | {"site": asdict(site)}


def places(given: dict) -> Context:
    """Return the context that the trainable gets."""
    found = []
    node_setup.on_node(lambda config: found.append(Context(**config["context"])))({"x": 1, "context": given})
    return found[0]


def test_data_is_brought_once_and_the_store_is_the_nodes(node, data):
    there = places(context(data))
    assert Path(there.data) == node / "data" / data[1]
    assert (Path(there.data) / "images.npy").read_bytes() == (Path(data[0]) / "images.npy").read_bytes()
    assert (there.store, there.store_bytes > 0) == (str(node / "features"), True)
    assert filesystem.origin(Path(there.data)) == data[0]
    assert node.stat().st_mode & 0o777 == 0o700
    (Path(data[0]) / "images.npy").unlink()
    assert places(context(data)).data == there.data
    assert places(context(data, reuse=False)).store == ""


def test_checkpoints_are_sent_only_where_nodes_do_not_see_the_folder(node, data, bucket):
    assert (places(context(data)).remote, places(context(data)).folder) == ("", "")
    sent = places(context(data, remote=f"{bucket}/one"))
    assert (sent.remote, sent.folder) == (f"{bucket}/one/trials/007", str(node / "studies" / "id" / "trials" / "007"))


def test_what_the_trial_leaves_on_the_node_is_taken_away(node, data, bucket):
    left = []

    def train(config):
        folder = Path(config["context"]["folder"])
        folder.mkdir(parents=True)
        left.append(folder)
        raise RuntimeError("bad luck")

    with pytest.raises(RuntimeError, match="bad luck"):
        node_setup.on_node(train)({"context": context(data, remote=f"{bucket}/one")})
    assert not left[0].exists()


def test_data_that_did_not_arrive_whole_makes_the_node_unfit(node, data):
    (Path(data[0]) / "images.npy").write_bytes(b"other")
    with pytest.raises(UnfitNodeError, match=r"DamagedError: images\.npy: differs from what was written"):
        places(context(data))
    assert not list((node / "data").glob("*/*"))


def test_a_node_of_other_versions_is_unfit(node, data):
    with pytest.raises(UnfitNodeError, match=r"torch .*, not 1\.0"):
        places(context(data, environment={**node_setup.environment(), "torch": "1.0"}))
    import ray

    with pytest.raises(UnfitNodeError, match=ray.get_runtime_context().get_node_id()):
        places(context(data, environment={"python": "2"}))


def test_the_folder_of_another_user_is_not_used(node, data, monkeypatch):
    node.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(node, 12345, -1)
    with pytest.raises(UnfitNodeError, match="belongs to another user"):
        places(context(data))
