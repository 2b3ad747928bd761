// attention on the CPU: blocks of 96 queries against blocks of 96 keys, whose scores stay in the
// cache. Operands are copied once into rows of whole vectors (keys also transposed), with zeros for
// what is masked or past the end, so that the products know neither masks nor ends.
#include "kernels/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/attention/attention_blocks-inl.h"
#include "kernels/attention/block_product-inl.h"
#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

HWY_INLINE void scale_row(float* row, int64_t n, float factor) {
  const V f = hn::Set(D(), factor);
  for_vectors(n, [&](auto io, int64_t d) { io.store(hn::Mul(io.load(row + d), f), row + d); });
}

// ---- forward -----------------------------------------------------------------------------------

// Turns a row of scores, in units of log 2, into 2^(score - max), where max is the largest so far,
// adds them to `sum`, lane by lane, and returns by what earlier terms were multiplied. A NaN need
// not pass through the maximum: it reaches the sum.
template <bool kMasked>
HWY_INLINE float exponentials(float* row, const Seen& seen, int64_t count, float& max, float* sum) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V most = hn::Set(d, max);
  for (int64_t j = 0; j < kKeys; j += lanes) {
    V s = hn::Load(d, row + j);
    if constexpr (kMasked) {
      s = hn::IfThenElse(seen.hidden(j, count), hn::Set(d, -kInf), s);
      hn::Store(s, d, row + j);
    }
    most = hn::Max(s, most);
  }
  const float before = max;
  max = hn::GetLane(hn::MaxOfLanes(d, most));
  const V shift = hn::Set(d, max == -kInf ? 0.f : max);  // nothing seen yet: 2^-inf is 0
  V factor = hn::Set(d, 1.f);
  if (before != max) factor = exp2(hn::Sub(hn::Set(d, before), shift));
  V total = hn::Mul(hn::Load(d, sum), factor);
  for (int64_t j = 0; j < kKeys; j += lanes) {
    const V e = exp2(hn::Sub(hn::Load(d, row + j), shift));
    hn::Store(e, d, row + j);
    total = hn::Add(total, e);
  }
  hn::Store(total, d, sum);
  return hn::GetLane(factor);
}

// One block of queries of one head against all keys.
void forward_block(const AttentionArgs<float>& args, int64_t head, int64_t block) {
  const AttentionShape& s = args.shape;
  const int64_t stride = padded(s.width), first = block * kQueries;
  const int64_t rows = std::min(kQueries, s.queries - first);
  const int64_t padded_rows = round_up(rows, kBlockTileRows);
  HWY_ALIGN float q[kQueries * kAttentionWidth], out[kQueries * kAttentionWidth];
  HWY_ALIGN float score[kQueries * kKeys];
  HWY_ALIGN float sum[kQueries * kLanes];
  float max[kQueries];
  std::fill_n(max, rows, -kInf);
  std::fill_n(sum, rows * kLanes, 0.f);
  std::fill_n(out, padded_rows * stride, 0.f);
  copy_rows(query_rows(args.q, s, head), first, s.queries, padded_rows,
            static_cast<float>(s.scale * kLog2E), q);
  const int64_t last = s.mask == AttentionMask::causal ? std::min(s.keys, first + rows) : s.keys;
  for (int64_t key = 0; key < last; key += kKeys) {
    const float* k_transposed = args.workspace + forward_block_at(s, head, key / kKeys);
    const float* v = k_transposed + kKeys * s.width;
    block_product<Into::overwrite>({q, stride, 1}, k_transposed, kKeys, score, kKeys, padded_rows,
                                   kKeys, s.width);
    const Seen seen = seen_in_block(args.key_mask, s, head, key);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t count = seen_keys(s, first + i, key);
      const bool all = count == kKeys && args.key_mask == nullptr;
      const float factor =
          (all ? exponentials<false> : exponentials<true>)(score + i * kKeys, seen, count, max[i],
                                                           sum + i * kLanes);
      if (factor != 1.f) scale_row(out + i * stride, stride, factor);
    }
    block_product<Into::add>({score, kKeys, 1}, v, stride, out, stride, padded_rows, stride,
                             std::min(kKeys, s.keys - key));
  }
  float* to = args.out + head_offset(s, s.queries, head);
  for (int64_t i = 0; i < rows; ++i) {
    const float total = sum_lanes(hn::Load(D(), sum + i * kLanes));
    const bool any = total != 0.f;
    args.log_sum[head * s.queries + first + i] =
        any ? max[i] * static_cast<float>(kLn2) + std::log(total) : kInf;
    const V share = hn::Set(D(), any ? 1.f / total : 0.f);
    float* row = to + (first + i) * s.heads * s.width;
    for_vectors(s.width, [&](auto io, int64_t d) {
      io.store(hn::Mul(io.load(out + i * stride + d), share), row + d);
    });
  }
}

