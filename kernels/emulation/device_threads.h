// What the threads of a block do together: barriers, warp shuffles, votes and reductions. Each call
// carries its place in the source, so that threads meeting at different places can be told apart.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#ifndef __clang__
#include <source_location>
#endif

namespace stillpoint::emulation {

#ifdef __clang__  // 14 has no std::source_location; clang-tidy reads this header
struct Site {
  const char* file_;
  unsigned line_, column_;
  static constexpr Site current(const char* file = __builtin_FILE(),
                                unsigned line = __builtin_LINE(),
                                unsigned column = __builtin_COLUMN()) {
    return {file, line, column};
  }
  constexpr const char* file_name() const { return file_ ? file_ : ""; }
  constexpr unsigned line() const { return line_; }
  constexpr unsigned column() const { return column_; }
};
#else
using Site = std::source_location;
#endif

enum class BarrierOp { wait, count, all, any };
enum class WarpOp {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  all,
  any,
  match_any,
  reduce_add,
  reduce_min,
  reduce_max,
  reduce_min_unsigned,
  reduce_max_unsigned,
  reduce_and,
  reduce_or,
  reduce_xor
};

// Waits until every thread of the block is here; returns the vote over `predicate`.
int block_barrier(BarrierOp op, bool predicate, Site site);
// Waits until every lane in `mask` is here; `value` is this lane's contribution, `argument` and
// `width` those of a shuffle.
uint64_t warp_operation(WarpOp op, unsigned mask, uint64_t value, int argument, int width,
                        Site site);
// While it lives, what the running thread waits for is waited for by this call of a helper: of two
// helpers, one within the other, the outer one's.
class Caller {
 public:
  explicit Caller(Site site);
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;
};
// The lanes known to run together with the caller: in the emulation, never more than itself.
unsigned active_mask();
[[noreturn]] void trap(Site site);

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, int argument, int width, Site site) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_operation(op, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace stillpoint::emulation

#define STILLPOINT_SITE \
  ::stillpoint::emulation::Site site = ::stillpoint::emulation::Site::current()

inline void __syncthreads(STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  (void)block_barrier(BarrierOp::wait, false, site);
}
inline int __syncthreads_count(int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return block_barrier(BarrierOp::count, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return block_barrier(BarrierOp::all, predicate != 0, site);
}
inline int __syncthreads_or(int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return block_barrier(BarrierOp::any, predicate != 0, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  (void)warp_operation(WarpOp::sync, mask, 0, 0, 32, site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return shuffle(WarpOp::shuffle, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return shuffle(WarpOp::shuffle_up, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return shuffle(WarpOp::shuffle_down, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return shuffle(WarpOp::shuffle_xor, mask, value, lane_mask, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return static_cast<unsigned>(warp_operation(WarpOp::ballot, mask, predicate != 0, 0, 32, site));
}
inline int __all_sync(unsigned mask, int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return static_cast<int>(warp_operation(WarpOp::all, mask, predicate != 0, 0, 32, site));
}
inline int __any_sync(unsigned mask, int predicate, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  return static_cast<int>(warp_operation(WarpOp::any, mask, predicate != 0, 0, 32, site));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, STILLPOINT_SITE) {
  using namespace stillpoint::emulation;
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return static_cast<unsigned>(warp_operation(WarpOp::match_any, mask, bits, 0, 32, site));
}

#define STILLPOINT_WARP_REDUCE(type, name, op)                                       \
  inline type name(unsigned mask, type value, STILLPOINT_SITE) {                     \
    using namespace stillpoint::emulation;                                           \
    const auto bits = static_cast<uint64_t>(static_cast<unsigned>(value));           \
    return static_cast<type>(                                                        \
        static_cast<unsigned>(warp_operation(WarpOp::op, mask, bits, 0, 32, site))); \
  }
STILLPOINT_WARP_REDUCE(int, __reduce_add_sync, reduce_add)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_add_sync, reduce_add)
STILLPOINT_WARP_REDUCE(int, __reduce_min_sync, reduce_min)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_min_sync, reduce_min_unsigned)
STILLPOINT_WARP_REDUCE(int, __reduce_max_sync, reduce_max)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_max_sync, reduce_max_unsigned)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_and_sync, reduce_and)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_or_sync, reduce_or)
STILLPOINT_WARP_REDUCE(unsigned, __reduce_xor_sync, reduce_xor)
#undef STILLPOINT_WARP_REDUCE

inline unsigned __activemask() { return stillpoint::emulation::active_mask(); }
[[noreturn]] inline void __trap(STILLPOINT_SITE) { stillpoint::emulation::trap(site); }
#undef STILLPOINT_SITE

void cudaGraphSetConditional(cudaGraphConditionalHandle handle, unsigned value);

// One operating-system thread runs every CUDA thread, so memory is always in order.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
