// Our side of bench/compare.py message_sum: the op as a user calls it, allocation and tape
// included. Speaks the protocol described in bench/compare.py on stdin and stdout.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"

namespace stillpoint {
namespace {

constexpr int64_t kBoards = 64, kCells = 81, kDegree = 20, kChannels = 96;

template <class T>
std::vector<T> read(const std::string& path, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(T)));
  check<IoError>(file.good(), "cannot read {} values from {}", count, path);
  return values;
}

void write(const std::string& path, const Tensor& t) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(t.data<float>()), t.bytes());
  check<IoError>(file.good(), "cannot write {}", path);
}

struct Problem {
  Graph graph;
  Tensor a, c, g, a_leaf, c_leaf;

  explicit Problem(const std::string& folder) {
    const std::vector<int32_t> flat = read<int32_t>(folder + "/neighbours.bin", kCells * kDegree);
    std::vector<std::vector<int32_t>> rows;
    for (auto i = flat.begin(); i != flat.end(); i += kDegree) rows.emplace_back(i, i + kDegree);
    graph = Graph::from_rows(rows, kCells);
    const auto tensor = [&](const char* name) {
      return Tensor::from(read<float>(folder + name, kBoards * kCells * kChannels),
                          {kBoards, kCells, kChannels});
    };
    a = tensor("/a.bin"), c = tensor("/c.bin"), g = tensor("/g.bin");
    a_leaf = a.clone(), c_leaf = c.clone();
    a_leaf.set_requires_grad(), c_leaf.set_requires_grad();
  }
  Tensor forward() const {
    const NoGrad none;
    return ops::message_sum(a, c, graph);
  }
  std::vector<Tensor> gradient() const {
    const Tensor out = ops::message_sum(a_leaf, c_leaf, graph);
    const Tensor inputs[] = {a_leaf, c_leaf};
    return vjp({&out, 1}, inputs, {&g, 1});
  }
};

double now() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class Call>
double seconds(int calls, Call&& call) {
  std::vector<double> times;
  for (int k = 0; k < calls; ++k) {
    const double begin = now();
    call();
    times.push_back(now() - begin);
  }
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  return times[static_cast<size_t>(calls) / 2];
}

int serve() {
  kernels::set_num_threads(1);
  std::string folder, line;
  std::getline(std::cin, folder);
  const Problem problem(folder);
  fmt::print("stillpoint, {}\nmessage_sum\n", kernels::active_isa());
  std::fflush(stdout);
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string form, kind;
    int calls = 0;
    words >> form >> kind >> calls;
    if (form == "verify") {
      write(folder + "/out.bin", problem.forward());
      const std::vector<Tensor> gradients = problem.gradient();
      write(folder + "/da.bin", gradients[0]);
      write(folder + "/dc.bin", gradients[1]);
      fmt::print("written\n");
    } else {
      const double time = kind == "forward" ? seconds(calls, [&] { problem.forward(); })
                                            : seconds(calls, [&] { problem.gradient(); });
      fmt::print("{:.9f}\n", time);
    }
    std::fflush(stdout);
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace stillpoint

int main() {
  try {
    return stillpoint::serve();
  } catch (const stillpoint::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return EXIT_FAILURE;
  }
}
