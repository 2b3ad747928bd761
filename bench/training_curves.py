#!/usr/bin/env python3
"""Draws what runs of `sudoku train` wrote: boards right, spectral radius and residual against steps (or seconds), one line
a run; or with --accuracy boards right alone, against steps and against the processor time of the steps.

  sudoku train --regime equilibrium --output A ...
  sudoku train --regime unroll --output B ...
  python3 bench/training_curves.py --output runs.svg A/metrics.jsonl=equilibrium B/metrics.jsonl=unrolled

Runs of the same label, such as seeds, share a colour. Boards right are those of the last number of iterations of each
validation, with the averaged weights. Runs without fixed points have no radius and no residual.
"""
import argparse
import json
import pathlib
import subprocess
import sys

from curves import COLOURS, quote

RIGHT = ("boards right, %", "set yrange [0:102]")
PANELS = [RIGHT, ("spectral radius", "set yrange [0:*]"),
          ("relative residual", "set logscale y 10; set yrange [1e-5:2]; set format y '10^{%T}'")]
LABELS = {"step": "step", "seconds": "seconds", "cpu_seconds": "seconds of processor time"}


def series(file, x):
    """The points of PANELS, [(x, y)] each. Where the file holds an option changed by --resume, x goes on."""
    right, radius, residual = [], [], []
    try:
        for line in map(json.loads, pathlib.Path(file).read_text().splitlines()):
            if x not in line:  # written before steps had their processor time
                continue
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


def script(runs, output, title, panels):
    """The gnuplot program that draws runs, a list of (label, the points of each panel), into the SVG file. Panels are
    (x, name, setting); those of the same x share its range, and the last of them says what it is."""
    lines = [
        f"set terminal svg size 760,{10 + 250 * len(panels)} font 'sans-serif,13' background rgb 'white'",
        f"set output '{quote(output)}'",
        f"set multiplot layout {len(panels)},1 title '{quote(title)}'",
        "set grid lc rgb '#dddddd'",
        "set lmargin 10",
        "set rmargin 30",  # the key, in the first panel
        "set key outside right top Left reverse",
    ]
    labels = list(dict.fromkeys(label for label, _ in runs))
    last = {x: panel for panel, (x, _, _) in enumerate(panels)}
    for panel, (x, name, setting) in enumerate(panels):
        most = max(a for _, points in runs for k, (other, _, _) in enumerate(panels) if other == x for a, _ in points[k])
        lines += [setting, f"set xrange [0:{most}]", f"set ylabel '{name}'",
                  f"set xlabel '{LABELS[x]}'" if panel == last[x] else "unset xlabel"]
        plots, named = [], set()
        for run, (label, points) in enumerate(runs):
            if not points[panel]:
                continue
            data = f"$panel{panel}run{run}"
            lines += [f"{data} << END", *(f"{a} {b}" for a, b in points[panel]), "END"]
            k = labels.index(label)
            key = "notitle" if label in named else f"title '{quote(label)}'"
            plots.append(f"{data} using 1:2 with lines lw 1.5 dt {k // len(COLOURS) + 1} "
                         f"lc rgb '{COLOURS[k % len(COLOURS)]}' {key}")
            named.add(label)
        lines += ["plot " + ", ".join(plots) if plots else "set multiplot next", "unset key"]
    return "\n".join([*lines, "unset multiplot", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="FILE=LABEL", help="metrics.jsonl of runs, each with its label")
    parser.add_argument("--output", required=True, help="SVG file to write")
    parser.add_argument("--title", default="")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--against", choices=list(LABELS), default="step", help="what the three panels are drawn against")
    chosen.add_argument("--accuracy", action="store_true",
                        help="boards right alone, against steps and against processor time")
    options = parser.parse_args()
    named = [run.rpartition("=") if "=" in run else (run, "", run) for run in options.runs]
    if options.accuracy:
        panels = [(x, *RIGHT) for x in ("step", "cpu_seconds")]
        runs = [(label, [series(file, x)[0] for x, _, _ in panels]) for file, _, label in named]
    else:
        panels = [(options.against, *panel) for panel in PANELS]
        runs = [(label, series(file, options.against)) for file, _, label in named]
    drawn = subprocess.run(["gnuplot"], input=script(runs, options.output, options.title, panels), text=True)
    sys.exit(drawn.returncode)


if __name__ == "__main__":
    main()
