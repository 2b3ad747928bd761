// Every check of the emulation finds its planted bug and names it, and correct kernels pass.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/sanitizer.h"
#include "tests/emulation/planted_device.h"

namespace {

using testing::HasSubstr;
constexpr int kSeeds = 20;

#ifdef STILLPOINT_ASAN
constexpr bool kSanitized = true;  // the sanitizers stop the program where they find a bug
#else
constexpr bool kSanitized = false;
#endif

// What the kernel is meant to compute.
std::vector<float> expected(std::string_view kernel, const std::vector<float>& x) {
  std::vector<float> y(kPlantedSize, 0.0f);
  for (int i = 0; i < kPlantedSize; ++i) {
    const int lane = i % 32, row = i / 32;
    if (kernel == "tree_sum" && i < 4) {
      y[i] = std::accumulate(x.begin() + i * 256, x.begin() + (i + 1) * 256, 0.0f);
    } else if (kernel == "atomic_sum" && i == 0) {
      y[i] = std::accumulate(x.begin(), x.end(), 0.0f);
    } else if (kernel == "transpose") {
      y[i] = x[lane * 32 + row];
    } else if (kernel == "scan" && i <= 256) {
      y[i] = std::accumulate(x.begin(), x.begin() + i, 0.0f);
    } else if (kernel == "swap_neighbours" && i < 256) {
      y[i] = x[i ^ 1];
    } else if (kernel == "wide" && i < 256) {
      y[i] = x[255 - i];
    } else if (kernel == "static_beside_dynamic" && i < 32) {
      y[i] = x[i];
    } else if (kernel == "missing_syncthreads" && i < 256) {
      y[i] = x[255 - i];
    } else if (kernel == "missing_second_syncthreads" && i < 256) {
      y[i] = x[255 - i] + x[511 - i];
    } else if (kernel == "missing_syncwarp" && i < 256) {
      y[i] = x[i ^ 1];
    } else if (kernel == "everybody_writes_one" && i < 256) {
      y[i] = x[255];
    } else if (kernel == "active_mask_as_full" && i < 256) {
      y[i] = x[i] + x[i ^ 1];
    } else if (kernel == "uninitialised_shared" && i < 256) {
      y[i] = i < 255 ? x[i + 1] : 0.0f;
    } else if (kernel == "two_halves" && i < 256) {
      const int other = i ^ 16;
      y[i] = other % 32 >= 16 ? x[other] + x[other ^ 1] : x[other] - x[other ^ 2];
    }
  }
  return y;
}

class Correct : public testing::TestWithParam<const char*> {};

TEST_P(Correct, PassesInEveryOrder) {
  PlantedDevice device;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = device.run(planted::run, GetParam(), seed);
    ASSERT_EQ(outcome.code, cudaSuccess) << outcome.message;
    ASSERT_EQ(outcome.y, expected(GetParam(), device.host_x())) << "seed " << seed;
  }
}

#ifdef STILLPOINT_WATCHED
TEST_P(Correct, PassesTheRaceCheck) {
  PlantedDevice device;
  for (int seed = 0; seed < 5; ++seed) {
    const Outcome outcome = device.run(planted_watched::run, GetParam(), seed);
    ASSERT_EQ(outcome.code, cudaSuccess) << outcome.message;
    ASSERT_EQ(outcome.y, expected(GetParam(), device.host_x())) << "seed " << seed;
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Kernels, Correct,
                         testing::Values("tree_sum", "transpose", "atomic_sum", "scan",
                                         "swap_neighbours", "two_halves", "wide",
                                         "static_beside_dynamic"),
                         [](const auto& test) { return std::string(test.param); });

// Bugs that the order of the threads brings out; in the order of their numbers some go well.
struct Hidden {
  const char* kernel;
  bool well_in_order;
};
std::ostream& operator<<(std::ostream& out, const Hidden& bug) { return out << bug.kernel; }

class WrongInSomeOrder : public testing::TestWithParam<Hidden> {};

TEST_P(WrongInSomeOrder, IsCaught) {
  PlantedDevice device;
  const auto [kernel, well_in_order] = GetParam();
  const std::vector<float> wanted = expected(kernel, device.host_x());
  EXPECT_EQ(device.run(planted::run, kernel, 0, false).y == wanted, well_in_order);
  int wrong = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = device.run(planted::run, kernel, seed);
    ASSERT_EQ(outcome.code, cudaSuccess) << outcome.message;
    wrong += outcome.y != wanted;
  }
  EXPECT_GE(wrong, kSeeds - 2);
}

INSTANTIATE_TEST_SUITE_P(Kernels, WrongInSomeOrder,
                         testing::Values(Hidden{"missing_syncthreads", false},
                                         Hidden{"missing_syncwarp", false},
                                         Hidden{"missing_second_syncthreads", false},
                                         Hidden{"everybody_writes_one", true},
                                         Hidden{"active_mask_as_full", false},
                                         Hidden{"uninitialised_shared", false}),
                         [](const auto& test) { return std::string(test.param.kernel); });

class Caught : public testing::TestWithParam<Named> {};

