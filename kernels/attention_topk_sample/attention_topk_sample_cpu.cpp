// attention_topk_sample on the CPU: scores of 48 queries against a block of 128 keys in the cache,
// as in attention; each row then takes its draws from them.
#include "kernels/attention_topk_sample/attention_topk_sample.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_topk_sample/attention_topk_sample_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/attention/attention_blocks-inl.h"
#include "kernels/attention/block_product-inl.h"
#include "kernels/attention_topk_sample/sample_blocks.h"
#include "kernels/attention_topk_sample/sample_rows-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

// Copies one block of a sample's keys, transposed.
void copy_keys(const AttentionTopkSampleArgs<float>& args, int64_t sample, int64_t block) {
  const SampleShape& s = args.shape;
  copy_transposed(
      key_rows(args.k, args.key_mask, attention_shape(s), sample), block * kSampleKeys, s.keys,
      kSampleKeys,
      args.workspace + (sample * blocks(s.keys, kSampleKeys) + block) * kSampleKeys * s.width);
}

// Some queries of one sample: their scores, a block of keys at a time.
class Scores {
 public:
  Scores(const AttentionTopkSampleArgs<float>& args, int64_t sample, int64_t first)
      : args_(args), sample_(sample), rows_(std::min(kSampleQueries, args.shape.queries - first)) {
    const SampleShape& s = args.shape;
    copy_rows(query_rows(args.q, attention_shape(s), sample), first, s.queries,
              round_up(rows_, kBlockTileRows), static_cast<float>(s.scale), q_);
  }
  int64_t rows() const { return rows_; }

  // Calls body(r, row of scores, first key); scores of keys not seen are -inf.
  template <class Body>
  void for_blocks(Body&& body) {
    const D d;
    const SampleShape& s = args_.shape;
    const int64_t stride = padded(s.width), all = blocks(s.keys, kSampleKeys);
    HWY_ALIGN float score[kSampleQueries * kSampleKeys];
    for (int64_t block = 0; block < all; ++block) {
      const int64_t key = block * kSampleKeys;
      const float* k = args_.workspace + (sample_ * all + block) * kSampleKeys * s.width;
      block_product<Into::overwrite>({q_, stride, 1}, k, kSampleKeys, score, kSampleKeys,
                                     round_up(rows_, kBlockTileRows), kSampleKeys, s.width);
      const Seen seen = seen_in_block(args_.key_mask, attention_shape(s), sample_, key);
      const int64_t count = std::min(kSampleKeys, s.keys - key);
      for (int64_t r = 0; r < rows_; ++r) {
        float* row = score + r * kSampleKeys;
        if (args_.key_mask != nullptr || count < kSampleKeys)
          for (int64_t j = 0; j < kSampleKeys; j += static_cast<int64_t>(hn::Lanes(d)))
            hn::Store(
                hn::IfThenElse(seen.hidden(j, count), hn::Set(d, -kInf), hn::Load(d, row + j)), d,
                row + j);
        body(r, row, key);
      }
    }
  }

 private:
  const AttentionTopkSampleArgs<float>& args_;
  int64_t sample_, rows_;
  HWY_ALIGN float q_[kSampleQueries * kSampleWidth];
};

void draw_largest(const AttentionTopkSampleArgs<float>& args, int64_t row, Scores& scores) {
  const SampleShape& s = args.shape;
  RowSum rest[kSampleQueries];
  Largest largest[kSampleQueries];
  for (int64_t r = 0; r < scores.rows(); ++r) largest[r].count = s.count;
  scores.for_blocks([&](int64_t r, float* score, int64_t key) {
    if (s.law == SampleLaw::top) return largest[r].add(score, nullptr, key, rest[r]);
    HWY_ALIGN float noise[kSampleKeys];
    const uint64_t block =
        s.first_block + static_cast<uint64_t>((row + r) * plackett_luce_blocks(s.keys) + key / 4);
    gumbel_noise(s.seed, block, s.stream, kSampleKeys, noise);
    largest[r].add(score, noise, key, rest[r]);
  });
  for (int64_t r = 0; r < scores.rows(); ++r) {
    const int64_t first = (row + r) * s.count;
    largest[r].finish(rest[r]);
    for (int64_t t = 0; t < largest[r].found; ++t) {
      args.indices[first + t] = largest[r].keys[t].index;
      args.scores[first + t] = largest[r].keys[t].score;
    }
    const bool finite = rest[r].finite() && largest[r].finite();
    finish_row(args, row + r, largest[r].found, rest[r].log(), finite);
  }
}

