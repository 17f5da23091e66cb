"""Command fetch: download the images of a list; the manifest records the outcome of every address."""

import argparse
import asyncio
import contextlib
import math
import os
import resource
import shutil
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import aiohttp
from filelock import FileLock, Timeout
from rich.console import Console

from platform.curation import steps
from platform.curation.fetching import download, fetched_table, image_store
from platform.curation.fetching.addresses import AddressFilter, Network, networks
from platform.curation.fetching.download import AGAIN, Failure, Limits, Outcome, Record
from platform.curation.fetching.host_queue import HostQueue
from platform.curation.fetching.list_rows import ChosenColumns, key
from platform.curation.fetching.listing import ListContent, Listing, open_list, scan
from platform.curation.fetching.manifest import Manifest
from platform.curation.steps import progress
from platform.data import images
from platform.errors import EXIT_INCOMPLETE, Fault, InputError, folder_faults, raise_if_any

_SCRATCH, _LOCK = ".fetching", ".fetch.lock"
_DECODERS = min(8, os.cpu_count() or 1)  # images decoded at a time; --max-mpx bounds the memory of each
_CHECKED = 1024  # images queued at a time for the comparison of their bytes with their names
_MILLION = 1_000_000
_SPARE_FILES = 100  # open files besides connections


@dataclass(frozen=True)
class Request:
    """Checked options of `fetch`."""

    listing: Listing
    out: Path  # the data set's folder
    limits: Limits  # of one address
    max_pixels: float  # of an image
    concurrent: int  # connections at a time
    per_host: int  # connections to one host at a time
    allowed: tuple[Network, ...]  # networks that may be reached although they are not public
    user_agent: str  # value of the HTTP header
    again: bool  # whether to retry addresses whose failure may have passed


def _read_options(options: argparse.Namespace) -> Request:
    """Check the options and open the list; raise an InputError with all faults of both."""
    allowed, faults = networks(options.allow)
    faults += [*_number_faults(options), *folder_faults("--out", options.out)]
    if not (options.user_agent.isascii() and options.user_agent.isprintable()):
        remedy = "Write for example a name and a mail address."
        faults.append(Fault("--user-agent must be a line of ASCII", repr(options.user_agent), remedy))
    named = [options.url_column, options.label_column, options.box_column]
    url, label, box = (key(name or "") or None for name in named)
    try:
        listing = open_list(options.list, ChosenColumns(url, label, box, options.box), options.encoding)
    except InputError as error:
        raise InputError(*faults, *error.faults) from error
    raise_if_any(faults)
    return Request(
        listing=listing,
        out=options.out,
        limits=Limits(options.timeout, int(options.max_mb * _MILLION), options.tries),
        max_pixels=options.max_mpx * _MILLION,
        concurrent=options.concurrent,
        per_host=min(options.per_host, options.concurrent),
        allowed=tuple(allowed),
        user_agent=options.user_agent,
        again=options.again,
    )


def _number_faults(options: argparse.Namespace) -> list[Fault]:
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = open_files - _SPARE_FILES if open_files != resource.RLIM_INFINITY else math.inf
    bounds = (
        ("--concurrent", options.concurrent, 1, connections, f"ulimit -n is {open_files:,}"),
        ("--per-host", options.per_host, 1, math.inf, ""),
        ("--timeout", options.timeout, 0.001, math.inf, ""),
        ("--max-mb", options.max_mb, 0.001, math.inf, ""),
        ("--max-mpx", options.max_mpx, 0.001, images.MAX_PIXELS / _MILLION, "larger images are not read"),
        ("--tries", options.tries, 1, math.inf, ""),
    )
    faults = []
    for option, value, least, most, why in bounds:
        if not (least <= value <= most and math.isfinite(value)):
            rule = f"{option} must be at least {least:g}" + (f" and at most {most:g}" if why else "")
            faults.append(Fault(rule, f"{value:g}", f"Choose another: {why}." if why else "Choose another."))
    return faults


def run(options: argparse.Namespace, console: Console) -> int:
    """Fetch the images, continuing where an earlier run with the same folder stopped.

    Returns:
        The exit code: 1 if it had to stop, or no image was fetched.
    """
    request = _read_options(options)
    listed = scan(request.listing)
    code, reasons = EXIT_INCOMPLETE, list[str]()
    with _alone_in(request.out):
        try:
            with steps.under_way(request.out, "fetch"):
                code = _run(request, listed, console)
        except* OSError as group:  # a full disk, a folder that may not be written, …
            reasons = [str(error) for error in _leaves(group)]
    for reason in dict.fromkeys(reasons):
        console.print(f"Stopped: {reason}. The same command continues; what was fetched is kept.", markup=False)
    return code


