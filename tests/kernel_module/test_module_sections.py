"""What the program on the traced machine tells of modules that are loaded, from a folder as /sys/module."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptap.kernel_module import messages
from ptap_target.module_sections import placements
from ptap_target.session_folder import Message, SessionError, SessionFolder
from relay_reader import record_layout, record_schema

_BUILD_ID = "ab" * 20


def _session(**module) -> SessionFolder:
    described = {"name": "loaded", "build_id": _BUILD_ID, "sections": [{"name": ".init.text"}, {"name": ".text"}]}
    modules = [{"name": "other", "build_id": None, "sections": [{"name": ".text"}]}, described | module]
    description = {"placement": messages.placement_head().hex(), "modules": modules}
    return SessionFolder(Path("module"), description, [], Message("stop", b""))


@pytest.fixture
def sys_module(tmp_path) -> Path:
    (tmp_path / "loaded" / "sections").mkdir(parents=True)
    (tmp_path / "loaded" / "notes").mkdir()
    (tmp_path / "loaded" / "initstate").write_text("live\n")
    (tmp_path / "loaded" / "sections" / ".text").write_text("0xffffffffc0401000\n")
    (tmp_path / "loaded" / "notes" / ".note.gnu.build-id").write_bytes(bytes(16) + bytes.fromhex(_BUILD_ID))
    return tmp_path


def test_sections_of_loaded_modules_have_messages(sys_module):
    (message,) = placements(_session(), sys_module)
    head = record_schema.MESSAGE_HEADER.parse(message.content)
    assert (head.magic, head.kind) == (record_layout.MESSAGE_MAGIC, record_layout.MessageKind.PLACEMENT)
    body = message.content[record_layout.MESSAGE_HEADER_SIZE :]
    assert len(body) == record_layout.PLACEMENT_MESSAGE_SIZE
    told = record_schema.PLACEMENT_MESSAGE.parse(body)
    assert (told.module, told.section, told.address) == (1, 1, 0xFFFF_FFFF_C040_1000)
    assert "loaded" in message.what and ".text" in message.what


def test_another_build_is_refused(sys_module):
    with pytest.raises(SessionError, match="another build of module loaded"):
        placements(_session(build_id="ac" * 20), sys_module)


def test_what_cannot_be_read_is_not_told(sys_module):
    (sys_module / "loaded" / "sections" / ".text").write_text("hidden\n")
    (sys_module / "loaded" / "notes" / ".note.gnu.build-id").unlink()
    assert placements(_session(), sys_module) == []
