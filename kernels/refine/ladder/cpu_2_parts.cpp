// Rungs 2 and 3: the step put together from kernels that exist. They are as fast as they get, each
// for itself, but between them everything travels through memory.
//
// Rung 2 goes step by step, as a framework does: every kernel takes the whole batch. 64 boards with
// 96 channels write 2 MB and more in each, which leaves the second-level cache before it is read.
// Rung 3 goes sample by sample: the same calls, all steps of one sample before the next. What a
// kernel writes is 31 KB and in cache when the next one reads it.
#include <algorithm>
#include <cstdint>

#include "kernels/common/parallel.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gru_cell/gru_cell.h"
#include "kernels/message_sum/message_sum.h"
#include "kernels/refine/ladder/ladder.h"

namespace stillpoint::kernels {
namespace {

void add_to(float* sum, const float* x, int64_t n) {
  parallel_for(n, 65536, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) sum[k] += x[k];
  });
}

// out [m, n] = op(a) op(b) + bias.
void product(const float* a, const float* b, const float* bias, float* out, int64_t m, int64_t n,
             int64_t k, bool transpose_a, bool transpose_b, float* workspace) {
  cpu::gemm({.a = a,
             .b = b,
             .bias = bias,
             .out = out,
             .workspace = workspace,
             .m = m,
             .n = n,
             .k = k,
             .transpose_a = transpose_a,
             .transpose_b = transpose_b});
}

// What a step of some samples computes before its gates, in the workspace.
struct Step {
  float *a, *c, *s;          // [rows, H]
  float *x_gates, *h_gates;  // [rows, 3H]

  Step(float* workspace, int64_t state)
      : a(workspace),
        c(a + state),
        s(c + state),
        x_gates(s + state),
        h_gates(x_gates + 3 * state) {}
};
constexpr int64_t kStepStates = 9, kBackwardStates = 20;

// Samples [first, last) of a problem and their part of the workspace.
struct Samples {
  int64_t first, count;
  float* workspace;
};

void run_step(const RefineWeights<float>& w, const float* h, const float* x, const CsrView& pattern,
              int64_t samples, int64_t channels, const Step& step) {
  const int64_t n = samples * pattern.rows;
  product(h, w.receiver, w.receiver_bias, step.a, n, channels, channels, false, true, nullptr);
  product(h, w.sender, nullptr, step.c, n, channels, channels, false, true, nullptr);
  product(h, w.state, w.state_bias, step.h_gates, n, 3 * channels, channels, false, true, nullptr);
  cpu::message_sum({step.a, step.c, step.s, pattern, samples, channels});
  product(step.s, w.message, nullptr, step.x_gates, n, 3 * channels, channels, false, true,
          nullptr);
  add_to(step.x_gates, x, 3 * n * channels);
}

void forward(const RefineArgs<float>& args, const Samples& part) {
  const RefineSize& size = args.size;
  const int64_t state = size.nodes * size.channels, elements = part.count * state;
  const Step step(part.workspace, elements);
  float* const last = part.workspace + kStepStates * elements;  // two, in turn
  const float* h = args.h + part.first * state;
  for (int64_t t = 0; t < size.steps; ++t) {
    run_step(args.weights, h, args.x + 3 * part.first * state, args.pattern, part.count,
             size.channels, step);
    float* out = args.states == RefineStates::all ? args.out + (t * size.batch + part.first) * state
                                                  : last + t % 2 * elements;
    cpu::gru_cell({step.x_gates, step.h_gates, h, out, part.count * size.nodes, size.channels});
    h = out;
  }
  if (args.states == RefineStates::last) std::copy_n(h, elements, args.out + part.first * state);
}

