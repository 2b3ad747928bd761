// refine_factor on the CPU: board by board, in float32 or with products in bfloat16.
#include "kernels/refine_factor/refine_factor.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/refine_factor/refine_factor_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/refine_factor/refine_factor_memory.h"
#include "kernels/refine_factor/refine_factor_step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class P>
void refine_board(const RefineFactorArgs<float>& args, const P& products,
                  const Weights<typename P::Weight>& packed, const Scratch& all, int64_t b) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t state = z.nodes * z.channels;
  const float* h = args.h + b * state;
  for (int64_t t = 0; t < z.steps; ++t) {
    const bool keep = args.u != nullptr;
    const int64_t at = t * z.boards + b;
    const Scratch scratch = with_messages(all, args.messages, at, z);
    const Step<P> step{products,     z,       args.parameters,         packed, args.members,
                       args.factors, scratch, args.clues + b * z.nodes};
    float* next = keep               ? args.states + at * state
                  : t + 1 == z.steps ? args.states + b * state
                  : t % 2 == 0       ? scratch.even
                                     : scratch.odd;
    step.messages(h);
    step.collect();
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      float* u = keep ? args.u + (at * z.nodes + first) * z.hidden : scratch.block;
      step.hidden(h, first, rows, u);
      step.update(h, u, first, rows, next, keep ? args.r + at * z.nodes : nullptr);
    }
    h = next;
  }
}

template <class P>
void backward_board(const RefineFactorBackwardArgs<float>& args, const P& products,
                    const Weights<typename P::Weight>& packed, const Scratch& all,
                    const RefineFactorParameters<float*>& d,
                    const Weights<typename P::Gradient>& dw, int64_t b) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t state = z.nodes * z.channels;
  std::fill(all.dh, all.dh + state, 0.f);
  for (int64_t t = z.steps; t-- > 0;) {
    const int64_t at = t * z.boards + b;
    // What is kept is only read.
    const Scratch scratch = with_messages(all, const_cast<float*>(args.messages), at, z);
    const Step<P> step{products,     z,       args.parameters,         packed, args.members,
                       args.factors, scratch, args.clues + b * z.nodes};
    const float* h = t == 0 ? args.h + b * state : args.states + (at - z.boards) * state;
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      step.through_norm(args.g + at * state, args.states + at * state, args.r + at * z.nodes, first,
                        rows);
      step.through_update(args.u + at * z.nodes * z.hidden, first, rows, d, dw);
    }
    step.through_factors(d, dw);
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      step.through_messages(h, first, rows, d, dw);
    }
  }
  std::copy(all.dh, all.dh + state, args.dh + b * state);
}

// Boards [first, last).
void forward_f32(const RefineFactorArgs<float>& args, const Weights<Fp32Weight>& packed,
                 const Scratch& scratch, int64_t first, int64_t last) {
  for (int64_t b = first; b < last; ++b) refine_board(args, Fp32Products{}, packed, scratch, b);
}

void forward_bf16(const RefineFactorArgs<float>& args, const Bf16Kernel& kernel,
                  const Weights<Bf16Weight>& packed, const Scratch& scratch, int64_t first,
                  int64_t last) {
  const Bf16Products products{kernel, scratch.strip};
  for (int64_t b = first; b < last; ++b) refine_board(args, products, packed, scratch, b);
}

void backward_f32(const RefineFactorBackwardArgs<float>& args, const Weights<Fp32Weight>& packed,
                  const Scratch& scratch, const RefineFactorParameters<float*>& d, int64_t first,
                  int64_t last) {
  Weights<Fp32Gradient> dw{};
  if (wants_parameters(d))
    for_each(dw, d, args.sizes,
             [](Fp32Gradient& to, float* from, int64_t offset, int64_t row, int64_t, int64_t) {
               to = {from + offset, row};
             });
  for (int64_t b = first; b < last; ++b)
    backward_board(args, Fp32Products{}, packed, scratch, d, dw, b);
}

void backward_bf16(const RefineFactorBackwardArgs<float>& args, const Bf16Kernel& kernel,
                   const Weights<Bf16Weight>& packed, Scratch scratch,
                   const RefineFactorParameters<float*>& d, int64_t first, int64_t last) {
  const Bf16Products products{kernel, scratch.strip};
  if (wants_parameters(d))
    std::fill(scratch.all_gradients, scratch.all_gradients + scratch.gradients_size, 0.f);
  for (int64_t b = first; b < last; ++b)
    backward_board(args, products, packed, scratch, d, scratch.gradients, b);
  if (!wants_parameters(d)) return;
  for_each(scratch.gradients, d, args.sizes,
           [](const Bf16Gradient& from, float* dw, int64_t offset, int64_t row, int64_t out,
              int64_t in) { unpack(from, dw + offset, row, out, in); });
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_bf16);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_bf16);

