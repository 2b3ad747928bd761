#!/usr/bin/env bash
# The main job from nothing: sets up, builds, trains a network on Sudokus that it makes on the way, counts how many unseen boards
# it gets right after more and more refinements, and solves one in view. Leaves in runs/demo/ (an earlier demo there is replaced):
#   checkpoint.safetensors, network.safetensors, metrics.jsonl   the run
#   training.svg, evaluation-*.svg, evaluation-*.txt             how well it went
#   page.html                                                    one board on the way to its solution, with a slider
#   tools/demo.sh [PUZZLES]     evaluates on the puzzles of this file, else on generated ones
#   MINUTES=2 tools/demo.sh     trains for two minutes instead of four
#   OUTPUT=DIR tools/demo.sh    leaves everything in DIR
set -euo pipefail
puzzles=${1:+$(realpath -e -- "$1")}
output=${OUTPUT:+$(realpath -m -- "$OUTPUT")}
cd "$(dirname "$0")/.."
output=${output:-runs/demo}

tools/setup.sh
cmake --preset release
cmake --build --preset release --target sudoku

sudoku=build/release/bin/sudoku
rm -f "$output"/{checkpoint,network}.safetensors "$output"/{metrics.jsonl,training.svg,page.html} "$output"/evaluation*
mkdir -p "$output"
"$sudoku" train --output "$output" --minutes "${MINUTES:-4}" --plot "$output/training.svg"

network=$output/network.safetensors
evaluate() {
  echo "== $1" | tee "$output/evaluation-$1.txt"
  "$sudoku" eval --checkpoint "$network" --iterations 8,16,32,64,128,256 --plot "$output/evaluation-$1.svg" "${@:2}" |
    tee -a "$output/evaluation-$1.txt"
}
if [ -n "$puzzles" ]; then
  evaluate file --puzzles "$puzzles"
else
  evaluate ordinary --kind ordinary --count 250
  evaluate minimal --kind minimal --count 250
fi

# 17 givens, from Peter Norvig's essay on solving every Sudoku. Status 3: not solved, as a short training may not.
"$sudoku" solve --checkpoint "$network" --iterations 128 --restarts 4 --watch --html "$output/page.html" \
  4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4...... || [ $? -eq 3 ]
echo "all in $output; open $output/page.html in a browser"
