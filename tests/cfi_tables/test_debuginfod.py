"""debuginfod: against Debian's server on loopback and elfutils' own client; failures against a small server here."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cfi_tables.alternate_file import find_alternate_file
from cfi_tables.debug_file import find_debug_file
from cfi_tables.debuginfod import debuginfod_from_environment
from cfi_tables.debuginfod_cache import DebuginfodCache
from cfi_tables.elf_image import ElfImage

_SECONDS = 60


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No server but the test's, and a cache of its own, which is given."""
    for name in [name for name in os.environ if name.startswith("DEBUGINFOD_")]:
        monkeypatch.delenv(name)
    cache = tmp_path / "cache"
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(cache))
    return cache


@pytest.fixture
def split(build_program: Callable[..., Path], tmp_path: Path) -> tuple[ElfImage, Path]:
    """A stripped program, and its debug file in a folder where nobody looks."""
    whole = build_program("gcc", "-O2", "-g", "-Wl,--build-id")
    stripped, debug = tmp_path / "program", tmp_path / "served" / "some.debug"
    debug.parent.mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", str(whole), str(debug)], check=True)
    subprocess.run(["strip", "-o", str(stripped), str(whole)], check=True)
    return ElfImage.open(stripped), debug


# --- Debian's server


@pytest.fixture
def debuginfod(
    tmp_path: Path, require_tool: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """`debuginfod(folder)` starts a server that has scanned the folder, and sets DEBUGINFOD_URLS."""
    tool = require_tool("debuginfod", "debuginfod")
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        port = free_port()
        command = [tool, "-F", "-t", "0", "-g", "0", "-d", ":memory:", "-p", str(port), str(folder)]
        with (tmp_path / "server.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
        started.append(server)
        url = f"http://127.0.0.1:{port}"
        wait_until_scanned(url, server)
        monkeypatch.setenv("DEBUGINFOD_URLS", url)
        return server

    yield start
    for server in started:
        server.terminate()
        server.wait(_SECONDS)


def wait_until_scanned(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=_SECONDS) as answer:
                metrics = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            metrics = ""
        lines = metrics.splitlines()
        if 'thread_work_pending{role="scan"} 0' in lines and any(
            line.startswith('thread_work_total{role="traverse"}') and not line.endswith(" 0") for line in lines
        ):
            return
        time.sleep(0.05)
    pytest.fail(f"debuginfod did not scan its folder (exit {server.poll()})")


def test_the_debug_file_is_fetched_once_and_kept(
    split: tuple[ElfImage, Path], debuginfod: Callable[[Path], subprocess.Popen[bytes]], environment: Path
) -> None:
    image, debug = split
    assert image.build_id is not None
    server = debuginfod(debug.parent)
    found = find_debug_file(image, ())
    assert found.reason == "" and found.image is not None and found.path is not None
    assert Path(found.path).read_bytes() == debug.read_bytes()
    assert Path(found.path).is_relative_to(environment)
    server.terminate()
    server.wait(_SECONDS)
    again = find_debug_file(image, ())
    assert again.path == found.path
    theirs = shutil.which("debuginfod-find")
    assert theirs is not None  # of the same package as the server
    output = subprocess.run([theirs, "debuginfo", image.build_id.hex()], capture_output=True, text=True)
    assert output.stdout.strip() == found.path


def test_what_elfutils_has_fetched_is_used(
    split: tuple[ElfImage, Path], debuginfod: Callable[[Path], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, debug = split
    assert image.build_id is not None
    debuginfod(debug.parent)
    output = subprocess.run(["debuginfod-find", "debuginfo", image.build_id.hex()], capture_output=True, text=True)
    monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{free_port()}")
    found = find_debug_file(image, ())
    assert found.path == output.stdout.strip() and found.image is not None


def test_what_no_server_has_is_remembered_as_elfutils_does(
    split: tuple[ElfImage, Path],
    debuginfod: Callable[[Path], subprocess.Popen[bytes]],
    build_program: Callable[..., Path],
    environment: Path,
    tmp_path: Path,
) -> None:
    image, _ = split
    assert image.build_id is not None
    others = tmp_path / "others"
    others.mkdir()
    shutil.copy(build_program("gcc", "-O0", "-g", "-Wl,--build-id"), others)
    server = debuginfod(others)
    first = find_debug_file(image, ())
    assert first.image is None and "has no debug file" in first.reason
    server.terminate()
    server.wait(_SECONDS)
    second = find_debug_file(image, ())
    assert second.image is None and "a short while ago" in second.reason
    mine = (environment / image.build_id.hex() / "debuginfo").stat()
    (environment / image.build_id.hex() / "debuginfo").unlink()
    (environment / image.build_id.hex()).rmdir()
    (environment / "cache_miss_s").write_text("0\n")
    assert "cannot be reached" in find_debug_file(image, ()).reason
    assert mine.st_size == 0
    # elfutils' client takes the file for a miss too: it does not say that the server cannot be reached.
    DebuginfodCache(environment).note_miss(image.build_id)
    (environment / "cache_miss_s").write_text("600\n")
    told = subprocess.run(["debuginfod-find", "debuginfo", image.build_id.hex()], capture_output=True, text=True)
    assert "No such file" in told.stderr


def test_a_shared_file_is_fetched_too(
    build_program: Callable[..., Path],
    debuginfod: Callable[[Path], subprocess.Popen[bytes]],
    tmp_path: Path,
    require_tool: Callable[[str, str], str],
) -> None:
    for name, level in (("first", "-O2"), ("second", "-O1")):
        shutil.copy(build_program("gcc", level, "-g", "-Wl,--build-id"), tmp_path / name)
    command = [require_tool("dwz", "dwz"), "-m", "common.debug", "first", "second"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "served").mkdir()
    (tmp_path / "common.debug").rename(tmp_path / "served" / "common.debug")
    image = ElfImage.open(tmp_path / "first")
    assert find_alternate_file(image, ()).image is None
    debuginfod(tmp_path / "served")
    found = find_alternate_file(image, ())
    assert found.reason == "" and found.path is not None
    assert Path(found.path).read_bytes() == (tmp_path / "served" / "common.debug").read_bytes()


# --- servers that fail


class Answers(ThreadingHTTPServer):
    """A server whose `answer` is called with each request; it counts them."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    count = 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Answers)
        self.server.count += 1
        self.server.answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    server = Answers(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{server.server_address[1]}/")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def give(content: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def reason_of(image: ElfImage) -> str:
    found = find_debug_file(image, ())
    assert found.image is None
    return found.reason


def nothing_is_kept(cache: Path) -> bool:
    return not any(cache.glob("*/*"))


def test_no_server_is_asked_unless_the_user_named_one(
    split: tuple[ElfImage, Path], answers: Answers, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.answer = give(split[1].read_bytes())
    for urls in (None, "", " ", "ima:enforcing"):
        monkeypatch.delenv("DEBUGINFOD_URLS") if urls is None else monkeypatch.setenv("DEBUGINFOD_URLS", urls)
        assert debuginfod_from_environment() is None
        assert find_debug_file(split[0], ()).image is None
    assert answers.count == 0 and not environment.exists()


def test_another_build_is_refused_with_both_ids(
    split: tuple[ElfImage, Path], answers: Answers, build_program: Callable[..., Path], environment: Path
) -> None:
    other = build_program("gcc", "-O0", "-g", "-Wl,--build-id")
    answers.answer = give(other.read_bytes())
    theirs, ours = ElfImage.open(other).build_id, split[0].build_id
    assert theirs is not None and ours is not None
    reason = reason_of(split[0])
    assert theirs.hex() in reason and ours.hex() in reason
    assert nothing_is_kept(environment)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (give(b"<html>busy</html>"), "no ELF file"),
        (give(b"", 500), "HTTP status 500"),
        (give(b"short", Content_Length="1000"), "failed 3 times"),
        (lambda handler: handler.connection.close(), "failed 3 times"),
    ],
    ids=["no ELF file", "server error", "cut short", "no answer"],
)
def test_failures_are_told_and_not_kept(
    split: tuple[ElfImage, Path],
    answers: Answers,
    environment: Path,
    answer: Callable[[BaseHTTPRequestHandler], None],
    told: str,
) -> None:
    answers.answer = answer
    assert told in reason_of(split[0])
    assert nothing_is_kept(environment)
    assert answers.count == (1 if told == "no ELF file" else 3)


def test_a_server_that_does_not_answer_is_left_alone(
    split: tuple[ElfImage, Path], answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    answers.answer = lambda handler: release.wait(_SECONDS) and None
    monkeypatch.setenv("DEBUGINFOD_TIMEOUT", "1")
    try:
        assert "DEBUGINFOD_TIMEOUT" in reason_of(split[0])
        assert "DEBUGINFOD_TIMEOUT" in reason_of(split[0])
        assert answers.count == 1
    finally:
        release.set()


def test_limits_of_size(split: tuple[ElfImage, Path], answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.answer = give(split[1].read_bytes())
    monkeypatch.setenv("DEBUGINFOD_MAXSIZE", "100")
    assert "DEBUGINFOD_MAXSIZE" in reason_of(split[0])


def test_the_next_server_is_asked(
    split: tuple[ElfImage, Path], answers: Answers, monkeypatch: pytest.MonkeyPatch, environment: Path
) -> None:
    """The first cannot be reached; the second is behind a login and compresses what it gives."""
    content = split[1].read_bytes()
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("X-Token"))
        seen.append(handler.path)
        give(gzip.compress(content), Content_Encoding="gzip")(handler)

    answers.answer = answer
    headers = environment.parent / "headers"
    headers.write_text("X-Token: open\n")
    monkeypatch.setenv("DEBUGINFOD_HEADERS_FILE", str(headers))
    urls = os.environ["DEBUGINFOD_URLS"]
    monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{free_port()} {urls}buildid")
    found = find_debug_file(split[0], ())
    assert found.path is not None and Path(found.path).read_bytes() == content
    assert split[0].build_id is not None
    assert seen == ["open", f"/buildid/{split[0].build_id.hex()}/debuginfo"]


def test_a_cache_that_cannot_be_written(
    split: tuple[ElfImage, Path], answers: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers.answer = give(split[1].read_bytes())
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "file" / "cache"))
    assert str(tmp_path / "file" / "cache") in reason_of(split[0])


def test_progress_is_shown_where_the_user_wants_it(
    split: tuple[ElfImage, Path],
    answers: Answers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers.answer = give(split[1].read_bytes())
    monkeypatch.setenv("DEBUGINFOD_PROGRESS", "1")
    assert find_debug_file(split[0], ()).image is not None
    told = capsys.readouterr().err
    assert split[0].path in told and "MB" in told and told.endswith("\n")


# --- the cache


def test_where_the_cache_is(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert DebuginfodCache.from_environment(home).folder == tmp_path / ".cache" / "debuginfod_client"
    xdg = home | {"XDG_CACHE_HOME": "/x"}
    assert DebuginfodCache.from_environment(xdg).folder == Path("/x/debuginfod_client")
    assert DebuginfodCache.from_environment(xdg | {"DEBUGINFOD_CACHE_PATH": "/y"}).folder == Path("/y")
    (tmp_path / ".debuginfod_client_cache").mkdir()
    assert DebuginfodCache.from_environment(xdg).folder == tmp_path / ".debuginfod_client_cache"


def test_files_that_nobody_used_for_long_are_removed(tmp_path: Path) -> None:
    cache = DebuginfodCache(tmp_path)
    ids = [bytes([number]) * 20 for number in range(3)]
    for each in ids[:2]:
        with cache.new_file(each) as path:
            path.write_bytes(b"content")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "debuginfo").write_text("not the cache's")
    long_ago = time.time() - 30 * 86_400
    for file in (cache.path(ids[0]), tmp_path / "notes" / "debuginfo", tmp_path / "cache_clean_interval_s"):
        os.utime(file, (long_ago, long_ago))
    with cache.new_file(ids[2]) as path:
        path.write_bytes(b"content")
    assert [cache.find(each) is not None for each in ids] == [False, True, True]
    assert (tmp_path / "notes" / "debuginfo").exists()


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    cache = DebuginfodCache(tmp_path)
    with pytest.raises(KeyboardInterrupt), cache.new_file(b"x" * 20) as path:
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not (tmp_path / (b"x" * 20).hex()).exists()