void draw_independent(const AttentionTopkSampleArgs<float>& args, int64_t row, Scores& scores) {
  const SampleShape& s = args.shape;
  RowSum all[kSampleQueries];
  Independent draws[kSampleQueries];
  scores.for_blocks([&](int64_t r, const float* score, int64_t) { all[r].add(score); });
  const auto drawable = [&](int64_t r) { return all[r].finite() && all[r].sum > 0.f; };
  scores.for_blocks([&](int64_t r, const float* score, int64_t) {
    if (drawable(r)) draws[r].add(score, all[r].max);
  });
  for (int64_t r = 0; r < scores.rows(); ++r)
    if (drawable(r)) draws[r].aim(s, row + r);
  scores.for_blocks([&](int64_t r, const float* score, int64_t key) {
    const int64_t first = (row + r) * s.count;
    draws[r].find(score, all[r].max, key, args.indices + first, args.scores + first);
  });
  for (int64_t r = 0; r < scores.rows(); ++r)
    finish_row(args, row + r, draws[r].found, all[r].log(), all[r].finite());
}

void draw_queries(const AttentionTopkSampleArgs<float>& args, int64_t sample, int64_t block) {
  const int64_t first = block * kSampleQueries, row = sample * args.shape.queries + first;
  Scores scores(args, sample, first);
  (args.shape.law == SampleLaw::with_replacement ? draw_independent : draw_largest)(args, row,
                                                                                    scores);
}

// ---- backward ----------------------------------------------------------------------------------

// Copies one sample's queries, and brings its rows' gradients into the form that streams.
void backward_copy(const AttentionTopkSampleBackwardArgs<float>& args, int64_t sample) {
  const SampleShape& s = args.shape;
  const AttentionShape a = attention_shape(s);
  copy_rows(query_rows(args.q, a, sample), 0, s.queries, round_up(s.queries, kQueries),
            static_cast<float>(s.scale), backward_arrays(args.workspace, a, sample).q);
  for (int64_t row = sample * s.queries; row < (sample + 1) * s.queries; ++row) {
    const int64_t first = row * s.count;
    args.rest[row] = sample_row_gradient(s.law, s.count, args.indices + first, args.scores + first,
                                         args.log_remaining + first, args.log_rest[row],
                                         args.g + first, args.drawn + first);
  }
}

// Turns a row of scores into ds.
HWY_INLINE void score_gradients(const AttentionTopkSampleBackwardArgs<float>& args, int64_t row,
                                const Seen& seen, int64_t key, int64_t keys, float* score) {
  const D d;
  const SampleShape& s = args.shape;
  const V rest = hn::Set(d, -args.rest[row]), shift = hn::Set(d, args.log_rest[row]);
  for (int64_t j = 0; j < kKeys; j += static_cast<int64_t>(hn::Lanes(d))) {
    const V x = hn::Load(d, score + j);
    const auto hidden = hn::Or(seen.hidden(j, keys), hn::Eq(x, hn::Set(d, -kInf)));
    hn::Store(hn::IfThenZeroElse(hidden, hn::Mul(rest, exp(hn::Sub(x, shift)))), d, score + j);
  }
  const bool add = s.law == SampleLaw::with_replacement;
  for (int64_t t = 0; t < s.count; ++t) {
    const int64_t j = args.indices[row * s.count + t] - key;
    if (j < 0 || j >= keys) continue;
    const float drawn = args.drawn[row * s.count + t];
    score[j] = add ? score[j] + drawn : drawn;
  }
}

