#include "models/nn/transformer.h"

#include <algorithm>

namespace stillpoint::nn {
namespace {

// Layers that share weights and repetitions cost no memory, so that a forged file could ask for any
// number of them.
constexpr int64_t kMostApplications = 1024;

// How many blocks are applied.
int64_t applications(const TransformerOptions& o) {
  check<OptionError>(o.layers >= 0 && o.layers <= kMostApplications,
                     "Transformer: {} layers; wanted 0 to {}", o.layers, kMostApplications);
  const int64_t most = o.layers == 0 ? 1 : kMostApplications + 1 - o.layers;
  check<OptionError>(o.top_repeats >= 1 && o.top_repeats <= most,
                     "Transformer: the top one of {} layers applied {} times; wanted 1 to {}",
                     o.layers, o.top_repeats, most);
  return o.layers + o.top_repeats - 1;
}

int64_t blocks_of(const TransformerOptions& o) {
  return o.tying == Tying::tied ? std::min<int64_t>(o.layers, 1) : o.layers;
}

}  // namespace

TransformerBlock::TransformerBlock(int64_t channels, int64_t head_count, Philox& random)
    : attention_norm(channels), hidden_norm(channels), heads(head_count) {
  check<OptionError>(heads >= 1 && channels % heads == 0 && channels / heads <= 128,
                     "TransformerBlock: {} channels in {} heads; wanted heads that divide them, of "
                     "128 channels or fewer",
                     channels, heads);
  query = Linear(channels, channels, random);
  key = Linear(channels, channels, random);
  value = Linear(channels, channels, random);
  out = Linear(channels, channels, random);
  up = Linear(channels, 4 * channels, random);
  down = Linear(4 * channels, channels, random);
}

Tensor TransformerBlock::operator()(const Tensor& x, const ops::AttentionOptions& options) const {
  const Tensor seen = attention_norm(x);
  ops::AttentionOptions with_heads = options;
  with_heads.heads = heads;
  const Tensor attended = ops::attention(query(seen), key(seen), value(seen), with_heads);
  const Tensor y = ops::add(x, out(attended));
  return ops::add(y, down(up(hidden_norm(y), ops::Activation::relu)));
}

Transformer::Transformer(const TransformerOptions& o, Philox& random) : options(o) {
  (void)applications(o);
  for (int64_t b = 0; b < blocks_of(o); ++b) blocks.emplace_back(o.channels, o.heads, random);
}

Tensor Transformer::operator()(Tensor x, const ops::AttentionOptions& how) const {
  const int64_t times = applications(options);
  check<OptionError>(std::ssize(blocks) == blocks_of(options),
                     "Transformer: {} blocks for {} layers; wanted {}", blocks.size(),
                     options.layers, blocks_of(options));
  for (int64_t t = 0; t < times; ++t) {
    const int64_t block = std::min<int64_t>(t, std::ssize(blocks) - 1);
    x = blocks[static_cast<size_t>(block)](x, how);
  }
  return x;
}

}  // namespace stillpoint::nn
