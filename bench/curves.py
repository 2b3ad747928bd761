#!/usr/bin/env python3
"""Draws what `sudoku eval --json` printed: boards right against iterations, one line with its 95 % intervals a file.

  sudoku eval --checkpoint A --kind ordinary --iterations 8,16,32 --json > ordinary.json
  sudoku eval --checkpoint A --kind minimal --iterations 8,16,32 --json > minimal.json
  python3 bench/curves.py --output curves.svg ordinary.json=ordinary minimal.json=minimal
"""
import argparse
import json
import pathlib
import subprocess
import sys

# Distinguishable in any kind of colour vision: Okabe and Ito, "Color universal design", 2008.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]


def points(file):
    """(iterations, accuracy, low, high) of each result, accuracies in per cent."""
    try:
        results = json.loads(pathlib.Path(file).read_text())["results"]
        return [(r["iterations"], *(100 * r[key] for key in ("accuracy", "low", "high"))) for r in results]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{file}: wanted the output of `sudoku eval --json`: {error!r}")


def quote(text):
    return text.replace("'", "''")


def script(curves, output, title):
    """The gnuplot program that draws curves, a list of (label, points), into the SVG file."""
    lines = [
        "set terminal svg size 720,420 font 'sans-serif,13' background rgb 'white'",
        f"set output '{quote(output)}'",
        f"set title '{quote(title)}'",
        "set logscale x 2",
        "set xlabel 'iterations'",
        "set ylabel 'boards right, %'",
        "set yrange [0:102]",
        "set grid lc rgb '#dddddd'",
        "set key outside below",
    ]
    plots = []
    for k, (label, data) in enumerate(curves):
        lines += [f"$curve{k} << END", *(" ".join(map(str, row)) for row in data), "END"]
        style = f"lc rgb '{COLOURS[k % len(COLOURS)]}'"
        plots.append(f"$curve{k} using 1:2:3:4 with yerrorbars pt 7 ps 0.4 {style} notitle")
        plots.append(f"$curve{k} using 1:2 with lines lw 2 {style} title '{quote(label)}'")
    return "\n".join([*lines, "plot " + ", ".join(plots), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="+", metavar="FILE=LABEL", help="evaluations, each with its label")
    parser.add_argument("--output", required=True, help="SVG file to write")
    parser.add_argument("--title", default="")
    options = parser.parse_args()
    named = [curve.partition("=") for curve in options.curves]
    curves = [(label or file, points(file)) for file, _, label in named]
    drawn = subprocess.run(["gnuplot"], input=script(curves, options.output, options.title), text=True)
    sys.exit(drawn.returncode)


if __name__ == "__main__":
    main()
