// transpose_csr on the CPU: a counting sort by column. Every chunk of entries counts its columns;
// adding up the counts, chunk after chunk within each column, tells every chunk where its entries
// go, so that all chunks can place theirs at once.
#include <algorithm>
#include <utility>

#include "kernels/common/parallel.h"
#include "kernels/transpose_csr/transpose_csr.h"
#include "kernels/transpose_csr/transpose_csr_reference.h"

namespace stillpoint::kernels::cpu {
namespace {

// So many that their counters are no more than the entries, and a chunk is worth a thread.
int64_t chunks_of(const CsrView& p) {
  constexpr int64_t kFewestEntries = 32768, kMostChunks = 64;
  return std::clamp<int64_t>(p.entries / std::max(p.cols, kFewestEntries), 1, kMostChunks);
}

// Calls body(chunk, first, last) for every chunk of entries.
template <class Body>
void for_chunks(const CsrView& p, Body&& body) {
  const int64_t chunks = chunks_of(p), length = (p.entries + chunks - 1) / chunks;
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    body(chunk, std::min(chunk * length, p.entries), std::min((chunk + 1) * length, p.entries));
  });
}

}  // namespace

int64_t transpose_csr_workspace(const CsrView& pattern) {
  return chunks_of(pattern) * pattern.cols * static_cast<int64_t>(sizeof(int32_t));
}

void transpose_csr(const TransposeCsrArgs& args) {
  const CsrView& p = args.pattern;
  auto* counters = static_cast<int32_t*>(args.workspace);  // [chunks, cols]
  for_chunks(p, [&](int64_t chunk, int64_t first, int64_t last) {
    int32_t* count = counters + chunk * p.cols;
    std::fill(count, count + p.cols, 0);
    for (int64_t e = first; e < last; ++e) ++count[p.indices[e]];
  });

  // Each counter becomes the first slot of its chunk's entries in its column.
  const int64_t chunks = chunks_of(p);
  int32_t slot = 0;
  for (int64_t c = 0; c < p.cols; ++c) {
    args.t_offsets[c] = slot;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      int32_t& counter = counters[chunk * p.cols + c];
      slot += std::exchange(counter, slot);
    }
  }
  args.t_offsets[p.cols] = slot;

  for_chunks(p, [&](int64_t chunk, int64_t first, int64_t last) {
    int32_t* next = counters + chunk * p.cols;
    int64_t row = row_of_entry(p, first);
    for (int64_t e = first; e < last; ++e) {
      while (p.offsets[row + 1] <= e) ++row;
      const int32_t to = next[p.indices[e]]++;
      args.t_indices[to] = static_cast<int32_t>(row);
      args.t_order[to] = static_cast<int32_t>(e);
      args.order[e] = to;
    }
  });
  args.degrees[0] = reference::common_degree(p.offsets, p.rows);
  args.degrees[1] = reference::common_degree(args.t_offsets, p.cols);
}

}  // namespace stillpoint::kernels::cpu