TEST_P(Caught, ByName) {
  const Named& bug = GetParam();
  PlantedDevice device;
  if (kSanitized && bug.sanitizer != nullptr) {
    EXPECT_DEATH(device.run(planted::run, bug.kernel, 1), bug.sanitizer);
    return;
  }
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Outcome outcome = device.run(planted::run, bug.kernel, seed);
    ASSERT_EQ(outcome.code, bug.code) << outcome.message;
    ASSERT_THAT(outcome.message, testing::ContainsRegex("^(" + std::string(bug.check) +
                                                        ") in kernel " + bug.kernel));
    ASSERT_THAT(outcome.message, HasSubstr(bug.detail));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, Caught,
    testing::Values(
        Named{"barrier_in_one_branch", cudaErrorLaunchFailure, "divergent barrier",
              "wait at planted.cu:"},
        Named{"return_before_barrier", cudaErrorLaunchFailure, "divergent barrier",
              "exited without reaching it"},
        Named{"two_barriers", cudaErrorLaunchFailure, "divergent barrier", "waits at planted.cu:"},
        Named{"block_sum_in_two_branches", cudaErrorLaunchFailure,
              "wrong warp mask|divergent barrier", ", called from planted.cu:"},
        Named{"warp_sum_in_two_branches", cudaErrorLaunchFailure, "wrong warp mask",
              ", called from planted.cu:"},
        Named{"barrier_against_shuffle", cudaErrorLaunchFailure, "divergent threads",
              "wait in __shfl_xor_sync (mask 0xffffffff) at planted.cu:"},
        Named{"full_mask_in_half_a_warp", cudaErrorLaunchFailure, "wrong warp mask", "exited"},
        Named{"mask_leaves_itself_out", cudaErrorLaunchFailure, "wrong warp mask",
              "mask 0x0000ffff, which leaves itself out"},
        Named{"two_shuffles_for_one_mask", cudaErrorLaunchFailure, "wrong warp mask",
              "with the same mask"},
        Named{"width_of_three", cudaErrorLaunchFailure, "wrong warp mask", "width 3"},
        Named{"traps", cudaErrorLaunchFailure, "trap", "at planted.cu:"},
        Named{"shared_index_past_end", cudaErrorIllegalAddress, "index out of bounds",
              "index 256 of 'float [256]'", "index 256 out of bounds"},
        Named{"dynamic_shared_past_end", cudaErrorLaunchFailure, "shared memory out of bounds",
              "past the end of dynamic shared memory (1024 bytes)", "use-after-poison"},
        Named{"shared_before_start", cudaErrorLaunchFailure, "shared memory out of bounds",
              "written 8 bytes before the start of second (128 bytes)", "use-after-poison"},
        Named{"dynamic_shared_before_start", cudaErrorLaunchFailure, "shared memory out of bounds",
              "written 32 bytes before the start of dynamic shared memory", "use-after-poison"},
        Named{"static_beside_too_much", cudaErrorLaunchFailure, "shared memory",
              "40000 bytes of static arrays with buffer beside 9153 dynamic ones"},
        Named{"static_beside_far_too_much", cudaErrorLaunchFailure, "shared memory",
              "beside 200000 dynamic ones, the limit is 232448"},
        Named{"write_past_end", cudaErrorIllegalAddress, "device memory out of bounds",
              "written 0 bytes past the end of device allocation", "use-after-poison"},
        Named{"write_before_start", cudaErrorIllegalAddress, "device memory out of bounds",
              "written 4 bytes before the start of device allocation", "use-after-poison"},
        Named{"write_through_null", cudaErrorIllegalAddress, "illegal address",
              "outside device memory"},
        Named{"misaligned_vector", cudaErrorMisalignedAddress, "misaligned address",
              "wants 16 bytes alignment", "misaligned address"},
        Named{"misaligned_shared_vector", cudaErrorMisalignedAddress, "misaligned address",
              "wants 16 bytes alignment", "misaligned address"},
        Named{"endless_stack", cudaErrorIllegalAddress, "stack overflow", "thread (0,0,0)"}),
    [](const auto& test) { return std::string(test.param.kernel); });

TEST(WithIndex, TakesTheNarrowestThatCounts) {
  EXPECT_EQ(planted::index_bytes(0), 4u);
  EXPECT_EQ(planted::index_bytes(INT64_C(0xffffffff)), 4u);
  EXPECT_EQ(planted::index_bytes(INT64_C(0x100000000)), 8u);
}

TEST(PlantedKernel, ThatUsesFreedMemoryIsCaught) {
  PlantedDevice device;
  float* freed = nullptr;
  ASSERT_EQ(cudaMalloc(&freed, 1024), cudaSuccess);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  const auto use = [&] {
    ASSERT_TRUE(planted::run("copies", device.x(), freed, device.stream()).ok());
    ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaErrorIllegalAddress);
  };
  if (kSanitized) {
    EXPECT_DEATH(use(), "use-after-poison");
    return;
  }
  use();
  EXPECT_THAT(stillpoint::emulation::last_error_message(),
              HasSubstr("use after free in kernel copies"));
  EXPECT_THAT(stillpoint::emulation::last_error_message(), HasSubstr("of freed device allocation"));
}

TEST(PlantedKernel, ThatReadsPastTheEndSeesNaN) {
  PlantedDevice device;
  if (kSanitized) {
    EXPECT_DEATH(device.run(planted::run, "read_past_end", 1), "use-after-poison");
  } else {
    const Outcome outcome = device.run(planted::run, "read_past_end", 1);
    EXPECT_NE(outcome.y[0], outcome.y[0]);
  }
}

}  // namespace
