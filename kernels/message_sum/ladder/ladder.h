// The way from the formula to the kernels, in steps that can each be read, run and timed. Every
// rung keeps the contract of message_sum.h, is tested against the reference and has its row in
// README.md. The last rung of each ladder is the product itself.
#pragma once

#include "kernels/message_sum/message_sum.h"

namespace stillpoint::kernels {

namespace cpu::ladder {
void formula(const MessageSumArgs<float>& args);
void formula_backward(const MessageSumBackwardArgs<float>& args);
void rows(const MessageSumArgs<float>& args);
void rows_backward(const MessageSumBackwardArgs<float>& args);
void registers(const MessageSumArgs<float>& args);
void registers_backward(const MessageSumBackwardArgs<float>& args);
}  // namespace cpu::ladder

namespace cuda::ladder {
Status row_per_thread(const MessageSumArgs<float>& args, Stream stream);
Status row_per_thread_backward(const MessageSumBackwardArgs<float>& args, Stream stream);
Status channel_per_thread(const MessageSumArgs<float>& args, Stream stream);
Status channel_per_thread_backward(const MessageSumBackwardArgs<float>& args, Stream stream);
}  // namespace cuda::ladder

struct MessageSumRung {
  const char* name;
  void (*forward)(const MessageSumArgs<float>&);
  void (*backward)(const MessageSumBackwardArgs<float>&);
};
inline constexpr MessageSumRung kMessageSumCpuLadder[] = {
    {"1_formula", cpu::ladder::formula, cpu::ladder::formula_backward},
    {"2_rows", cpu::ladder::rows, cpu::ladder::rows_backward},
    {"3_registers", cpu::ladder::registers, cpu::ladder::registers_backward},
    {"4_product", cpu::message_sum, cpu::message_sum_backward},
};

#if defined(STILLPOINT_HAVE_CUDA)
struct MessageSumCudaRung {
  const char* name;
  Status (*forward)(const MessageSumArgs<float>&, Stream);
  Status (*backward)(const MessageSumBackwardArgs<float>&, Stream);
};
// The product under one of its forms.
template <MessageSumForm kForm>
Status message_sum_as(const MessageSumArgs<float>& args, Stream stream) {
  MessageSumArgs<float> forced = args;
  forced.form = kForm;
  return cuda::message_sum(forced, stream);
}
template <MessageSumForm kForm>
Status message_sum_backward_as(const MessageSumBackwardArgs<float>& args, Stream stream) {
  MessageSumBackwardArgs<float> forced = args;
  forced.form = kForm;
  return cuda::message_sum_backward(forced, stream);
}
inline constexpr MessageSumCudaRung kMessageSumCudaLadder[] = {
    {"1_row_per_thread", cuda::ladder::row_per_thread, cuda::ladder::row_per_thread_backward},
    {"2_channel_per_thread", cuda::ladder::channel_per_thread,
     cuda::ladder::channel_per_thread_backward},
    {"3_product_row", message_sum_as<MessageSumForm::row>,
     message_sum_backward_as<MessageSumForm::row>},
    {"4_product_slab", message_sum_as<MessageSumForm::slab>,
     message_sum_backward_as<MessageSumForm::slab>},
};
#endif

}  // namespace stillpoint::kernels
