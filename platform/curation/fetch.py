"""Fetches the images of a list: every address asked once, and told in the manifest how it ended."""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import aiohttp
from filelock import FileLock, Timeout
from rich.console import Console

from platform.curation import steps
from platform.curation.fetching import download, fetch_view, fetched, pictures, request
from platform.curation.fetching.addresses import Gate
from platform.curation.fetching.manifest import Manifest
from platform.curation.fetching.outcomes import AGAIN, Failure, Outcome, Record
from platform.curation.fetching.request import Request
from platform.curation.fetching.scan import Scan, scan
from platform.curation.fetching.turns import Turns
from platform.curation.progress import progress
from platform.errors import EXIT_INCOMPLETE, Fault, InputError

_SCRATCH, _LOCK = ".fetching", ".fetch.lock"
_DECODERS = min(8, os.cpu_count() or 1)  # images decoded at a time: each may take some bytes a pixel, see --max-mpx
_CHECKED = 1024  # images whose bytes are compared with their names, in line at a time


def run(options: argparse.Namespace, console: Console) -> int:
    """Fetches; goes on where an earlier run with the same folder stopped.

    Args:
        options: Of the command line.
        console: Where to tell.

    Returns:
        The exit code: 1 if it had to stop, or not a single image is there.

    Raises:
        InputError: An option is wrong, the list cannot be read, or another process is at work in the folder.
    """
    asked = request.of(options)
    listed = scan(asked.listing)
    code, reasons = EXIT_INCOMPLETE, list[str]()
    with _alone_in(asked.out):
        try:
            with steps.under_way(asked.out, "fetch"):
                code = _run(asked, listed, console)
        except* OSError as group:  # a full disk, a folder that may not be written, …
            reasons = [str(error) for error in _leaves(group)]
    for reason in dict.fromkeys(reasons):
        console.print(f"Stopped: {reason}. What was fetched is kept; the same command goes on.", markup=False)
    return code


def _run(asked: Request, listed: Scan, console: Console) -> int:
    fetch_view.tell_list(console, asked.listing, listed)
    version = asked.listing.version()
    with contextlib.closing(Manifest(asked.out, listed.urls)) as manifest:
        altered = _forget_altered(asked.out, listed, manifest, console)
        if asked.again:
            manifest.forget([url for url, known in manifest.known.items() if known.outcome in AGAIN])
        todo = [url for url in listed.urls if url not in manifest.known]
        fetch_view.tell_known(console, len(listed.urls) - len(todo), altered, manifest.damaged, len(todo))
        began = time.monotonic()
        _fetch_all(asked, todo, manifest, console)
        if todo:
            console.print(f"{len(todo):,} asked in {time.monotonic() - began:.1f} s\n")
        written = fetched.write(asked.out, asked.listing, manifest.known, listed.splits)
        fetch_view.tell_result(console, asked.out, listed, manifest, written)
        fetch_view.tell_left(console, manifest.finish(asked.listing.rows()))
    if asked.listing.version() != version:
        console.print("The list was changed meanwhile: the same command asks what is new.", style="yellow")
    return 0 if any(manifest.known[url].image for url in listed.urls) else EXIT_INCOMPLETE


def _fetch_all(asked: Request, urls: Sequence[str], manifest: Manifest, console: Console) -> None:
    """
    Raises:
        ExceptionGroup: Of OSError: something could not be written.
    """
    counts: Counter[Outcome] = Counter()
    with (
        _asyncio_hears_ctrl_c(),
        warnings.catch_warnings(),
        progress(console, "asked", len(urls)) as advance,
    ):
        warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is its outcome

        def done(record: Record) -> None:
            manifest.add(record)
            counts[record.outcome] += 1
            advance(f", {counts[Outcome.FETCHED]:,} fetched")

        asyncio.run(_ask_all(asked, urls, done))


async def _ask_all(asked: Request, urls: Sequence[str], done: Callable[[Record], None]) -> None:
    turns = Turns(urls, asked.per_host)
    # Looking up a name blocks a thread for seconds where its server is silent: as many as there are connections.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(asked.concurrent, "name"))
    gate = Gate(asked.allowed)
    with ThreadPoolExecutor(_DECODERS, "decode") as decoders:
        async with (
            download.session(gate, asked.concurrent, asked.per_host, asked.user_agent) as client,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(min(asked.concurrent, len(urls))):
                workers.create_task(_work(asked, turns, client, decoders, done))


async def _work(
    asked: Request,
    turns: Turns,
    client: aiohttp.ClientSession,
    decoders: ThreadPoolExecutor,
    done: Callable[[Record], None],
) -> None:
    while turn := turns.next():
        host, url = turn
        record = turns.given_up(host, url) or await _fetch(asked, url, client, decoders)
        turns.done(host, record)
        done(record)
        await asyncio.sleep(0)  # also where nothing was waited for


async def _fetch(asked: Request, url: str, client: aiohttp.ClientSession, decoders: ThreadPoolExecutor) -> Record:
    began = time.monotonic()
    answer = None
    try:
        answer = await download.download(client, url, asked.limits)
        keep = partial(pictures.keep, answer.body, asked.out, asked.out / _SCRATCH, asked.max_pixels)
        kept = await asyncio.get_running_loop().run_in_executor(decoders, keep)
        record = Record(url, Outcome.FETCHED, **vars(kept))
    except Failure as failure:
        record = Record(url, failure.outcome, failure.detail)
        came: download.Answer | Failure = answer or failure
    else:
        came = answer
    seconds = round(time.monotonic() - began, 3)
    return replace(record, status=came.status, final_url=came.final_url, tries=came.tries, seconds=seconds)


def _forget_altered(root: Path, listed: Scan, manifest: Manifest, console: Console) -> int:
    """Makes the manifest forget images that are gone or have other bytes now; returns how many addresses that are."""
    had: dict[str, list[str]] = {}
    for url in listed.urls:
        if (known := manifest.known.get(url)) and known.image:
            had.setdefault(known.image, []).append(url)
    altered: list[str] = []
    images = iter(had)
    with ThreadPoolExecutor(_DECODERS) as pool, progress(console, "checked", len(had)) as advance:
        while some := list(islice(images, _CHECKED)):
            for image, intact in zip(some, pool.map(lambda image: pictures.is_intact(root, image), some), strict=True):
                altered += [] if intact else had[image]
                advance("")
    manifest.forget(altered)
    return len(altered)


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """The folder, for this process alone.

    Raises:
        InputError: Another is at work there, or it cannot be made.
    """
    lock = FileLock(out / _LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        shutil.rmtree(out / _SCRATCH, ignore_errors=True)  # what a killed process left
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
def _asyncio_hears_ctrl_c() -> Iterator[None]:
    """At Ctrl-C asyncio lets all that runs end in order, if it finds Python's own handler, and then raises it."""
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
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
