#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/sampling.h"

namespace stillpoint::bench {
namespace {

// Multiples of 1/8, whose scores no backend rounds: all pick the same keys, and can be compared.
Tensor eighths(const Shape& shape, uint64_t seed) {
  std::vector<double> v = random(shape, seed).to_vector<double>();
  for (double& x : v) x = std::round(8 * x) / 8;
  return Tensor::from(v, shape);
}

template <class Law>
Tensor log_prob(std::span<const Tensor> x, Law law) {
  Philox draws(1);
  if constexpr (std::is_same_v<Law, TopScores>)
    return sample(x[0], x[1], law).log_prob;
  else
    return sample(x[0], x[1], law, draws).log_prob;
}

template <class Law>
bool add_case(const char* law_name, int64_t batch, int64_t tokens, Law law) {
  constexpr int64_t kWidth = 64;  // scores are products / 8
  return add(fmt::format("attention_topk_sample/{}/{}x{}/{}", law_name, batch, tokens, law.count),
             [=](Device) {
               const Shape shape{batch, tokens, kWidth};
               const auto pairs = static_cast<double>(batch * tokens * tokens);
               const double passes = std::is_same_v<Law, WithReplacement> ? 3 : 1;
               const double results = 12.0 * static_cast<double>(batch * tokens * law.count);
               const double inputs = 8.0 * static_cast<double>(numel(shape));
               return Problem{
                   .inputs = {eighths(shape, 1), eighths(shape, 2)},
                   .op = [=](std::span<const Tensor> x) { return log_prob(x, law); },
                   .forward = {.bytes = inputs + results, .flops = 2 * passes * pairs * kWidth},
                   .backward = {.bytes = 2 * inputs + results, .flops = 6 * pairs * kWidth},
                   .terms = static_cast<double>(tokens)};
             });
}

// The cells of 16 Sudokus, each with 20 neighbours, and a long sequence.
const bool kAdded = add_case("plackett_luce", 16, 81, PlackettLuce{20}) &&
                    add_case("plackett_luce", 1, 4096, PlackettLuce{20}) &&
                    add_case("with_replacement", 1, 4096, WithReplacement{20}) &&
                    add_case("top", 1, 4096, TopScores{20});

}  // namespace
}  // namespace stillpoint::bench
