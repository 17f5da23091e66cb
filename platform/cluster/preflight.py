"""Check of a cluster before the first trial: each node reports its state, which is compared with the driver's."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from platform.cluster import node_setup
from platform.cluster.nodes import Node
from platform.errors import last_line
from platform.storage import filesystem

ANSWER_S = 120.0  # time limit; the first answer of a node waits until its environment is set up
SKEW_S = 60.0  # a larger difference between clocks makes signatures and certificates invalid
ROOM = 2 << 30  # bytes that must be free on a node besides the data
TOKENS = ".preflight"  # temporary folder in the storage
GPU_PROBE = (
    "import torch; assert torch.cuda.is_available(), 'it sees none'; torch.zeros(1).cuda(); print(torch.version.cuda)"
)


@dataclass(frozen=True)
class Answer:
    """State of a node, as it reports it.

    Attributes:
        host: Host name.
        environment: Versions that must be equal on all nodes.
        gpu: GPU names and driver as reported by nvidia-smi; "" if there is none.
        cuda: CUDA version of torch if torch can use the GPUs.
        gpu_error: Why torch cannot use them.
        free: Free bytes on the disk that trials use.
        time: Clock, in seconds since 1970.
        storage_error: Why the node cannot use the storage.
        missing: Files that the study needs and the node does not have.
    """

    host: str
    environment: Mapping[str, str]
    gpu: str = ""
    cuda: str = ""
    gpu_error: str = ""
    free: int = 0
    time: float = 0.0
    storage_error: str = ""
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """Result of the check of one node.

    Attributes:
        node: The node.
        answer: Its answer, None if there was none.
        faults: One phrase for each fault; empty if the node can be used.
        skew: Seconds by which its clock is ahead of the driver's, as far as the transit time allows to tell.
    """

    node: Node
    answer: Answer | None
    faults: Sequence[str] = ()
    skew: float = 0.0


def check(nodes: Sequence[Node], place: str, files: Sequence[str], data_bytes: int) -> list[Finding]:
    """Check all nodes in parallel.

    Args:
        nodes: The nodes.
        place: Storage: a folder that all nodes must see, or the address of a bucket.
        files: Paths that trials will read.
        data_bytes: Size of the data on each node's disk.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    tokens = f"{place}/{TOKENS}-{uuid.uuid4().hex[:8]}"
    filesystem.write(f"{tokens}/driver", b"driver")
    try:
        # send the question to all nodes
        ask, sent, waiting = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_answer), dict[str, float](), {}
        for node in nodes:
            strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
            sent[node.id] = time.time()
            ref = ask.options(scheduling_strategy=strategy).remote(tokens, node.id, list(files), node.gpus)
            waiting[ref] = node.id

        # collect what arrives in time
        answers: dict[str, tuple[Any, float]] = {}
        deadline = time.monotonic() + ANSWER_S
        while waiting and time.monotonic() < deadline:
            done, _ = ray.wait(list(waiting), timeout=1.0)
            for ref in done:
                node_id = waiting.pop(ref)
                try:
                    answers[node_id] = ray.get(ref), time.time()
                except Exception as error:  # any kind: of the node's environment, disk or network
                    answers[node_id] = (error.__cause__ or error), time.time()

        seen = set(filesystem.names(tokens))
        return [_evaluate(node, answers.get(node.id), sent[node.id], data_bytes, node.id in seen) for node in nodes]
    finally:
        filesystem.delete(tokens)


def table(findings: Sequence[Finding]) -> Table:
    """Return a table with a row for each node."""
    rows = Table("node", "", "CPUs", "GPUs", "Python, libraries", "clock", "disk free", "verdict", box=None,
                 pad_edge=False, header_style="bold")  # fmt: skip
    for finding in findings:
        answer, node = finding.answer, finding.node
        # The part after the colon is shown in full with the study's faults.
        verdict = Text("; ".join(fault.partition(":")[0] for fault in finding.faults), style="red")
        same = answer is not None and not node_setup.differences(answer.environment, node_setup.environment())
        rows.add_row(
            answer.host if answer else node.address,
            node.kind,
            str(node.cpus),
            f"{node.gpus}" + (f" ({answer.gpu}; CUDA {answer.cuda})" if answer and answer.gpu else ""),
            "" if answer is None else "as here" if same else "different",
            f"{finding.skew:+.0f} s" if answer else "",
            f"{answer.free / 2**30:.0f} GiB" if answer else "",
            verdict if finding.faults else Text("ok", style="green"),
        )
    return rows


def _answer(tokens: str, node_id: str, files: Sequence[str], gpus: int) -> Answer:
    """Return the state of the node that this runs on."""
    import socket

    storage_error = ""
    try:
        if filesystem.read(f"{tokens}/driver") != b"driver":
            storage_error = "it is another storage than the driver's"
        else:
            filesystem.write(f"{tokens}/{node_id}", b"node")
    except OSError as error:
        storage_error = str(error)
    gpu, cuda, gpu_error = _gpus() if gpus else ("", "", "")
    return Answer(
        host=socket.gethostname(),
        environment=node_setup.environment(),
        gpu=gpu,
        cuda=cuda,
        gpu_error=gpu_error,
        free=shutil.disk_usage(node_setup.node_folder()).free,
        time=time.time(),
        storage_error=storage_error,
        missing=[file for file in files if not Path(file).exists()],
    )


def _gpus() -> tuple[str, str, str]:
    """Return GPU names and driver, torch's CUDA version, and why torch cannot use the GPUs."""
    # Ray gave this process no GPU, hence another process looks.
    env = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    probe = subprocess.run([sys.executable, "-c", GPU_PROBE], env=env, capture_output=True, text=True, check=False)
    output = ""
    if smi := shutil.which("nvidia-smi"):
        query = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        output = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    gpu = ", driver ".join(output.splitlines()[0].split(", ")) if output else ""
    error = last_line(probe.stderr, "torch gave no reason")
    return gpu, probe.stdout.strip(), "" if probe.returncode == 0 else error


def _evaluate(
    node: Node, answer_and_time: tuple[Any, float] | None, sent: float, data_bytes: int, is_token_seen: bool
) -> Finding:
    """Return the faults of a node.

    `answer_and_time` is its `Answer`, or the exception raised in its place, and when it arrived; None without one.
    Times are in seconds since 1970. Without its token, the node writes to another place than the driver reads.
    """
    if answer_and_time is None:
        return Finding(node, None, (f"no answer within {ANSWER_S:g} s",))
    answer, received = answer_and_time
    if not isinstance(answer, Answer):
        reason = last_line(answer, type(answer).__name__)
        return Finding(node, None, (f"the check failed: {reason}",))
    # The clock was read between `sent` and `received`.
    skew = answer.time - min(max(answer.time, sent), received)
    faults = node_setup.differences(answer.environment, node_setup.environment())
    if answer.gpu_error:
        faults.append(f"torch cannot use its {node.gpus} GPUs: {answer.gpu_error}")
    if answer.storage_error or not is_token_seen:
        faults.append(f"storage: {answer.storage_error or 'the driver does not see what the node writes'}")
    if abs(skew) > SKEW_S:
        faults.append(f"its clock is off by {skew:+.0f} s")
    if answer.free < ROOM + data_bytes:
        faults.append(f"{answer.free >> 20} MiB free, {(ROOM + data_bytes) >> 20} MiB needed")
    faults += [f"lacks {file}" for file in answer.missing]
    return Finding(node, answer, tuple(faults), skew)
