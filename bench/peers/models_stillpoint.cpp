// Our side of bench/compare.py with models: training and inference as tools/sudoku runs them, on a
// fixed batch of generated boards. Speaks the protocol of bench/compare.py on stdin and stdout:
//   DIR MODEL TASK CHANNELS BOARDS STEPS  makes the model and the boards, writes both to
//                                         DIR/problem.safetensors; answers with a title and a form
//   verify DIR       writes what is compared to DIR/result.safetensors
//   FORM TASK CALLS  the median seconds of some calls
//   memory FORM      the MiB that the process has at the peak of a step more than before the model;
//                    on a GPU, the MiB that the engine has there more than before the step
//   floor            the seconds of models_floor.h, those with products at oneDNN's rate, and what
//                    they are made of
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "bench/peers/models_floor.h"
#include "bench/peers/peer.h"
#include "bench/support/clock.h"
#include "engine/autograd.h"
#include "engine/build_info.h"
#include "engine/cuda/runtime.h"
#include "engine/io/safetensors.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optim/adamw.h"
#include "kernels/common/simd.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/slices.h"

namespace stillpoint::bench {
namespace {

using sudoku::Board;

constexpr uint64_t kSeed = 1;

// A figure of /proc/self/status in MiB: VmRSS is held now, VmHWM was held at the peak.
double process_memory(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  throw IoError("/proc/self/status has no line " + key);
}

// A network, its optimiser and a batch of boards.
class Contender {
 public:
  explicit Contender(const Task& task)
      : task_(task),
        net_(make(task)),
        optimiser_(net_->parameters(), {.learning_rate = 1e-3, .weight_decay = 1e-2}) {
    for (const auto& p : sudoku::generate({.seed = kSeed, .minimal_share = 0.7}, 0, task.boards)) {
      givens_.push_back(p.givens);
      solutions_.push_back(p.solution);
    }
  }

  // What the other side starts from.
  io::NamedTensors problem() const {
    io::NamedTensors all = net_->parameters();
    all["givens"] = sudoku::digits(givens_);
    all["digits"] = sudoku::digits(solutions_);
    return all;
  }

  void call() {
    if (task_.train) {
      train();
    } else {
      infer();
    }
  }

  io::NamedTensors result() {
    io::NamedTensors found;
    if (!task_.train) {
      std::vector<float> all;
      for (const Tensor& part : infer()) {
        const std::vector<float> values = part.to_vector<float>();
        all.insert(all.end(), values.begin(), values.end());
      }
      found["logits"] = Tensor::from(all, {static_cast<int64_t>(all.size())});
      return found;
    }
    const auto scalar = [](double x) { return Tensor::full({}, x); };
    found["loss"] = scalar(gradients());
    double squares = 0;
    for (const auto& [name, t] : net_->parameters()) {
      found["gradient." + name] = t.grad().clone();
      for (const float g : t.grad().to_vector<float>()) squares += double{g} * g;
    }
    found["norm"] = scalar(std::sqrt(squares));
    optimiser_.step();
    found["next_loss"] = scalar(train());
    return found;
  }

 private:
  static std::unique_ptr<sudoku::Network> make(const Task& task) {
    Philox random(kSeed);
    auto net = sudoku::make_network({.model = task.model, .channels = task.channels}, random);
    net->move_to(task.device);
    return net;
  }

