#!/usr/bin/env bash
# Sets up, builds and runs the tests: the CPU backend, and the CUDA backend run on the host. Arguments go to ctest,
# e.g. tools/test.sh -L fast.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh
cmake --preset emulate
cmake --build --preset emulate
ctest --preset emulate --parallel "$(nproc)" "$@"
