// broyden_update on the CPU: a row at a time; the new step grows in its slot.
#include "kernels/broyden_update/broyden_update.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/broyden_update/broyden_update_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/common/row_sums-inl.h"
#include "kernels/solver_check/solver_check.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // sums of rows

void step_row(const BroydenUpdateArgs<float>& args, int64_t r) {
  const int64_t b = args.index[r], n = args.n, m = args.memory;
  const float* z = args.z + r * n;
  const float* fz = args.fz + r * n;
  float* next = args.next + r * n;
  if (args.status[b] != kSolverRunning) {
    if (next != z) std::copy_n(z, n, next);
    return;
  }
  float* s = args.steps + b * m * n;
  double* squares = args.squares + b * m;
  int32_t c = args.count[b] < m ? args.count[b] : 0;
  float* v = s + c * n;
  for (int64_t k = 0; k < n; ++k) v[k] = fz[k] - z[k];
  for (int32_t j = 0; j + 1 < c; ++j) {
    const auto factor =
        static_cast<float>(broyden_factor(dot_in_double(s + j * n, v, n), squares[j]));
    const float* following = s + (j + 1) * n;
    for (int64_t k = 0; k < n; ++k) v[k] += factor * following[k];
  }
  if (c > 0) {
    const double denominator =
        1 - broyden_factor(dot_in_double(s + (c - 1) * n, v, n), squares[c - 1]);
    if (broyden_accepts(denominator)) {
      const auto scale = static_cast<float>(1 / denominator);
      for (int64_t k = 0; k < n; ++k) v[k] *= scale;
    } else {
      c = 0;
      v = s;
      for (int64_t k = 0; k < n; ++k) v[k] = fz[k] - z[k];
    }
  }
  for (int64_t k = 0; k < n; ++k) next[k] = z[k] + v[k];
  squares[c] = dot_in_double(v, v, n);
  args.count[b] = c + 1;
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(step_row);

}  // namespace

void broyden_update(const BroydenUpdateArgs<float>& args) {
  // 4096 elements of each of the steps, about 10 us.
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, args.n));
  parallel_for(args.rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(step_row)(args, r);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