// Copies one block of keys and values for forward_block.
void forward_copy(const AttentionArgs<float>& args, int64_t head, int64_t block) {
  const AttentionShape& s = args.shape;
  float* to = args.workspace + forward_block_at(s, head, block);
  const int64_t first = block * kKeys;
  copy_transposed(key_rows(args.k, args.key_mask, s, head), first, s.keys, kKeys, to);
  copy_rows(key_rows(args.v, args.key_mask, s, head), first, s.keys, kKeys, 1.f,
            to + kKeys * s.width);
}

// ---- backward ----------------------------------------------------------------------------------

// Copies one head's queries and gradients, and forms delta.
void backward_copy(const AttentionBackwardArgs<float>& args, int64_t head) {
  const AttentionShape& s = args.shape;
  const BackwardArrays to = backward_arrays(args.workspace, s, head);
  const HeadRows q = query_rows(args.q, s, head), g = query_rows(args.g, s, head);
  const HeadRows out = query_rows(args.out, s, head);
  const int64_t count = round_up(s.queries, kQueries);
  copy_rows(q, 0, s.queries, count, static_cast<float>(s.scale * kLog2E), to.q);
  copy_rows(g, 0, s.queries, count, 1.f, to.g);
  for (int64_t i = 0; i < s.queries; ++i) {
    V dot = hn::Zero(D());
    for_vectors(s.width, [&](auto io, int64_t d) {
      dot = hn::MulAdd(io.load(g.row(i) + d), io.load(out.row(i) + d), dot);
    });
    args.delta[head * s.queries + i] = sum_lanes(dot);
  }
}

// Turns a row of scores, in units of log 2, into probabilities, and a row of g_i . v_j into ds.
template <bool kMasked>
HWY_INLINE void score_gradients(float* score, float* dp, const Seen& seen, int64_t count,
                                float log2_sum, float delta) {
  const D d;
  for (int64_t j = 0; j < kKeys; j += static_cast<int64_t>(hn::Lanes(d))) {
    V p = exp2(hn::Sub(hn::Load(d, score + j), hn::Set(d, log2_sum)));
    V ds = hn::Mul(p, hn::Sub(hn::Load(d, dp + j), hn::Set(d, delta)));
    if constexpr (kMasked) {
      const auto hidden = seen.hidden(j, count);
      p = hn::IfThenZeroElse(hidden, p);
      ds = hn::IfThenZeroElse(hidden, ds);
    }
    hn::Store(p, d, score + j);
    hn::Store(ds, d, dp + j);
  }
}

// What a task keeps of a block of keys: 240 KiB for the widest heads.
struct KeyBlock {
  HWY_ALIGN float k_transposed[kAttentionWidth * kKeys];
  HWY_ALIGN float v_transposed[kAttentionWidth * kKeys];
  HWY_ALIGN float k[kKeys * kAttentionWidth];
  HWY_ALIGN float dk[kKeys * kAttentionWidth];
  HWY_ALIGN float dv[kKeys * kAttentionWidth];
};

// One block of keys against all queries: dk and dv in `block`, the share in dq added to `dq`.
void backward_block(const AttentionBackwardArgs<float>& args, int64_t head, int64_t key,
                    KeyBlock& block, float* dq) {
  const AttentionShape& s = args.shape;
  const int64_t stride = padded(s.width), keys = std::min(kKeys, s.keys - key);
  const BackwardArrays from = backward_arrays(args.workspace, s, head);
  const Seen seen = seen_in_block(args.key_mask, s, head, key);
  HWY_ALIGN float score[kQueries * kKeys], dp[kQueries * kKeys];
  const int64_t begin = s.mask == AttentionMask::causal ? key / kQueries * kQueries : 0;
  for (int64_t first = begin; first < s.queries; first += kQueries) {
    const int64_t rows = std::min(kQueries, s.queries - first);
    const int64_t padded_rows = round_up(rows, kBlockTileRows);
    const float* q = from.q + first * stride;
    const float* g = from.g + first * stride;
    block_product<Into::overwrite>({q, stride, 1}, block.k_transposed, kKeys, score, kKeys,
                                   padded_rows, kKeys, s.width);
    block_product<Into::overwrite>({g, stride, 1}, block.v_transposed, kKeys, dp, kKeys,
                                   padded_rows, kKeys, s.width);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = head * s.queries + first + i;
      const int64_t count = seen_keys(s, first + i, key);
      const bool all = count == kKeys && args.key_mask == nullptr;
      (all ? score_gradients<false>
           : score_gradients<true>)(score + i * kKeys, dp + i * kKeys, seen, count,
                                    args.log_sum[row] * static_cast<float>(kLog2E),
                                    args.delta[row]);
    }
    const int64_t padded_keys = round_up(keys, kBlockTileRows);
    block_product<Into::add>({score, 1, kKeys}, g, stride, block.dv, stride, padded_keys, stride,
                             rows);
    block_product<Into::add>({dp, 1, kKeys}, q, stride, block.dk, stride, padded_keys, stride,
                             rows);
    block_product<Into::add>({dp, kKeys, 1}, block.k, stride, dq + first * stride, stride,
                             padded_rows, stride, keys);
  }
}

