// solver_check on the CPU: a row at a time, sums in double.
#include "kernels/solver_check/solver_check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/solver_check/solver_check_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/common/parallel.h"
#include "kernels/common/row_sums-inl.h"
#include "kernels/solver_check/solver_check_verdict.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // sums of rows

void check_row(const SolverCheckArgs<float>& args, int64_t r) {
  namespace hn = hwy::HWY_NAMESPACE;
  const int64_t b = args.index[r], n = args.n;
  args.residual[b] = std::numeric_limits<double>::quiet_NaN();
  if (args.status[b] != kSolverRunning) return;
  const float* z = args.z + r * n;
  const float* fz = args.fz + r * n;
  const hn::ScalableTag<double> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto differences = hn::Zero(d), sizes = hn::Zero(d);
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const auto f = load_double(fz + k), g = hn::Sub(f, load_double(z + k));
    differences = hn::MulAdd(g, g, differences);
    sizes = hn::MulAdd(f, f, sizes);
  }
  double difference_squares = hn::GetLane(hn::SumOfLanes(d, differences));
  double squares = hn::GetLane(hn::SumOfLanes(d, sizes));
  for (; k < n; ++k) {
    const double f = fz[k], g = f - static_cast<double>(z[k]);
    difference_squares += g * g;
    squares += f * f;
  }
  if (solver_verdict(args, b, difference_squares, squares)) std::copy_n(z, n, args.best + b * n);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(check_row);

}  // namespace

void solver_check(const SolverCheckArgs<float>& args) {
  // 32768 elements, about 10 us.
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, args.n));
  parallel_for(args.rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(check_row)(args, r);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
