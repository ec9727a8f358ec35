#!/usr/bin/env bash
# Runs a program that ends, at the latest, when standard input does: so it never outlives the process that holds the
# other end. SIGTERM first; a program that has not ended five seconds later is killed.
#
#   leashed.sh PROGRAM ARGUMENTS…
set -uo pipefail
"$@" </dev/null &
program=$!
# Whichever ends first: the program, or the input.
(
    while read -r _; do :; done
    kill -TERM "$program" 2>/dev/null || exit 0
    for _ in $(seq 50); do
        kill -0 "$program" 2>/dev/null || exit 0
        sleep 0.1
    done
    kill -KILL "$program" 2>/dev/null
) <&0 &
leash=$!
wait "$program"
status=$?
kill "$leash" 2>/dev/null
exit "$status"
