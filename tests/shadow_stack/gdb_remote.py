"""A small client of the GDB remote serial protocol: steps a stopped aarch64 program, reads its registers and memory.

Speaks to one stub over a Unix socket, so nothing leaves the machine. Source: "Debugging with GDB", appendix E. Every
packet is acknowledged, as qemu's stub has no mode without.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

REGISTERS = 33
"""x0-x30, sp, pc: what the stub's first registers are (GDB's feature org.gnu.gdb.aarch64.core)."""

_SECONDS = 60.0
_CHUNK = 1024  # bytes of memory a packet, well within the stub's packet size


class RemoteError(Exception):
    """The stub refused a request, or the connection broke."""


class GdbRemote:
    """One connection."""

    def __init__(self, path: Path, is_alive: Callable[[], bool]) -> None:
        """Connect to the stub that will listen, or does, on the Unix socket `path`; `is_alive` ends the waiting."""
        deadline = time.monotonic() + _SECONDS
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                self._socket.close()
                if not is_alive() or time.monotonic() > deadline:
                    raise RemoteError(f"no stub listens on {path}: {error}") from error
                time.sleep(0.02)
        self._socket.settimeout(_SECONDS)

    def close(self) -> None:
        """Leave; the program runs on without us."""
        self._socket.close()

    def step(self) -> int | None:
        """Run one instruction; its exit status when that ended the program. Raises RemoteError at a signal."""
        return self._resume(b"s")

    def run_to(self, addresses: set[int]) -> int | None:
        """Run until one of `addresses` is reached; as `step`."""
        for address in addresses:
            self._command(b"Z0,%x,4" % address)
        status = self._resume(b"c")
        if status is None:
            for address in addresses:
                self._command(b"z0,%x,4" % address)
        return status

    def registers(self) -> npt.NDArray[np.int64]:
        """x0-x30, sp and pc."""
        reply = self._request(b"g")
        return np.frombuffer(bytes.fromhex(reply[: 16 * REGISTERS].decode()), dtype="<i8")

    def memory(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        found = bytearray()
        while len(found) < size:
            length = min(_CHUNK, size - len(found))
            piece = bytes.fromhex(self._request(b"m%x,%x" % (address + len(found), length)).decode())
            if len(piece) != length:
                raise RemoteError(f"{len(piece)} bytes of {length} at {address + len(found):#x}")
            found += piece
        return bytes(found)

    def _resume(self, how: bytes) -> int | None:
        reply = self._request(how)
        if reply[:1] == b"W":
            return int(reply[1:3], 16)
        if reply[:3] != b"T05":
            raise RemoteError(f"the program stopped with {reply.decode()}")
        return None

    def _command(self, text: bytes) -> None:
        if (reply := self._request(text)) != b"OK":
            raise RemoteError(f"{text.decode()}: {reply.decode() or 'not supported'}")

    def _request(self, text: bytes) -> bytes:
        self._socket.sendall(b"$%s#%02x" % (text, sum(text) & 255))
        received = b""
        while (start := received.find(b"$")) < 0 or received[-3:-2] != b"#":
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise RemoteError(f"the stub closed the connection at {text.decode()}")
            received += piece
        body = received[start + 1 : -3]
        if sum(body) & 255 != int(received[-2:], 16):
            raise RemoteError(f"damaged reply: {received!r}")
        self._socket.sendall(b"+")
        if body[:1] == b"E" and len(body) == 3:
            raise RemoteError(f"{text.decode()}: {body.decode()}")
        return body
