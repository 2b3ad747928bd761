// Rung 2: whole rows of channels, one neighbour after the other. Memory is read in order and the
// compiler vectorises, but the sums travel to memory and back for every neighbour.
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/message_sum/ladder/ladder.h"

namespace stillpoint::kernels::cpu::ladder {

void rows(const MessageSumArgs<float>& args) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  parallel_for(args.batch, 1, [&](int64_t b, int64_t) {
    for (int64_t i = 0; i < p.rows; ++i) {
      const float* a = args.a + (b * p.rows + i) * channels;
      float* out = args.out + (b * p.rows + i) * channels;
      std::fill_n(out, channels, 0.f);
      for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
        const float* c = args.c + (b * p.cols + p.indices[e]) * channels;
        for (int64_t k = 0; k < channels; ++k) {
          const float m = a[k] + c[k];
          out[k] += m < 0 ? 0.f : m;
        }
      }
    }
  });
}

// One pass: a row counts its active neighbours and pushes its gradient to them.
void rows_backward(const MessageSumBackwardArgs<float>& args) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  parallel_for(args.batch, 1, [&](int64_t b, int64_t) {
    std::fill_n(args.dc + b * p.cols * channels, p.cols * channels, 0.f);
    for (int64_t i = 0; i < p.rows; ++i) {
      const float* a = args.a + (b * p.rows + i) * channels;
      const float* g = args.g + (b * p.rows + i) * channels;
      float* da = args.da + (b * p.rows + i) * channels;
      std::fill_n(da, channels, 0.f);
      for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
        const float* c = args.c + (b * p.cols + p.indices[e]) * channels;
        float* dc = args.dc + (b * p.cols + p.indices[e]) * channels;
        for (int64_t k = 0; k < channels; ++k) {
          // Choices between two values that are there in any case, not branches.
          const float m = a[k] + c[k], gradient = g[k];
          const float one = m > 0 ? 1.f : 0.f, pushed = m > 0 ? gradient : 0.f;
          da[k] += one;
          dc[k] += pushed;
        }
      }
      for (int64_t k = 0; k < channels; ++k) da[k] *= g[k];
    }
  });
}

}  // namespace stillpoint::kernels::cpu::ladder
