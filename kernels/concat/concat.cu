// copy_columns on CUDA: one thread per element, or per four where everything is a multiple of four.
#include "kernels/concat/concat.h"

#include "kernels/common/index.cuh"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <class Unit, class Index>
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const Unit* from, Unit* to, int64_t total, Index columns, int64_t from_stride,
                int64_t to_stride) {
  for (int64_t i = global_thread(); i < total; i += grid_threads()) {
    const Index row = static_cast<Index>(i) / columns;
    const Index column = static_cast<Index>(i) - row * columns;
    to[row * to_stride + column] = from[row * from_stride + column];
  }
}

template <class Unit>
Status copy_units(const CopyColumnsArgs<float>& args, Stream stream) {
  constexpr int64_t kFloats = sizeof(Unit) / sizeof(float);
  const auto* from = reinterpret_cast<const Unit*>(args.from);
  auto* to = reinterpret_cast<Unit*>(args.to);
  const int64_t columns = args.columns / kFloats, total = args.rows * columns;
  return with_index(total, [&]<class Index>() {
    return launch(copy_kernel<Unit, Index>, blocks_for(total, kThreads), kThreads, 0, stream, from,
                  to, total, static_cast<Index>(columns), args.from_stride / kFloats,
                  args.to_stride / kFloats);
  });
}

}  // namespace

Status copy_columns(const CopyColumnsArgs<float>& args, Stream stream) {
  if (args.rows * args.columns == 0) return {};
  const bool fours =
      args.columns % 4 == 0 && args.from_stride % 4 == 0 && args.to_stride % 4 == 0 &&
      (reinterpret_cast<uintptr_t>(args.from) | reinterpret_cast<uintptr_t>(args.to)) %
              sizeof(float4) ==
          0;
  return fours ? copy_units<float4>(args, stream) : copy_units<float>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
