#include <gmock/gmock.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/gradcheck.h"
#include "models/nn/layers.h"
#include "models/nn/transformer.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

struct Tower {
  nn::Linear first;
  std::vector<nn::Linear> rest;
  Tensor counter;  // no parameter

  explicit Tower(Philox& random)
      : first(3, 4, random, nn::Bias::no),
        rest{nn::Linear(4, 4, random), nn::Linear(4, 2, random)},
        counter(Tensor::zeros({}, {.dtype = DType::i32})) {}
  Tensor operator()(Tensor x) const {
    x = first(x);
    for (const nn::Linear& layer : rest) x = layer(ops::relu(x));
    return x;
  }
  void visit(auto&& v) {
    v("first", first);
    v("rest", rest);
    v("counter", counter);
  }
};

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> all;
  for (const auto& [name, t] : tensors) all.push_back(name);
  return all;
}

TEST(Visit, NamesTensorsAndParameters) {
  Philox random(1);
  Tower tower(random);
  EXPECT_THAT(names(parameters(tower)),
              testing::ElementsAre("first.weight", "rest.0.bias", "rest.0.weight", "rest.1.bias",
                                   "rest.1.weight"));
  EXPECT_EQ(tensors(tower).size(), 6u);
  EXPECT_EQ(count_parameters(tower), 12 + 16 + 4 + 8 + 2);
}

struct Twins {
  Tensor a = Tensor::zeros({1}), b = Tensor::zeros({1});
  void visit(auto&& v) {
    v("same", a);
    v("same", b);
  }
};

TEST(Visit, RefusesEqualNames) {
  Twins twins;
  EXPECT_THROW(tensors(twins), OptionError);
}

TEST(Visit, MovesBetweenDevices) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  Philox random(1);
  Tower tower(random);
  const Tensor x = random_tensor({5, 3}, 1).to(DType::f32);
  const Tensor wanted = tower(x);
  to_device(tower, Device::cuda);
  for (const auto& [name, t] : tensors(tower)) EXPECT_EQ(t.device(), Device::cuda) << name;
  EXPECT_EQ(parameters(tower).size(), 5u);
  expect_close(tower(x.to(Device::cuda)), wanted.to(DType::f64), 8, 4, "after the move");
}

TEST(Visit, LoadsAllOrNothing) {
  Philox random(1);
  Tower tower(random), other(random);
  load_tensors(tower, tensors(other));
  expect_same_bits(tower.first.weight, other.first.weight, "loaded");
  EXPECT_TRUE(tower.first.weight.requires_grad());
  EXPECT_FALSE(tower.first.weight.same_object(other.first.weight));

  NamedTensors broken = tensors(other);
  broken["first.weight"] = Tensor::full({4, 3}, 7.0);
  broken["rest.1.bias"] = Tensor::zeros({3});
  EXPECT_THROW(load_tensors(tower, broken), ShapeError);
  broken.erase("rest.1.bias");
  EXPECT_THROW(load_tensors(tower, broken), FormatError);
  expect_same_bits(tower.first.weight, other.first.weight, "unchanged");
}

TEST(Layers, StartAsTheyShould) {
  Philox random(3);
  const nn::Linear linear(100, 50, random);
  const std::vector<float> w = linear.weight.to_vector<float>();
  EXPECT_LE(*std::max_element(w.begin(), w.end()), 0.1f);
  EXPECT_GT(*std::max_element(w.begin(), w.end()), 0.099f);
  EXPECT_LT(*std::min_element(w.begin(), w.end()), -0.099f);
  EXPECT_FALSE(nn::Linear(2, 2, random, nn::Bias::no).bias.defined());
  Philox again(3);
  expect_same_bits(nn::Linear(100, 50, again).bias, linear.bias, "same seed");
  EXPECT_THROW(nn::Linear(0, 2, random), OptionError);
  EXPECT_THROW(nn::GruCell(2, -1, random), OptionError);
  EXPECT_THROW(nn::RmsNorm(0), OptionError);
  EXPECT_THROW(nn::Embedding(0, 1, random), OptionError);
}

