// The way from the formula to the kernel, in steps that can each be read, run and timed. Every rung
// keeps the contract of refine.h, but for `saved`, which only the last one uses, `dx`, which the
// others do not let be null, and the size of its workspace; is tested against the reference; and
// has its row in README.md. The last rung is the product itself.
#pragma once

#include "kernels/refine/refine.h"

namespace stillpoint::kernels {

// Elements of workspace that suffice for every rung, in either direction: everything that a step of
// the whole batch computes.
int64_t refine_ladder_workspace(const RefineSize& size);

namespace cpu::ladder {
void formula(const RefineArgs<float>& args);
void formula_backward(const RefineBackwardArgs<float>& args);
void step_by_step(const RefineArgs<float>& args);
void step_by_step_backward(const RefineBackwardArgs<float>& args);
void sample_by_sample(const RefineArgs<float>& args);
void sample_by_sample_backward(const RefineBackwardArgs<float>& args);
}  // namespace cpu::ladder

struct RefineRung {
  const char* name;
  void (*forward)(const RefineArgs<float>&);
  void (*backward)(const RefineBackwardArgs<float>&);
};
inline constexpr RefineRung kRefineCpuLadder[] = {
    {"1_formula", cpu::ladder::formula, cpu::ladder::formula_backward},
    {"2_step_by_step", cpu::ladder::step_by_step, cpu::ladder::step_by_step_backward},
    {"3_sample_by_sample", cpu::ladder::sample_by_sample, cpu::ladder::sample_by_sample_backward},
    {"4_product", cpu::refine, cpu::refine_backward},
};

}  // namespace stillpoint::kernels
