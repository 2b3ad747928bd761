#include "models/sudoku/restarts.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/ops.h"
#include "engine/random.h"

namespace stillpoint::sudoku {
namespace {

constexpr int kTryBits = 20;
constexpr int64_t kMostPuzzles = int64_t{1} << 41;
// Streams of their own: those of the puzzles are numbered from 0 and from 2^63.
constexpr uint64_t kFirstStream = uint64_t{1} << 62;

}  // namespace

void check_options(const RestartOptions& options) {
  check<OptionError>(options.tries >= 1 && options.tries <= 1 << kTryBits,
                     "restarts: {} tries; wanted 1 to {}", options.tries, 1 << kTryBits);
  check<OptionError>(options.deviation >= 0 && std::isfinite(options.deviation),
                     "restarts: deviation {}; wanted 0 or more", options.deviation);
}

Tensor start_try(const Network& net, std::span<const int64_t> puzzles, int attempt,
                 const RestartOptions& options) {
  check_options(options);
  check<OptionError>(attempt >= 0 && attempt < options.tries, "restarts: try {}; wanted 0 to {}",
                     attempt, options.tries - 1);
  Tensor start = net.start(static_cast<int64_t>(puzzles.size()));
  if (attempt == 0 || puzzles.empty()) return start;
  Tensor noise = Tensor::empty(start.shape());
  float* to = noise.mutable_data<float>();
  for (const int64_t puzzle : puzzles) {
    check<OptionError>(puzzle >= 0 && puzzle < kMostPuzzles,
                       "restarts: puzzle number {}; wanted 0 to {}", puzzle, kMostPuzzles - 1);
    const auto number = static_cast<uint64_t>(puzzle) << kTryBits | static_cast<uint64_t>(attempt);
    Philox random(options.seed, kFirstStream + number);
    const Tensor one = ops::normal({start.dim(1), start.dim(2)}, random, 0, options.deviation);
    to = std::copy_n(one.data<float>(), one.numel(), to);
  }
  return ops::add(start, noise.to(start.device()));
}

Tensor keep_boards(const Tensor& states, const std::vector<int32_t>& places) {
  const auto count = static_cast<int64_t>(places.size());
  check<OptionError>(count >= 1, "keep_boards: no board; wanted 1 or more");
  Shape shape = states.shape();
  const Tensor flat = ops::reshape(states, {shape[0], shape[1] * shape[2]});
  shape[0] = count;
  const Tensor indices = Tensor::from(places, {count}).to(states.device());
  return ops::reshape(ops::embedding(flat, indices), shape);
}

}  // namespace stillpoint::sudoku
