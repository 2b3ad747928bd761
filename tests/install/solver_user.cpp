#include <cstdio>

#include "models/sudoku/solver.h"

int main() {
  using namespace stillpoint;
  const sudoku::Board givens{.geometry = {.box = 2},
                             .cells = {1, 0, 0, 4, 0, 4, 1, 0, 2, 0, 0, 3, 0, 3, 2, 0}};
  const sudoku::SolveReport report = sudoku::solve(givens);
  for (int cell = 0; report.unique() && cell < givens.geometry.cells(); ++cell)
    std::printf("%d", report.solution[cell]);
}
