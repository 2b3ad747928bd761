// How attention_topk_sample on the CPU cuts its work; the backward as attention does.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_blocks.h"
#include "kernels/attention_topk_sample/attention_topk_sample.h"

namespace stillpoint::kernels::cpu::attention_blocks {

constexpr int64_t kSampleQueries = 48;
constexpr int64_t kSampleKeys = 128;  // a multiple of the words that Philox makes at once

// A key that is among the largest. It stands here and not with the code of an instruction set,
// which the standard library's algorithms, compiled for any machine, could not inline.
struct SampleKey {
  float perturbed, score;
  int32_t index;

  bool operator<(const SampleKey& other) const {  // comes before it
    return perturbed != other.perturbed ? perturbed > other.perturbed : index < other.index;
  }
};

// One head, as attention sees it.
inline AttentionShape attention_shape(const SampleShape& s) {
  return {.batch = s.batch,
          .queries = s.queries,
          .keys = s.keys,
          .heads = 1,
          .width = s.width,
          .mask = AttentionMask::none,
          .scale = s.scale};
}

}  // namespace stillpoint::kernels::cpu::attention_blocks