  // The mean loss of all refinements and its gradients, as CarryPool forms them for fresh boards.
  double gradients() {
    double total = 0;
    sudoku::for_slices(task_.boards, task_.slice(), task_.device, [&](int64_t begin, int64_t size) {
      const Slice slice = part(begin, size);
      const Tensor states =
          net_->trajectory(net_->start(size), net_->encode(slice.givens), task_.steps);
      const std::vector<int32_t> once = sudoku::digits(slice.solutions).to_vector<int32_t>();
      std::vector<int32_t> wanted;
      for (int64_t t = 0; t < task_.steps; ++t)
        wanted.insert(wanted.end(), once.begin(), once.end());
      const Tensor logits = net_->logits(states);
      const Tensor targets =
          Tensor::from(wanted, {task_.steps, size, logits.dim(-2)}).to(task_.device);
      const double share = static_cast<double>(size) / static_cast<double>(task_.boards);
      const Tensor loss = ops::affine(ops::cross_entropy(logits, targets), share);
      return [&total, of_slice = loss.item(), gradients = leaf_gradients(loss)] {
        add_gradients(gradients);
        total += of_slice;
      };
    });
    return total;
  }
  double train() {
    const double loss = gradients();
    optimiser_.step();
    return loss;
  }
  std::vector<Tensor> infer() const {
    const NoGrad none;
    std::vector<Tensor> logits;
    for (int64_t begin = 0; begin < task_.boards; begin += task_.slice()) {
      const int64_t size = std::min(task_.slice(), task_.boards - begin);
      const Tensor puzzles = net_->encode(part(begin, size).givens);
      logits.push_back(net_->logits(net_->refine(net_->start(size), puzzles, task_.steps)));
    }
    return logits;
  }
  struct Slice {
    std::span<const Board> givens, solutions;
  };
  Slice part(int64_t begin, int64_t size) const {
    const auto cut = [&](const std::vector<Board>& all) {
      return std::span(all).subspan(static_cast<size_t>(begin), static_cast<size_t>(size));
    };
    return {cut(givens_), cut(solutions_)};
  }

  Task task_;
  std::unique_ptr<sudoku::Network> net_;
  optim::AdamW optimiser_;
  std::vector<Board> givens_, solutions_;
};

double median_seconds(Contender& contender, Device device, int calls) {
  std::vector<double> times;
  for (int k = 0; k < calls; ++k) times.push_back(seconds(device, 1, [&] { contender.call(); }));
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  return times[static_cast<size_t>(calls) / 2];
}

// The floor, the same with products at the library's rate, and what they are made of.
std::string describe(const Floor& f) {
  const double at_library = f.flops / f.library_rate + f.streams();
  return fmt::format(
      "{:.6f} {:.6f} products {:.1f} GFLOP (multiply-adds {:.0f} GFLOP/s, oneDNN {:.0f}), streams "
      "{:.1f} GB ({:.0f} GB/s)",
      f.seconds(), at_library, 1e-9 * f.flops, 1e-9 * f.multiply_add_rate, 1e-9 * f.library_rate,
      1e-9 * f.bytes, 1e-9 * f.stream_rate);
}

std::string versions(Device device) {
  if (device == Device::cuda)
    return fmt::format("{}, stillpoint, g++ {}", cuda::device_name(), __VERSION__);
  std::string text = fmt::format("{}, {}, stillpoint", processor_name(), kernels::active_isa());
  for (const LibraryVersion& library : build_info().libraries)
    if (library.name == "onednn") text += fmt::format(", oneDNN {}", library.version);
  return text + fmt::format(", g++ {}", __VERSION__);
}

void serve() {
  const double before = process_memory("VmRSS");
  std::string line, folder, model, what;
  std::getline(std::cin, line);
  std::istringstream first(line);
  Task task{};
  first >> folder >> model >> what >> task.channels >> task.boards >> task.steps;
  task.model = model == "refine" ? sudoku::Model::refine : sudoku::Model::symbol;
  task.train = what == "train";
  task.device = peers::device();
  Contender contender(task);
  io::save_safetensors(folder + "/problem.safetensors", contender.problem());
  fmt::print("{}\nstillpoint\n", versions(task.device));
  std::fflush(stdout);
  peers::answer_requests([&](const std::string& form, const std::string&, int calls) {
    if (form == "verify") {
      io::save_safetensors(folder + "/result.safetensors", contender.result());
      return std::string("written");
    }
    if (form == "memory") {
      reset_peak_memory(task.device);
      const int64_t live = memory_stats(task.device).live;
      contender.call();
      const double arena = static_cast<double>(memory_stats(task.device).peak - live) / (1 << 20);
      return fmt::format("{}",
                         task.device == Device::cuda ? arena : process_memory("VmHWM") - before);
    }
    if (form == "floor") return describe(measure_floor(task));
    return fmt::format("{:.9f}", median_seconds(contender, task.device, calls));
  });
}

}  // namespace
}  // namespace stillpoint::bench

int main() { return stillpoint::peers::serve_or_fail(stillpoint::bench::serve); }
