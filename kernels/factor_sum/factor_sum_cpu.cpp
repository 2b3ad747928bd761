// factor_sum on the CPU: rows are written once and never added into.
#include "kernels/factor_sum/factor_sum.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/factor_sum/factor_sum_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/parallel.h"
#include "kernels/factor_sum/factor_sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

void forward_rows(const FactorSumArgs<float>& args, int64_t first, int64_t last) {
  sum_rows(args, first, last);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_rows);

constexpr int64_t kRows = 256;  // rows a chunk: about 15 us at 9 members and 96 channels

}  // namespace

void factor_sum(const FactorSumArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
