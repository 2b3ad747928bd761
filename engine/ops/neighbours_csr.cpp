#include "kernels/neighbours_csr/neighbours_csr.h"

#include <limits>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/neighbours_csr/neighbours_csr_reference.h"

namespace stillpoint::ops {
namespace {

int64_t workspace_bytes(int64_t rows, Device device) {
  int64_t bytes = 0;
#if defined(STILLPOINT_HAVE_CUDA)
  if (device == Device::cuda)
    cuda::check_status(kernels::cuda::neighbours_csr_workspace(rows, &bytes), "neighbours_csr");
#endif
  (void)rows, (void)device;
  return bytes;
}

}  // namespace

NeighboursCsr neighbours_csr(const Tensor& neighbours, int64_t keys) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check_dtype(neighbours, DType::i32, "neighbours_csr", "neighbours");
  check<ShapeError>(neighbours.rank() == 3,
                    "neighbours_csr: neighbours have shape {}, wanted [batch, nodes, count]",
                    neighbours.shape());
  const int64_t batch = neighbours.dim(0), rows = batch * neighbours.dim(1);
  check<ShapeError>(keys >= 0 && keys < kMost && batch * keys < kMost && rows < kMost &&
                        neighbours.numel() <= kMost,
                    "neighbours_csr: {} graphs of {} keys with neighbours {}, wanted fewer than "
                    "2^31 of each in all",
                    batch, keys, neighbours.shape());
  NeighboursCsr csr{Tensor::empty({rows + 1}, neighbours.options()),
                    Tensor::empty({neighbours.numel()}, neighbours.options())};
  const int64_t bytes = workspace_bytes(rows, neighbours.device());
  const Block workspace = allocate(bytes, neighbours.device());
  STILLPOINT_DISPATCH(neighbours_csr, neighbours, ([&]<class T>() {
                        return kernels::NeighboursCsrArgs{
                            .neighbours = neighbours.data<int32_t>(),
                            .offsets = csr.offsets.mutable_data<int32_t>(),
                            .indices = csr.indices.mutable_data<int32_t>(),
                            .batch = batch,
                            .nodes = neighbours.dim(1),
                            .count = neighbours.dim(2),
                            .keys = keys,
                            .workspace = workspace.get(),
                            .workspace_bytes = bytes};
                      }));
  return csr;
}

}  // namespace stillpoint::ops
