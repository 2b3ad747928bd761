#!/usr/bin/env bash
# Installs what is missing of the Debian packages that the project builds and tests with; does nothing when all are there.
#   tools/setup.sh         to build, test and run
#   tools/setup.sh --ci    also what only .ci/run needs: sanitizer run times, formatter, linter, coverage
#   tools/setup.sh --peers also what bench/compare.py needs: a Python that installs and compiles packages
set -euo pipefail

packages=(g++ cmake ninja-build python3 gnuplot-nox
          libhwy-dev libdnnl-dev libboost-context-dev libfmt-dev libcli11-dev nlohmann-json3-dev
          libgtest-dev libgmock-dev libbenchmark-dev)
ci_packages=(ccache clang libomp-dev libclang-rt-14-dev clang-format-14 clang-tidy-14 gcovr git)
peer_packages=(python3-venv python3-dev)

case "${1:-}" in
  "") ;;
  --ci) packages+=("${ci_packages[@]}") ;;
  --peers) packages+=("${peer_packages[@]}") ;;
  *) echo "usage: tools/setup.sh [--ci|--peers]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "tools/setup.sh installs on Debian and its relatives only. Elsewhere, install what these packages hold:"
  printf '  %s\n' "${packages[@]}"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "tools/setup.sh: run it once as root; sudo is not installed here" >&2; exit 1; }
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
