#include "models/sudoku/carry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/autograd.h"
#include "engine/dispatch.h"
#include "engine/error.h"
#include "engine/parameters.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/symbol_net.h"

namespace stillpoint::sudoku {
namespace {

SymbolNet net4() {
  Philox random(1);
  return SymbolNet({.geometry = {2}, .channels = 8}, random);
}

CarryOptions options4() {
  return {.puzzles = {.geometry = {2}, .minimal_share = 0.7}, .boards = 10, .slice = 4};
}

std::vector<float> gradients(SymbolNet& net) {
  std::vector<float> all;
  for (const auto& [name, p] : parameters(net)) {
    const auto g = p.grad().to_vector<float>();
    all.insert(all.end(), g.begin(), g.end());
  }
  return all;
}

TEST(CarryPool, AnUntrainedNetworkLosesAsMuchAsGuessing) {
  const SymbolNet net = net4();
  CarryPool pool(options4());
  EXPECT_NEAR(pool.step(net).loss, std::log(4), 0.5);
}

TEST(CarryPool, StepsAreTheSameBitsForAnyNumberOfThreads) {
  std::vector<float> wanted;
  std::vector<double> losses;
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    SymbolNet net = net4();
    CarryPool pool(options4());
    double loss = 0;
    for (int k = 0; k < 3; ++k) loss += pool.step(net).loss;
    losses.push_back(loss);
    if (threads == 1) {
      wanted = gradients(net);
    } else {
      EXPECT_EQ(gradients(net), wanted);
    }
  }
  kernels::set_num_threads(0);
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(losses[0], losses[2]);
}

TEST(CarryPool, SlicesChangeRoundingOnly) {
  SymbolNet a = net4(), b = net4();
  CarryOptions one = options4();
  one.slice = 100;
  CarryPool sliced(options4()), whole(one);
  for (int k = 0; k < 3; ++k) EXPECT_NEAR(sliced.step(a).loss, whole.step(b).loss, 1e-5);
  const auto g = gradients(a), h = gradients(b);
  for (size_t k = 0; k < g.size(); ++k) EXPECT_NEAR(g[k], h[k], 1e-5);
}

TEST(CarryPool, BoardsLeaveAtTheirAge) {
  CarryOptions options = options4();
  options.leave = 0;
  options.segments = 3;
  CarryPool pool(options);
  const SymbolNet net = net4();
  int64_t replaced = 0;
  for (int k = 0; k < 3; ++k) replaced += pool.step(net).replaced;
  EXPECT_EQ(replaced, 10);  // each board once, whatever age it started at
  EXPECT_EQ(pool.state().next_puzzle, 20);
  for (const int32_t age : pool.state().ages) EXPECT_LT(age, 3);
}

TEST(CarryPool, CarriesStatesOn) {
  CarryOptions options = options4();
  options.leave = 0;
  options.segments = 1000;
  CarryPool pool(options);
  SymbolNet net = net4();
  pool.step(net);
  const Tensor once = pool.state().states.clone();
  pool.step(net);
  const NoGrad no_grad;
  std::vector<Board> givens;
  for (const auto& made : generate(options.puzzles, 0, 10)) givens.push_back(made.givens);
  Tensor h = once;
  for (int k = 0; k < options.window; ++k) h = net.refine(h, net.encode(givens));
  const auto wanted = h.to_vector<float>(), got = pool.state().states.to_vector<float>();
  for (size_t k = 0; k < wanted.size(); ++k) EXPECT_NEAR(got[k], wanted[k], 1e-5);
}

TEST(CarryPool, GoesOnFromASavedStateAsIfNothingHadHappened) {
  const SymbolNet net = net4();
  CarryPool pool(options4());
  for (int k = 0; k < 4; ++k) pool.step(net);
  CarryPool::State saved = pool.state();
  saved.states = saved.states.clone();
  CarryPool resumed(options4(), saved, net);
  for (int k = 0; k < 6; ++k) {
    const CarryReport a = pool.step(net), b = resumed.step(net);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.replaced, b.replaced);
  }
  EXPECT_EQ(pool.state().puzzles, resumed.state().puzzles);
  EXPECT_EQ(pool.state().states.to_vector<float>(), resumed.state().states.to_vector<float>());
}

TEST(CarryPool, EveryDeviceMakesTheSameSteps) {
  SymbolNet wanted = net4();
  CarryPool pool(options4());
  const double losses[] = {pool.step(wanted).loss, pool.step(wanted).loss};
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) GTEST_SKIP() << "no CUDA device; the CPU agrees";
    SymbolNet net = net4();
    net.move_to(device);
    CarryPool there(options4());
    const int64_t on_cpu = kernel_counts().cpu;
    for (const double loss : losses) EXPECT_NEAR(there.step(net).loss, loss, 1e-5);
    if (device == Device::cuda) {
      EXPECT_EQ(kernel_counts().cpu, on_cpu);  // nothing fell back
    }
    const auto g = gradients(wanted), h = gradients(net);
    for (size_t k = 0; k < g.size(); ++k) EXPECT_NEAR(g[k], h[k], 1e-5);
    const auto a = pool.state().states.to_vector<float>();
    const auto b = there.state().states.to_vector<float>();
    for (size_t k = 0; k < a.size(); ++k) EXPECT_NEAR(a[k], b[k], 1e-4);
  }
}

TEST(CarryPool, RefusesWhatMakesNoPool) {
  for (const auto& change : std::vector<void (*)(CarryOptions&)>{
           [](CarryOptions& o) { o.boards = 0; }, [](CarryOptions& o) { o.slice = 0; },
           [](CarryOptions& o) { o.window = 0; }, [](CarryOptions& o) { o.segments = 0; },
           [](CarryOptions& o) { o.leave = 1.5; }}) {
    CarryOptions options = options4();
    change(options);
    EXPECT_THROW(CarryPool{options}, OptionError);
  }
  EXPECT_THROW(CarryPool(options4(), {}, net4()), ShapeError);
}

}  // namespace
}  // namespace stillpoint::sudoku
