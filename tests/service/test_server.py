"""Who may ask and what it may cost: token, Host, origins, methods, sizes, slow and many requests; and the reports."""

from __future__ import annotations

import gzip
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from service.served import TOKEN, limits, module_of, serving

from ptap.capture_conversion import convert
from ptap.cli.serve import command
from ptap.profile.pprof_schema import profile_message
from ptap.service.capture_facts import Content, content_of
from ptap.service.loopback_server import AddressError, listen
from ptap.service.work_queue import Unfinished, WorkQueue
from relay_reader.capture_kind import CAPTURE_FILE_MAGIC, MODULE_CAPTURE_MAGIC, PERF_DATA_MAGIC

FORMS = ("report.html", "firefox.json", "speedscope.json", "profile.pb.gz")


def rest_of(connection: socket.socket) -> bytes:
    """What is sent until the end, which is abrupt where the server has not read all that was sent."""
    received = b""
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            received += part
    return received


def test_without_the_token_nothing_is_there(shop):
    paths = ("/", "/files.json", "/file/0/facts.json", "/symbolicate/v5", "/source/v1", "/no/such")
    with serving(shop / "shop") as served:
        for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "%2e", "%C3%A9", "%ff"):
            for path in paths:
                for method in ("GET", "POST", "OPTIONS"):
                    answer = served.ask(method, path, token=token)
                    assert answer.status == 404 and "Access-Control-Allow-Origin" not in answer.headers
                    assert TOKEN.encode() not in answer.body
        assert served.get("/").status == 200
        answer = served.get("")
        assert answer.status == 308 and answer.headers["Location"].endswith(f"/{TOKEN}/")


def test_a_foreign_host_is_refused(shop):
    """A page whose name was made to lead here gets nothing, even with the token."""
    with serving(shop / "shop") as served:
        for host in (f"127.0.0.1:{served.port}", f"localhost:{served.port}"):
            assert served.get("/files.json", Host=host).status == 200
        own = f"127.0.0.1:{served.port}"
        for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1", f"{own}.evil", f"{own},evil", ""):
            answer = served.get("/files.json", Host=host)
            assert answer.status == 421 and "Access-Control-Allow-Origin" not in answer.headers
        path = f"/{TOKEN}/files.json"
        for head in (
            f"GET {path} HTTP/1.1\r\n\r\n",
            f"GET {path}\r\n\r\n",
            f"GET http://evil.example{path} HTTP/1.1\r\nHost: localhost:{served.port}\r\n\r\n",
        ):
            assert b'"path"' not in rest_of(served.raw(head.encode()))


def test_the_profiler_may_ask_and_nobody_else(shop):
    with serving(shop / "shop") as served:
        preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
        answer = served.ask("OPTIONS", "/symbolicate/v5", Origin="https://profiler.firefox.com",
                            Access_Control_Request_Private_Network="true", **preflight)  # fmt: skip
        assert answer.status == 204 and not answer.body
        assert answer.headers["Access-Control-Allow-Origin"] == "https://profiler.firefox.com"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
        assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
        # What a browser sends without asking first: a text, not JSON. An error is to be read, too.
        for body, status in ((b'{"jobs": []}', 200), (b"{", 400)):
            answer = served.ask(
                "POST", "/symbolicate/v5", body, Origin="https://evil.example", Content_Type="text/plain"
            )
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == "https://profiler.firefox.com"


