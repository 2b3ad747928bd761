#!/usr/bin/env bash
# The main job from nothing: sets up, builds, trains a network on Sudokus that it makes on the way, and counts how many unseen
# boards it gets right after more and more refinements. Leaves everything in runs/demo/ (an earlier demo there is replaced).
#   tools/demo.sh [PUZZLES]     evaluates on the puzzles of this file, else on generated ones
#   MINUTES=2 tools/demo.sh     trains for two minutes instead of eight
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
rm -f "$output"/checkpoint.safetensors "$output"/metrics.jsonl "$output"/evaluation*.txt
"$sudoku" train --output "$output" --minutes "${MINUTES:-8}"

evaluate() {
  echo "== $1" | tee "$output/evaluation-$1.txt"
  "$sudoku" eval --checkpoint "$output/checkpoint.safetensors" --iterations 8,16,32,64,128 "${@:2}" |
    tee -a "$output/evaluation-$1.txt"
}
if [ -n "$puzzles" ]; then
  evaluate file --puzzles "$puzzles"
else
  evaluate ordinary --kind ordinary --count 250
  evaluate minimal --kind minimal --count 250
fi
