#!/usr/bin/env bash
# Runs the tests on the emulated device, race check on, and prints which share of the lines of every CUDA source they
# executed. Fails if a test fails or a file stays below the bound.
set -euo pipefail
cd "$(dirname "$0")/.."
bound=95
build=build/coverage
tests=(ops_test engine_test models_test emulation_test)

cmake --preset emulate -B "$build" -DSTILLPOINT_COVERAGE=ON -DSTILLPOINT_RACE_CHECK=ON -DSTILLPOINT_BENCH=OFF
cmake --build "$build" --target "${tests[@]}"
find "$build" -name '*.gcda' -delete
# Statistics and trainings repeat what other tests execute.
filter='-*Unbiased*:Biased.*:Variance.*:*IsBiased*:*FrequenciesAreTheLaws*:*LearnsToSolve*:*TrainingLowersTheLoss*'
for test in "${tests[@]}"; do printf "$build/bin/$test %d\n" 0 1 2 3; done |
  OMP_WAIT_POLICY=passive GTEST_TOTAL_SHARDS=4 xargs -P "$(nproc)" -L 1 \
    bash -c 'GTEST_SHARD_INDEX=$2 "$1" --gtest_brief=1 --gtest_filter="$0"' "$filter"

# Device code is written in .cu and .cuh files, in launch.h and in the headers around CUDA's libraries; engine/cuda is the
# host code beside it. The emulation itself is no part of it.
gcovr --root . --filter '.*\.cuh?$' --filter 'kernels/.*/(launch|cu[a-z]+)\.h$' --filter 'engine/cuda/' \
  --exclude 'tests/' --exclude 'kernels/emulation/' --exclude-throw-branches \
  --csv "$build/coverage.csv" --txt "$build/coverage.txt" "$build"
missing=$(find kernels -name '*.cu' -not -path 'kernels/emulation/*' | while read -r source; do
  grep -q "^$source," "$build/coverage.csv" || echo "  $source"
done)
if [[ -n $missing ]]; then
  printf 'no test has these compiled in:\n%s\n' "$missing"
  exit 1
fi
awk -F, -v bound="$bound" '
  NR == 1 { next }
  { printf "%6.1f %%  %5d lines  %s\n", 100 * $4, $2, $1
    lines += $2; covered += $3
    if (100 * $4 < bound) low = low "\n  " $1 }
  END {
    if (lines == 0) { print "no CUDA source was compiled"; exit 1 }
    printf "%6.1f %%  %5d lines  in all\n", 100 * covered / lines, lines
    if (low != "") { printf "below %d %%:%s\n(lines: build/coverage/coverage.txt)\n", bound, low; exit 1 } }
  ' "$build/coverage.csv"
