#include "models/nn/transformer.h"

namespace stillpoint::nn {

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

}  // namespace stillpoint::nn
