// A transformer in the pre-norm form, which trains without a warm-up: Xiong et al., "On layer
// normalization in the transformer architecture", arXiv 2002.04745.
#pragma once

#include <cstdint>
#include <vector>

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

enum class Tying : uint8_t {
  none,  // every layer has its own weights
  tied,  // all have the same: Dehghani et al., "Universal transformers", arXiv 1807.03819
};

struct TransformerOptions {
  int64_t channels = 0;
  int64_t heads = 1;
  int64_t layers = 0;
  Tying tying = Tying::none;
  // How often the top layer is applied, one time after the other. It may be changed after training,
  // to think longer.
  int64_t top_repeats = 1;
};

// Blocks one after the other, then the last of them top_repeats - 1 times more: [B, tokens,
// channels]. Time grows with the applications, layers + top_repeats - 1, as does what the tape
// keeps; weights with the blocks.
struct Transformer {
  TransformerOptions options;
  std::vector<TransformerBlock> blocks;  // [layers]; tied: the one of all layers

  Transformer() = default;
  // Throws OptionError for layers below 0, a top layer applied less than once, or more often where
  // there is none, more than 1,024 applications, or blocks that are not possible.
  Transformer(const TransformerOptions& o, Philox& random);
  // Throws OptionError for options changed to such.
  Tensor operator()(Tensor x, const ops::AttentionOptions& how = {}) const;
  void visit(auto&& v) { v("blocks", blocks); }
};

}  // namespace stillpoint::nn
