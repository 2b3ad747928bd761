// embedding on the CPU. Copies and adds of whole rows, which any compiler vectorises: no SIMD by
// hand.
#include <algorithm>
#include <limits>

#include "kernels/common/parallel.h"
#include "kernels/embedding/embedding.h"

namespace stillpoint::kernels::cpu {
namespace {

// Rows a chunk: 32768 elements, about 10 us.
int64_t grain(int64_t channels) { return std::max<int64_t>(1, 32768 / channels); }

// Positions sorted by their index: those of entry v are order[offsets[v]] up to order[offsets[v +
// 1]], ascending.
struct Buckets {
  int32_t* offsets;
  int32_t* order;

  explicit Buckets(const EmbeddingBackwardArgs<float>& args)
      : offsets(args.workspace), order(args.workspace + args.entries + 1) {
    const auto inside = [&](int64_t i) {
      return args.index[i] >= 0 && args.index[i] < args.entries;
    };
    std::fill_n(offsets, args.entries + 1, 0);
    for (int64_t i = 0; i < args.count; ++i)
      if (inside(i)) ++offsets[args.index[i] + 1];
    for (int64_t v = 0; v < args.entries; ++v) offsets[v + 1] += offsets[v];
    for (int64_t i = 0; i < args.count; ++i)
      if (inside(i)) order[offsets[args.index[i]]++] = static_cast<int32_t>(i);
    // Every offset has moved to the end of its bucket, which is the start of the next.
    std::copy_backward(offsets, offsets + args.entries, offsets + args.entries + 1);
    offsets[0] = 0;
  }
};

}  // namespace

void embedding(const EmbeddingArgs<float>& args) {
  if (args.channels == 0) return;
  parallel_for(args.count, grain(args.channels), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t v = args.index[i];
      float* out = args.out + i * args.channels;
      if (v >= 0 && v < args.entries) {
        std::copy_n(args.table + v * args.channels, args.channels, out);
      } else {
        std::fill_n(out, args.channels, std::numeric_limits<float>::quiet_NaN());
      }
    }
  });
}

void embedding_backward(const EmbeddingBackwardArgs<float>& args) {
  if (args.channels == 0) return;
  const Buckets buckets(args);
  parallel_for(args.entries, grain(args.channels), [&](int64_t first, int64_t last) {
    for (int64_t v = first; v < last; ++v) {
      float* sum = args.dtable + v * args.channels;
      std::fill_n(sum, args.channels, 0.f);
      for (int32_t e = buckets.offsets[v]; e < buckets.offsets[v + 1]; ++e) {
        const float* g = args.g + buckets.order[e] * args.channels;
        for (int64_t k = 0; k < args.channels; ++k) sum[k] += g[k];
      }
    }
  });
}

}  // namespace stillpoint::kernels::cpu
