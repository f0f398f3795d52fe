"""/source/v1: the text of files that debugging information names, and of no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from service.served import limits, module_of, serving

SECRET = "nobody is to read this\n"


def asked(program: Path, file: object, offset: object = "0x1139") -> dict[str, object]:
    name, identity = module_of(program)
    return {"debugName": name, "debugId": identity, "moduleOffset": offset, "file": str(file)}


def test_a_source_is_the_file(shop):
    with serving(shop / "shop") as served:
        for name in ("shop.cpp", "tax.h"):
            request = asked(shop / "shop", shop / name)
            answer = served.post("/source/v1", request)
            assert answer.status == 200
            assert answer.json == {
                "symbolsLastModified": None,
                "sourceLastModified": None,
                "file": request["file"],
                "source": (shop / name).read_text(),
            }
        # The profiler has no address for some frames.
        assert served.post("/source/v1", asked(shop / "shop", shop / "shop.cpp", "0x-1")).status == 200


def test_frames_name_the_sources_that_are_served(recording):
    """From the profile to the source, as the profiler goes: its function's file and library are what it asks for."""
    with serving(recording) as served:
        profile = served.get("/file/0/firefox.json").json
        found = 0
        for thread in profile["threads"]:
            strings, functions = thread["stringArray"], thread["funcTable"]
            for file, resource in zip(functions["fileName"], functions["resource"], strict=True):
                if file is None or not strings[file].startswith(str(recording.parent)):
                    continue
                library = profile["libs"][thread["resourceTable"]["lib"][resource]]
                request = {"debugName": library["debugName"], "debugId": library["breakpadId"], "moduleOffset": "0x-1",
                           "file": strings[file]}  # fmt: skip
                assert served.post("/source/v1", request).json["source"] == Path(strings[file]).read_text()
                found += 1
    assert found


def test_other_files_are_refused(shop):
    """Whether they exist or not: nothing but the names in the debugging information is looked at."""
    program = shop / "shop"
    (shop / "secret.txt").write_text(SECRET)
    wanted = [
        shop / "secret.txt",
        "/etc/passwd",
        f"{shop}/../{shop.name}/shop.cpp",
        f"{shop}/./shop.cpp",
        f"{shop}//shop.cpp",
        f"{shop}/shop.cpp/../secret.txt",
        f"{shop}/shop.cpp\0",
        "shop.cpp",
        f"file://{shop}/shop.cpp",
        "",
        program,
    ]
    with serving(program) as served:
        for file in wanted:
            answer = served.post("/source/v1", asked(program, file))
            assert answer.status == 403 and "names no such file" in answer.json["error"], file
            assert SECRET.encode() not in answer.body


@pytest.fixture
def own_shop(tmp_path, require_tool):
    """A program whose sources a test may replace; a source is in a folder that a link leads to."""
    gcc = require_tool("gcc", "gcc")
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    source = tmp_path / "linked" / "own.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run([gcc, "-g", "-Wl,--build-id", "-o", tmp_path / "own", source], check=True)
    return tmp_path


def test_what_a_name_leads_to_has_to_be_a_file_of_text(own_shop):
    program, source = own_shop / "own", own_shop / "linked" / "own.c"
    with serving(program, limits=limits(source_bytes=4096)) as served:
        # Folders may be links, as the home directories of some machines are.
        assert served.post("/source/v1", asked(program, source)).json["source"] == source.read_text()
        source.write_bytes("café\r\n".encode("latin-1"))
        assert served.post("/source/v1", asked(program, source)).json["source"] == "café\r\n"
        source.write_bytes(b"x" * 4096)
        assert served.post("/source/v1", asked(program, source)).status == 200
        source.write_bytes(b"x" * 4097)
        assert served.post("/source/v1", asked(program, source)).status == 413
        source.write_bytes(b"\x7fELF\0\0")
        assert served.post("/source/v1", asked(program, source)).status == 403
        source.unlink()
        answer = served.post("/source/v1", asked(program, source))
        assert answer.status == 404 and "No such file" in answer.json["error"]
        (own_shop / "secret.txt").write_text(SECRET)
        source.symlink_to(own_shop / "secret.txt")
        answer = served.post("/source/v1", asked(program, source))
        assert answer.status == 403 and "symbolic link" in answer.json["error"]
        source.unlink()
        os.mkfifo(source)
        assert served.post("/source/v1", asked(program, source)).status == 403
        source.unlink()
        source.mkdir()
        assert served.post("/source/v1", asked(program, source)).status == 403


def test_nothing_of_the_kernel_is_a_source(tmp_path, require_tool):
    """Not even where debugging information names it, as a file, or through a folder that is a link."""
    gcc = require_tool("gcc", "gcc")
    (tmp_path / "own.c").write_text('# 1 "/proc/self/environ"\nint main(void) { return 0; }\n')
    (tmp_path / "status.c").write_text(f'# 1 "{tmp_path}/here/environ"\nint other(void) {{ return 0; }}\n')
    (tmp_path / "here").symlink_to("/proc/self")
    sources = [tmp_path / "own.c", tmp_path / "status.c"]
    subprocess.run([gcc, "-g", "-Wl,--build-id", "-o", tmp_path / "own", *sources], check=True)
    with serving(tmp_path / "own") as served:
        for file in ("/proc/self/environ", f"{tmp_path}/here/environ"):
            answer = served.post("/source/v1", asked(tmp_path / "own", file))
            assert answer.status == 403 and "the kernel's" in answer.json["error"], answer.body


def test_sources_of_another_machine_are_under_its_root(own_shop):
    """And a link in there leads nowhere else."""
    root = own_shop / "root"
    place = root / str(own_shop / "linked").lstrip("/")
    place.mkdir(parents=True)
    (place / "own.c").write_text("as it was there\n")
    program, source = own_shop / "own", own_shop / "linked" / "own.c"
    with serving(program, sysroot=str(root)) as served:
        assert served.post("/source/v1", asked(program, source)).json["source"] == "as it was there\n"
        shutil.rmtree(place)
        place.symlink_to(own_shop / "real")
        answer = served.post("/source/v1", asked(program, source))
        assert answer.status == 403 and "outside" in answer.json["error"]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"debugId": "0" * 33}, 404, "no served file tells of a module"),
        ({"debugId": None}, 400, "'debugId' of the request has to be a string, not null"),
        ({"file": ["/etc/passwd"]}, 400, "not an array"),
        ({"moduleOffset": 5}, 400, "has to be a string"),
        ({"moduleOffset": "5"}, 400, "hexadecimal"),
        ({"moduleOffset": "0x" + "f" * 17}, 400, "hexadecimal"),
    ],
)
def test_what_is_no_request_is_refused(shop, change, status, told):
    with serving(shop / "shop") as served:
        answer = served.ask(
            "POST", "/source/v1", json.dumps({**asked(shop / "shop", shop / "tax.h"), **change}).encode()
        )
    assert answer.status == status and told in answer.json["error"]
