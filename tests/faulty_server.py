"""Web server with prepared byte-exact responses that counts requests, and 300 of its addresses with every fault."""

import asyncio
import contextlib
import gzip
import io
import random
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import numpy as np
from PIL import Image

from platform.curation.fetching.download import Outcome

Reply = bytes | Callable[[asyncio.StreamWriter, int], Awaitable[None]]  # the latter is told the how-manyeth hit it is


@dataclass
class Server:
    """Server in a thread of its own.

    Attributes:
        host: An address of this machine; every one of 127.0.0.0/8 is.
        pages: What is answered, by path.
        delay: Seconds before each answer.
        hits: How often each path was asked.
        most: How many answers were under way at a time, by the host that was asked for.
    """

    host: str = "127.0.0.1"
    pages: dict[str, Reply] = field(default_factory=dict)
    delay: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def url(self, path: str, host: str | None = None) -> str:
        return f"http://{host or self.host}:{self.port}{path}"

    def __enter__(self) -> "Server":
        self._loop, self._under_way = asyncio.new_event_loop(), Counter[str]()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, self.host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = unquote(head.split(" ")[1])
            host = head.lower().split("\r\nhost: ")[1].split(":")[0]
            self.hits[path] += 1
            self._under_way[host] += 1
            self.most[host] = max(self.most[host], self._under_way[host])
            try:
                await asyncio.sleep(self.delay)
                page = self.pages.get(path, status(404))
                if isinstance(page, bytes):
                    writer.write(page)
                    await writer.drain()
                else:
                    await page(writer, self.hits[path])
            finally:
                self._under_way[host] -= 1
                writer.close()