// The blocks of keys of one panel of one head.
void backward_panel(const AttentionBackwardArgs<float>& args, int64_t head, int64_t panel) {
  const AttentionShape& s = args.shape;
  const int64_t stride = padded(s.width), all = blocks(s.keys, kKeys);
  const HeadRows k = key_rows(args.k, args.key_mask, s, head);
  const HeadRows v = key_rows(args.v, args.key_mask, s, head);
  float* dq = backward_arrays(args.workspace, s, head).dq + panel * query_array(s);
  std::fill_n(dq, query_array(s), 0.f);
  KeyBlock block;
  for (int64_t b = panel * all / panels(s); b < (panel + 1) * all / panels(s); ++b) {
    const int64_t key = b * kKeys;
    copy_transposed(k, key, s.keys, kKeys, block.k_transposed);
    copy_transposed(v, key, s.keys, kKeys, block.v_transposed);
    copy_rows(k, key, s.keys, kKeys, 1.f, block.k);
    std::fill_n(block.dk, kKeys * stride, 0.f);
    std::fill_n(block.dv, kKeys * stride, 0.f);
    backward_block(args, head, key, block, dq);
    for (int64_t j = 0; j < std::min(kKeys, s.keys - key); ++j) {
      const int64_t to = head_offset(s, s.keys, head) + (key + j) * s.heads * s.width;
      const bool there = k.seen(key + j);  // a NaN elsewhere leaves a masked key's gradient 0
      for (int64_t d = 0; d < s.width; ++d) {
        args.dk[to + d] = there ? block.dk[j * stride + d] * static_cast<float>(kLn2) : 0.f;
        args.dv[to + d] = there ? block.dv[j * stride + d] : 0.f;
      }
    }
  }
}

void backward_queries(const AttentionBackwardArgs<float>& args, int64_t head) {
  const AttentionShape& s = args.shape;
  add_panels(backward_arrays(args.workspace, s, head).dq, s,
             args.dq + head_offset(s, s.queries, head));
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_copy);
HWY_EXPORT(forward_block);
HWY_EXPORT(backward_copy);
HWY_EXPORT(backward_panel);
HWY_EXPORT(backward_queries);

using namespace attention_blocks;

}  // namespace

int64_t attention_workspace(const AttentionShape& s) {
  return forward_block_at(s, all_heads(s), 0);
}
int64_t attention_backward_workspace(const AttentionShape& s) {
  return all_heads(s) * (2 + panels(s)) * query_array(s);
}

void attention(const AttentionArgs<float>& args) {
  const AttentionShape& s = args.shape;
  for_parts(s, blocks(s.keys, kKeys), [&](int64_t head, int64_t block) {
    HWY_DYNAMIC_DISPATCH(forward_copy)(args, head, block);
  });
  for_parts(s, blocks(s.queries, kQueries), [&](int64_t head, int64_t block) {
    HWY_DYNAMIC_DISPATCH(forward_block)(args, head, block);
  });
}

void attention_backward(const AttentionBackwardArgs<float>& args) {
  const AttentionShape& s = args.shape;
  for_parts(s, 1, [&](int64_t head, int64_t) { HWY_DYNAMIC_DISPATCH(backward_copy)(args, head); });
  for_parts(s, panels(s), [&](int64_t head, int64_t panel) {
    HWY_DYNAMIC_DISPATCH(backward_panel)(args, head, panel);
  });
  for_parts(s, 1, [&](int64_t head, int64_t) {
    HWY_DYNAMIC_DISPATCH(backward_queries)(args, head);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
