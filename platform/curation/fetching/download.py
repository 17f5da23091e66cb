"""One address asked: limits, redirects followed by hand, and tries again what may pass."""

import asyncio
import email.utils
import re
import socket
import time
from dataclasses import dataclass, replace
from http import HTTPStatus

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from yarl import URL

from platform.curation.fetching.addresses import ForbiddenAddress, Gate
from platform.curation.fetching.outcomes import Failure, Outcome
from platform.data.files import printable

MAX_REDIRECTS = 5
_SCHEMES = ("http", "https")
_LONGEST_URL = 8192  # characters; servers take no more
_LONGEST_DETAIL = 200
_LONGEST_PAUSE = 60.0  # seconds; who asks for more is not asked again in this run
_BACKOFF = wait_exponential_jitter(initial=1, max=20)
_CHUNK = 2**16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429})
# An address of these is sent as it is: what is signed must not be written in another way, however equal.
_AS_WRITTEN = re.compile(r"(?:[\w\-.~:/?#\[\]@!$&'()*+,;=]|%[0-9a-fA-F]{2})+", re.ASCII)
_HEADERS = {
    "Accept": "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,*/*;q=0.1",
    "Accept-Encoding": "identity",  # an image is compressed already; what unpacks may be a bomb
}


@dataclass(frozen=True)
class Limits:
    """What one address may take.

    Attributes:
        timeout: Seconds of a try.
        bytes: Of the answer's body.
        tries: Of what may pass.
    """

    timeout: float
    bytes: int
    tries: int


@dataclass(frozen=True)
class Answer:
    """A body, whole; the status it came with, where it came from, and how many tries it took."""

    body: bytes
    status: int
    final_url: str
    tries: int = 1


def session(gate: Gate, concurrent: int, per_host: int, user_agent: str) -> aiohttp.ClientSession:
    """What addresses are asked through: no cookies, no proxies or passwords of the environment, nothing unpacked."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrent, limit_per_host=per_host, socket_factory=gate),
        headers={**_HEADERS, "User-Agent": user_agent},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # a try has one limit, see `_ask`
        trust_env=False,
        auto_decompress=False,
    )


async def download(client: aiohttp.ClientSession, text: str, limits: Limits) -> Answer:
    """Asks an address, again where that may help.

    Args:
        client: See `session`.
        text: The address as written.
        limits: What it may take.

    Raises:
        Failure: No whole body came.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_another), stop=stop_after_attempt(limits.tries), wait=_pause, reraise=True
    )
    try:
        answer: Answer = await retrying(_ask, client, text, limits)
    except Failure as failure:
        failure.tries = retrying.statistics["attempt_number"]
        raise
    return replace(answer, tries=retrying.statistics["attempt_number"])


def parse(text: str, base: URL | None = None) -> URL:
    """An address that may be asked, as far as its text tells.

    Args:
        text: As written.
        base: What it is relative to.

    Raises:
        Failure: It is none.
    """
    if len(text) > _LONGEST_URL:
        raise Failure(Outcome.NOT_A_URL, f"{len(text):,} characters")
    try:
        url = URL(text, encoded=bool(_AS_WRITTEN.fullmatch(text)))
        url = base.join(url) if base else url
        host, _ = url.raw_host, url.port  # which are looked at now, and may be wrong
    except ValueError as error:
        raise Failure(Outcome.NOT_A_URL, _short(error)) from error
    if not url.scheme:
        raise Failure(Outcome.NOT_A_URL, "no http:// or https:// before it")
    if url.scheme not in _SCHEMES:
        raise Failure(Outcome.UNSUPPORTED_SCHEME, _short(url.scheme))
    if not host:
        raise Failure(Outcome.NOT_A_URL, "no host")
    return url


async def _ask(client: aiohttp.ClientSession, text: str, limits: Limits) -> Answer:
    """One try.

    Raises:
        Failure: No whole body came.
    """
    asked: list[URL] = []
    try:
        async with asyncio.timeout(limits.timeout):
            return await _follow(client, text, limits, asked)
    except Exception as error:  # on hostile answers libraries raise nearly anything
        told = error if isinstance(error, Failure) else _failure(error, limits)
        told.final_url = str(asked[-1]) if asked else None
        raise told from error


async def _follow(client: aiohttp.ClientSession, text: str, limits: Limits, asked: list[URL]) -> Answer:
    url = parse(text)
    while len(asked) <= MAX_REDIRECTS:
        if url in asked:
            raise Failure(Outcome.REDIRECTS, "a loop")
        asked.append(url)
        async with client.get(url, allow_redirects=False) as response:
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                _refuse(response)
                return Answer(await _body(response, limits.bytes), response.status, str(url))
        url = _redirected(target, url)
    raise Failure(Outcome.REDIRECTS, f"more than {MAX_REDIRECTS}")


def _redirected(target: str, url: URL) -> URL:
    try:
        return parse(target, base=url)
    except Failure as failure:
        raise Failure(failure.outcome, _short(f"redirected to {target}: {failure.detail}")) from failure


def _refuse(response: aiohttp.ClientResponse) -> None:
    """
    Raises:
        Failure: The status is no success.
    """
    status = response.status
    if 200 <= status < 300:
        return
    known = {known.value: known.phrase for known in HTTPStatus}
    detail = f"{status} {known.get(status, '')}".strip()
    if status < 500 and status not in _BUSY:
        raise Failure(Outcome.DEAD_LINK, detail, status=status)
    pause = _retry_after(response.headers.get("Retry-After", ""))
    detail += f", asks for a pause of {pause:,.0f} s" if pause else ""
    raise Failure(Outcome.SERVER_ERROR, detail, passing=True, pause=pause, status=status)


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    announced = response.content_length
    if announced is not None and announced > most:
        raise Failure(Outcome.TOO_LARGE, f"{announced:,} announced, {most:,} allowed", status=response.status)
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            raise Failure(Outcome.TOO_LARGE, f"more than {most:,}", status=response.status)
    return bytes(body)


def _failure(error: Exception, limits: Limits) -> Failure:
    reason = getattr(error, "os_error", None) or error
    if isinstance(reason, ForbiddenAddress):
        return Failure(Outcome.FORBIDDEN_ADDRESS, f"{reason.address}: {reason.what}")
    if isinstance(reason, socket.gaierror):  # the name's server may be busy, or say that there is no such name
        return Failure(Outcome.NO_SUCH_HOST, _short(reason.strerror), passing=reason.errno == socket.EAI_AGAIN)
    if isinstance(error, (aiohttp.InvalidURL, UnicodeError)):
        return Failure(Outcome.NOT_A_URL, _short(error))
    if isinstance(error, TimeoutError):
        return Failure(Outcome.TIMEOUT, f"not whole after {limits.timeout:g} s", passing=True)
    unsafe = isinstance(error, aiohttp.ClientConnectorCertificateError)
    if isinstance(error, aiohttp.ClientResponseError):  # not HTTP, or not as it should be
        reason = error.message
    return Failure(Outcome.CONNECTION_FAILED, _short(reason) or type(error).__name__, passing=not unsafe)


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, Failure) and error.passing and (error.pause or 0) <= _LONGEST_PAUSE


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the server asked for, and longer each time."""
    error = state.outcome.exception() if state.outcome else None
    return max(_BACKOFF(state), getattr(error, "pause", None) or 0)


def _retry_after(text: str) -> float | None:
    """Seconds that a Retry-After asks for, which has them or a date; None if it has neither."""
    if text.strip().isdecimal():
        return min(float(text), 1e9)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def _short(value: object) -> str:
    return " ".join(printable(value).split())[:_LONGEST_DETAIL]
