"""Tests of the download of one address."""

import asyncio
import email.utils
import socket
import time

import pytest
from faulty_server import Server, answer
from hypothesis import given
from hypothesis import strategies as st

from platform.curation.fetching import download
from platform.curation.fetching.addresses import AddressFilter, networks
from platform.curation.fetching.download import Failure, Limits, Outcome, Response, parse

LIMITS = Limits(timeout=5, bytes=1000, tries=1)


def ask(url: str, *allowed: str) -> Response:
    async def once() -> Response:
        async with download.session(AddressFilter(networks(allowed)[0]), 4, 4, "tests") as client:
            return await download.download(client, url, LIMITS)

    return asyncio.run(once())


@pytest.fixture
def names(monkeypatch):
    """Replace the lookup of names; each name has a list of addresses for each lookup."""
    answers: dict[str, list[list[str]]] = {}
    system = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in answers:
            return system(host, port, *args, **kwargs)
        addresses = answers[host].pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


def test_a_name_is_judged_by_where_it_leads(names):
    with Server("127.0.0.2", {"/": answer(b"secret")}) as forbidden:
        names["logos.example"] = [["127.0.0.2", "127.0.0.3"]]
        with pytest.raises(Failure) as caught:
            ask(f"http://logos.example:{forbidden.port}/", "127.0.0.1/32")
        assert caught.value.outcome is Outcome.FORBIDDEN_ADDRESS
        assert forbidden.hits.total() == 0


def test_of_a_names_addresses_those_that_are_forbidden_are_passed_over(names):
    with Server("127.0.0.1", {"/": answer(b"logo")}) as server:
        names["logos.example"] = [["127.0.0.2", "10.0.0.1", "127.0.0.1"]]
        assert ask(f"http://logos.example:{server.port}/", "127.0.0.1/32").body == b"logo"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    with Server("127.0.0.1", {"/": answer(b"logo")}) as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert ask(server.url("/"), "127.0.0.1/32").body == b"logo"


@pytest.mark.parametrize("text", ["http://h/a%2Fb?x=%2B&sig=a~b%7e", "https://user:pw@h:8443/x;y=1", "http://h/a+b"])
def test_an_address_that_can_be_sent_is_sent_as_it_is_written(text):
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://h/a b.png", "http://h/a%20b.png"),
        ("http://h/логотип.png", "http://h/%D0%BB%D0%BE%D0%B3%D0%BE%D1%82%D0%B8%D0%BF.png"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://h/100%.png", "http://h/100%25.png"),
    ],
)
def test_an_address_that_cannot_be_sent_is_written_as_browsers_do(text, sent):
    assert str(parse(text)) == sent


@given(st.text() | st.text().map("http://{}".format) | st.text().map("http://h/{}".format))
def test_any_text_is_an_address_or_a_failure(text):
    try:
        url = parse(text)
    except Failure:
        return
    assert url.scheme in ("http", "https")
    assert url.raw_host


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("9" * 500, 1e9),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
    ],
)
def test_what_a_server_asks_to_wait(header, seconds):
    assert download._retry_after(header) == seconds


def test_a_server_may_ask_to_wait_until_a_date():
    then = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 28 < download._retry_after(then) <= 30
