// ThreadSanitizer's run of the tests means something only if it sees the threads of OpenMP: here is
// a race, and it must be reported. Built under ThreadSanitizer only.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/common/parallel.h"

namespace stillpoint::kernels {
namespace {

constexpr int kReported = 66;  // ThreadSanitizer's exit status

TEST(RaceDeathTest, ThreadSanitizerSeesTheThreadsOfParallelFor) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        set_num_threads(4);
        int64_t sum = 0;
        for (int repeat = 0; repeat < 20; ++repeat)
          parallel_for(64, 1, [&](int64_t begin, int64_t end) {
            for (volatile int64_t i = 0; i < 20000; i = i + 1) {
            }
            sum += end - begin;  // the race
          });
        std::exit(sum == 0 ? 1 : 0);
      },
      testing::ExitedWithCode(kReported), "data race");
}

}  // namespace
}  // namespace stillpoint::kernels
