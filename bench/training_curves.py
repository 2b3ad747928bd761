#!/usr/bin/env python3
"""Draws what runs of `sudoku train` wrote: boards right, spectral radius and residual against steps (or seconds), one line a run.

  sudoku train --regime equilibrium --output A ...
  sudoku train --regime unroll --output B ...
  python3 bench/training_curves.py --output runs.svg A/metrics.jsonl=equilibrium B/metrics.jsonl=unrolled

Boards right are those of the last number of iterations of each validation, with the averaged weights. Runs without fixed
points have no radius and no residual.
"""
import argparse
import json
import pathlib
import subprocess
import sys

from curves import COLOURS, quote

PANELS = [("boards right, %", "set yrange [0:102]"), ("spectral radius", "set yrange [0:*]"),
          ("relative residual", "set logscale y 10; set yrange [1e-5:2]; set format y '10^{%T}'")]


def series(file, x):
    """The points of the three panels, [(x, y)] each. Where the file holds an option changed by --resume, x goes on."""
    right, radius, residual = [], [], []
    try:
        for line in map(json.loads, pathlib.Path(file).read_text().splitlines()):
            if "validation" in line:
                right.append((line[x], 100 * line["validation"][-1]["accuracy"]))
            if line.get("radii") and None not in line["radii"]:  # null: not finite
                radius.append((line[x], sum(line["radii"]) / len(line["radii"])))
            if line.get("residual") is not None:
                residual.append((line[x], line["residual"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        sys.exit(f"{file}: wanted the metrics.jsonl of a `sudoku train`: {error!r}")
    if not right:
        sys.exit(f"{file}: wanted the metrics.jsonl of a `sudoku train`: no validation in it")
    return right, radius, residual


def script(runs, output, title, x):
    """The gnuplot program that draws runs, a list of (label, series), into the SVG file."""
    lines = [
        "set terminal svg size 760,760 font 'sans-serif,13' background rgb 'white'",
        f"set output '{quote(output)}'",
        f"set multiplot layout 3,1 title '{quote(title)}'",
        "set grid lc rgb '#dddddd'",
        "set lmargin 10",
        "set rmargin 30",  # the key, in the first panel
        f"set xrange [0:{max(a for _, points in runs for panel in points for a, _ in panel)}]",
        "set key outside right top Left reverse",
    ]
    for panel, (name, setting) in enumerate(PANELS):
        lines += [setting, f"set ylabel '{name}'", f"set xlabel '{x}'" if panel == 2 else "unset xlabel"]
        plots = []
        for k, (label, points) in enumerate(runs):
            if not points[panel]:
                continue
            data = f"$panel{panel}run{k}"
            lines += [f"{data} << END", *(f"{a} {b}" for a, b in points[panel]), "END"]
            dash = k // len(COLOURS) + 1
            plots.append(f"{data} using 1:2 with lines lw 1.5 dt {dash} lc rgb '{COLOURS[k % len(COLOURS)]}' "
                         f"title '{quote(label)}'")
        lines += ["plot " + ", ".join(plots) if plots else "set multiplot next", "unset key"]
    return "\n".join([*lines, "unset multiplot", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="FILE=LABEL", help="metrics.jsonl of runs, each with its label")
    parser.add_argument("--output", required=True, help="SVG file to write")
    parser.add_argument("--title", default="")
    parser.add_argument("--against", choices=["step", "seconds"], default="step")
    options = parser.parse_args()
    named = [run.rpartition("=") if "=" in run else (run, "", run) for run in options.runs]
    runs = [(label, series(file, options.against)) for file, _, label in named]
    drawn = subprocess.run(["gnuplot"], input=script(runs, options.output, options.title, options.against), text=True)
    sys.exit(drawn.returncode)


if __name__ == "__main__":
    main()
