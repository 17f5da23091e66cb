"""Download of one address with limits, checked redirects and retries, and the possible outcomes."""

import asyncio
import email.utils
import http.client
import re
import socket
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from yarl import URL

from platform.curation.fetching.addresses import AddressFilter, ForbiddenAddress
from platform.data.files import printable


class Outcome(StrEnum):
    """Outcome of an address or of an unreadable row."""

    FETCHED = "fetched"
    DEAD_LINK = "dead link"
    SERVER_ERROR = "server error"
    TIMEOUT = "timeout"
    NO_SUCH_HOST = "no such host"
    CONNECTION_FAILED = "connection failed"
    FORBIDDEN_ADDRESS = "forbidden address"
    UNSUPPORTED_SCHEME = "unsupported scheme"
    NOT_A_URL = "not a URL"
    REDIRECTS = "too many redirects"
    TOO_LARGE = "too many bytes"
    TOO_MANY_PIXELS = "too many pixels"
    NOT_AN_IMAGE = "not an image"
    BROKEN_IMAGE = "broken image"
    UNREADABLE_ROW = "unreadable row"


# Outcomes that may change by themselves, and those that depend on an option; --again retries both.
MAY_PASS = frozenset({Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.NO_SUCH_HOST, Outcome.CONNECTION_FAILED})
BOUNDED = {
    Outcome.FORBIDDEN_ADDRESS: "--allow NETWORK",
    Outcome.TOO_LARGE: "--max-mb",
    Outcome.TOO_MANY_PIXELS: "--max-mpx",
}
AGAIN = MAY_PASS | frozenset(BOUNDED)


@dataclass(frozen=True)
class Record:
    """Line of the manifest."""

    url: str | None  # as the list writes it; None for a row that cannot be read
    outcome: Outcome
    detail: str = ""  # for people
    status: int | None = None  # HTTP status of the last response
    image: str | None = None  # path from the data set's folder; None unless fetched, as are the next four
    bytes: int | None = None
    width: int | None = None  # pixels, the right way up
    height: int | None = None
    sha256: str | None = None  # of the file's bytes
    final_url: str | None = None  # after redirects, None if no request was made
    tries: int = 0
    seconds: float = 0.0  # pauses included


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 (an outcome, not a fault of the program)
    """Failed download of an address; what `Record` has, too, is as there."""

    outcome: Outcome
    detail: str = ""
    passing: bool = field(default=False, kw_only=True)  # whether another try soon may succeed
    pause: float | None = field(default=None, kw_only=True)  # seconds that the server asks to wait before it
    status: int | None = field(default=None, kw_only=True)
    final_url: str | None = field(default=None, init=False)
    tries: int = field(default=0, init=False)


MAX_REDIRECTS = 5
_SCHEMES = ("http", "https")
_LONGEST_URL = 8192  # characters; servers accept no more
_LONGEST_DETAIL = 200
_LONGEST_PAUSE = 60.0  # seconds; after a longer Retry-After there is no further try in this run
_BACKOFF = wait_exponential_jitter(initial=1, max=20)
_CHUNK = 2**16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429})
# An address of these characters is sent unchanged, because an equivalent spelling may break its signature.
_AS_WRITTEN = re.compile(r"(?:[\w\-.~:/?#\[\]@!$&'()*+,;=]|%[0-9a-fA-F]{2})+", re.ASCII)
_HEADERS = {
    "Accept": "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/tiff,*/*;q=0.1",
    "Accept-Encoding": "identity",  # images are compressed already, and compressed responses may be decompression bombs
}


@dataclass(frozen=True)
class Limits:
    """Limits of one address: seconds of a try, bytes of a response's body, tries after failures that may pass."""

    timeout: float
    bytes: int
    tries: int


@dataclass(frozen=True)
class Response:
    """Complete response: body, status, address after redirects, and number of tries."""

    body: bytes
    status: int
    final_url: str
    tries: int = 1


