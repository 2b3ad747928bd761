// Rung 1: the formula, one output element after the other. Neighbours of one channel lie a row
// apart, so every addition touches another cache line and nothing is vectorised.
#include "kernels/common/parallel.h"
#include "kernels/message_sum/ladder/ladder.h"

namespace stillpoint::kernels::cpu::ladder {

void formula(const MessageSumArgs<float>& args) {
  const CsrView& p = args.pattern;
  parallel_for(args.batch, 1, [&](int64_t b, int64_t) {
    const float* a = args.a + b * p.rows * args.channels;
    const float* c = args.c + b * p.cols * args.channels;
    float* out = args.out + b * p.rows * args.channels;
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < args.channels; ++k) {
        float sum = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
          const float m = a[i * args.channels + k] + c[p.indices[e] * args.channels + k];
          sum += m < 0 ? 0.f : m;
        }
        out[i * args.channels + k] = sum;
      }
  });
}

void formula_backward(const MessageSumBackwardArgs<float>& args) {
  const CsrView &p = args.pattern, &t = args.transposed;
  parallel_for(args.batch, 1, [&](int64_t b, int64_t) {
    const int64_t row0 = b * p.rows * args.channels, col0 = b * p.cols * args.channels;
    const float *a = args.a + row0, *c = args.c + col0, *g = args.g + row0;
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < args.channels; ++k) {
        float active = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
          active += a[i * args.channels + k] + c[p.indices[e] * args.channels + k] > 0 ? 1.f : 0.f;
        args.da[row0 + i * args.channels + k] = g[i * args.channels + k] * active;
      }
    for (int64_t j = 0; j < p.cols; ++j)
      for (int64_t k = 0; k < args.channels; ++k) {
        float sum = 0;
        for (int32_t e = t.offsets[j]; e < t.offsets[j + 1]; ++e) {
          const int64_t at = t.indices[e] * args.channels + k;
          sum += a[at] + c[j * args.channels + k] > 0 ? g[at] : 0.f;
        }
        args.dc[col0 + j * args.channels + k] = sum;
      }
  });
}

}  // namespace stillpoint::kernels::cpu::ladder
