// topk on the CPU: a row streams past the k-th largest so far, with which most numbers are done.
#include "kernels/topk/topk.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/topk/topk_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/common/largest-inl.h"
#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

constexpr int64_t kGroup = 4;        // vectors compared together
static_assert(HWY_MAX_BYTES <= 64);  // what topk_workspace has room for

// The largest of a row so far; of equals, the earliest. What passes the threshold waits, by index
// and otherwise unsorted, until there is too much of it.
struct Largest {
  int64_t count, found = 0;
  int32_t threshold = kNoOrder;
  float number = std::numeric_limits<float>::quiet_NaN();  // of the threshold
  int32_t *order, *index;

  // The numbers at `first` and on, of which those before `end` belong to the row.
  HWY_INLINE void add(V x, int64_t first, int64_t end) {
    const DI di;
    const VI nan = hn::Set(di, std::numeric_limits<int32_t>::max());
    const VI key = hn::IfThenElse(hn::RebindMask(di, hn::IsNaN(x)), nan, order_of(x));
    const auto there = hn::FirstN(di, static_cast<size_t>(end - first));
    const auto passes = hn::And(there, hn::Gt(key, hn::Set(di, threshold)));
    if (hn::AllFalse(di, passes)) return;
    HWY_ALIGN int32_t keys[HWY_MAX_BYTES / sizeof(int32_t)];
    hn::Store(hn::IfThenElse(there, key, hn::Set(di, kNoOrder)), di, keys);
    for (int64_t u = 0; u < static_cast<int64_t>(hn::Lanes(di)); ++u)
      keep(keys[u], static_cast<int32_t>(first + u), keys[u] > threshold);
  }
  // Leaves no more than `count`.
  HWY_INLINE void prune() {
    if (found <= count) return;
    const DI di;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(di));
    const int64_t end = (found + lanes - 1) / lanes * lanes;
    std::fill(order + found, order + end, kNoOrder);
    VI greatest = hn::Set(di, kNoOrder);
    for (int64_t j = 0; j < end; j += lanes) greatest = hn::Max(greatest, hn::Load(di, order + j));
    threshold = keep_largest(order, end, count, hn::GetLane(hn::MaxOfLanes(di, greatest)));
    number = number_of(threshold);
    const int64_t before = found;
    found = 0;
    for (int64_t j = 0; j < before; ++j) keep(order[j], index[j], order[j] >= threshold);
  }

 private:
  // Without a branch, which could not be foretold. hn::Compress doubled a row's instructions.
  HWY_INLINE void keep(int32_t key, int32_t at, bool stays) {
    order[found] = key;
    index[found] = at;
    found += static_cast<int64_t>(stays);
  }
};

// The k largest of a row of n, in the order of their indices.
void find_largest(const float* x, int64_t n, int64_t k, int32_t* order, int32_t* index) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Largest largest{.count = k, .order = order, .index = index};
  int64_t j = 0;
  for (; j + kGroup * lanes <= n; j += kGroup * lanes) {
    const V least = hn::Set(d, largest.number);
    V v[kGroup];
    each<kGroup>([&](auto u) { v[u] = hn::LoadU(d, x + j + u * lanes); });
    const auto none = hn::And(hn::And(hn::Le(v[0], least), hn::Le(v[1], least)),
                              hn::And(hn::Le(v[2], least), hn::Le(v[3], least)));
    if (hn::AllTrue(d, none)) continue;  // never if one is a NaN, or the threshold still none
    each<kGroup>([&](auto u) { largest.add(v[u], j + u * lanes, n); });
    if (largest.found > 2 * k) largest.prune();
  }
  for_vectors(n - j, [&](auto io, int64_t at) { largest.add(io.load(x + j + at), j + at, n); });
  largest.prune();
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/topk/topk_reference.h"

namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(find_largest);

constexpr int64_t kElements = 16384;  // wanted per task given to a thread

// Calls body(shape of the part, its first row).
template <class Body>
void for_parts(const TopkShape& s, Body&& body) {
  parallel_for(s.rows, std::max<int64_t>(1, kElements / s.n), [&](int64_t first, int64_t last) {
    body(TopkShape{last - first, s.n, s.k}, first);
  });
}

struct Pick {
  int32_t order, index;

  bool operator<(const Pick& other) const {  // comes before it
    return order != other.order ? order > other.order : index < other.index;
  }
};

// What waits at once: up to twice k, and a group of vectors; and room to write a whole vector.
int64_t waiting(int64_t k) {
  constexpr int64_t kLanes = 16;
  return (2 * k + 5 * kLanes + kLanes - 1) / kLanes * kLanes;
}
int64_t scratch_of_worker(int64_t k) { return 3 * waiting(k); }  // orders, indices and picks

}  // namespace

int64_t topk_workspace(const TopkShape& s) { return num_threads() * scratch_of_worker(s.k); }

void topk(const TopkArgs<float>& args) {
  for_parts(args.shape, [&](const TopkShape& part, int64_t first) {
    const int64_t n = part.n, k = part.k;
    int32_t* order = args.workspace + worker_index() * scratch_of_worker(k);
    int32_t* index = order + waiting(k);
    auto* picks = reinterpret_cast<Pick*>(index + waiting(k));
    for (int64_t r = first; r < first + part.rows; ++r) {
      const float* x = args.x + r * n;
      HWY_DYNAMIC_DISPATCH(find_largest)(x, n, k, order, index);
      for (int64_t t = 0; t < k; ++t) picks[t] = {order[t], index[t]};
      std::sort(picks, picks + k);
      for (int64_t t = 0; t < k; ++t) {
        args.indices[r * k + t] = picks[t].index;
        args.values[r * k + t] = x[picks[t].index];
      }
    }
  });
}

void topk_gather(const TopkGatherArgs<float>& args) {
  for_parts(args.shape, [&](const TopkShape& part, int64_t first) {
    reference::topk_gather<float>({.x = args.x + first * part.n,
                                   .indices = args.indices + first * part.k,
                                   .out = args.out + first * part.k,
                                   .shape = part});
  });
}

void topk_scatter(const TopkScatterArgs<float>& args) {
  for_parts(args.shape, [&](const TopkShape& part, int64_t first) {
    reference::topk_scatter<float>({.g = args.g + first * part.k,
                                    .indices = args.indices + first * part.k,
                                    .dx = args.dx + first * part.n,
                                    .shape = part});
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
