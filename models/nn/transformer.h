// A block of a transformer in the pre-norm form, which trains without a warm-up: Xiong et al., "On
// layer normalization in the transformer architecture", arXiv 2002.04745.
#pragma once

#include "models/nn/layers.h"

namespace stillpoint::nn {

// y = x + out(attention(norm_1 x)), then y + down(relu(up(norm_2 y))): [B, tokens, channels]. The
// hidden layer is four times as wide.
struct TransformerBlock {
  LayerNorm attention_norm, hidden_norm;
  Linear query, key, value, out, up, down;
  int64_t heads = 1;

  TransformerBlock() = default;
  // Throws OptionError unless the heads divide the channels, each at most 128 wide.
  TransformerBlock(int64_t channels, int64_t heads, Philox& random);
  Tensor operator()(const Tensor& x, const ops::AttentionOptions& options = {}) const;
  void visit(auto&& v) {
    v("attention_norm", attention_norm);
    v("query", query);
    v("key", key);
    v("value", value);
    v("out", out);
    v("hidden_norm", hidden_norm);
    v("up", up);
    v("down", down);
  }
};

}  // namespace stillpoint::nn
