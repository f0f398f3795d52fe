# Everything a newcomer or CI runs. `make demo` and `make test` set up what they need by themselves.

PYTHON ?= python3
BIN := .venv/bin
KERNELS ?= 5.10 6.1 6.12 7.x
export PYTHON

.PHONY: help setup demo test viewer-test kernel-test kernel-endurance-test kernel-debug-test check bench bench-kernel generate clean

help:
	@echo "make demo    show live backtraces of the example programs"
	@echo "make test    run the tests"
	@echo "make viewer-test  read our profiles with the Firefox Profiler's own code, from npm"
	@echo "make kernel-test  run the kernel module in kernels of several releases, in QEMU"
	@echo "make kernel-endurance-test  every kind of probe at once for a minute, damage, and loads without end"
	@echo "make kernel-debug-test  the same in a kernel with KASAN and lockdep, which is built first; half an hour"
	@echo "make check   formatting, lint, types, generated files, C warnings"
	@echo "make bench   measure against perf, in one run"
	@echo "make bench-kernel  count the instructions of a kernel probe's hit"
	@echo "make clean   remove everything that was built"

setup:
	@scripts/environment

demo: setup
	@scripts/debian-packages gcc=gcc g++=g++ make=make
	@$(MAKE) --no-print-directory -C examples
	@scripts/demo

test: setup
	@scripts/debian-packages gcc=gcc
	@scripts/debian-packages --optional g++=g++ clang=clang ld.lld=lld gdb=gdb readelf=binutils libc6-dev libc6-dbg \
		python3.11=python3.11 python3.11-dbg llvm-symbolizer-14=llvm-14 perf=linux-perf setpriv=util-linux \
		aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu libc6-dev-arm64-cross libc6-i386 libc6-dev-i386 lib32stdc++-12-dev \
		gdb-multiarch=gdb-multiarch objcopy=binutils rustc=rustc \
		qemu-aarch64=qemu-user aarch64-linux-gnu-g++=g++-aarch64-linux-gnu g++-12 \
		libclang-rt-14-dev libelf1 libpython3.11 libllvm14 libssl3 dwz=dwz debuginfod=debuginfod golang-go node=nodejs \
		make=make tclsh=tcl chromium=chromium chromedriver=chromium-driver git=git sqlite3=sqlite3 xz=xz-utils unshare=util-linux \
		zsh=zsh fish=fish man=man-db groff=groff-base
	@NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest -n auto --dist loadgroup --ignore tests/kernel \
		--ignore tests/stack_profile/test_firefox_profiler.py

# Not part of CI, which has neither npm's registry nor a node that is new enough: the Firefox Profiler reads our profiles.
viewer-test: setup
	@scripts/debian-packages node=nodejs npm=npm
	@$(BIN)/python -m pytest tests/stack_profile/test_firefox_profiler.py

# 1.3 GB of kernels are fetched, once; KERNELS="6.1" chooses some of them.
kernel-test: setup
	@scripts/debian-packages gcc=gcc gcc-12=gcc-12 make=make strip=binutils qemu-system-x86_64=qemu-system-x86 \
		busybox=busybox-static sparse=sparse libelf1 mke2fs=e2fsprogs
	@PTAP_TEST_LARGE_DOWNLOADS=1 PTAP_TEST_KERNELS="$(KERNELS)" $(BIN)/python -m pytest tests/kernel

# Not part of CI: all kinds of probes at once for a minute, in each kernel, and what else the load is.
kernel-endurance-test: setup
	@scripts/debian-packages gcc=gcc gcc-12=gcc-12 make=make strip=binutils qemu-system-x86_64=qemu-system-x86 \
		busybox=busybox-static libelf1
	@PTAP_TEST_LARGE_DOWNLOADS=1 PTAP_TEST_ENDURANCE=1 PTAP_TEST_KERNELS="$(KERNELS)" $(BIN)/python -m pytest \
		tests/kernel/test_endurance.py tests/kernel/test_module_load.py tests/kernel/test_module_damage.py

# Not part of CI: the kernel is built of Debian's source, once, by one processor in a quarter of an hour.
kernel-debug-test: setup
	@scripts/debian-packages gcc=gcc gcc-12=gcc-12 make=make strip=binutils qemu-system-x86_64=qemu-system-x86 \
		busybox=busybox-static linux-source-6.1 flex=flex bison=bison bc=bc libssl-dev libelf-dev xz=xz-utils
	@PYTHONPATH=tests $(BIN)/python -m kernel.debug_page

check: setup
	@scripts/debian-packages gcc=gcc
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m cfi_tables.generate --check
	$(BIN)/python -m relay_reader.generate --check
	$(BIN)/python -m ptap.manual.generate --check
	gcc -std=c11 -Wall -Wextra -Werror -Wconversion -ffreestanding -fsyntax-only runtime_c/core/*.c
	gcc -std=c11 -Wall -Wextra -Werror -Wconversion -fsyntax-only runtime_c/host/*.c tests/runtime_c/*.c
	gcc -std=gnu11 -Wall -Wextra -Werror -fsyntax-only tests/shadow_stack/*.c

generate: setup
	$(BIN)/python -m cfi_tables.generate
	$(BIN)/python -m relay_reader.generate
	$(BIN)/python -m ptap.manual.generate

bench: setup
	@scripts/debian-packages gcc=gcc g++=g++ make=make tclsh=tcl perf=linux-perf eu-stack=elfutils \
		llvm-symbolizer-14=llvm-14 python3.11-dbg
	$(BIN)/python -m bench

bench-kernel: setup
	@scripts/debian-packages gcc=gcc gcc-12=gcc-12 make=make strip=binutils qemu-system-x86_64=qemu-system-x86 \
		busybox=busybox-static perf=linux-perf libelf1
	@PTAP_TEST_LARGE_DOWNLOADS=1 $(BIN)/python -m bench.kernel --page

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out ./*.egg-info
	$(MAKE) --no-print-directory -C examples clean
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
