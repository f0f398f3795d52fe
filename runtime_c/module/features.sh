#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# features.sh FOLDER COMPILER ARGUMENT...: prints -DPTAP_HAS_NAME for each FOLDER/NAME.c that compiles.
#
# The kernel's headers take longer than the tests, so all are compiled as one: again without those that the errors are
# in, until there is none. Where errors are in no test, each is compiled by itself.

folder=$1
shift
export LC_ALL=C

# compile TESTS COMPILER ARGUMENT...: what the compiler says of all of them, and its status.
compile() {
	included=$1
	shift
	for each in $included; do echo "#include \"$each\""; done | "$@" -x c - 2>&1
}

tests=$(echo "$folder"/*.c)
while [ -n "$tests" ] && ! said=$(compile "$tests" "$@"); do
	left=
	for test in $tests; do
		echo "$said" | grep -q "^$test:.*error: " || left="$left $test"
	done
	if [ "$(echo $left)" = "$(echo $tests)" ]; then
		left=
		for test in $tests; do
			compile "$test" "$@" >/dev/null && left="$left $test"
		done
		tests=$left
		break
	fi
	tests=$left
done
for test in $tests; do
	basename "$test" .c | tr a-z A-Z | sed s/^/-DPTAP_HAS_/
done
