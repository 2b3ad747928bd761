// What our programs of bench/compare.py share: a problem read from a folder, timed on request. The
// protocol, on stdin and stdout, is described in bench/compare.py and its peers.
#pragma once

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "engine/cuda/runtime.h"
#include "engine/tensor.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"

namespace stillpoint::peers {

// Where both sides compute: bench/compare.py --device.
inline Device device() {
  const char* name = std::getenv("STILLPOINT_DEVICE");
  return name != nullptr && std::strcmp(name, "cuda") == 0 ? Device::cuda : Device::cpu;
}

template <class T>
std::vector<T> read(const std::string& path, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(T)));
  check<IoError>(file.good(), "cannot read {} values from {}", count, path);
  return values;
}

inline void write(const std::string& path, const Tensor& t) {
  const Tensor host = t.to(Device::cpu);
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(host.data<float>()), host.bytes());
  check<IoError>(file.good(), "cannot write {}", path);
}

// An input of the problem, on the device.
inline Tensor tensor(const std::string& path, Shape shape) {
  const std::vector<float> values = read<float>(path, numel(shape));
  return Tensor::from(values, std::move(shape)).to(device());
}

// One form of an op: its output, and the gradients of its inputs.
class Problem {
 public:
  virtual ~Problem() = default;
  virtual Tensor forward() const = 0;
  virtual std::vector<Tensor> gradient() const = 0;
  // Names of the files that the verification reads: of the output, then of each gradient.
  virtual std::vector<std::string> outputs() const = 0;
};

inline double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// As peer.py takes it.
template <class Call>
double seconds(int calls, Call&& call) {
  if (device() == Device::cuda) {
    cuda::synchronize();
    const double begin = now(CLOCK_MONOTONIC);
    for (int k = 0; k < calls; ++k) call();
    cuda::synchronize();
    return (now(CLOCK_MONOTONIC) - begin) / calls;
  }
  std::vector<double> times;
  for (int k = 0; k < calls; ++k) {
    const double begin = now(CLOCK_PROCESS_CPUTIME_ID);
    call();
    times.push_back(now(CLOCK_PROCESS_CPUTIME_ID) - begin);
  }
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  return times[static_cast<size_t>(calls) / 2];
}

inline void write_outputs(const Problem& problem, const std::string& folder) {
  const std::vector<std::string> names = problem.outputs();
  write(folder + "/" + names[0], problem.forward());
  const std::vector<Tensor> gradients = problem.gradient();
  for (size_t k = 0; k < gradients.size(); ++k) write(folder + "/" + names[k + 1], gradients[k]);
}

// Answers every request NAME KIND CALLS on stdin with a line, until its end.
void answer_requests(auto&& answer) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name, kind;
    int calls = 0;
    words >> name >> kind >> calls;
    fmt::print("{}\n", answer(name, kind, calls));
    std::fflush(stdout);
  }
}

// main(): serves, or says what went wrong.
int serve_or_fail(auto&& serve) {
  try {
    serve();
    return EXIT_SUCCESS;
  } catch (const Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return EXIT_FAILURE;
  }
}

// Reads the folder's name, then requests until the end of stdin. `forms` names the problems in
// their order, and each is asked for by its name.
template <class... P>
void serve(const std::vector<std::string>& forms) {
  kernels::set_num_threads(1);
  std::string folder;
  std::getline(std::cin, folder);
  std::vector<std::unique_ptr<Problem>> problems;
  (problems.push_back(std::make_unique<P>(folder)), ...);
  const std::string where = device() == Device::cuda ? cuda::device_name() : kernels::active_isa();
  fmt::print("stillpoint, {}\n{}\n", where, fmt::join(forms, " "));
  std::fflush(stdout);
  answer_requests([&](const std::string& name, const std::string& kind, int calls) -> std::string {
    if (name == "verify") {
      for (const auto& problem : problems) write_outputs(*problem, folder);
      return "written";
    }
    const auto at = std::find(forms.begin(), forms.end(), name);
    check<OptionError>(at != forms.end(), "there is no form {}", name);
    const Problem& problem = *problems[static_cast<size_t>(at - forms.begin())];
    return fmt::format("{:.9f}", kind == "forward" ? seconds(calls, [&] { problem.forward(); })
                                                   : seconds(calls, [&] { problem.gradient(); }));
  });
}

// main() of an op.
template <class... P>
int run(const std::vector<std::string>& forms) {
  return serve_or_fail([&] { serve<P...>(forms); });
}

}  // namespace stillpoint::peers
