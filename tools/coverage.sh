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
for test in "${tests[@]}"; do "$build/bin/$test" --gtest_brief=1; done

# Device code is written in .cu files and in the two headers they share; engine/cuda is the host code beside it.
# Lines that only a failing driver reaches carry GCOVR_EXCL marks, with the reason.
gcovr --root . --filter '.*\.cu$' --filter 'kernels/common/(launch\.h|reduce\.cuh)$' --filter 'engine/cuda/' \
  --exclude 'tests/' --exclude-throw-branches --csv "$build/coverage.csv" --txt "$build/coverage.txt" "$build"
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
