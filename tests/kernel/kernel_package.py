"""Debian kernels of several releases with the objtool that belongs to each, downloaded and unpacked once.

Owns what is fetched. Packages come from the suites of Debian that have the kernels, are found by query, and stay in a
cache folder for the next run; who wants newer ones deletes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from programs.debian_archive import DebianArchive, NotInArchive

_SUITES = ("bullseye-security", "bookworm-security", "bookworm-backports", "trixie", "trixie-backports")

KERNELS = {
    "5.10": r"5\.10\.0-\d+",
    "6.1": r"6\.1\.0-\d+",
    "6.12": r"6\.12\.\d+\+deb12",
    "7.x": r"7\.\d+\.\d+\+deb\d+",
}
"""Release -> what Debian calls its builds, a regular expression: one of each layout of ORC that Debian has."""

_DEBUG_MODULES = {"6.1": ("kernel/arch/x86/kvm/kvm.ko",)}
"""Modules with DWARF that tests read."""


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """What was unpacked of one kernel."""

    build: str
    """Debian's name of it, such as 6.1.0-56."""
    vmlinuz: Path
    modules: list[Path]
    """Sorted; .ko or compressed."""
    objtool: tuple[str, ...]
    """The command that runs the objtool of this kernel's own build."""
    memory: str = "1G"
    """Of a guest, as QEMU takes it."""
    patience: int = 600
    """Seconds for a boot and all that is done in it: many times what it takes on a machine that is not busy."""

    def dump_orc(self, file: Path, target: Path) -> None:
        """Write objtool's reading of `file`'s ORC to `target`."""
        how = ["orc", "dump"] if self.build.startswith("5.10") else ["--dump=orc"]
        with open(target, "w") as output:
            subprocess.run([*self.objtool, *how, str(file)], stdout=output, check=True)


def cache_folder() -> Path:
    """Where unpacked kernels stay between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptap-tests" / "kernels"


def kernel_package(release: str) -> KernelPackage:
    """The newest cloud kernel of a release in KERNELS (20-40 MB, the smallest builds). Raises NotInArchive."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share it
        root = folder / release
        if not root.exists():
            _fetch_kernel(DebianArchive(folder / "apt", _SUITES), release, root)
    vmlinuz = next((path for name in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in root.glob(name)), None)
    objtools = [path for path in root.glob("usr/lib/linux-kbuild-*/tools/objtool/objtool*") if path.is_file()]
    # Newer packages have one for each architecture behind a program that chooses.
    objtool = next((path for path in objtools if path.name.endswith("x86")), None) or next(iter(objtools), None)
    if vmlinuz is None or objtool is None:
        raise NotInArchive(f"the packages of kernel {release} hold no vmlinuz or no objtool; delete {root}")
    return KernelPackage(
        build=(root / "build").read_text(),
        vmlinuz=vmlinuz,
        modules=sorted(root.glob("**/kernel/**/*.ko*")),
        objtool=(*_loader(root), str(objtool)),
    )


def debug_kernel_files(release: str) -> tuple[Path, Path]:
    """(vmlinux, a module), both with DWARF, of the kernel that `kernel_package` gives: 280 MB, 600 MB unpacked.

    Raises NotInArchive.
    """
    return debug_vmlinux(release), next(_debug_root(release).glob("**/kvm.ko"))


def debug_vmlinux(release: str) -> Path:
    """vmlinux with DWARF of the kernel that `kernel_package` gives: 350 MB, 600 MB unpacked. Raises NotInArchive."""
    found = _debug_root(release).glob("**/vmlinux*")
    return next(path for path in found if path.is_file() and not path.is_symlink())


def _debug_root(release: str) -> Path:
    build = kernel_package(release).build
    folder = cache_folder()
    root = folder / f"{release}-debug"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            if not os.environ.get("CI") and not os.environ.get("PTAP_TEST_LARGE_DOWNLOADS"):
                raise NotInArchive("a kernel with DWARF is 280 MB: set PTAP_TEST_LARGE_DOWNLOADS=1 to have it fetched")
            _fetch_debug_kernel(DebianArchive(folder / "apt", _SUITES), release, build, root)
    return root


def kernel_headers(release: str) -> Path:
    """What modules for the kernel that `kernel_package` gives are built with (`make -C`). Raises NotInArchive."""
    build = kernel_package(release).build
    folder = cache_folder()
    root = folder.resolve() / f"{release}-headers"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch_headers(DebianArchive(folder / "apt", _SUITES), build, folder / release, root)
    return root / "usr/src" / f"linux-headers-{build}-cloud-amd64"


