#!/usr/bin/env bash
# The protobuf format under libFuzzer.
#
#   run.sh [SECONDS [OPTION…]]   runs for so long (60), from the corpus on; what fails is left in fuzz/artifacts
#   run.sh merge                 makes the corpus anew: of what it holds and of what was found, the least that reaches as much
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
corpus=$here/corpus/protobuf
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/rondel/target}/fuzz
found=$CARGO_TARGET_DIR/found
host=$(rustc -vV | sed -n 's/^host: //p')

# Counters at each edge and the operands of comparisons; no sanitizer, since there is no unsafe code. With --target, build
# scripts and macros are left alone.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --locked --manifest-path "$here/Cargo.toml" --target "$host"
program=$CARGO_TARGET_DIR/$host/release/protobuf

mkdir -p "$found" "$here/artifacts"
if [ "${1:-}" = merge ]; then
    merged=$(mktemp -d)
    "$program" -merge=1 -max_len=256 "$merged" "$corpus" "$found"
    rm -rf "$corpus"
    mv "$merged" "$corpus"
    chmod 755 "$corpus"
    exit
fi
seconds=${1:-60}
shift || true
exec "$program" "-max_total_time=$seconds" -max_len=256 -timeout=20 -print_final_stats=1 \
    "-artifact_prefix=$here/artifacts/" "$@" "$found" "$corpus"