TEST(Layers, AreTheirOps) {
  Philox random(4);
  const Tensor x = random_tensor({5, 3}, 1).to(DType::f32);
  const Tensor h = random_tensor({5, 2}, 2).to(DType::f32);
  const nn::GruCell gru(3, 2, random);
  expect_same_bits(gru(x, h), ops::gru_cell(gru.input(x), gru.state(h), h), "GruCell");
  const nn::RmsNorm norm(2);
  expect_same_bits(norm(h, h), ops::rms_norm(h, {}, h), "RmsNorm");
  const nn::Embedding embedding(4, 2, random);
  const Tensor row = embedding(Tensor::from<int32_t>({2}, {1}));
  expect_same_bits(row, ops::rows(embedding.table, 2, 1), "Embedding");
  const nn::LayerNorm layer_norm(3);
  expect_close(layer_norm(x), ops::layer_norm(x).to(DType::f64), 1, 1, "LayerNorm");
}

TEST(TransformerBlock, IsItsFormula) {
  Philox random(5);
  const nn::TransformerBlock block(6, 2, random);
  const Tensor x = random_tensor({3, 5, 6}, 1).to(DType::f32);
  const Tensor seen = ops::layer_norm(x);
  const Tensor y = ops::add(x, block.out(ops::attention(block.query(seen), block.key(seen),
                                                        block.value(seen), {.heads = 2})));
  const Tensor wanted = ops::add(y, block.down(ops::relu(block.up(ops::layer_norm(y)))));
  expect_close(block(x), wanted.to(DType::f64), 4, 24, "block");
}

// Tokens are a set: whoever permutes them permutes what comes out.
TEST(TransformerBlock, KnowsNoOrder) {
  Philox random(5);
  const nn::TransformerBlock block(6, 3, random);
  const Tensor x = random_tensor({5, 6}, 1).to(DType::f32);
  const Tensor order = Tensor::from<int32_t>({3, 0, 4, 2, 1}, {5});
  const Tensor out = ops::reshape(block(ops::reshape(x, {1, 5, 6})), {5, 6});
  const Tensor of_permuted = block(ops::reshape(ops::embedding(x, order), {1, 5, 6}));
  expect_close(ops::reshape(of_permuted, {5, 6}), ops::embedding(out, order).to(DType::f64), 4, 24,
               "permuted");
}

TEST(TransformerBlock, RefusesHeadsThatDoNotDivide) {
  Philox random(5);
  EXPECT_THROW(nn::TransformerBlock(6, 4, random), OptionError);
  EXPECT_THROW(nn::TransformerBlock(6, 0, random), OptionError);
  EXPECT_THROW(nn::TransformerBlock(258, 2, random), OptionError);
}

nn::TransformerOptions small(nn::TransformerOptions o) {
  o.channels = 6;
  o.heads = 2;
  return o;
}

// The output, then the gradient in x and in every parameter, block by block.
template <class F>
std::vector<Tensor> with_gradients(const F& f, nn::Transformer& of) {
  Tensor x = random_tensor({3, 5, 6}, 1).to(DType::f32);
  x.set_requires_grad();
  std::vector<Tensor> inputs{x};
  for (const auto& [name, t] : parameters(of)) inputs.push_back(t);
  const Tensor out = f(x), cotangent = random_tensor(out.shape(), 2).to(DType::f32);
  std::vector<Tensor> all = vjp({&out, 1}, inputs, {&cotangent, 1});
  all.insert(all.begin(), out);
  return all;
}

TEST(Transformer, IsItsBlocksInSequence) {
  for (const int64_t repeats : {1, 3}) {
    Philox random(5);
    nn::Transformer net(small({.layers = 2, .top_repeats = repeats}), random);
    EXPECT_EQ(net.blocks.size(), 2u);
    const auto composed = [&](const Tensor& x) {
      Tensor y = net.blocks[0](x);
      for (int64_t t = 0; t < repeats; ++t) y = net.blocks[1](y);
      return y;
    };
    const std::vector<Tensor> all = with_gradients(net, net),
                              wanted = with_gradients(composed, net);
    for (size_t e = 0; e < all.size(); ++e)
      expect_same_bits(all[e], wanted[e],
                       "of " + std::to_string(repeats) + ": " + std::to_string(e));
  }
}

