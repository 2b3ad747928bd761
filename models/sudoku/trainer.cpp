#include "models/sudoku/trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

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
  check<OptionError>(std::isfinite(o.learning_rate) && o.learning_rate > 0,
                     "train: a learning rate of {}; wanted a positive number", o.learning_rate);
  check<OptionError>(o.net.model != Model::learned_graph || o.carry.segments == 1,
                     "train: a board stays for {} segments; wanted 1 for a learned graph, which is "
                     "drawn anew in every step",
                     o.carry.segments);
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

}  // namespace

bool Changes::any() const {
  return precision || hard_share || minimal_share || segments || learning_rate;
}

const char* name(Optimiser optimiser) { return optimiser == Optimiser::muon ? "muon" : "adamw"; }

Trainer::Trainer(const TrainOptions& options, Device device)
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
      pool_(options.carry) {}

TrainReport Trainer::step(double progress) {
  TrainReport report{.carry = pool_.step(*net_)};
  check<Error>(std::isfinite(report.carry.loss), "train: the loss of step {} is {}", steps() + 1,
               report.carry.loss);
  const double warm = options_.warmup == 0
                          ? 1.0
                          : static_cast<double>(steps() + 1 - options_.first_step) /
                                static_cast<double>(options_.warmup);
  const double fall = 0.5 * (1 + std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
  report.learning_rate = options_.learning_rate * std::min(1.0, warm) * fall;
  optimiser_.set_learning_rate(report.learning_rate);
  optimiser_.step();
  report.gradient_norm = optimiser_.gradient_norm().item();
  check<Error>(std::isfinite(report.gradient_norm), "train: the gradient of step {} has norm {}",
               steps(), report.gradient_norm);
  return report;
}

}  // namespace stillpoint::sudoku
