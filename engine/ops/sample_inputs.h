// What all laws of engine/sampling.h demand of their inputs.
#pragma once

#include <cmath>

#include "engine/sampling.h"
#include "kernels/attention_topk_sample/attention_topk_sample.h"

namespace stillpoint {

// Of `keys` keys for `batch` samples whose scores are `like` in dtype and device.
inline void check_sample_options(const Tensor& like, int64_t batch, int64_t keys, int64_t count,
                                 const SampleOptions& o) {
  check<OptionError>(count > 0 && count <= kernels::kSampleCount,
                     "sample: {} draws were asked for, wanted 1 to {}", count,
                     kernels::kSampleCount);
  check<OptionError>(count <= keys, "sample: {} draws were asked for from {} keys", count, keys);
  check<OptionError>(o.temperature > 0 && std::isfinite(o.temperature),
                     "sample: temperature is {}, wanted a finite number above 0", o.temperature);
  if (!o.key_mask) return;
  check_dtype(o.key_mask, DType::i32, "sample", "key_mask");
  check_shape(o.key_mask, {batch, keys}, "sample", "key_mask");
  check<TypeError>(o.key_mask.device() == like.device(),
                   "sample: key_mask is on {}, what it masks on {}", name(o.key_mask.device()),
                   name(like.device()));
}

inline void check_sample_inputs(const Tensor& q, const Tensor& k, int64_t count,
                                const SampleOptions& o) {
  check_floating(q, "sample", "q");
  check_like(k, q, "sample", "k");
  check<ShapeError>(q.rank() == 3 && k.rank() == 3 && q.dim(0) == k.dim(0) && q.dim(2) == k.dim(2),
                    "sample: q has shape {} and k {}, wanted [batch, queries, width] and [batch, "
                    "keys, width]",
                    q.shape(), k.shape());
  check<ShapeError>(q.dim(2) > 0 && q.dim(2) <= kernels::kSampleWidth,
                    "sample: queries are {} wide, wanted 1 to {}", q.dim(2), kernels::kSampleWidth);
  check_sample_options(q, k.dim(0), k.dim(1), count, o);
}

inline const int32_t* key_mask_of(const SampleOptions& o) {
  return o.key_mask ? o.key_mask.data<int32_t>() : nullptr;
}

}  // namespace stillpoint
