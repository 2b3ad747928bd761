// take_rows on the CPU: copies of whole rows, shared out among the threads.
#include <algorithm>
#include <cstring>

#include "kernels/common/parallel.h"
#include "kernels/take_rows/take_rows.h"

namespace stillpoint::kernels::cpu {
namespace {

template <class FromRow, class ToRow>
void move_rows(const MoveRowsArgs& args, FromRow from_row, ToRow to_row) {
  if (args.words == 0) return;
  const int64_t bytes = 4 * args.words;
  // 128 KiB, about 10 us.
  parallel_for(args.count, std::max<int64_t>(1, 32768 / args.words),
               [&](int64_t first, int64_t last) {
                 for (int64_t i = first; i < last; ++i)
                   std::memcpy(static_cast<char*>(args.to) + to_row(i) * bytes,
                               static_cast<const char*>(args.from) + from_row(i) * bytes,
                               static_cast<size_t>(bytes));
               });
}

}  // namespace

void take_rows(const MoveRowsArgs& args) {
  move_rows(
      args, [&](int64_t i) { return int64_t{args.index[i]}; }, [](int64_t i) { return i; });
}

void put_rows(const MoveRowsArgs& args) {
  move_rows(
      args, [](int64_t i) { return i; }, [&](int64_t i) { return int64_t{args.index[i]}; });
}

}  // namespace stillpoint::kernels::cpu
