// take_rows by its formula: what float64 tensors run.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/take_rows/take_rows.h"

namespace stillpoint::kernels::reference {

namespace detail {
inline void move_row(const MoveRowsArgs& args, int64_t from, int64_t to) {
  const int64_t bytes = 4 * args.words;
  std::memcpy(static_cast<char*>(args.to) + to * bytes,
              static_cast<const char*>(args.from) + from * bytes, static_cast<size_t>(bytes));
}
}  // namespace detail

inline void take_rows(const MoveRowsArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) detail::move_row(args, args.index[i], i);
}
inline void put_rows(const MoveRowsArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) detail::move_row(args, i, args.index[i]);
}

}  // namespace stillpoint::kernels::reference
