#include "models/sudoku/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/implicit/stability.h"

namespace stillpoint::sudoku {
namespace {

TrainOptions checked(TrainOptions o) {
  check<OptionError>(o.carry.puzzles.geometry == o.net.geometry,
                     "train: puzzles of box size {} for a network of box size {}",
                     o.carry.puzzles.geometry.box, o.net.geometry.box);
  check<OptionError>(
      o.net.precision == Precision::f32 || (o.net.model == Model::symbol && !o.carry.equilibrium),
      "train: products in {}; wanted f32 but for SymbolNet trained by windows",
      name(o.net.precision));
  check<OptionError>(o.warmup >= 0, "train: a warm-up of {} steps; wanted 0 or more", o.warmup);
  check<OptionError>(o.warm_from >= 0, "train: a warm-up from step {} on; wanted 0 or more",
                     o.warm_from);
  check<OptionError>(std::isfinite(o.learning_rate) && o.learning_rate > 0,
                     "train: a learning rate of {}; wanted a positive number", o.learning_rate);
  check<OptionError>(o.net.model != Model::learned_graph || o.carry.segments == 1,
                     "train: a board stays for {} segments; wanted 1 for a learned graph, which is "
                     "drawn anew in every step",
                     o.carry.segments);
  check<OptionError>(o.net.model != Model::learned_graph || o.carry.window >= 2,
                     "train: a window of {}; wanted 2 or more for a learned graph, whose first "
                     "refinement depends on no draw",
                     o.carry.window);
  return o;
}

std::unique_ptr<Network> make_net(const TrainOptions& o, Device device) {
  // Puzzles take the streams from 0 of their seed, which may be the same.
  constexpr uint64_t kWeightStream = ~uint64_t{1};
  Philox random(o.seed, kWeightStream);
  auto net = make_network(o.net, random);
  net->move_to(device);
  return net;
}

// Those that Muon takes: weights of all layers but the read-out; tables of embeddings are none.
std::vector<std::string> hidden_matrices(const NamedTensors& parameters) {
  std::vector<std::string> names;
  for (const auto& [name, p] : parameters)
    if (name.ends_with(".weight") && p.rank() == 2 && !name.starts_with("readout."))
      names.push_back(name);
  return names;
}

// The gradients of the slices, told apart as they are added up.
class SliceGradients {
 public:
  explicit SliceGradients(const NamedTensors& parameters) {
    for (const auto& [name, p] : parameters)
      if (!name.starts_with("refiner.")) parameters_.push_back(p);
  }

  void add() {
    std::vector<float> sum;
    for (const Tensor& p : parameters_) {
      if (!p.grad().defined()) continue;
      const std::vector<float> g = p.grad().to_vector<float>();
      sum.insert(sum.end(), g.begin(), g.end());
    }
    sum_.resize(sum.size());
    for (size_t e = 0; e < sum.size(); ++e) {
      const double of_slice = static_cast<double>(sum[e]) - static_cast<double>(sum_[e]);
      squares_ += of_slice * of_slice;
    }
    sum_ = std::move(sum);
    ++slices_;
  }

  // A slice adds its share 1 / n of the gradient, so that n times that is an estimate of its own.
  DrawsGradient spread() const {
    const auto n = static_cast<double>(slices_);
    double length = 0;  // squared, of the mean of the estimates
    for (const float s : sum_) length += static_cast<double>(s) * static_cast<double>(s);
    const double variance = n * (n * squares_ - length) / (n - 1);
    const double signal = std::max(0.0, length - variance / n);
    return {variance, variance > 0 ? std::sqrt(signal / variance) : 0};
  }