def answer(body: bytes, *headers: str, code: int = 200, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def status(code: int, *headers: str) -> bytes:
    return answer(b"<html>no</html>", *headers, code=code)


def redirect(to: str, code: int = 302) -> bytes:
    return status(code, f"Location: {to}")


def logo(seed: int, kind: str = "PNG", **options: object) -> bytes:
    """Return a different image for each seed."""
    generator = np.random.default_rng(seed)
    pixels = np.full((48, 64, 3), generator.integers(0, 256, 3), np.uint8)
    top, left = generator.integers(0, 24, 2)
    pixels[top : top + 20, left : left + 30] = generator.integers(0, 256, 3)
    pixels[:4, :16] = np.array([seed >> shift & 1 for shift in range(16)], np.uint8)[None, :, None] * 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """Return a PNG of one bit a pixel: some KB that would decode to at least width * height / 8 bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _first(times: int, bad: bytes, good: bytes) -> Reply:
    async def reply(writer: asyncio.StreamWriter, hit: int) -> None:
        writer.write(bad if hit <= times else good)
        await writer.drain()

    return reply


async def _drip(writer: asyncio.StreamWriter, hit: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n\x89PNG\r\n\x1a\n")
    while True:
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(0.1)


async def _stall(writer: asyncio.StreamWriter, hit: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await asyncio.sleep(60)


async def _reset(writer: asyncio.StreamWriter, hit: int) -> None:
    writer.transport.abort()


async def _endless(writer: asyncio.StreamWriter, hit: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n")
    while True:
        writer.write(bytes(2**16))
        await writer.drain()


async def _endless_headers(writer: asyncio.StreamWriter, hit: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
        await writer.drain()


def fill(server: Server, elsewhere: Server, count: int = 300) -> dict[str, Outcome]:
    """Add pages to a server; return the expected outcome of `count` addresses, in mixed order.

    Args:
        server: May be reached.
        elsewhere: Must not be.
        count: More than all the faults.
    """
    html, png = b"<!DOCTYPE html><html><title>Gone</title></html>", logo(1)
    jpeg = logo(2, "JPEG")
    fine = logo(3)
    other = elsewhere.port
    packed = gzip.compress(png)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(png) + png + b"\r\n0\r\n\r\n"
    pages: dict[Outcome, dict[str, Reply]] = {
        Outcome.FETCHED: {
            **{f"/busy{n}.png": _first(1, status(503), answer(logo(400 + n))) for n in range(3)},
            "/pause.png": _first(1, status(429, "Retry-After: 1"), answer(logo(410))),
            "/flaky.png": _first(1, answer(fine, length=len(fine) + 9), answer(fine)),
            **{f"/moved{code}.png": redirect("/logo0.png", code) for code in (301, 302, 303, 307, 308)},
            "/away.png": redirect(server.url("/logo1.png", "localhost")),
            "/c5": redirect("/c4"),
            "/c4": redirect("c3"),
            "/c3": redirect("/a/../c2"),
            "/c2": redirect("?c1"),
            "/c2?c1": redirect("//" + server.url("/logo2.png").removeprefix("http://")),
            **{f"/copy{n}.png": answer(logo(1000 + n)) for n in range(8)},
            "/no-suffix": answer(jpeg, "Content-Type: text/html"),
            "/wrong.gif": answer(jpeg, "Content-Type: image/gif"),
            "/логотип ü.png": answer(logo(420)),
            "/100% off.png": answer(logo(421)),
            "/chunked.png": chunked,
            "/until-end.png": b"HTTP/1.0 200 OK\r\n\r\n" + logo(422),
        },
        Outcome.DEAD_LINK: {
            **{f"/gone{n}.png": status(404) for n in range(8)},
            "/410": status(410),
            "/403": status(403),
            "/401": status(401, "WWW-Authenticate: Basic"),
            "/304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
            "/302": status(302),
            "/999": status(499),
        },
        Outcome.SERVER_ERROR: {
            **{f"/500-{n}": status(500) for n in range(3)},
            "/520": status(520),
            "/later": status(503, "Retry-After: 86400"),
        },
        Outcome.REDIRECTS: {
            "/loop": redirect("/loop"),
            "/a": redirect("/b"),
            "/b": redirect("/a"),
            "/c6": redirect("/c5"),
        },
        Outcome.FORBIDDEN_ADDRESS: {
            f"/private{n}": redirect(url)
            for n, url in enumerate(
                [
                    *(f"http://127.0.0.2:{other}/{n}.png" for n in range(3)),
                    f"http://0x7f.2:{other}/1.png",
                    f"http://0x7f000002:{other}/1.png",
                    f"http://[::ffff:127.0.0.2]:{other}/1.png",
                    f"http://{server.host}:{server.port}@127.0.0.2:{other}/1.png",
                    f"//127.0.0.2:{other}/1.png",
                    "http://10.0.0.1/",
                    "http://[::1]/",
                    "http://[fe80::1%25lo]/",
                    "http://169.254.169.254/latest/meta-data/",
                    "http://0.0.0.0/",
                ]
            )
        },
        Outcome.UNSUPPORTED_SCHEME: {"/to-file": redirect("file:///etc/passwd"), "/to-ftp": redirect("ftp://h/x.png")},
        Outcome.NOT_A_URL: {
            "/to-decimal": redirect(f"http://2130706434:{other}/1.png"),
            "/to-octal": redirect(f"http://0177.0.0.2:{other}/1.png"),
            "/to-dot": redirect(f"http://127.0.0.2.:{other}/1.png"),
            "/to-port": redirect("http://h:99999/"),
        },
        Outcome.TOO_LARGE: {
            "/announced": answer(b"\x89PNG", length=10**12),
            "/endless": _endless,
            "/large.png": answer(png + bytes(2**20)),
        },
        Outcome.TOO_MANY_PIXELS: {
            "/bomb.png": answer(huge_png(30_000, 30_000)),
            "/bomb2.png": answer(huge_png(12_000, 12_000)),
            "/wide.png": answer(huge_png(2_000, 2_000)),
        },
        Outcome.NOT_AN_IMAGE: {
            **{f"/page{n}.png": answer(html, "Content-Type: image/png") for n in range(4)},
            "/logo.svg": answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Content-Type: image/svg+xml"),
            "/empty.png": answer(b""),
            "/204.png": b"HTTP/1.1 204 No Content\r\n\r\n",
            "/a.pdf": answer(b"%PDF-1.4"),
            "/a.json": answer(b'{"error": "gone"}'),
            "/packed.png": answer(packed, "Content-Encoding: gzip"),
        },
        Outcome.BROKEN_IMAGE: {
            "/cut.png": answer(png[: len(png) // 2]),
            "/cut.jpg": answer(jpeg[: len(jpeg) // 2]),
            "/head.jpg": answer(jpeg[:20]),
            "/crc.png": answer(png[:60] + b"\xff\xff\xff" + png[63:]),
        },
        Outcome.CONNECTION_FAILED: {
            **{f"/reset{n}.png": _reset for n in range(2)},
            "/cut-off.png": answer(png, length=len(png) + 1000),
            "/too-long.png": answer(png, length=60),
            "/no-http": b"hello\r\n\r\n",
            "/headers": _endless_headers,
        },
    }
    slow: dict[str, Reply] = {"/drip": _drip, "/drip2": _drip, "/stall": _stall, "/stall2": _stall}
    direct = {
        f"http://127.0.0.2:{other}/1.png": Outcome.FORBIDDEN_ADDRESS,
        f"http://0x7f.2:{other}/1.png": Outcome.FORBIDDEN_ADDRESS,
        f"http://[::ffff:7f00:2]:{other}/1.png": Outcome.FORBIDDEN_ADDRESS,
        f"https://127.0.0.2:{other}/1.png": Outcome.FORBIDDEN_ADDRESS,
        f"http://2130706434:{other}/1.png": Outcome.NOT_A_URL,
        "http://127.0.0.1:1/closed.png": Outcome.CONNECTION_FAILED,
        "http://no-such-host.invalid/a.png": Outcome.NO_SUCH_HOST,
        "data:image/png;base64,AAAA": Outcome.UNSUPPORTED_SCHEME,
        "file:///etc/passwd": Outcome.UNSUPPORTED_SCHEME,
        "ftp://host/a.png": Outcome.UNSUPPORTED_SCHEME,
        "www.example.com/a.png": Outcome.NOT_A_URL,
        "http://": Outcome.NOT_A_URL,
        "http://[::1": Outcome.NOT_A_URL,
        "http://a..b/": Outcome.NOT_A_URL,
        f"http://h/{'a' * 9000}": Outcome.NOT_A_URL,
    }
    expected = dict(direct)
    for outcome, replies in pages.items():
        server.pages |= replies
        expected |= {server.url(path): outcome for path in replies}
    server.pages |= slow
    expected |= {server.url(path, "localhost"): Outcome.TIMEOUT for path in slow}
    expected |= {server.url(quote("/логотип ü.png")): Outcome.FETCHED, server.url("/c5#part"): Outcome.FETCHED}
    kinds = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
    for number in range(count - len(expected)):
        path = f"/logo{number}.png"
        server.pages[path] = answer(logo(1000 + number, "PNG" if number < 8 else kinds[number % len(kinds)]))
        expected[server.url(path)] = Outcome.FETCHED
    order = list(expected)
    random.Random(0).shuffle(order)
    return {url: expected[url] for url in order}