def _fetch_headers(apt: DebianArchive, build: str, kernel: Path, root: Path) -> None:
    """Headers with the kbuild programs of `kernel`, to be used where they lie: Debian's Makefile has absolute paths."""
    unpacked = root.with_name(f"{root.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    apt.unpack([f"linux-headers-{build}-cloud-amd64", f"linux-headers-{build}-common"], unpacked)
    for kbuild in kernel.glob("usr/lib/linux-kbuild-*"):
        shutil.copytree(kbuild, unpacked / "usr/lib" / kbuild.name, symlinks=True)
    makefile = unpacked / "usr/src" / f"linux-headers-{build}-cloud-amd64" / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
    loader = _loader(kernel)
    if loader:
        for program in sorted(unpacked.glob("usr/lib/linux-kbuild-*/**/*")):
            if program.is_file() and not program.is_symlink() and program.read_bytes()[:4] == b"\x7fELF":
                _run_by(loader, program, root / program.relative_to(unpacked))
    unpacked.rename(root)


def _run_by(loader: tuple[str, ...], program: Path, final: Path) -> None:
    """Have `program`, which will lie at `final`, run by a loader of another C library."""
    if ".real-" in program.name:
        return
    # A program that chooses between those of several machines is replaced by the choice.
    chosen = [path for path in program.parent.glob(f"{program.name}.real-*") if path.name.endswith(("x86", "lsb-64"))]
    real = chosen[0] if chosen else program.rename(program.with_name(f"{program.name}.real-own"))
    program.write_text(f'#!/bin/sh\nexec {" ".join(loader)} {final.with_name(real.name)} "$@"\n')
    program.chmod(0o755)


def _fetch_kernel(apt: DebianArchive, release: str, root: Path) -> None:
    names = apt.names("linux-image-", "linux-binary-", "linux-modules-", "linux-kbuild-")
    found: list[tuple[list[int], str, str]] = []
    for name in names:
        match = re.fullmatch(rf"linux-image-({KERNELS[release]})-cloud-amd64", name)
        if match is None:
            continue
        for kbuild in (f"linux-kbuild-{match[1]}", f"linux-kbuild-{release}"):
            if kbuild in names:
                found.append(([int(number) for number in re.findall(r"\d+", match[1])], match[1], kbuild))
                break
    if not found:
        raise NotInArchive(f"apt has no cloud kernel {release} with its linux-kbuild")
    _, build, kbuild = max(found)
    # From 6.17 on the kernel and its modules have packages of their own.
    parts = [f"linux-{part}-{build}-cloud-amd64" for part in ("binary", "modules")]
    wanted = parts if parts[0] in names else [f"linux-image-{build}-cloud-amd64"]
    unpacked = root.with_name(f"{root.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    apt.unpack([*wanted, kbuild], unpacked)
    if _needs_newer_libc(unpacked):
        apt.unpack(["libc6/trixie"], unpacked / "libc")
    (unpacked / "build").write_text(build)
    unpacked.rename(root)


def _needs_newer_libc(root: Path) -> bool:
    for objtool in root.glob("usr/lib/linux-kbuild-*/tools/objtool/objtool*"):
        if "GLIBC_" in subprocess.run([str(objtool)], capture_output=True, text=True).stderr:
            return True
    return False


def _loader(root: Path) -> tuple[str, ...]:
    """What a program of a newer Debian is run by, when it needs another C library than this machine's."""
    loader = root / "libc/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    if not loader.exists():
        return ()
    return str(loader), "--library-path", f"{loader.parent}:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu"


def _fetch_debug_kernel(apt: DebianArchive, release: str, build: str, root: Path) -> None:
    (package,) = apt.download([f"linux-image-{build}-cloud-amd64-dbg"])
    folder = "./usr/lib/debug"
    modules = f"{folder}/lib/modules/{build}-cloud-amd64"
    # Newer packages have it beside the modules, and the older name for a link.
    beside = (root.with_name(release) / "usr/lib/modules").is_dir()
    members = [f"{modules}/vmlinux" if beside else f"{folder}/boot/vmlinux-{build}-cloud-amd64"]
    members += [f"{modules}/{path}" for path in _DEBUG_MODULES.get(release, ())]
    unpacked = root.with_name(f"{root.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as archive:
        # Each occurs once, early: the rest of the archive need not be decompressed.
        command = ["tar", "-x", "--occurrence=1", "-C", str(unpacked), "-f", "-", *members]
        done = subprocess.run(command, stdin=archive.stdout)
        archive.kill()
    package.unlink()
    if done.returncode:
        raise NotInArchive(f"{package.name} does not hold {members}")
    unpacked.rename(root)
