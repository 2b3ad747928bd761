// take_rows on CUDA: a block per row.
#include "kernels/common/launch.h"
#include "kernels/take_rows/take_rows.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

enum class Direction { take, put };

template <Direction kDirection>
__global__ void __launch_bounds__(kThreads) move_kernel(MoveRowsArgs args) {
  const auto* from = static_cast<const uint32_t*>(args.from);
  auto* to = static_cast<uint32_t*>(args.to);
  for (int64_t i = blockIdx.x; i < args.count; i += gridDim.x) {
    const int64_t picked = args.index[i];
    const int64_t source = (kDirection == Direction::take ? picked : i) * args.words;
    const int64_t target = (kDirection == Direction::take ? i : picked) * args.words;
    for (int64_t k = threadIdx.x; k < args.words; k += kThreads) to[target + k] = from[source + k];
  }
}

template <Direction kDirection>
Status move_rows(const MoveRowsArgs& args, Stream stream) {
  if (args.count == 0 || args.words == 0) return {};
  return launch(move_kernel<kDirection>, blocks_for(args.count, 1), kThreads, 0, stream, args);
}

}  // namespace

Status take_rows(const MoveRowsArgs& args, Stream stream) {
  return move_rows<Direction::take>(args, stream);
}

Status put_rows(const MoveRowsArgs& args, Stream stream) {
  return move_rows<Direction::put>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
