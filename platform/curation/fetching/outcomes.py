"""What becomes of an address of the list, and of a row that cannot be read."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How it ended."""

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


# What may be otherwise another time, and what depends on the options; --again asks both again.
MAY_PASS = frozenset({Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.NO_SUCH_HOST, Outcome.CONNECTION_FAILED})
BOUNDED = {
    Outcome.FORBIDDEN_ADDRESS: "--allow NETWORK",
    Outcome.TOO_LARGE: "--max-mb",
    Outcome.TOO_MANY_PIXELS: "--max-mpx",
}
AGAIN = MAY_PASS | frozenset(BOUNDED)


@dataclass(frozen=True)
class Record:
    """A line of the manifest.

    Attributes:
        url: As the list writes it; None for a row that cannot be read.
        outcome: How it ended.
        detail: For people; "" where there is nothing to say.
        status: Of the last answer, None if there was none.
        image: Where the image is, from the data set's folder; None unless fetched, and so are the next four.
        bytes: Of the file.
        width, height: In pixels, the right way up.
        sha256: Of the file's bytes.
        final_url: Where the redirects led to, None if nothing was asked.
        tries: How often it was asked.
        seconds: That it took, pauses included.
    """

    url: str | None
    outcome: Outcome
    detail: str = ""
    status: int | None = None
    image: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    final_url: str | None = None
    tries: int = 0
    seconds: float = 0.0


class Failure(Exception):  # noqa: N818 (an outcome, not a fault of the program)
    """An address that no image came from.

    Attributes:
        outcome: How it ended.
        detail: For people.
        passing: Whether it is worth asking again soon.
        pause: Seconds that the server asks to wait before, if it does.
        status, final_url, tries: As in `Record`.
    """

    def __init__(
        self,
        outcome: Outcome,
        detail: str = "",
        *,
        passing: bool = False,
        pause: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail, self.passing, self.pause, self.status = outcome, detail, passing, pause, status
        self.final_url: str | None = None
        self.tries = 0
