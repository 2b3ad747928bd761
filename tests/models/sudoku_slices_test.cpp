#include "models/sudoku/slices.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/common/parallel.h"
#include "models/sudoku/carry.h"

namespace stillpoint::sudoku {
namespace {

class OnThreads : public testing::TestWithParam<int> {
 protected:
  OnThreads() { kernels::set_num_threads(GetParam()); }
  ~OnThreads() override { kernels::set_num_threads(0); }
};
INSTANTIATE_TEST_SUITE_P(Counted, OnThreads, testing::Values(1, 2, 5));

using Slices = std::vector<std::pair<int64_t, int64_t>>;

TEST_P(OnThreads, WhatIsReturnedIsCalledInOrder) {
  Slices called;
  for_slices(23, 2, Device::cpu, [&](int64_t begin, int64_t size) {
    return [&called, begin, size] { called.emplace_back(begin, size); };
  });
  Slices wanted;
  for (int64_t begin = 0; begin < 23; begin += 2) wanted.emplace_back(begin, begin == 22 ? 1 : 2);
  EXPECT_EQ(called, wanted);
  for_slices(0, 2, Device::cpu, [](int64_t, int64_t) -> AfterSlice {
    ADD_FAILURE() << "there are no boards";
    return [] {};
  });
}

TEST_P(OnThreads, NothingIsCalledBehindTheFirstException) {
  for (const bool at_once : {true, false}) {  // thrown by the slice, or by what it returned
    Slices called;
    std::atomic<int> learned{0};
    try {
      for_slices(40, 1, Device::cpu, [&](int64_t begin, int64_t size) -> AfterSlice {
        ++learned;
        if (at_once && (begin == 7 || begin == 9)) throw std::runtime_error(std::to_string(begin));
        return [&called, begin, size] {
          if (begin == 7 || begin == 9) throw std::runtime_error(std::to_string(begin));
          called.emplace_back(begin, size);
        };
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "7");
    }
    EXPECT_EQ(called.size(), 7U);
    EXPECT_GE(learned, 8);
    if (GetParam() == 1) {
      EXPECT_EQ(learned, 8);
    }
  }
}

// The first slice is learned last, and still comes first.
TEST(Slices, GoSideBySide) {
  kernels::set_num_threads(2);
  std::atomic<int> learned{0};
  std::vector<int64_t> called;
  for_slices(4, 1, Device::cpu, [&](int64_t begin, int64_t) {
    EXPECT_EQ(kernels::num_threads(), 1);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (begin == 0 && learned < 3 && std::chrono::steady_clock::now() < end)
      std::this_thread::yield();
    if (begin == 0) {
      EXPECT_EQ(learned, 3);
    }
    ++learned;
    return [&called, begin] { called.push_back(begin); };
  });
  EXPECT_EQ(called, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(kernels::num_threads(), 2);

  // Two slices of four boards would leave a third thread without work: they take turns.
  kernels::set_num_threads(3);
  for_slices(8, 4, Device::cpu, [](int64_t, int64_t) -> AfterSlice {
    EXPECT_EQ(kernels::num_threads(), 3);
    return [] {};
  });
  kernels::set_num_threads(0);
}

TEST(CarryPoolOfSlices, SaysWhenAGradientWasAdded) {
  std::vector<std::vector<float>> wanted;
  for (const int threads : {1, 3}) {
    kernels::set_num_threads(threads);
    Philox random(1);
    const auto net = make_network({.geometry = {2}, .channels = 8}, random);
    CarryPool pool({.puzzles = {.geometry = {2}}, .boards = 7, .slice = 2});
    const Tensor weight = net->parameters().at("update.weight");
    std::vector<std::vector<float>> sums;
    pool.step(*net, [&] { sums.push_back(weight.grad().to_vector<float>()); });
    ASSERT_EQ(sums.size(), 4U);
    for (size_t k = 1; k < sums.size(); ++k) EXPECT_NE(sums[k], sums[k - 1]);
    EXPECT_EQ(sums.back(), weight.grad().to_vector<float>());
    if (threads == 1) wanted = sums;
    EXPECT_EQ(sums, wanted);
  }
  kernels::set_num_threads(0);
}

// Gradients and states of two steps of every network in every regime that it has.
TEST(CarryPoolOfSlices, IsTheSameBitsForAnyNumberOfThreads) {
  struct Case {
    Model model;
    Regime regime;
  };
  for (const auto& [model, regime] : {Case{Model::symbol, Regime::unroll},
                                      {Model::symbol, Regime::equilibrium},
                                      {Model::refine, Regime::carry},
                                      {Model::refine, Regime::equilibrium},
                                      {Model::learned_graph, Regime::unroll}}) {
    std::vector<std::vector<float>> wanted;
    for (const int threads : {1, 2, 3}) {
      kernels::set_num_threads(threads);
      Philox random(1);
      auto net = make_network({.model = model, .geometry = {2}, .channels = 8}, random);
      CarryOptions options = carry_options(regime);
      options.puzzles.geometry = {2};
      options.boards = 10;
      options.slice = 3;
      options.window = 3;
      CarryPool pool(options);
      for (int k = 0; k < 2; ++k) pool.step(*net);
      std::vector<std::vector<float>> found{pool.state().states.to_vector<float>()};
      for (const auto& [name, p] : net->parameters())
        if (p.grad()) found.push_back(p.grad().to_vector<float>());
      EXPECT_GT(found.size(), 5U);
      if (threads == 1) wanted = found;
      EXPECT_EQ(found, wanted) << name(model) << ", " << name(regime) << ", " << threads;
    }
  }
  kernels::set_num_threads(0);
}

}  // namespace
}  // namespace stillpoint::sudoku