TEST(Transformer, TiedIsUntiedOfCopies) {
  constexpr size_t kLayers = 3;
  Philox random(5);
  nn::Transformer tied(small({.layers = kLayers, .tying = nn::Tying::tied}), random);
  nn::Transformer untied(small({.layers = kLayers}), random);
  EXPECT_EQ(count_parameters(untied), 3 * count_parameters(tied));
  for (nn::TransformerBlock& block : untied.blocks) load_tensors(block, tensors(tied.blocks[0]));
  const std::vector<Tensor> one = with_gradients(tied, tied),
                            three = with_gradients(untied, untied);
  expect_same_bits(one[0], three[0], "output");
  expect_same_bits(one[1], three[1], "gradient in x");
  const size_t parameters = one.size() - 2;
  ASSERT_EQ(three.size(), 2 + kLayers * parameters);
  for (size_t p = 0; p < parameters; ++p) {
    Tensor sum = three[2 + p].to(DType::f64);
    for (size_t layer = 1; layer < kLayers; ++layer)
      sum = ops::add(sum, three[2 + layer * parameters + p].to(DType::f64));
    expect_close(one[2 + p], sum, 4, kLayers, "sum of " + std::to_string(p));
  }
}

TEST(Transformer, RepeatsOfATiedTopAreLayers) {
  Philox random(5), again(5);
  const Tensor x = random_tensor({3, 5, 6}, 1).to(DType::f32);
  nn::Transformer repeated(small({.layers = 2, .tying = nn::Tying::tied, .top_repeats = 3}),
                           random);
  const nn::Transformer deep(small({.layers = 4, .tying = nn::Tying::tied}), again);
  expect_same_bits(repeated(x), deep(x), "2 layers, the top one 3 times");
  repeated.options.top_repeats = 1;  // as at test time
  expect_same_bits(repeated(x), repeated.blocks[0](repeated.blocks[0](x)), "changed");
  const nn::Transformer none(small({.layers = 0}), random);
  expect_same_bits(none(x), x, "no layers");
}

TEST(Transformer, GradientIsThatOfFiniteDifferences) {
  for (const nn::Tying tying : {nn::Tying::none, nn::Tying::tied}) {
    Philox random(5);
    nn::Transformer net(small({.layers = 2, .tying = tying, .top_repeats = 2}), random);
    std::vector<Tensor> inputs{random_tensor({2, 3, 6}, 1)};
    visit_tensors(net, [&](const std::string&, const Tensor& t) {
      inputs.push_back(t.detach().to(DType::f64));
    });
    const auto f = [&](std::span<const Tensor> in) {
      size_t next = 1;
      visit_tensors(net, [&](const std::string&, Tensor& t) { t = in[next++]; });
      return net(in[0]);
    };
    const GradcheckReport report = gradcheck(f, inputs);
    EXPECT_TRUE(report.ok) << report.message;
  }
}

TEST(Transformer, RefusesWhatIsNotPossible) {
  Philox random(5);
  const auto refused = [&](const nn::TransformerOptions& o) {
    EXPECT_THROW(nn::Transformer(small(o), random), OptionError);
  };
  refused({.layers = -1});
  refused({.layers = 1025, .tying = nn::Tying::tied});
  refused({.layers = 1, .top_repeats = 0});
  refused({.layers = 1, .top_repeats = -1});
  refused({.layers = 2, .top_repeats = 1024});
  refused({.layers = 0, .top_repeats = 2});
  EXPECT_THROW(nn::Transformer({.channels = 6, .heads = 4, .layers = 1}, random), OptionError);
  nn::Transformer net(small({.layers = 1}), random);
  const Tensor x = random_tensor({3, 5, 6}, 1).to(DType::f32);
  net.options.top_repeats = 0;
  EXPECT_THROW(net(x), OptionError);
  net.options = small({.layers = 2});  // of which it has one
  EXPECT_THROW(net(x), OptionError);
}

}  // namespace
}  // namespace stillpoint::test