def session(gate: AddressFilter, concurrent: int, per_host: int, user_agent: str) -> aiohttp.ClientSession:
    """Return an HTTP client without cookies, decompression, and the environment's proxies and passwords."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrent, limit_per_host=per_host, socket_factory=gate),
        headers={**_HEADERS, "User-Agent": user_agent},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # a try has one time limit, see `_request`
        trust_env=False,
        auto_decompress=False,
    )


async def download(client: aiohttp.ClientSession, text: str, limits: Limits) -> Response:
    """Download an address as it is written, with further tries after failures that may pass; see `session`.

    Raises:
        Failure: There is no complete response.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_another), stop=stop_after_attempt(limits.tries), wait=_pause, reraise=True
    )
    try:
        answer: Response = await retrying(_request, client, text, limits)
    except Failure as failure:
        failure.tries = retrying.statistics["attempt_number"]
        raise
    return replace(answer, tries=retrying.statistics["attempt_number"])


def parse(text: str, base: URL | None = None) -> URL:
    """Parse an address, perhaps relative to the base that redirects to it, and check that it may be requested.

    Raises:
        Failure: It is no valid http or https address.
    """
    if len(text) > _LONGEST_URL:
        raise Failure(Outcome.NOT_A_URL, f"{len(text):,} characters")
    try:
        url = URL(text, encoded=bool(_AS_WRITTEN.fullmatch(text)))
        url = base.join(url) if base else url
        host, _ = url.raw_host, url.port  # both are parsed only now, and may be invalid
    except ValueError as error:
        raise Failure(Outcome.NOT_A_URL, _short(error)) from error
    if not url.scheme:
        raise Failure(Outcome.NOT_A_URL, "no http:// or https:// before it")
    if url.scheme not in _SCHEMES:
        raise Failure(Outcome.UNSUPPORTED_SCHEME, _short(url.scheme))
    if not host:
        raise Failure(Outcome.NOT_A_URL, "no host")
    return url


async def _request(client: aiohttp.ClientSession, text: str, limits: Limits) -> Response:
    """Request an address once; raise a Failure if there is no complete response."""
    requested: list[URL] = []
    try:
        async with asyncio.timeout(limits.timeout):
            return await _follow(client, text, limits, requested)
    except Exception as error:  # libraries raise nearly anything on hostile responses
        failure = error if isinstance(error, Failure) else _failure(error, limits)
        failure.final_url = str(requested[-1]) if requested else None
        raise failure from error


async def _follow(client: aiohttp.ClientSession, text: str, limits: Limits, requested: list[URL]) -> Response:
    url = parse(text)
    while len(requested) <= MAX_REDIRECTS:
        if url in requested:
            raise Failure(Outcome.REDIRECTS, "a loop")
        requested.append(url)
        async with client.get(url, allow_redirects=False) as response:
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                _raise_for_status(response)
                return Response(await _body(response, limits.bytes), response.status, str(url))
        try:
            url = parse(target, base=url)
        except Failure as failure:
            raise Failure(failure.outcome, _short(f"redirected to {target}: {failure.detail}")) from failure
    raise Failure(Outcome.REDIRECTS, f"more than {MAX_REDIRECTS}")


def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    """Raise a Failure for a status that is no success."""
    status = response.status
    if 200 <= status < 300:
        return
    detail = f"{status} {http.client.responses.get(status, '')}".strip()
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
    if isinstance(reason, socket.gaierror):  # the name server may be busy, or say that there is no such name
        return Failure(Outcome.NO_SUCH_HOST, _short(reason.strerror), passing=reason.errno == socket.EAI_AGAIN)
    if isinstance(error, (aiohttp.InvalidURL, UnicodeError)):
        return Failure(Outcome.NOT_A_URL, _short(error))
    if isinstance(error, TimeoutError):
        return Failure(Outcome.TIMEOUT, f"not whole after {limits.timeout:g} s", passing=True)
    unsafe = isinstance(error, aiohttp.ClientConnectorCertificateError)
    if isinstance(error, aiohttp.ClientResponseError):  # not valid HTTP
        reason = error.message
    return Failure(Outcome.CONNECTION_FAILED, _short(reason) or type(error).__name__, passing=not unsafe)


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, Failure) and error.passing and (error.pause or 0) <= _LONGEST_PAUSE


def _pause(state: RetryCallState) -> float:
    """Return the seconds until the next try: at least what the server asked for, and growing."""
    error = state.outcome.exception() if state.outcome else None
    return max(_BACKOFF(state), getattr(error, "pause", None) or 0)


def _retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After header, which contains seconds or a date; None if it has neither."""
    if text.strip().isdecimal():
        return min(float(text), 1e9)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def _short(value: object) -> str:
    return " ".join(printable(value).split())[:_LONGEST_DETAIL]
