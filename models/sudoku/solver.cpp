#include "models/sudoku/solver.h"

#include <bit>
#include <cstring>
#include <utility>

#include "engine/error.h"
#include "models/sudoku/propagation.h"

namespace stillpoint::sudoku {
namespace {

template <int Box>
class Search {
 public:
  explicit Search(const SolveOptions& options) : options_(options) {}

  void run(Candidates<Box>& x) {
    const Outcome outcome = propagate(x);
    if (outcome == Outcome::contradiction) return;
    if (outcome == Outcome::solved) {
      if (report_.solutions++ == 0) record(x);
      return;
    }
    const int cell = fewest_candidates(x);
    int digits[C::kSide], n = 0;
    for (int d = 0; d < C::kSide; ++d) {
      if (x.get(cell / C::kSide, d) >> cell % C::kSide & 1) digits[n++] = d;
    }
    if (options_.random != nullptr) shuffle(digits, n);
    for (int k = 0; k < n; ++k) {
      if (report_.nodes == options_.max_nodes || report_.solutions == options_.max_solutions) {
        report_.complete = false;
        return;
      }
      ++report_.nodes;
      Candidates<Box> guess = x;
      guess.place(cell, digits[k]);
      run(guess);
    }
  }

  SolveReport report() const { return report_; }

 private:
  using C = Candidates<Box>;

  void record(const Candidates<Box>& x) {
    report_.solution.geometry = {Box};
    for (int r = 0; r < C::kSide; ++r) {
      for (int d = 0; d < C::kSide; ++d) {
        for (uint16_t m = x.get(r, d); m != 0; m = static_cast<uint16_t>(m & (m - 1))) {
          report_.solution[r * C::kSide + std::countr_zero(m)] = static_cast<uint8_t>(d + 1);
        }
      }
    }
  }

  // The first cell in reading order with the fewest candidates above one.
  static int fewest_candidates(const Candidates<Box>& x) {
    int best = -1, fewest = C::kSide + 1;
    for (int r = 0; r < C::kSide; ++r) {
      uint16_t lane[16];
      std::memcpy(lane, &x.row[r], sizeof lane);
      uint16_t at_least[4] = {};  // 1, 2, 3, 4 candidates
      for (int d = 0; d < C::kSide; ++d) {
        for (int k = 3; k > 0; --k) {
          at_least[k] = static_cast<uint16_t>(at_least[k] | (at_least[k - 1] & lane[d]));
        }
        at_least[0] = static_cast<uint16_t>(at_least[0] | lane[d]);
      }
      // Below four the bit patterns tell; from four on the cell is counted.
      for (uint16_t m = at_least[1]; m != 0; m = static_cast<uint16_t>(m & (m - 1))) {
        const int c = std::countr_zero(m);
        int count = 2 + (at_least[2] >> c & 1) + (at_least[3] >> c & 1);
        if (count == 4) {
          count = 0;
          for (int d = 0; d < C::kSide; ++d) count += lane[d] >> c & 1;
        }
        if (count < fewest) {
          fewest = count;
          best = r * C::kSide + c;
          if (fewest == 2) return best;
        }
      }
    }
    return best;
  }

  void shuffle(int* digits, int n) {
    for (int k = n - 1; k > 0; --k) {
      std::swap(digits[k], digits[options_.random->below(static_cast<uint32_t>(k + 1))]);
    }
  }

  const SolveOptions& options_;
  SolveReport report_;
};

template <int Box>
SolveReport solve_box(const Board& givens, const SolveOptions& options) {
  Candidates<Box> x;
  for (Lanes& row : x.row) row = Candidates<Box>::every_digit(Candidates<Box>::kFull);
  for (int cell = 0; cell < givens.geometry.cells(); ++cell) {
    if (givens[cell] != 0) x.place(cell, givens[cell] - 1);
  }
  if (options.forbidden_cell >= 0) x.forbid(options.forbidden_cell, options.forbidden_value - 1);
  Search<Box> search(options);
  search.run(x);
  return search.report();
}

void check_arguments(const Board& givens, const SolveOptions& options) {
  const Geometry g = givens.geometry;
  check<ShapeError>(g.box >= kMinBox && g.box <= kMaxBox, "solve: box size {}; wanted {} to {}",
                    g.box, kMinBox, kMaxBox);
  for (int cell = 0; cell < g.cells(); ++cell) {
    check<OptionError>(givens[cell] <= g.side(), "solve: value {} in cell {}; wanted 0 to {}",
                       givens[cell], cell, g.side());
  }
  check<OptionError>(options.max_solutions >= 1, "solve: max_solutions {}; wanted 1 or more",
                     options.max_solutions);
  check<OptionError>(options.max_nodes >= 0, "solve: max_nodes {}; wanted 0 or more",
                     options.max_nodes);
  const int cell = options.forbidden_cell, value = options.forbidden_value;
  check<OptionError>(cell < g.cells() && (cell < 0 || (value >= 1 && value <= g.side())),
                     "solve: value {} forbidden in cell {}; wanted a value from 1 to {} and a cell "
                     "below {}",
                     value, cell, g.side(), g.cells());
}

}  // namespace

SolveReport solve(const Board& givens, const SolveOptions& options) {
  check_arguments(givens, options);
  switch (givens.geometry.box) {
    case 2:
      return solve_box<2>(givens, options);
    case 3:
      return solve_box<3>(givens, options);
    default:
      return solve_box<4>(givens, options);
  }
}

}  // namespace stillpoint::sudoku