def test_methods_and_paths(shop):
    with serving(shop / "shop") as served:
        for method, path, status in (
            ("GET", "/symbolicate/v5", 405),
            ("DELETE", "/", 405),
            ("POST", "/files.json", 405),
            ("HEAD", "/files.json", 200),
            ("GET", "/symbolicate/v4", 404),
            ("GET", "//files.json", 200),  # of users whose base address ends in a slash
            ("GET", "/file/1/facts.json", 404),
            ("GET", "/file/-1/facts.json", 404),
            ("GET", f"/file/{'9' * 100}/facts.json", 404),
            ("GET", "/file/0/../../../../etc/passwd", 404),
            ("GET", "/file/0/..%2f..%2fetc%2fpasswd", 404),
            ("GET", "/page.html", 404),
            ("GET", "/list.js", 200),
        ):
            answer = served.ask(method, path)
            assert answer.status == status, (method, path)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_request_has_a_largest_size(shop):
    with serving(shop / "shop", limits=limits(request_bytes=1000)) as served:
        body = b'{"jobs": []}'
        assert served.ask("POST", "/symbolicate/v5", body + b" " * (1000 - len(body))).status == 200
        answer = served.ask("POST", "/symbolicate/v5", body + b" " * (1001 - len(body)))
        assert answer.status == 413 and "more than 1000 bytes" in answer.json["error"]
        head = f"POST /{TOKEN}/symbolicate/v5 HTTP/1.1\r\nHost: localhost:{served.port}\r\n"
        huge = rest_of(served.raw(f"{head}Content-Length: {1 << 60}\r\n\r\n".encode()))
        assert huge.startswith(b"HTTP/1.1 413 ")
        chunks = b"200\r\n" + b" " * 512 + b"\r\n"
        chunked = rest_of(served.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 4 * chunks + b"0\r\n\r\n"))
        assert chunked.startswith(b"HTTP/1.1 413 ")
        assert rest_of(served.raw(f"{head}X: ".encode() + b"x" * (1 << 17))).startswith(b"HTTP/1.1 431 ")
        short = served.raw(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        short.shutdown(socket.SHUT_WR)
        assert rest_of(short).startswith(b"HTTP/1.1 400 ")


def test_a_slow_request_ends(shop):
    """A head that never ends, a body of which a byte comes now and then, and nothing at all, all at once."""
    with serving(shop / "shop", limits=limits(arrival_seconds=3)) as served:
        head = f"POST /{TOKEN}/symbolicate/v5 HTTP/1.1\r\nHost: localhost:{served.port}\r\n"
        body = served.raw(f"{head}Content-Length: 1000000\r\n\r\n{{".encode())
        silent, cut = served.raw(b""), served.raw(head.replace("POST", "GET").encode())
        while not select.select([body], [], [], 0.05)[0]:
            body.sendall(b" ")
        assert rest_of(body).startswith(b"HTTP/1.1 408 ")
        assert rest_of(silent) == b"" and rest_of(cut).startswith(b"HTTP/1.1 408 ")
        assert served.get("/files.json").status == 200


def test_connections_at_once_are_bounded(shop):
    with serving(shop / "shop", limits=limits(connections=2)) as served:
        idle = [served.raw(b"GET ") for _ in range(2)]
        refused = served.raw(b"")
        assert rest_of(refused).startswith(b"HTTP/1.1 503 ")
        for connection in idle:
            connection.sendall(b"/ HTTP/1.0\r\n\r\n")
            assert b" 421 " in rest_of(connection)
        # Their threads end a moment after their connections do.
        request = f"GET /{TOKEN}/list.js HTTP/1.0\r\nHost: localhost:{served.port}\r\n\r\n".encode()
        while not (answer := rest_of(served.raw(request))) or answer.startswith(b"HTTP/1.1 503 "):
            pass
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_whoever_waits_too_long_may_ask_again(recording, monkeypatch):
    """A report goes on being made; symbols are given up, and what is behind them in the queue comes to its turn."""
    from ptap.service.made_reports import MadeReports

    begun, go_on = threading.Event(), threading.Event()
    make = MadeReports.make

    def slowly(self, *of):
        begun.set()
        go_on.wait()
        return make(self, *of)

    monkeypatch.setattr(MadeReports, "make", slowly)
    with serving(recording, limits=limits(answer_seconds=0.2, report_seconds=0.2)) as served:
        answer = served.get("/file/0/report.html")
        assert answer.status == 503 and answer.headers["Retry-After"] == answer.headers["Refresh"]
        assert begun.wait(300) and served.post("/symbolicate/v5", {"jobs": []}).status == 503
        assert served.get("/files.json").status == 200, "what needs no work is there meanwhile"
        go_on.set()
        while (answer := served.get("/file/0/report.html")).status == 503:
            pass
        assert answer.status == 200 and b"</html>" in answer.body


def test_jobs_with_one_key_are_one_job():
    work = WorkQueue()
    runs: list[int] = []
    go_on = threading.Event()

    def job() -> int:
        go_on.wait()
        runs.append(1)
        return len(runs)

    for _ in range(3):
        with pytest.raises(Unfinished):
            work.result(job, 0.01, key="same")
        with pytest.raises(Unfinished):
            work.result(job, 0.01)  # given up before its turn
    go_on.set()
    assert work.result(job, 300, key="same") in (1, 2)
    with pytest.raises(ZeroDivisionError):
        work.result(lambda: 1 // 0, 60)

    def too_late() -> None:
        raise TimeoutError("the job's own")

    with pytest.raises(TimeoutError, match="own"):
        work.result(too_late, 60)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com", "", "127.0.0.1.example.com"])
def test_only_this_machine_is_listened_to(host):
    with pytest.raises(AddressError):
        listen(host, 0)


def test_every_form_of_a_report(recording):
    with serving(recording) as served:
        before = served.get("/file/0/facts.json").json
        answers = {form: served.get(f"/file/0/{form}") for form in FORMS}
        after = served.get("/file/0/facts.json").json
    samples = before["counts"]["samples"]
    assert samples > 0 and before["forms"] == list(FORMS) and not before["told"]
    assert {each.status for each in answers.values()} == {200}
    profile = answers["firefox.json"].json
    assert sum(thread["samples"]["length"] for thread in profile["threads"]) == samples
    assert len(answers["speedscope.json"].json["profiles"]) > 0
    pprof = profile_message().FromString(gzip.decompress(answers["profile.pb.gz"].body))
    assert sum(sample.value[0] for sample in pprof.sample) == samples
    assert f"{samples} samples, weight ".encode() in answers["report.html"].body
    assert "connect-src" not in answers["report.html"].headers["Content-Security-Policy"]
    assert any(f"{samples} hits" in line for line in after["told"])


def test_capture_files_are_served(recording, tmp_path):
    """What was recorded, whether it ended in order, and the same stacks as those of the file that it was made of."""
    convert(str(recording), str(tmp_path / "whole.ptap"))
    whole = (tmp_path / "whole.ptap").read_bytes()
    (tmp_path / "cut.ptap").write_bytes(whole[: len(whole) * 2 // 3])
    with serving(recording, tmp_path) as served:
        wanted, cut, facts = (served.get(f"/file/{number}/facts.json").json for number in range(3))
        assert facts["kind"] == "capture file" and facts["counts"] == wanted["counts"] and not facts["problems"]
        assert cut["problems"]
        stacks = [served.get(f"/file/{number}/speedscope.json").json["profiles"] for number in (0, 2)]
        assert [each["weights"] for each in stacks[0]] == [each["weights"] for each in stacks[1]]


def test_reports_are_kept_up_to_a_limit_and_follow_the_file(recording, tmp_path, monkeypatch):
    from ptap.profile import speedscope

    written: list[int] = []
    write = speedscope.write_speedscope

    def counted(*of):
        written.append(1)
        write(*of)

    monkeypatch.setattr(speedscope, "write_speedscope", counted)
    copy = tmp_path / "copy.data"
    shutil.copy(recording, copy)
    with serving(copy) as served:
        first = served.get("/file/0/speedscope.json").body
        assert served.get("/file/0/speedscope.json").body == first and len(written) == 1
        state = copy.stat()
        os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert served.get("/file/0/speedscope.json").body == first and len(written) == 2
        copy.write_bytes(recording.read_bytes()[:100])
        answer = served.get("/file/0/speedscope.json")
        assert answer.status in (200, 422) and answer.body != first
        copy.unlink()
        assert served.get("/file/0/speedscope.json").status == 404
        assert "No such file" in served.get("/files.json").json[0]["problem"]
        assert "No such file" in served.get("/file/0/facts.json").json["problems"][0]
    written.clear()
    with serving(recording, limits=limits(kept_report_bytes=len(first))) as served:
        for form in ("speedscope.json", "profile.pb.gz", "speedscope.json"):
            assert served.get(f"/file/0/{form}").status == 200
    assert len(written) == 2, "the second form had taken the place of the first"


def test_damage_is_told(recording, tmp_path):
    damaged, other = tmp_path / "damaged.data", tmp_path / "other.ptap"
    damaged.write_bytes(b"PERFILE2" + b"\0" * 8)
    other.write_bytes(b"\x8fptap\r\n\x1a" + b"\xff" * 100)
    with serving(damaged, other, recording.parent / "shop") as served:
        for number in range(2):
            facts = served.get(f"/file/{number}/facts.json").json
            assert facts["problems"] and not facts["forms"]
        answer = served.get("/file/0/report.html")
        assert answer.status == 422 and "damaged.data" in answer.json["error"]
        assert served.get("/file/2/report.html").status == 422
        assert (
            served.post("/symbolicate/v5", {"memoryMap": [module_of(recording.parent / "shop")], "stacks": []}).status
            == 200
        )


@pytest.mark.parametrize(
    ("begin", "content"),
    [
        (CAPTURE_FILE_MAGIC, Content.STACKS),
        (MODULE_CAPTURE_MAGIC, Content.STACKS),
        (PERF_DATA_MAGIC, Content.STACKS),
        (b"\x7fELF\2\1" + bytes(10) + b"\4\0", Content.STACKS),
        (b"\x7fELF\2\2" + bytes(10) + b"\0\4", Content.STACKS),
        (b"\x7fELF\2\1" + bytes(10) + b"\3\0", Content.SYMBOLS),
        (b"\x28\xb5\x2f\xfd", Content.STACKS),
        (gzip.compress(b"\x7fELF", mtime=0), Content.STACKS),
        (gzip.compress(b' {"meta": {}}', mtime=0), Content.PROFILE),
        (b'\n{"meta": {}}', Content.PROFILE),
        (b"\x1f\x8b", Content.STACKS),  # what is wrong with it a look at all of it tells
        (b"text", Content.NOTHING),
        (b"", Content.NOTHING),
    ],
    ids=range(13),
)
def test_the_first_bytes_tell_what_can_be_had(tmp_path, begin, content):
    (tmp_path / "file").write_bytes(begin)
    assert content_of(str(tmp_path / "file")) is content


def test_of_a_folder_its_captures_are_served(recording, tmp_path):
    shutil.copy(recording, tmp_path / "b.data")
    (tmp_path / "a.txt").write_text("no capture")
    (tmp_path / "c.data").symlink_to(recording)
    os.mkfifo(tmp_path / "d.data")
    with serving(tmp_path, tmp_path / "b.data") as served:
        assert [each["path"] for each in served.get("/files.json").json] == [str(tmp_path / "b.data")]


def test_the_command(recording, shop):
    """It prints a link for each capture, the page's address, and ends at Ctrl-C."""
    words = [sys.executable, "-m", "ptap", "serve", str(recording), str(shop / "shop")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        (page,) = re.findall(r"2 files at (http://127\.0\.0\.1:\d+/[0-9a-f]{48}/) until", process.stderr.readline())
        link = process.stdout.readline().strip()
        profile, server = re.fullmatch(
            r"https://profiler\.firefox\.com/from-url/([^/]+)/\?symbolServer=([^/]+)", link
        ).groups()
        assert unquote(server) + "/" == page and unquote(profile) == f"{page}file/0/firefox.json"
        from urllib.request import urlopen

        with urlopen(unquote(profile), timeout=300) as answer:
            assert json.load(answer)["meta"]["preprocessedProfileVersion"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--host", "0.0.0.0"), "other machines"),
        (("--profiler", "localhost:4242"), "no address of a web site"),
        (("no such",), "does not exist"),
        ((__file__,), "no known kind"),
    ],
    ids=["host", "profiler", "gone", "kind"],
)
def test_what_cannot_be_served_is_told(options, told):
    run = CliRunner().invoke(command, options)
    assert run.exit_code == 2 and told in run.output


def test_a_port_that_is_taken_is_told():
    taken = listen("127.0.0.1", 0)
    with taken, pytest.raises(AddressError, match="give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
