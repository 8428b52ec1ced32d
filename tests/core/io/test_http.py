"""Servers that send on, drip, announce too much or end too early."""

import base64
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from types import SimpleNamespace
from urllib.error import HTTPError

import pytest

from aigc_lightning.core.io import http
from aigc_lightning.core.io.download import downloaded, fetch
from aigc_lightning.core.io.http import DownloadError, answered, joined, receive, seconds_allowed, split_address
from aigc_lightning.errors import UserError

MALFORMED = ["http://[::1", "http://", "http:///x", "http://h:port/", "http://h:99999999/", "https://a b/"]
MALFORMED += ["http://h\\x/", "http://\x00/", "http://h\x1b[2J/"]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *parts):
        pass

    def answer(self, body=b"", code=200, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize("address", MALFORMED)
def test_malformed_addresses_are_told(address, aigc):
    with pytest.raises(DownloadError):
        split_address(address)
    if "\x00" not in address:
        done = aigc("sample", address)
        assert done.code == 2 and len(done.lines) == 2 and "cannot be read" in done.err and "Traceback" not in done.err


def test_names_go_before_a_query():
    assert joined("https://u@h/a/?sig=x&y=1", "b c.tar") == "https://u@h/a/b%20c.tar?sig=x&y=1"
    assert joined("http://h", "b") == "http://h/b"


def test_text_that_is_not_ascii_is_quoted(serve, tmp_path):
    (tmp_path / "ä b.ckpt").write_bytes(b"x")
    assert downloaded(f"{serve(tmp_path)}/ä b.ckpt").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "//[::1", "gopher://h"])
def test_nobody_sends_us_to_another_kind_of_place(target, serve):
    class Elsewhere(Handler):
        def do_GET(self):
            self.answer(code=302, Location=target)

    with pytest.raises(UserError, match="cannot be read: the server redirects to another address"):
        downloaded(serve(Elsewhere) + "/x")


def test_nobody_sends_us_from_https_to_http():
    headers = Message()
    headers["Location"] = "http://h/x"
    error = HTTPError("https://h/x", 301, "Moved", headers, BytesIO())
    with pytest.raises(DownloadError, match="from https to http"):
        http._elsewhere(error, split_address("https://h/x"))
    assert http._elsewhere(error, split_address("http://h/y")) == "http://h/x"


def test_redirects_are_followed_and_end(serve):
    class Around(Handler):
        def do_GET(self):
            left = int(self.path.strip("/"))
            if left:
                self.answer(bytes(10**6), code=307, Location=f"/{left - 1}")  # a body that nobody reads
            else:
                self.answer(b"here", Content_Length=4)

    address = serve(Around)
    assert downloaded(f"{address}/5").read_bytes() == b"here"
    with pytest.raises(UserError, match="redirects more than 5 times"):
        downloaded(f"{address}/6")


def test_a_login_goes_to_its_own_host_alone(serve):
    seen = {}

    class Noting(Handler):
        def do_GET(self):
            seen[self.path] = self.headers.get("Authorization")
            if self.path == "/start":
                self.answer(code=302, Location="/same")
            elif self.path == "/same":
                self.answer(code=302, Location=f"{other}/other")
            else:
                self.answer(b"x", Content_Length=1)

    first, other = serve(Noting), serve(Noting)
    downloaded(f"{first.replace('//', '//us%40er:p%2Fw@')}/start")
    basic = f"Basic {base64.b64encode(b'us@er:p/w').decode()}"
    assert seen == {"/start": basic, "/same": basic, "/other": None}


def drip(serve, **headers):
    class Drip(Handler):
        def do_GET(self):
            self.answer(**headers)
            for _ in range(1000):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
                time.sleep(0.02)

    return serve(Drip)