// A panel of one sample's keys against all its queries.
void backward_panel(const AttentionTopkSampleBackwardArgs<float>& args, int64_t sample,
                    int64_t panel) {
  const SampleShape& s = args.shape;
  const AttentionShape a = attention_shape(s);
  const int64_t stride = padded(s.width), all = blocks(s.keys, kKeys);
  const HeadRows rows = key_rows(args.k, args.key_mask, a, sample);
  const BackwardArrays from = backward_arrays(args.workspace, a, sample);
  float* dq = from.dq + panel * query_array(a);
  std::fill_n(dq, query_array(a), 0.f);
  HWY_ALIGN float k_transposed[kAttentionWidth * kKeys], score[kQueries * kKeys];
  HWY_ALIGN float k[kKeys * kAttentionWidth], dk[kKeys * kAttentionWidth];
  for (int64_t b = panel * all / panels(a); b < (panel + 1) * all / panels(a); ++b) {
    const int64_t key = b * kKeys, keys = std::min(kKeys, s.keys - key);
    copy_transposed(rows, key, s.keys, kKeys, k_transposed);
    copy_rows(rows, key, s.keys, kKeys, 1.f, k);
    std::fill_n(dk, kKeys * stride, 0.f);
    const Seen seen = seen_in_block(args.key_mask, a, sample, key);
    for (int64_t first = 0; first < s.queries; first += kQueries) {
      const int64_t count = std::min(kQueries, s.queries - first);
      const int64_t padded_count = round_up(count, kBlockTileRows);
      const float* q = from.q + first * stride;
      block_product<Into::overwrite>({q, stride, 1}, k_transposed, kKeys, score, kKeys,
                                     padded_count, kKeys, s.width);
      for (int64_t i = 0; i < count; ++i)
        score_gradients(args, sample * s.queries + first + i, seen, key, keys, score + i * kKeys);
      block_product<Into::add>({score, 1, kKeys}, q, stride, dk, stride,
                               round_up(keys, kBlockTileRows), stride, count);
      block_product<Into::add>({score, kKeys, 1}, k, stride, dq + first * stride, stride,
                               padded_count, stride, keys);
    }
    for (int64_t j = 0; j < keys; ++j) {
      float* to = args.dk + (sample * s.keys + key + j) * s.width;
      const bool there = rows.seen(key + j);  // a NaN elsewhere leaves a masked key's gradient 0
      for (int64_t d = 0; d < s.width; ++d) to[d] = there ? dk[j * stride + d] : 0.f;
    }
  }
}

void backward_queries(const AttentionTopkSampleBackwardArgs<float>& args, int64_t sample) {
  const AttentionShape a = attention_shape(args.shape);
  add_panels(backward_arrays(args.workspace, a, sample).dq, a,
             args.dq + head_offset(a, a.queries, sample));
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(copy_keys);
HWY_EXPORT(draw_queries);
HWY_EXPORT(backward_copy);
HWY_EXPORT(backward_panel);
HWY_EXPORT(backward_queries);

using namespace attention_blocks;

}  // namespace

int64_t attention_topk_sample_workspace(const SampleShape& s) {
  return s.batch * round_up(s.keys, kSampleKeys) * s.width;
}
int64_t attention_topk_sample_backward_workspace(const SampleShape& s) {
  return attention_backward_workspace(attention_shape(s));
}

void attention_topk_sample(const AttentionTopkSampleArgs<float>& args) {
  const AttentionShape s = attention_shape(args.shape);
  for_parts(s, blocks(s.keys, kSampleKeys), [&](int64_t sample, int64_t block) {
    HWY_DYNAMIC_DISPATCH(copy_keys)(args, sample, block);
  });
  for_parts(s, blocks(s.queries, kSampleQueries), [&](int64_t sample, int64_t block) {
    HWY_DYNAMIC_DISPATCH(draw_queries)(args, sample, block);
  });
}

void attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<float>& args) {
  const AttentionShape s = attention_shape(args.shape);
  for_parts(s, 1, [&](int64_t sample, int64_t) {
    HWY_DYNAMIC_DISPATCH(backward_copy)(args, sample);
  });
  for_parts(s, panels(s), [&](int64_t sample, int64_t panel) {
    HWY_DYNAMIC_DISPATCH(backward_panel)(args, sample, panel);
  });
  for_parts(s, 1, [&](int64_t sample, int64_t) {
    HWY_DYNAMIC_DISPATCH(backward_queries)(args, sample);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
