#include "engine/broadcast.h"

#include <algorithm>
#include <optional>

namespace stillpoint {
namespace {

using kernels::Spread;

std::optional<Cover> try_cover(const Shape& small, const Shape& large) {
  const int64_t n = numel(large);
  if (small == large) return Cover{Spread::full, 1, n};
  const auto first = std::find_if(small.begin(), small.end(), [](int64_t d) { return d != 1; });
  const auto length = small.end() - first;
  if (length == 0) return Cover{Spread::per_row, 1, n};  // one number for all
  if (length <= std::ssize(large) && std::equal(first, small.end(), large.end() - length)) {
    const int64_t columns = numel(Shape(first, small.end()));
    return Cover{Spread::per_column, columns == 0 ? 0 : n / columns, columns};
  }
  if (small.size() == large.size() && small.back() == 1 &&
      std::equal(small.begin(), small.end() - 1, large.begin()))
    return Cover{Spread::per_row, numel(small), large.back()};
  return std::nullopt;
}

}  // namespace

Cover cover(const Shape& small, const Shape& large, const char* op) {
  const auto found = try_cover(small, large);
  check<ShapeError>(found.has_value(),
                    "{}: shape {} does not broadcast to {}; wanted a suffix of it, or the same "
                    "with a last dimension of 1",
                    op, small, large);
  return *found;
}

Broadcast broadcast(const Shape& a, const Shape& b, const char* op) {
  const auto a_in_b = try_cover(a, b), b_in_a = try_cover(b, a);
  check<ShapeError>(a_in_b || b_in_a,
                    "{}: shapes {} and {} do not broadcast; wanted equal shapes, a suffix of the "
                    "other, or the same with a last dimension of 1",
                    op, a, b);
  // Shapes that differ in leading 1s only cover each other: the longer one is the result's.
  const bool a_is_larger = b_in_a && (!a_in_b || a.size() >= b.size());
  const Cover small = a_is_larger ? *b_in_a : *a_in_b;
  const Cover full{Spread::full, small.rows, small.columns};
  if (a_is_larger) return {a, full, small};
  return {b, small, full};
}

}  // namespace stillpoint
