// Candidates of a board as bit patterns, and what naked and hidden singles make of them. Inside the
// solver; solver.h is what others use.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace stillpoint::sudoku {

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
Lanes spread_over_group(Lanes x) {
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

}  // namespace stillpoint::sudoku
