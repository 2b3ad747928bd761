#include "models/sudoku/slices.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
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
INSTANTIATE_TEST_SUITE_P(Slices, OnThreads, testing::Values(1, 2, 5));

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