 private:
  std::vector<Tensor> parameters_;
  std::vector<float> sum_;
  double squares_ = 0;
  int64_t slices_ = 0;
};

}  // namespace

const char* name(Optimiser optimiser) { return optimiser == Optimiser::muon ? "muon" : "adamw"; }

Trainer::Trainer(const TrainOptions& options, Device device)
    : Trainer(options, device, std::nullopt) {}

Trainer::Trainer(const TrainOptions& options, Device device, std::optional<CarryPool::State> pool)
    : options_(checked(options)),
      net_(make_net(options, device)),
      optimiser_(net_->parameters(),
                 options.optimiser == Optimiser::muon ? hidden_matrices(net_->parameters())
                                                      : std::vector<std::string>(),
                 {.learning_rate = options.learning_rate,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .weight_decay = options.weight_decay,
                  .clip_norm = options.clip_norm,
                  .average_decay = options.average_decay}),
      pool_(pool ? CarryPool(options.carry, std::move(*pool), *net_) : CarryPool(options.carry)) {
  const auto& e = options.carry.equilibrium;
  if (!e || e->radius_limit == 0) return;
  GuardOptions guard{.limit = e->radius_limit, .tolerance = e->tolerance};
  guard.least = std::max(guard.least, e->jacobian_penalty);
  guard.most = std::max(guard.most, guard.least);
  guard_.emplace(guard);
  pool_.set_jacobian_penalty(guard_->weight());
}

// Looks at the first puzzles of the run. Their radii cost about what 20 refinements of them do.
void Trainer::watch() {
  constexpr int64_t kBoards = 4;
  std::vector<Board> givens;
  for (const auto& made : generate(options_.carry.puzzles, 0, kBoards))
    givens.push_back(made.givens);
  Stability mean;
  for (const Stability& board : stability(*net_, givens, *options_.carry.equilibrium)) {
    mean.radius += board.radius / kBoards;
    mean.residual += board.residual / kBoards;
  }
  pool_.set_jacobian_penalty(guard_->observe(mean.radius, mean.residual));
}

// Spectral normalisation of the weights themselves, after each step, and of their averages, which
// have seen weights before the clip. The power iteration begins anew, so that a resumed run needs
// to know nothing of it.
void Trainer::clip_matrices() const {
  const NoGrad no_grad;
  const NamedTensors all = net_->parameters();
  const NamedTensors averages = optimiser_.averages();
  for (const std::string& name : hidden_matrices(all)) {
    for (Tensor weight : {all.at(name), averages.at(name)}) {
      implicit::SpectralClip clip(
          {.clip = options_.carry.equilibrium->spectral_clip, .iterations = 10});
      weight.assign(clip(weight));
    }
  }
}

TrainReport Trainer::step(double progress, MeasureDraws measure) {
  constexpr int64_t kWatchEvery = 10;
  if (guard_ && steps() % kWatchEvery == 0) watch();
  TrainReport report;
  const int64_t boards = options_.carry.boards, slice = options_.carry.slice;
  if (measure == MeasureDraws::yes && options_.net.model == Model::learned_graph &&
      boards > slice && boards % slice == 0) {
    SliceGradients slices(net_->parameters());
    report.carry = pool_.step(*net_, [&] { slices.add(); });
    report.draws = slices.spread();
  } else {
    report.carry = pool_.step(*net_);
  }
  if (guard_) report.guard = guard_->state();
  check<Error>(std::isfinite(report.carry.loss), "train: the loss of step {} is {}", steps() + 1,
               report.carry.loss);
  const double warm = options_.warmup == 0 ? 1.0
                                           : static_cast<double>(steps() + 1 - options_.warm_from) /
                                                 static_cast<double>(options_.warmup);
  const double fall = 0.5 * (1 + std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
  report.learning_rate = options_.learning_rate * std::min(1.0, warm) * fall;
  optimiser_.set_learning_rate(report.learning_rate);
  optimiser_.step();
  const auto& e = options_.carry.equilibrium;
  if (e && e->spectral_clip > 0) clip_matrices();
  report.gradient_norm = optimiser_.gradient_norm().item();
  check<Error>(std::isfinite(report.gradient_norm), "train: the gradient of step {} has norm {}",
               steps(), report.gradient_norm);
  return report;
}

void Trainer::start_from(const std::filesystem::path& file, bool fresh_refiner) {
  check<OptionError>(steps() == 0, "train: weights of {} after {} steps; wanted before the first",
                     file.string(), steps());
  const auto net = load_network(file, net_->device());
  try {
    check<FormatError>(net->options.model == net_->options.model, "a network {}; wanted {}",
                       name(net->options.model), name(net_->options.model));
    const LearnedGraphOptions &from = net->options.learned, &to = net_->options.learned;
    check<FormatError>(from.layers == to.layers && from.tying == to.tying,
                       "a network of {}{} layers; wanted {}{}", from.layers,
                       from.tying == nn::Tying::tied ? " tied" : "", to.layers,
                       to.tying == nn::Tying::tied ? " tied" : "");
    NamedTensors mine = net_->parameters(), theirs = net->parameters();
    if (fresh_refiner)
      for (NamedTensors* tensors : {&mine, &theirs})
        std::erase_if(*tensors, [](const auto& t) { return t.first.starts_with("refiner."); });
    assign_all_tensors(mine, theirs);
  } catch (const Error& error) {
    throw FormatError(fmt::format("{}: {}", file.string(), error.what()));
  }
}

}  // namespace stillpoint::sudoku
