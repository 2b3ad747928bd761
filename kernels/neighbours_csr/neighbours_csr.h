// neighbours_csr: the CSR pattern of a batch of graphs, one block of the diagonal each, from every
// node's list of neighbours. Row b nodes + i lists the keys of sample b that node i listens to:
//
//   indices   the entries of neighbours[b,i,:] that are not negative, each plus b keys, in order
//   offsets   offsets[0] = 0, offsets[r + 1] = offsets[r] + their number in row r
//
// A negative neighbour is none, as attention_topk_sample leaves where nothing was left to draw; the
// others must be below `keys`, which is not checked. Elements of indices behind the last entry are
// not written. Outputs may not alias inputs.
//
// Cost: reads the neighbours twice (the CPU once from cache), writes 4 bytes an entry and a row.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

struct NeighboursCsrArgs {
  const int32_t* neighbours;  // [batch, nodes, count]
  int32_t* offsets;           // [batch nodes + 1]
  int32_t* indices;           // [batch nodes count]
  int64_t batch;
  int64_t nodes;
  int64_t count;
  int64_t keys;
  void* workspace;  // CUDA: as neighbours_csr_workspace says; the CPU has none
  int64_t workspace_bytes;
};

namespace cpu {
void neighbours_csr(const NeighboursCsrArgs& args);
}  // namespace cpu

namespace cuda {
Status neighbours_csr_workspace(int64_t rows, int64_t* bytes);
Status neighbours_csr(const NeighboursCsrArgs& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
