// Rung 1: the formula. The reference, which reads like refine.h, with float in place of double: no
// vectors, no library, one thread.
#include "kernels/refine/ladder/ladder.h"
#include "kernels/refine/refine_reference.h"

namespace stillpoint::kernels::cpu::ladder {

void formula(const RefineArgs<float>& args) { reference::refine(args); }
void formula_backward(const RefineBackwardArgs<float>& args) { reference::refine_backward(args); }

}  // namespace stillpoint::kernels::cpu::ladder
