"""/symbolicate/v5 against llvm-symbolizer, the shape of its answers, and requests that are none."""

from __future__ import annotations

import gzip
import json
import subprocess

import pytest
from service.served import limits, module_of, serving
from symbolize.symbolization_tools import llvm_frames

from cfi_tables.elf_image import ElfImage
from ptap.profile.firefox import breakpad_id
from relay_reader.capture import Mapping, MappingAdded
from relay_reader.capture_file.facts import SourceFacts
from relay_reader.capture_file.writer import CaptureWriter
from unwind.kept_file import kept_part

FUNCTIONS = ("main", "shop::sum(int const*, int)", "int shop::twice<int>(int)")


def addresses_of(program) -> list[int]:
    """Every address of the program's own functions, as nm lists them."""
    lines = subprocess.run(["nm", "-SC", str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    ranges = [(int(line[:16], 16), int(line[17:33], 16)) for line in lines if line[36:] in FUNCTIONS]
    assert len(ranges) == len(FUNCTIONS)
    return [address for begin, size in ranges for address in range(begin, begin + size)]


def loaded_at(program) -> int:
    """The address of the first loaded segment, as readelf lists it."""
    text = subprocess.run(["readelf", "-lW", str(program)], capture_output=True, text=True, check=True).stdout
    return int(next(line.split()[2] for line in text.splitlines() if line.split()[:1] == ["LOAD"]), 16)


@pytest.mark.parametrize("name", ["shop", "fixed"])
def test_frames_are_those_of_llvm_symbolizer(shop, name, require_tool):
    """At every address: functions, files, lines and inlined calls; offsets count from where the file is loaded."""
    tool = require_tool("llvm-symbolizer-14", "llvm-14")
    program, base = shop / name, loaded_at(shop / name)
    assert bool(base) == (name == "fixed")
    addresses = addresses_of(program)
    request = {"memoryMap": [module_of(program)], "stacks": [[[0, each - base] for each in addresses]]}
    with serving(program) as served:
        answer = served.post("/symbolicate/v5", {"jobs": [request]})
        assert served.post("/symbolicate/v5", request).json == answer.json  # one job need not be in a list
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
    (result,) = answer.json["results"]
    assert result["found_modules"] == {"/".join(module_of(program)): True} and "module_errors" not in result
    (stack,) = result["stacks"]
    begins = set()
    depths = []
    for number, (address, frame, wanted) in enumerate(
        zip(addresses, stack, llvm_frames(tool, program, addresses), strict=True)
    ):
        assert (frame["frame"], frame["module"]) == (number, name)
        assert frame["module_offset"] == f"{address - base:#x}"
        calls = [*frame.get("inlines", []), frame]
        assert [(each["function"], each["file"], each.get("line")) for each in calls] == [
            (each.function, each.file, each.line) for each in wanted
        ]
        begins.add(address - int(frame["function_offset"], 16))
        depths.append(len(calls))
    assert len(begins) == len(FUNCTIONS) and max(depths) >= 3


def test_cold_parts_count_from_their_own_begin(shop):
    """What the compiler has moved away from a function is still of it, and as far from it as its own symbol tells."""
    program = shop / "shop"
    lines = subprocess.run(["nm", "-S", str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    ((begin, size),) = [
        (int(line[:16], 16), int(line[17:33], 16)) for line in lines if line.endswith("_ZN4shop7checkedEi.cold")
    ]
    job = {"memoryMap": [module_of(program)], "stacks": [[[0, each] for each in range(begin, begin + size)]]}
    with serving(program) as served:
        (stack,) = served.post("/symbolicate/v5", job).json["results"][0]["stacks"]
    assert [(each["function"], each["function_offset"]) for each in stack] == [
        ("shop::checked(int)", f"{offset:#x}") for offset in range(size)
    ]


def test_what_is_not_known_is_told(shop):
    program = module_of(shop / "shop")
    unknown = ["libgone.so", "0" * 33]
    unasked = ["libother.so", "1" * 33]
    stack = [[0, 1], [1, 0x1234], [-1, 0x99], [0, (1 << 64) - 1]]
    with serving(shop / "shop") as served:
        answer = served.post(
            "/symbolicate/v5", {"jobs": [{"memoryMap": [program, unknown, unasked], "stacks": [stack]}]}
        )
    (result,) = answer.json["results"]
    assert result["found_modules"] == {"/".join(program): True, "/".join(unknown): False, "/".join(unasked): None}
    assert list(result["module_errors"]) == ["/".join(unknown)]
    assert result["stacks"] == [
        [
            {"frame": 0, "module_offset": "0x1", "module": "shop"},
            {"frame": 1, "module_offset": "0x1234", "module": "libgone.so"},
            {"frame": 2, "module_offset": "0x99", "module": "<unknown>"},
            {"frame": 3, "module_offset": "0xffffffffffffffff", "module": "shop"},
        ]
    ]


def test_modules_of_a_profile_are_known(recording):
    """The libraries that the Firefox Profiler reads in a profile are those that it asks symbols of."""
    with serving(recording) as served:
        profile = served.get("/file/0/firefox.json").json
        libraries = [
            [each["debugName"], each["breakpadId"]] for each in profile["libs"] if each["path"].startswith("/")
        ]
        assert "shop" in [name for name, _ in libraries]
        stacks = [[[index, 0x1000] for index in range(len(libraries))]]
        (result,) = served.post("/symbolicate/v5", {"memoryMap": libraries, "stacks": stacks}).json["results"]
    assert result["found_modules"] == {"/".join(each): True for each in libraries}


@pytest.mark.parametrize("packed", [False, True])
def test_a_profile_without_names_gets_them(shop, tmp_path, packed):
    """As other tools write it: addresses, and libraries with the build-id. It is given on as it is."""
    program, base = shop / "fixed", loaded_at(shop / "fixed")
    name, identity = module_of(program)
    build_id = ElfImage.open(program).build_id
    assert build_id is not None
    library = {"name": name, "path": str(program), "debugName": name, "breakpadId": identity, "codeId": build_id.hex()}
    content = json.dumps({"meta": {"symbolicated": False}, "libs": [library, {"path": 5}], "threads": []}).encode()
    path = tmp_path / "profile.json.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    job = {"memoryMap": [[name, identity]], "stacks": [[[0, each - base] for each in addresses_of(program)]]}
    with serving(path) as served:
        facts = served.get("/file/0/facts.json").json
        assert (facts["forms"], facts["modules"], facts["problems"]) == (["firefox.json"], 1, [])
        assert served.get("/file/0/firefox.json").body == content
        assert served.get("/file/0/report.html").status == 422
        (stack,) = served.post("/symbolicate/v5", job).json["results"][0]["stacks"]
    assert {each["function"] for each in stack} == set(FUNCTIONS)


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"meta": {}, "libs": 1}', b'{"a":' * 10_000], ids=range(4))
def test_json_that_is_no_profile_is_told(tmp_path, content):
    (tmp_path / "other.json").write_bytes(content)
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(content * 100)[:-4])
    with serving(tmp_path / "other.json", tmp_path / "cut.json.gz") as served:
        for number in range(2):
            facts = served.get(f"/file/{number}/facts.json").json
            assert facts["problems"] and not facts["forms"]


def test_what_a_capture_has_kept_of_a_program_gives_names(shop, tmp_path):
    """The program itself is gone: its symbols are in the capture, its lines are not."""
    image = ElfImage.open(shop / "shop")
    kept = kept_part(image)
    assert image.build_id is not None and kept is not None
    writer = CaptureWriter(str(tmp_path / "kept.ptap"), [SourceFacts()])
    writer.add(MappingAdded(0, 1, Mapping(0x1000, 0x9000, 0, str(tmp_path / "shop"), b"\x01" + image.build_id[1:])))
    writer.add(MappingAdded(0, 1, Mapping(0x11000, 0x19000, 0, str(tmp_path / "gone"), b"\x02" + image.build_id[1:])))
    writer.add_blob(f"file {(bytes([1]) + image.build_id[1:]).hex()}", with_build_id(kept, image.build_id, 1))
    writer.close()
    address = addresses_of(shop / "shop")[0]
    modules = [["shop", breakpad_id((bytes([number]) + image.build_id[1:]).hex())] for number in (1, 2)]
    with serving(tmp_path / "kept.ptap") as served:
        (result,) = served.post(
            "/symbolicate/v5", {"memoryMap": modules, "stacks": [[[0, address], [1, address]]]}
        ).json["results"]
    assert list(result["found_modules"].values()) == [True, False]
    frame = result["stacks"][0][0]
    assert frame["function"] in FUNCTIONS and frame["function_offset"] == "0x0" and "file" not in frame
    (error,) = result["module_errors"].values()
    assert "there is no such file" in error[0]["message"]


def with_build_id(content: bytes, before: bytes, first: int) -> bytes:
    """An ELF file's bytes with another build-id, so that the program itself is not found by it."""
    assert content.count(before) == 1
    return content.replace(before, bytes([first]) + before[1:])


JOB = {"memoryMap": [["shop", "A"]], "stacks": [[[0, 1]]]}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 1_000_000, "nested too deep"),
        (b'{"jobs":' * 100_000, "nested too deep"),
        (b'{"memoryMap":[["a","b"]],"stacks":[[[0,' + b"9" * 5000 + b"]]]}", "no JSON"),
        (b"[]", "the request has to be an object, not an array"),
        (b"null", "not null"),
        (b"{}", "job 0 lacks 'memoryMap'"),
        (json.dumps({"jobs": 1}).encode(), "'jobs' of the request has to be an array, not a number"),
        (json.dumps({"jobs": [1]}).encode(), "job 0 has to be an object"),
        (json.dumps({"jobs": [JOB, {**JOB, "stacks": None}]}).encode(), "'stacks' of job 1 has to be an array"),
        (json.dumps({**JOB, "memoryMap": [["a"]]}).encode(), "two strings"),
        (json.dumps({**JOB, "memoryMap": [["a", 1]]}).encode(), "two strings"),
        (json.dumps({**JOB, "stacks": [1]}).encode(), "a stack of job 0 has to be an array"),
        (json.dumps({**JOB, "stacks": [[1]]}).encode(), "two whole numbers"),
        (json.dumps({**JOB, "stacks": [[[0, 1.5]]]}).encode(), "two whole numbers"),
        (json.dumps({**JOB, "stacks": [[[0, True]]]}).encode(), "two whole numbers"),
        (json.dumps({**JOB, "stacks": [[[0, "0x1"]]]}).encode(), "two whole numbers"),
        (json.dumps({**JOB, "stacks": [[[1, 1]]]}).encode(), "in module 1, and its memoryMap has 1"),
        (json.dumps({**JOB, "stacks": [[[-2, 1]]]}).encode(), "in module -2"),
        (json.dumps({**JOB, "stacks": [[[0, -1]]]}).encode(), "offset -1"),
        (json.dumps({**JOB, "stacks": [[[0, 1 << 64]]]}).encode(), "no address"),
    ],
    ids=range(23),
)
def test_what_is_no_request_is_refused(shop, body, told):
    with serving(shop / "shop") as served:
        answer = served.ask("POST", "/symbolicate/v5", body)
    assert answer.status == 400 and told in answer.json["error"], answer.body