// Adds the weight gradients to `sum`; `product_at` is where products and their parts may lie.
void backward(const RefineBackwardArgs<float>& args, const Samples& part, float* sum,
              float* product_at) {
  const RefineSize& size = args.size;
  const RefineWeights<float>& w = args.weights;
  const int64_t channels = size.channels, square = channels * channels;
  const int64_t state = size.nodes * channels, elements = part.count * state;
  const int64_t rows = part.count * size.nodes;
  const Step step(part.workspace, elements);
  float* const dx_gates = part.workspace + kStepStates * elements;
  float* const dh_gates = dx_gates + 3 * elements;
  float* const ds = dh_gates + 3 * elements;
  float* const da = ds + elements;
  float* const dc = da + elements;
  float* const g = dc + elements;
  float* const dh = args.dh + part.first * state;
  float* const dx = args.dx + 3 * part.first * state;
  std::fill_n(dh, elements, 0.f);
  std::fill_n(dx, 3 * elements, 0.f);
  for (int64_t t = size.steps - 1; t >= 0; --t) {
    const float* h = t == 0 ? args.h + part.first * state
                            : args.out + ((t - 1) * size.batch + part.first) * state;
    run_step(w, h, args.x + 3 * part.first * state, args.pattern, part.count, channels, step);
    std::copy_n(args.g + (t * size.batch + part.first) * state, elements, g);
    add_to(g, dh, elements);
    cpu::gru_cell_backward(
        {step.x_gates, step.h_gates, h, g, dx_gates, dh_gates, dh, rows, channels});
    add_to(dx, dx_gates, 3 * elements);
    product(dx_gates, w.message, nullptr, ds, rows, channels, 3 * channels, false, false, nullptr);
    cpu::message_sum_backward(
        {step.a, step.c, ds, da, dc, args.pattern, args.transposed, part.count, channels});
    const auto through = [&](const float* d, const float* weight, int64_t depth) {
      product(d, weight, nullptr, g, rows, channels, depth, false, false, nullptr);
      add_to(dh, g, elements);
    };
    through(da, w.receiver, channels);
    through(dc, w.sender, channels);
    through(dh_gates, w.state, 3 * channels);
    if (sum == nullptr) continue;
    const auto outer = [&](const float* d, const float* input, int64_t columns, float* to) {
      product(d, input, nullptr, product_at, columns, channels, rows, true, false,
              product_at + 3 * square);
      add_to(to, product_at, columns * channels);
    };
    outer(da, h, channels, sum);
    outer(dc, h, channels, sum + square);
    outer(dh_gates, h, 3 * channels, sum + 2 * square);
    outer(dx_gates, step.s, 3 * channels, sum + 5 * square);
    for (int64_t r = 0; r < rows; ++r) {
      add_to(sum + 8 * square, da + r * channels, channels);
      add_to(sum + 8 * square + channels, dh_gates + 3 * r * channels, 3 * channels);
    }
  }
}

// A product [3H, H] and the parts that gemm cuts it into.
int64_t product_elements(const RefineSize& s) {
  const int64_t c = s.channels;
  return 3 * c * c + gemm_workspace(3 * c, c, s.batch * s.nodes);
}

}  // namespace

int64_t refine_ladder_workspace(const RefineSize& s) {
  const int64_t batch = kBackwardStates * s.batch * s.nodes * s.channels;
  const int64_t gradients =
      refine_chunks(s) * (refine_parameters(s.channels) + product_elements(s));
  return batch + gradients + refine_workspace(s) + refine_backward_workspace(s);
}

namespace cpu::ladder {

void step_by_step(const RefineArgs<float>& args) {
  forward(args, {0, args.size.batch, args.workspace});
}

void step_by_step_backward(const RefineBackwardArgs<float>& args) {
  float* const product_at =
      args.workspace + kBackwardStates * args.size.batch * args.size.nodes * args.size.channels;
  if (args.dweights != nullptr)
    std::fill_n(args.dweights, refine_parameters(args.size.channels), 0.f);
  backward(args, {0, args.size.batch, args.workspace}, args.dweights, product_at);
}

void sample_by_sample(const RefineArgs<float>& args) {
  const int64_t elements = kBackwardStates * args.size.nodes * args.size.channels;
  const int64_t grain = refine_grain(args.size);
  parallel_for(args.size.batch, grain, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b)
      forward(args, {b, 1, args.workspace + first / grain * elements});
  });
}

void sample_by_sample_backward(const RefineBackwardArgs<float>& args) {
  const RefineSize& size = args.size;
  const int64_t elements = kBackwardStates * size.nodes * size.channels;
  const int64_t grain = refine_grain(size), parameters = refine_parameters(size.channels);
  const int64_t of_chunk = elements + parameters + product_elements(size);
  parallel_for(size.batch, grain, [&](int64_t first, int64_t last) {
    float* const scratch = args.workspace + first / grain * of_chunk;
    float* const sum = scratch + elements;
    std::fill_n(sum, parameters, 0.f);
    for (int64_t b = first; b < last; ++b)
      backward(args, {b, 1, scratch}, args.dweights == nullptr ? nullptr : sum, sum + parameters);
  });
  if (args.dweights == nullptr) return;
  std::fill_n(args.dweights, parameters, 0.f);
  for (int64_t chunk = 0; chunk < refine_chunks(size); ++chunk)
    add_to(args.dweights, args.workspace + chunk * of_chunk + elements, parameters);
}

}  // namespace cpu::ladder
}  // namespace stillpoint::kernels
