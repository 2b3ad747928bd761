#!/bin/sh
# Installs the peers of bench/compare.py into build/peers, from PyPI: PyTorch, in the smallest form
# that starts. Its CUDA libraries are left out where the machine's own toolkit has them.
set -eu
cd "$(dirname "$0")/../.."
torch=torch==2.15.0
python=build/peers/bin/python
# The installed version without its build suffix ("+cu130") must be the pinned one.
is_pinned() { [ "torch==$($python -c 'import torch; print(torch.__version__.split("+")[0])' 2>/dev/null)" = $torch ]; }
if is_pinned; then exit 0; fi
tools/setup.sh --peers
python3 -m venv build/peers
pip="$python -m pip install --quiet --disable-pip-version-check"
$pip --no-deps $torch nvidia-cufile nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13
$pip typing-extensions filelock fsspec jinja2 networkx sympy numpy 'setuptools>=77.0.3'
is_pinned || $pip $torch
$python -c 'import torch; print("PyTorch", torch.__version__)'