def _run(request: Request, listed: ListContent, console: Console) -> int:
    fetched_table.print_list(console, request.listing, listed)
    version = request.listing.version()
    with contextlib.closing(Manifest(request.out, listed.urls)) as manifest:
        altered = _forget_altered(request.out, listed, manifest, console)
        if request.again:
            manifest.forget([url for url, known in manifest.known.items() if known.outcome in AGAIN])
        todo = [url for url in listed.urls if url not in manifest.known]
        fetched_table.print_known(console, len(listed.urls) - len(todo), altered, manifest.damaged, len(todo))
        began = time.monotonic()
        _fetch_all(request, todo, manifest, console)
        if todo:
            console.print(f"{len(todo):,} asked in {time.monotonic() - began:.1f} s\n")
        written = fetched_table.write(request.out, request.listing, manifest.known, listed.splits)
        fetched_table.print_result(console, request.out, listed, manifest, written)
        fetched_table.print_unlisted(console, manifest.finish(request.listing.rows()))
    if request.listing.version() != version:
        console.print("The list has changed during the run; the same command fetches what is new.", style="yellow")
    return 0 if any(manifest.known[url].image for url in listed.urls) else EXIT_INCOMPLETE


def _fetch_all(request: Request, urls: Sequence[str], manifest: Manifest, console: Console) -> None:
    """Fetch addresses, with a progress bar, and write each outcome to the manifest."""
    counts: Counter[Outcome] = Counter()
    with _asyncio_handles_ctrl_c(), warnings.catch_warnings(), progress(console, "asked", len(urls)) as advance:
        warnings.filterwarnings("ignore", module="PIL")  # a faulty image is recorded as an outcome

        def done(record: Record) -> None:
            manifest.add(record)
            counts[record.outcome] += 1
            advance(f", {counts[Outcome.FETCHED]:,} fetched")

        asyncio.run(_ask_all(request, urls, done))


async def _ask_all(request: Request, urls: Sequence[str], done: Callable[[Record], None]) -> None:
    queue = HostQueue(urls, request.per_host)
    # A name lookup may block its thread for seconds, so there is one thread for each connection.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(request.concurrent, "name"))

    async def work() -> None:
        while turn := queue.next():
            host, url = turn
            record = queue.given_up(host, url) or await _fetch(request, url, client, decoders)
            queue.done(host, record)
            done(record)
            await asyncio.sleep(0)  # let other tasks run, even where nothing was awaited

    with ThreadPoolExecutor(_DECODERS, "decode") as decoders:
        gate = AddressFilter(request.allowed)
        async with (
            download.session(gate, request.concurrent, request.per_host, request.user_agent) as client,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(min(request.concurrent, len(urls))):
                workers.create_task(work())


async def _fetch(request: Request, url: str, client: aiohttp.ClientSession, decoders: ThreadPoolExecutor) -> Record:
    began = time.monotonic()
    came: download.Response | Failure | None = None
    try:
        came = await download.download(client, url, request.limits)
        keep = partial(image_store.keep, came.body, request.out, request.out / _SCRATCH, request.max_pixels)
        kept = await asyncio.get_running_loop().run_in_executor(decoders, keep)
        record = Record(url, Outcome.FETCHED, **vars(kept))
    except Failure as failure:
        came, record = came or failure, Record(url, failure.outcome, failure.detail)
    seconds = round(time.monotonic() - began, 3)
    return replace(record, status=came.status, final_url=came.final_url, tries=came.tries, seconds=seconds)


def _forget_altered(root: Path, listed: ListContent, manifest: Manifest, console: Console) -> int:
    """Remove images that are missing or were altered from the manifest; return the number of their addresses."""
    had: dict[str, list[str]] = {}
    for url in listed.urls:
        if (known := manifest.known.get(url)) and known.image:
            had.setdefault(known.image, []).append(url)
    altered: list[str] = []
    images = iter(had)
    with ThreadPoolExecutor(_DECODERS) as pool, progress(console, "checked", len(had)) as advance:
        while some := list(islice(images, _CHECKED)):
            intact = pool.map(partial(image_store.is_intact, root), some)
            for image, is_intact in zip(some, intact, strict=True):
                altered += [] if is_intact else had[image]
                advance("")
    manifest.forget(altered)
    return len(altered)


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Lock the folder for this process; raise an InputError if another has it, or it cannot be created."""
    lock = FileLock(out / _LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        shutil.rmtree(out / _SCRATCH, ignore_errors=True)  # left by a killed process
        (out / _SCRATCH).mkdir()
    except Timeout as error:
        remedy = "Wait until it is done, or choose another --out."
        raise InputError(Fault("one process at a time may fetch into a folder", f"another in {out}", remedy)) from error
    except OSError as error:
        raise InputError(Fault("--out must be a folder that can be written", str(error), "Choose another.")) from error
    try:
        yield
    finally:
        shutil.rmtree(out / _SCRATCH, ignore_errors=True)
        lock.release()


@contextlib.contextmanager
def _asyncio_handles_ctrl_c() -> Iterator[None]:
    """Install Python's own handler of Ctrl-C, with which asyncio cancels its tasks in order and then raises."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leaves(group: BaseExceptionGroup) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of the groups within it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
