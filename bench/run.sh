#!/bin/sh
# Builds the release preset (or the one named in PRESET) and prints the table of benchmarks. Arguments go to the program, e.g.
#   bench/run.sh --benchmark_filter=message_sum
#   THREADS=2 bench/run.sh --benchmark_out=results.json
#   PRESET=cuda bench/run.sh
set -eu
cd "$(dirname "$0")/.."
preset=${PRESET:-release}
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >/dev/null
cmake --build "build/$preset" --target stillpoint_bench >/dev/null
OMP_NUM_THREADS=${THREADS:-1} exec "build/$preset/bin/stillpoint_bench" "$@"
