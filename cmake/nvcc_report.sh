#!/bin/sh
# Compiler launcher: runs the nvcc command it is given. What ptxas reports of each kernel goes to OBJECT.ptxas, which
# tools/kernel_table.py reads; everything else, warnings and errors included, goes to the terminal as before.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
log=$("$@" 2>&1)
status=$?
[ -z "$object" ] || printf '%s\n' "$log" | grep -E '^ptxas info|bytes stack frame' > "$object.ptxas"
printf '%s\n' "$log" | grep -vE '^ptxas info|bytes stack frame|^$' >&2
exit $status
