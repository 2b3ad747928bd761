// The benchmark program: says what it runs on, prints one row per case.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "bench/support/clock.h"
#include "engine/build_info.h"
#include "engine/cuda/runtime.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"

namespace stillpoint::bench {
namespace {

#if defined(NDEBUG)
constexpr bool kOptimised = true;
#else
constexpr bool kOptimised = false;
#endif

std::string load_average() {
  double load[3] = {};
  if (getloadavg(load, 3) != 3) return "unknown";
  return fmt::format("{:.2f} {:.2f} {:.2f}", load[0], load[1], load[2]);
}

using Facts = std::vector<std::pair<std::string, std::string>>;

Facts machine() {
  return {{"processor", processor_name()},
          {"instruction set", kernels::active_isa()},
          {"threads", std::to_string(kernels::num_threads())},
          {"load average", load_average()},
          {"compiler", __VERSION__},
          {"cuda", timeable(Device::cuda) ? cuda::device_name() : "not timed"}};
}

// One row per case: the median over the repetitions and their spread (deviation / mean).
class Table : public benchmark::BenchmarkReporter {
 public:
  explicit Table(Facts facts) : facts_(std::move(facts)) {}

  bool ReportContext(const Context&) override {
    for (const auto& [key, value] : facts_)
      GetOutputStream() << fmt::format("{:16} {}\n", key, value);
    GetOutputStream() << fmt::format("\n{:64}{:>12}{:>10}{:>10}{:>9}\n", "case", "us/call", "GB/s",
                                     "GFLOP/s", "spread");
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    const Run* median = nullptr;
    double spread = 0;
    for (const Run& run : runs) {
      if (run.error_occurred) {
        GetOutputStream() << fmt::format("{:64}  WRONG: {}\n", run.benchmark_name(),
                                         run.error_message);
        failed_ = true;
        return;
      }
      const bool alone = run.run_type == Run::RT_Iteration && run.repetitions <= 1;
      if (alone || run.aggregate_name == "median") median = &run;
      if (run.aggregate_name == "cv") spread = run.real_accumulated_time;
    }
    if (median == nullptr) return;
    const auto rate = [&](const char* counter) {
      const auto found = median->counters.find(counter);
      return found == median->counters.end() ? 0.0 : 1e-9 * found->second.value;
    };
    GetOutputStream() << fmt::format("{:64}{:12.2f}{:10.2f}{:10.2f}{:8.1f}%\n", case_name(*median),
                                     median->GetAdjustedRealTime(), rate("B/s"), rate("FLOP/s"),
                                     100 * spread)
                      << std::flush;
  }

  bool failed() const { return failed_; }

 private:
  // The name without Google Benchmark's suffixes (/iterations:24/manual_time_median).
  static std::string case_name(const Run& run) { return run.run_name.function_name; }

  Facts facts_;
  bool failed_ = false;
};

int run(int argc, char** argv) {
  if (!kOptimised) {
    std::fputs("stillpoint_bench: built without optimisation; use the release preset\n", stderr);
    return EXIT_FAILURE;
  }
  // Defaults first: what the user gives comes later and wins.
  std::vector<std::string> words = {argv[0], "--benchmark_repetitions=5",
                                    "--benchmark_min_time=0.02",
                                    "--benchmark_display_aggregates_only=true"};
  words.insert(words.end(), argv + 1, argv + argc);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return EXIT_FAILURE;
  const Facts facts = machine();
  for (const auto& [key, value] : facts) benchmark::AddCustomContext(key, value);  // for JSON
  Table table(facts);
  const size_t ran = benchmark::RunSpecifiedBenchmarks(&table);
  benchmark::Shutdown();
  return ran > 0 && !table.failed() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace stillpoint::bench

int main(int argc, char** argv) { return stillpoint::bench::run(argc, argv); }
