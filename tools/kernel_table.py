#!/usr/bin/env python3
"""Table of what each CUDA kernel takes from a multiprocessor: tools/kernel_table.py build/cuda > build/cuda/kernels.txt

Registers, static shared memory, stack and spilled bytes are what ptxas reported when the kernel was compiled; the block
is the kernel's __launch_bounds__, or 256 threads where it has none. Occupancy is the share of a multiprocessor's threads
that can be resident with these, by the rules of the CUDA C++ Programming Guide ("Compute Capabilities"); shared memory
that a launch asks for on top is not known here.
"""
import collections
import math
import pathlib
import re
import subprocess
import sys

WARP = 32
REGISTERS = 65536  # per multiprocessor, of every architecture below
REGISTER_UNIT = 256  # registers are handed to a warp in these steps
SHARED_UNIT = 128
Limits = collections.namedtuple("Limits", "threads blocks shared reserved")  # reserved: bytes of shared memory per block
ARCHITECTURES = {
    "sm_75": Limits(1024, 16, 64 * 1024, 0),
    "sm_80": Limits(2048, 32, 164 * 1024, 1024),
    "sm_86": Limits(1536, 16, 100 * 1024, 1024),
    "sm_89": Limits(1536, 24, 100 * 1024, 1024),
    "sm_90": Limits(2048, 32, 228 * 1024, 1024),
}
DEFAULT_BLOCK = 256


def rounded_up(value, unit):
    return -(-value // unit) * unit


def occupancy(architecture, threads, registers, shared):
    """Resident threads over the multiprocessor's threads, 0 where a single block does not fit."""
    limits = ARCHITECTURES[architecture]
    warps = rounded_up(threads, WARP) // WARP
    warps_by_registers = REGISTERS // rounded_up(max(registers, 1) * WARP, REGISTER_UNIT) // 4 * 4
    blocks = min(limits.blocks, limits.threads // (warps * WARP), warps_by_registers // warps)
    taken = rounded_up(shared + limits.reserved, SHARED_UNIT)
    if taken:
        blocks = min(blocks, limits.shared // taken)
    return blocks * warps * WARP / limits.threads


def launch_bounds(objects):
    """Kernel -> threads of its __launch_bounds__, from the PTX text in the object files."""
    entry = re.compile(rb"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?")
    bounds = {}
    for path in objects:
        for name, *sizes in entry.findall(path.read_bytes()):
            bounds[name.decode()] = math.prod(int(size or 1) for size in sizes)
    return bounds


def kernels(reports):
    """Yields (op, mangled name, architecture, registers, shared bytes, stack bytes, spilled bytes)."""
    for path in reports:
        for line in path.read_text().splitlines():
            if compiling := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
                name, architecture = compiling.groups()
            elif frame := re.match(r"\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", line):
                stack, stores, loads = map(int, frame.groups())
            elif used := re.search(r"Used (\d+) registers", line):
                shared = re.search(r"(\d+)(?:\+\d+)? bytes smem", line)
                yield path.name.split(".")[0], name, architecture, int(used[1]), int(shared[1]) if shared else 0, stack, stores + loads


def short(name):
    """stillpoint::kernels::cuda::(anonymous namespace)::f<float>(...) -> f<float>"""
    name = name.replace("(anonymous namespace)::", "").replace("stillpoint::kernels::cuda::", "").replace("stillpoint::kernels::", "")
    name = name.removeprefix("void ")
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            name = name[:i]
            break
    return name


def main(build):
    reports = sorted(build.rglob("*.ptxas"))
    rows = sorted(set(kernels(reports)))
    if not rows:
        sys.exit(f"kernel_table.py: {build} holds no report of ptxas; build the cuda preset first")
    bounds = launch_bounds(report.with_suffix("") for report in reports)
    names = subprocess.run(["c++filt"], input="\n".join(row[1] for row in rows), capture_output=True, text=True,
                           check=True).stdout.splitlines()
    print(f"{'file':16} {'kernel':48} {'arch':6} {'block':>5} {'registers':>9} {'shared':>7} {'stack':>5} {'spills':>6} {'occupancy':>9}")
    for (op, mangled, architecture, registers, shared, stack, spills), name in zip(rows, names, strict=True):
        block = bounds.get(mangled, DEFAULT_BLOCK)
        share = occupancy(architecture, block, registers, shared)
        print(f"{op:16} {short(name):48} {architecture:6} {block:5} {registers:9} {shared:7} {stack:5} {spills:6} {share:9.0%}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
