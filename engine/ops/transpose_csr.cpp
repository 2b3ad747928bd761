#include "kernels/transpose_csr/transpose_csr.h"

#include <limits>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/transpose_csr/transpose_csr_reference.h"

namespace stillpoint::ops {
namespace {

int64_t workspace_bytes(const kernels::CsrView& pattern, Device device) {
#if defined(STILLPOINT_HAVE_CUDA)
  if (device == Device::cuda) {
    int64_t bytes = 0;
    cuda::check_status(kernels::cuda::transpose_csr_workspace(pattern, &bytes), "transpose_csr");
    return bytes;
  }
#endif
  (void)device;
  return kernels::cpu::transpose_csr_workspace(pattern);
}

}  // namespace

CsrTranspose transpose_csr(const Tensor& offsets, const Tensor& indices, int64_t cols) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check_dtype(offsets, DType::i32, "transpose_csr", "offsets");
  check_like(indices, offsets, "transpose_csr", "indices");
  check<ShapeError>(offsets.rank() == 1 && offsets.numel() > 0 && indices.rank() == 1,
                    "transpose_csr: offsets have shape {} and indices {}, wanted [rows + 1] and "
                    "[entries]",
                    offsets.shape(), indices.shape());
  check<ShapeError>(cols >= 0 && cols < kMost && indices.numel() <= kMost,
                    "transpose_csr: {} columns and {} entries, wanted fewer than 2^31", cols,
                    indices.numel());
  const kernels::CsrView pattern{.rows = offsets.numel() - 1,
                                 .cols = cols,
                                 .entries = indices.numel(),
                                 .offsets = offsets.data<int32_t>(),
                                 .indices = indices.data<int32_t>()};
  const auto vector = [&](int64_t n) { return Tensor::empty({n}, offsets.options()); };
  CsrTranspose t{vector(cols + 1), vector(pattern.entries), vector(pattern.entries),
                 vector(pattern.entries), vector(2)};
  const int64_t bytes = workspace_bytes(pattern, offsets.device());
  const Block workspace = allocate(bytes, offsets.device());
  STILLPOINT_DISPATCH(transpose_csr, offsets, ([&]<class T>() {
                        return kernels::TransposeCsrArgs{
                            .pattern = pattern,
                            .t_offsets = t.offsets.mutable_data<int32_t>(),
                            .t_indices = t.indices.mutable_data<int32_t>(),
                            .t_order = t.order.mutable_data<int32_t>(),
                            .order = t.inverse.mutable_data<int32_t>(),
                            .degrees = t.degrees.mutable_data<int32_t>(),
                            .workspace = workspace.get(),
                            .workspace_bytes = bytes};
                      }));
  return t;
}

}  // namespace stillpoint::ops