// Boards of one group, whose gradients add up in one place.
int64_t boards_a_chunk(const RefineFactorSizes& z) {
  return (z.boards + kRefineFactorChunks - 1) / kRefineFactorChunks;
}
int64_t chunks(const RefineFactorSizes& z) {
  return z.boards == 0 ? 0 : (z.boards - 1) / boards_a_chunk(z) + 1;
}

int64_t scratch_size(const RefineFactorSizes& z, Direction direction) {
  Pieces counted(nullptr);
  make_scratch(counted, z, direction);
  return counted.size();
}

int64_t workspace_size(const RefineFactorSizes& z, Direction direction) {
  Pieces counted(nullptr);
  if (z.precision == Precision::bf16)
    pack({}, z, direction, Bf16Packer{counted, bf16_portable()});
  else
    pack({}, z, direction, Fp32Packer{counted});
  return counted.size() + num_threads() * scratch_size(z, direction);
}

// Calls body(first, last, scratch of the thread) for groups of boards.
template <class Body>
void for_boards(const RefineFactorSizes& z, Direction direction, int64_t grain, float* workspace,
                const Body& body) {
  const int64_t size = scratch_size(z, direction);
  parallel_for(z.boards, grain, [&](int64_t first, int64_t last) {
    Pieces mine(workspace + worker_index() * size);
    body(first, last, make_scratch(mine, z, direction));
  });
}

}  // namespace

int64_t refine_factor_workspace(const RefineFactorSizes& z) {
  return workspace_size(z, Direction::forward);
}

int64_t refine_factor_backward_workspace(const RefineFactorSizes& z) {
  return workspace_size(z, Direction::backward) + chunks(z) * parameter_count(z);
}

void refine_factor(const RefineFactorArgs<float>& args) {
  const RefineFactorSizes& z = args.sizes;
  Pieces pieces(args.workspace);
  if (z.precision == Precision::bf16) {
    const Bf16Kernel& kernel = bf16_kernel();
    const auto packed = pack(args.parameters, z, Direction::forward, Bf16Packer{pieces, kernel});
    for_boards(z, Direction::forward, 1, args.workspace + pieces.size(),
               [&](int64_t first, int64_t last, const Scratch& scratch) {
                 kernel.begin();
                 HWY_DYNAMIC_DISPATCH(forward_bf16)(args, kernel, packed, scratch, first, last);
                 kernel.end();
               });
    return;
  }
  const auto packed = pack(args.parameters, z, Direction::forward, Fp32Packer{pieces});
  for_boards(z, Direction::forward, 1, args.workspace + pieces.size(),
             [&](int64_t first, int64_t last, const Scratch& scratch) {
               HWY_DYNAMIC_DISPATCH(forward_f32)(args, packed, scratch, first, last);
             });
}

void refine_factor_backward(const RefineFactorBackwardArgs<float>& args) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t count = parameter_count(z), boards = boards_a_chunk(z);
  Pieces pieces(args.workspace);
  const auto for_groups = [&](const auto& body) {
    float* partial = args.workspace + pieces.size();
    float* scratch = partial + chunks(z) * count;
    for_boards(z, Direction::backward, boards, scratch,
               [&](int64_t first, int64_t last, const Scratch& mine) {
                 RefineFactorParameters<float*> d{};
                 if (args.dparameters != nullptr) {
                   float* sum = partial + first / boards * count;
                   std::fill(sum, sum + count, 0.f);
                   d = split_parameters(sum, z);
                 }
                 body(mine, d, first, last);
               });
    if (args.dparameters == nullptr) return;
    std::fill(args.dparameters, args.dparameters + count, 0.f);
    for (int64_t first = 0; first < z.boards; first += boards) {
      const float* sum = partial + first / boards * count;
      for (int64_t k = 0; k < count; ++k) args.dparameters[k] += sum[k];
    }
  };
  if (z.precision == Precision::bf16) {
    const Bf16Kernel& kernel = bf16_kernel();
    const auto packed = pack(args.parameters, z, Direction::backward, Bf16Packer{pieces, kernel});
    for_groups([&](const Scratch& scratch, const RefineFactorParameters<float*>& d, int64_t first,
                   int64_t last) {
      kernel.begin();
      HWY_DYNAMIC_DISPATCH(backward_bf16)(args, kernel, packed, scratch, d, first, last);
      kernel.end();
    });
    return;
  }
  const auto packed = pack(args.parameters, z, Direction::backward, Fp32Packer{pieces});
  for_groups([&](const Scratch& scratch, const RefineFactorParameters<float*>& d, int64_t first,
                 int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_f32)(args, packed, scratch, d, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