def test_work_in_one_request_has_limits(shop):
    program = shop / "shop"
    job = {"memoryMap": [module_of(program)], "stacks": [[[0, each] for each in addresses_of(program)]]}
    count = len(job["stacks"][0])
    with serving(program, limits=limits(addresses=count - 1)) as served:
        answer = served.post("/symbolicate/v5", {"jobs": [job]})
        assert answer.status == 413 and f"{count} addresses" in answer.json["error"]
        assert served.post("/symbolicate/v5", {"jobs": [{**job, "stacks": [job["stacks"][0][1:]]}]}).status == 200
        halves = [
            {**job, "stacks": [job["stacks"][0][: count // 2]]},
            {**job, "stacks": [job["stacks"][0][count // 2 :]]},
        ]
        assert served.post("/symbolicate/v5", {"jobs": halves}).status == 413
    with serving(program, limits=limits(modules=3)) as served:
        assert served.post("/symbolicate/v5", {**job, "memoryMap": job["memoryMap"] * 4}).status == 413
    with serving(program) as served:
        size = len(served.post("/symbolicate/v5", job).body)
    for limit, status in ((size, 200), (size - 1, 413)):
        with serving(program, limits=limits(answer_bytes=limit)) as served:
            assert served.post("/symbolicate/v5", job).status == status


def test_modules_without_build_ids_go_by_their_names(shop, tmp_path):
    """Where two have the name, neither is taken for the other."""
    places = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        places.append(tmp_path / folder / "bare")
        subprocess.run(["objcopy", "-R", ".note.gnu.build-id", str(shop / "shop"), str(places[-1])], check=True)
    job = {"memoryMap": [["bare", ""]], "stacks": [[[0, addresses_of(shop / "shop")[0]]]]}
    with serving(places[0]) as served:
        (result,) = served.post("/symbolicate/v5", job).json["results"]
        assert result["found_modules"] == {"bare/": True} and result["stacks"][0][0]["function"] in FUNCTIONS
    with serving(*places) as served:
        (result,) = served.post("/symbolicate/v5", job).json["results"]
        assert result["found_modules"] == {"bare/": False}
        assert "2 modules are named 'bare'" in result["module_errors"]["bare/"][0]["message"]