@pytest.mark.parametrize("headers", [{}, {"Content_Length": 10**9}], ids=["unannounced", "announced"])
def test_a_drip_is_not_waited_for(headers, serve, monkeypatch, tmp_path):
    monkeypatch.setattr(http, "_GRACE", 0.2)
    address, began = drip(serve, **headers), time.monotonic()
    with pytest.raises(DownloadError, match=r"bytes arrived in .* too slow; AIGC_DOWNLOAD_SECONDS"):
        fetch(f"{address}/x", tmp_path / "x")
    assert time.monotonic() - began < 5 and not list(tmp_path.iterdir())


def test_the_limit_grows_with_the_size_and_can_be_set(serve, monkeypatch, aigc, tmp_path):
    assert seconds_allowed(0) == 60 and seconds_allowed(10**9) == 60 + 20_000
    monkeypatch.setenv(http.SECONDS_VARIABLE, "0.3")
    assert seconds_allowed(10**9) == 0.3
    began = time.monotonic()
    with pytest.raises(DownloadError, match="too slow"):
        fetch(f"{drip(serve)}/x", tmp_path / "x")
    assert time.monotonic() - began < 5
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        monkeypatch.setenv(http.SECONDS_VARIABLE, wrong)
        assert aigc("sample", f"{drip(serve)}/x").lines[0].startswith(f"Error: {http.SECONDS_VARIABLE} is '{wrong}'")


def test_a_head_that_drips_is_not_waited_for(serve, monkeypatch):
    monkeypatch.setattr(http, "_GRACE", 0.3)

    class Slow(Handler):
        def do_GET(self):
            for letter in b"HTTP/1.0 200 OK":
                self.wfile.write(bytes([letter]))
                time.sleep(0.2)

    began = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be reached: no answer for 0\.3 seconds"):
        downloaded(serve(Slow) + "/x")
    assert time.monotonic() - began < 2


def test_what_no_disk_holds_is_refused_before_a_byte_is_written(serve, aigc, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    class Petabyte(Handler):
        def do_GET(self):
            self.answer(b"x" * 100, Content_Length=10**15)

    done = aigc("sample", serve(Petabyte) + "/last.ckpt")
    assert done.code == 2 and "it needs 1.0 PB but the disk that holds" in done.err and len(done.lines) == 2
    monkeypatch.undo()


def test_a_disk_that_fills_up_meanwhile_stops_it(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(http, "_LOOK_EVERY", 2**20)
    free = iter([10**9, 10**9, 10**9, 0])
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=next(free), total=10**12))

    class Endless(Handler):
        def do_GET(self):
            self.answer()
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                return

    with pytest.raises(DownloadError, match=f"the disk that holds {tmp_path} is full"):
        fetch(f"{serve(Endless)}/x", tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_there_may_be(announced, serve, tmp_path):
    class Large(Handler):
        def do_GET(self):
            self.answer(bytes(1000), **({"Content_Length": 1000} if announced else {}))

    with pytest.raises(DownloadError, match=r"more than the .* allowed"):
        fetch(f"{serve(Large)}/x", tmp_path / "x", most=999)
    fetch(f"{serve(Large)}/x", tmp_path / "x", most=1000)
    assert (tmp_path / "x").stat().st_size == 1000


def test_what_is_received_is_counted(serve):
    class Odd(Handler):
        def do_GET(self):
            self.answer(b"abc", Content_Length="many")

    pieces: list[bytes] = []
    with answered(serve(Odd) + "/x") as (read, total):
        assert total is None and receive(read, total, pieces.append) == 3
    assert b"".join(pieces) == b"abc"


def test_a_hidden_address_is_not_asked():
    with pytest.raises(UserError, match=r"secret parts are hidden.*AIGC_ADDRESSES"):
        downloaded("http://<hidden>@127.0.0.1:9/x")


def test_the_reason_of_a_server_cannot_steer_a_terminal(serve, aigc):
    class Rude(Handler):
        def do_GET(self):
            self.wfile.write(b"HTTP/1.0 404 \x1b[2J\x1b]0;x\x07Gone\x9b31m\r\n\r\n")

    done = aigc("sample", serve(Rude) + "/x")
    assert done.code == 2 and r"404 \x1b[2J" in done.err and all(line.isprintable() for line in done.lines)
