"""The check of a cluster before the first trial: every node is asked what it has, and told from the driver's."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from platform.cluster import node_setup
from platform.cluster.nodes import Node
from platform.storage import filesystem

ANSWER_S = 120.0  # a node's first answer takes as long as its environment takes to get ready
SKEW_S = 60.0  # clocks further apart than this break signatures and certificates; hours later, buckets
ROOM = 2 << 30  # bytes that a node must have free besides the data
TOKENS = ".preflight"  # a folder of the storage, while nodes are asked
GPU_PROBE = (
    "import torch; assert torch.cuda.is_available(), 'it sees none'; torch.zeros(1).cuda(); print(torch.version.cuda)"
)


@dataclass(frozen=True)
class Answer:
    """What a node said of itself.

    Attributes:
        host: Its name.
        alike: What must be the same on all nodes.
        gpu: GPUs and driver, as nvidia-smi tells; "" where there is none.
        cuda: Torch's CUDA, where torch can use the GPUs that Ray counts.
        gpu_error: Why it cannot.
        free: Bytes on the disk that trials use.
        time: Its clock, in seconds since 1970.
        storage_error: Why it cannot use the storage.
        missing: Files that the study names and the node lacks.
    """

    host: str
    alike: Mapping[str, str]
    gpu: str = ""
    cuda: str = ""
    gpu_error: str = ""
    free: int = 0
    time: float = 0.0
    storage_error: str = ""
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """A node, what it answered, and what is wrong with it.

    Attributes:
        node: The node.
        answer: None where it did not answer.
        faults: In words; empty for a node that will do.
        skew: Seconds by which its clock is ahead of the driver's, as far as the answer's way allows to tell.
    """

    node: Node
    answer: Answer | None
    faults: Sequence[str] = field(default_factory=tuple)
    skew: float = 0.0


def check(nodes: Sequence[Node], place: str, files: Sequence[str], data_bytes: int) -> list[Finding]:
    """Asks all nodes at a time.

    Args:
        nodes: Them.
        place: The storage: a folder that all must see, or a bucket's address.
        files: Paths that trials will read.
        data_bytes: What the data takes on each node's disk.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    tokens = f"{place}/{TOKENS}-{uuid.uuid4().hex[:8]}"
    filesystem.write(f"{tokens}/driver", b"driver")
    try:
        ask, asked, sent = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_answer), {}, {}
        for node in nodes:
            where = NodeAffinitySchedulingStrategy(node.id, soft=False)
            sent[node.id] = time.time()
            asked[node.id] = ask.options(scheduling_strategy=where).remote(tokens, node.id, list(files), node.gpus)
        waiting, answers = {ref: node for node, ref in asked.items()}, dict[str, tuple[Any, float]]()
        until = time.monotonic() + ANSWER_S
        while waiting and time.monotonic() < until:
            done, _ = ray.wait(list(waiting), timeout=1.0)
            for ref in done:
                node_id = waiting.pop(ref)
                try:
                    answers[node_id] = ray.get(ref), time.time()
                except Exception as error:  # of all kinds: the node's environment, its disk, its network
                    answers[node_id] = (error.__cause__ or error), time.time()
        findings = [_judge(node, answers.get(node.id), sent[node.id], data_bytes) for node in nodes]
        seen = set(filesystem.names(tokens))
        return [_seen(finding, finding.node.id in seen) for finding in findings]
    finally:
        filesystem.delete(tokens)


def table(findings: Sequence[Finding]) -> Table:
    """A line for each node."""
    shown = Table("node", "", "CPUs", "GPUs", "Python, libraries", "clock", "disk free", "verdict", box=None,
                  pad_edge=False, header_style="bold")  # fmt: skip
    for one in findings:
        answer, node = one.answer, one.node
        alike = (
            "as here"
            if answer and not node_setup.unlike(answer.alike, node_setup.alike())
            else "other"
            if answer
            else ""
        )
        shown.add_row(
            answer.host if answer else node.address,
            node.kind,
            str(node.cpus),
            f"{node.gpus}" + (f" ({answer.gpu}; CUDA {answer.cuda})" if answer and answer.gpu else ""),
            alike,
            f"{one.skew:+.0f} s" if answer else "",
            f"{answer.free / 2**30:.0f} GiB" if answer else "",
            # What comes after a colon is told with the study's faults, in full.
            Text("; ".join(fault.partition(":")[0] for fault in one.faults), style="red")
            if one.faults
            else Text("ok", style="green"),
        )
    return shown


def _answer(tokens: str, node_id: str, files: Sequence[str], gpus: int) -> Answer:
    """Runs on the node."""
    import socket

    trouble = ""
    try:
        if filesystem.read(f"{tokens}/driver") != b"driver":
            trouble = "it is another storage than the driver's"
        else:
            filesystem.write(f"{tokens}/{node_id}", b"node")
    except OSError as error:
        trouble = str(error)
    gpu, cuda, gpu_error = _gpus() if gpus else ("", "", "")
    return Answer(
        host=socket.gethostname(),
        alike=node_setup.alike(),
        gpu=gpu,
        cuda=cuda,
        gpu_error=gpu_error,
        free=shutil.disk_usage(node_setup.folder()).free,
        time=time.time(),
        storage_error=trouble,
        missing=[file for file in files if not Path(file).exists()],
    )


def _gpus() -> tuple[str, str, str]:
    """Names and driver; torch's CUDA; why torch cannot use them."""
    # This process was given none: another one looks.
    env = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    probe = subprocess.run([sys.executable, "-c", GPU_PROBE], env=env, capture_output=True, text=True, check=False)
    smi = shutil.which("nvidia-smi")
    told = ""
    if smi:
        query = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    gpu = ", driver ".join(told.splitlines()[0].split(", ")) if told else ""
    error = (probe.stderr.strip().splitlines() or ["it says nothing"])[-1]
    return gpu, probe.stdout.strip(), "" if probe.returncode == 0 else error


def _judge(node: Node, told: tuple[Any, float] | None, sent: float, data_bytes: int) -> Finding:
    if told is None:
        return Finding(node, None, (f"no answer within {ANSWER_S:g} s",))
    answer, received = told
    if not isinstance(answer, Answer):
        reason = (str(answer).strip().splitlines() or [type(answer).__name__])[-1]
        return Finding(node, None, (f"it could not be asked: {reason}",))
    # The answer was written between the question and its arrival here.
    skew = answer.time - min(max(answer.time, sent), received)
    faults = node_setup.unlike(answer.alike, node_setup.alike())
    if answer.gpu_error:
        faults.append(f"torch cannot use its {node.gpus} GPUs: {answer.gpu_error}")
    if answer.storage_error:
        faults.append(f"storage: {answer.storage_error}")
    if abs(skew) > SKEW_S:
        faults.append(f"its clock is off by {skew:+.0f} s")
    if answer.free < ROOM + data_bytes:
        faults.append(f"{answer.free >> 20} MiB free, {(ROOM + data_bytes) >> 20} MiB needed")
    faults += [f"lacks {file}" for file in answer.missing]
    return Finding(node, answer, tuple(faults), skew)


def _seen(finding: Finding, wrote: bool) -> Finding:
    """A node whose token did not arrive writes somewhere else than the driver reads."""
    if wrote or finding.answer is None or finding.answer.storage_error:
        return finding
    told = "storage: what it writes does not arrive"
    return Finding(finding.node, finding.answer, (*finding.faults, told), finding.skew)
