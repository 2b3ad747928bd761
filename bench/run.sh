#!/bin/sh
# Builds the release preset and prints the table of benchmarks. Arguments go to the program, e.g.
#   bench/run.sh --benchmark_filter=message_sum
#   THREADS=2 bench/run.sh --benchmark_out=results.json
set -eu
cd "$(dirname "$0")/.."
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build build/release --target stillpoint_bench >/dev/null
OMP_NUM_THREADS=${THREADS:-1} exec build/release/bin/stillpoint_bench "$@"
