#include "models/sudoku/solver.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

// Sixteen 16-bit lanes, one per digit; lanes from side on stay zero. Two 128-bit registers, which
// every 64-bit machine of ours has without asking.
struct Lanes {
  using Half [[gnu::vector_size(16)]] = uint16_t;
  Half half[2];

  static Lanes all(uint16_t x) {
    Lanes r;
    for (Half& h : r.half) h = Half{} + x;
    return r;
  }
  friend Lanes operator&(Lanes a, Lanes b) {
    return {{a.half[0] & b.half[0], a.half[1] & b.half[1]}};
  }
  friend Lanes operator|(Lanes a, Lanes b) {
    return {{a.half[0] | b.half[0], a.half[1] | b.half[1]}};
  }
  friend Lanes operator^(Lanes a, Lanes b) {
    return {{a.half[0] ^ b.half[0], a.half[1] ^ b.half[1]}};
  }
  Lanes operator~() const { return {{~half[0], ~half[1]}}; }
  Lanes operator<<(int n) const { return {{half[0] << n, half[1] << n}}; }
  Lanes operator>>(int n) const { return {{half[0] >> n, half[1] >> n}}; }
  Lanes& operator&=(Lanes b) { return *this = *this & b; }
  Lanes& operator|=(Lanes b) { return *this = *this | b; }
  // All ones in the lanes that are not zero.
  Lanes nonzero() const { return {{Half(half[0] != 0), Half(half[1] != 0)}}; }
  // All but the lowest bit of every lane.
  Lanes without_lowest() const { return {{half[0] & (half[0] - 1), half[1] & (half[1] - 1)}}; }
  bool any() const {
    const Half both = half[0] | half[1];
    uint64_t words[2];
    std::memcpy(words, &both, sizeof words);
    return (words[0] | words[1]) != 0;
  }
};

// Bits set in at least one and in at least two of the lanes.
struct Tally {
  uint16_t once, twice;
};

inline Tally tally(const Lanes& x) {
  const Lanes::Half once = x.half[0] | x.half[1], twice = x.half[0] & x.half[1];
  uint64_t o[2], t[2];
  std::memcpy(o, &once, sizeof o);
  std::memcpy(t, &twice, sizeof t);
  uint64_t two = t[0] | t[1] | (o[0] & o[1]), one = o[0] | o[1];
  for (const int shift : {32, 16}) {
    two |= std::rotr(two, shift) | (one & std::rotr(one, shift));
    one |= std::rotr(one, shift);
  }
  return {static_cast<uint16_t>(one), static_cast<uint16_t>(two)};
}

enum class Outcome { contradiction, open, solved };

// Where each digit may still stand: bit c of lane d of row[r] says that digit d + 1 may be in
// column c of row r. Units become bit patterns within a lane, so that one instruction treats all
// digits, and naked singles are the columns set in one lane only.
template <int Box>
struct Candidates {
  static constexpr int kSide = Box * Box;
  static constexpr uint16_t kFull = static_cast<uint16_t>((1u << kSide) - 1);
  Lanes row[kSide];

  static Lanes every_digit(uint16_t x) {
    uint16_t lane[16] = {};
    std::fill_n(lane, kSide, x);
    Lanes r;
    std::memcpy(&r, lane, sizeof r);
    return r;
  }

  uint16_t get(int r, int digit) const {
    uint16_t lane[16];
    std::memcpy(lane, &row[r], sizeof lane);
    return lane[digit];
  }
  void set(int r, int digit, uint16_t columns) {
    uint16_t lane[16];
    std::memcpy(lane, &row[r], sizeof lane);
    lane[digit] = columns;
    std::memcpy(&row[r], lane, sizeof lane);
  }
  void forbid(int cell, int digit) {
    const int r = cell / kSide, c = cell % kSide;
    set(r, digit, static_cast<uint16_t>(get(r, digit) & ~(1u << c)));
  }
  void place(int cell, int digit) {
    const int r = cell / kSide;
    const uint16_t bit = static_cast<uint16_t>(1u << cell % kSide);
    row[r] &= Lanes::all(static_cast<uint16_t>(~bit));
    set(r, digit, static_cast<uint16_t>(get(r, digit) | bit));
  }
};

// The lowest bit of every group of Box columns.
template <int Box>
constexpr uint16_t kGroups = [] {
  uint16_t groups = 0;
  for (int g = 0; g < Box; ++g) groups = static_cast<uint16_t>(groups | 1u << g * Box);
  return groups;
}();

template <int Box>
inline Lanes spread_over_group(Lanes x) {
  Lanes r = x;
  for (int k = 1; k < Box; ++k) r |= x << k;
  return r;
}

// Naked and hidden singles to exhaustion.
template <int Box>
Outcome propagate(Candidates<Box>& x) {
  using C = Candidates<Box>;
  const Lanes full = C::every_digit(C::kFull), groups = C::every_digit(kGroups<Box>);
  for (;;) {
    // Naked singles leave their row, column and box to themselves.
    Lanes placed[C::kSide], column{}, clash{}, changed{};
    uint16_t open = 0;
    for (int r = 0; r < C::kSide; ++r) {
      const Tally t = tally(x.row[r]);
      if (t.once != C::kFull) return Outcome::contradiction;
      open |= t.twice;
      placed[r] = x.row[r] & Lanes::all(static_cast<uint16_t>(~t.twice));
      clash |= (column & placed[r]) | placed[r].without_lowest();
      column |= placed[r];
    }
    if (clash.any()) return Outcome::contradiction;
    Lanes once{}, twice{}, missing{}, box_single[Box];
    Lanes next[C::kSide];
    for (int b = 0; b < Box; ++b) {
      Lanes band{};
      for (int r = b * Box; r < (b + 1) * Box; ++r) band |= placed[r];
      Lanes taken{};
      for (int k = 0; k < Box; ++k) taken |= band >> k & groups;
      taken = spread_over_group<Box>(taken) | column;
      Lanes band_once{}, band_twice{};
      for (int r = b * Box; r < (b + 1) * Box; ++r) {
        const Lanes y = (x.row[r] & ~(taken | placed[r].nonzero())) | placed[r];
        next[r] = y;
        missing |= ~y.nonzero();
        band_twice |= band_once & y;
        band_once |= y;
      }
      twice |= band_twice | (once & band_once);
      once |= band_once;
      Lanes one = band_once & groups, two = band_twice & groups;
      for (int k = 1; k < Box; ++k) {
        const Lanes shifted = band_once >> k & groups;
        two |= (band_twice >> k & groups) | (one & shifted);
        one |= shifted;
      }
      missing |= one ^ groups;
      box_single[b] = spread_over_group<Box>(one & ~two);
    }
    missing |= once ^ full;
    if ((missing & full).any()) return Outcome::contradiction;
    if (open == 0) return Outcome::solved;
    // A digit with one place left in a unit takes it from the other digits.
    const Lanes column_single = once & ~twice;
    for (int r = 0; r < C::kSide; ++r) {
      const Lanes y = next[r];
      const Lanes row_single = ~y.without_lowest().nonzero();
      const Lanes hidden = y & (row_single | column_single | box_single[r / Box]);
      const Tally t = tally(hidden);
      if (t.twice != 0) return Outcome::contradiction;
      const Lanes z = (y & Lanes::all(static_cast<uint16_t>(~t.once))) | hidden;
      changed |= z ^ x.row[r];
      x.row[r] = z;
    }
    if (!changed.any()) return Outcome::open;
  }
}

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
    for (int k = 0; k < n && report_.solutions < options_.max_solutions; ++k) {
      if (report_.nodes == options_.max_nodes) {
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
