// anderson on the CPU: three passes over a row. The inner products are summed in double by hand;
// the other two passes are loops that any compiler vectorises.
#include "kernels/anderson/anderson.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/anderson/anderson_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/anderson/anderson_solve.h"
#include "kernels/common/parallel.h"
#include "kernels/common/row_sums-inl.h"
#include "kernels/solver_check/solver_check.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // sums of rows

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr int64_t kBlock = 2048;  // elements that stay in the first-level cache while next is mixed

// The residual, and if there was an iterate before, the difference and the move since. Unless told
// that nothing overlaps, compilers do one element at a time.
HWY_INLINE void remember(const float* z, const float* fz, int64_t n, bool moved, float mixing,
                         float* HWY_RESTRICT z_before, float* HWY_RESTRICT g,
                         float* HWY_RESTRICT newest, float* HWY_RESTRICT move) {
  for (int64_t k = 0; k < n; ++k) {
    const float fresh = fz[k] - z[k];
    if (moved) {
      newest[k] = fresh - g[k];
      move[k] = z[k] - z_before[k] + mixing * newest[k];
    }
    z_before[k] = z[k];
    g[k] = fresh;
  }
}

void step_row(const AndersonArgs<float>& args, int64_t r) {
  const int64_t b = args.index[r], n = args.n;
  const int m = args.memory;
  const float* z = args.z + r * n;
  const float* fz = args.fz + r * n;
  float* next = args.next + r * n;
  if (args.status[b] != kSolverRunning) {
    if (next != z) std::copy_n(z, n, next);
    return;
  }
  float* z_before = args.z_before + b * n;
  float* g = args.g_before + b * n;
  float* moves = args.moves + b * m * n;
  float* dg = args.dg + b * m * n;
  const auto mixing = static_cast<float>(args.mixing);
  int32_t count = args.count[b];
  const int slot = anderson_slot(count, m);
  float* move = moves + slot * n;
  float* newest = dg + slot * n;
  remember(z, fz, n, count > 0, mixing, z_before, g, newest, move);
  if (args.begin <= kLargest &&
      anderson_far(dot_in_double(g, g, n), dot_in_double(fz, fz, n), args.begin))
    count = 0;
  args.count[b] = count + 1;
  const int columns = anderson_columns(count, m);
  double gamma[kAndersonMemory], scratch[anderson_scratch(kAndersonMemory)];
  double* gram = args.gram + b * m * m;
  for (int j = 0; j < columns; ++j) {
    const auto [of_newest, of_g] = dots_in_double(dg + j * n, newest, g, n);
    gram[j * m + slot] = gram[slot * m + j] = of_newest;
    gamma[j] = of_g;
  }
  anderson_solve(gram, m, columns, args.ridge, gamma, scratch, 0, 1, [] {});
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = std::min(n, first + kBlock);
    for (int64_t k = first; k < last; ++k) next[k] = z[k] + mixing * g[k];
    for (int j = 0; j < columns; ++j) {
      const auto weight = static_cast<float>(gamma[j]);
      const float* move_j = moves + j * n;
      for (int64_t k = first; k < last; ++k) next[k] -= weight * move_j[k];
    }
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(step_row);

}  // namespace

void anderson(const AndersonArgs<float>& args) {
  // 4096 elements of each of the history's vectors, about 10 us.
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, args.n));
  parallel_for(args.rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(step_row)(args, r);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
