// Checkpoints of networks and their training. Tensors: "model.NAME" are the weights, "optim.NAME"
// the optimiser's state, averaged weights among it, "pool.states" the carried states. Metadata:
// "format", and as JSON texts "net", "train" and "pool". Files of the network alone have the
// model's tensors and "format", "net" and "made".
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/build_info.h"
#include "engine/io/safetensors.h"
#include "engine/parameters.h"
#include "models/sudoku/options_json.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {
namespace {

using Json = nlohmann::ordered_json;
using Path = std::filesystem::path;

constexpr const char* kFormat = "stillpoint.sudoku.1";
constexpr const char* kAverage = "optim.average.";

Json to_json(const CarryPool::State& s) {
  return {{"puzzles", s.puzzles},
          {"ages", s.ages},
          {"fresh", s.fresh},
          {"next_puzzle", s.next_puzzle},
          {"random", {s.random.seed, s.random.stream, s.random.counter, s.random.used}}};
}

CarryPool::State pool_state(const io::Safetensors& file, int64_t boards, Device device) {
  const Json json = Json::parse(text(file, "pool"));
  CarryPool::State s;
  json.at("puzzles").get_to(s.puzzles);
  json.at("ages").get_to(s.ages);
  json.at("fresh").get_to(s.fresh);
  json.at("next_puzzle").get_to(s.next_puzzle);
  const Json& random = json.at("random");
  s.random = {random.at(0), random.at(1), random.at(2), random.at(3)};
  check<FormatError>(std::ssize(s.puzzles) == boards, "a pool of {} boards; wanted {}",
                     s.puzzles.size(), boards);
  const auto states = file.tensors.find("pool.states");
  if (states != file.tensors.end()) s.states = states->second.to(device);
  return s;
}

io::Safetensors open(const Path& path) {
  io::Safetensors file = io::load_safetensors(path);
  const auto format = file.metadata.find("format");
  const std::string given = format == file.metadata.end() ? "none" : format->second;
  check<FormatError>(given == kFormat, "format {}; wanted {}", given, kFormat);
  return file;
}

// Tensors whose names begin with `prefix`, without it.
NamedTensors without_prefix(const NamedTensors& all, const std::string& prefix) {
  NamedTensors some;
  for (const auto& [name, tensor] : all) {
    if (name.starts_with(prefix)) some.emplace(name.substr(prefix.size()), tensor);
  }
  return some;
}

// Whatever reading a file throws then names the file.
template <class F>
auto reading(const Path& path, F&& f) {
  try {
    return f();
  } catch (const IoError&) {
    throw;
  } catch (const Error& error) {
    const std::string what = error.what();
    const bool named = what.find(path.string()) != std::string::npos;
    throw FormatError(named ? what : fmt::format("{}: {}", path.string(), what));
  } catch (const std::bad_alloc&) {
    throw FormatError(fmt::format("{}: describes more than the memory holds", path.string()));
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(fmt::format("{}: metadata: {}", path.string(), error.what()));
  }
}

}  // namespace

void Trainer::save(const Path& checkpoint) const {
  NamedTensors all = optimiser_.state();
  for (const auto& [name, tensor] : optimiser_.parameters()) all.emplace(kModel + name, tensor);
  if (pool_.state().states.defined()) all.emplace("pool.states", pool_.state().states);
  Json train = to_json(options_);
  train["seconds"] = seconds;
  train["cpu_seconds"] = cpu_seconds;
  train["earlier"] = earlier;
  train["command"] = command;
  if (guard_) {
    const Guard::State& g = guard_->state();
    train["guard"] = {
        {"weight", g.weight}, {"radius", g.radius}, {"residual", g.residual}, {"seen", g.seen}};
  }
  io::save_safetensors(checkpoint, all,
                       {{"format", kFormat},
                        {"net", to_json(options_.net).dump()},
                        {"train", train.dump()},
                        {"pool", to_json(pool_.state()).dump()}});
}

Trainer Trainer::load(const Path& checkpoint, Device device, const Change& change) {
  return reading(checkpoint, [&] {
    const io::Safetensors file = open(checkpoint);
    const Json train = Json::parse(text(file, "train"));
    TrainOptions options = train_options(train, net_options(file));
    CarryPool::State pool = pool_state(file, options.carry.boards, device);
    const GeneratorOptions before = options.carry.puzzles;
    if (change) change(options);
    const bool other_puzzles = options.carry.puzzles != before;
    if (other_puzzles) std::ranges::fill(pool.fresh, 1);
    Trainer trainer(options, device, std::move(pool));
    assign_all_tensors(trainer.net_->parameters(), without_prefix(file.tensors, kModel));
    trainer.optimiser_.load_state(file.tensors);
    if (other_puzzles) trainer.options_.warm_from = trainer.steps();
    check<FormatError>(trainer.steps() == 0 || trainer.pool_.state().states.defined(),
                       "{} steps, but no carried states", trainer.steps());
    check<FormatError>(trainer.options_.warm_from <= trainer.steps(),
                       "a warm-up from step {} on after {} steps", trainer.options_.warm_from,
                       trainer.steps());
    train.at("seconds").get_to(trainer.seconds);
    trainer.cpu_seconds = train.value("cpu_seconds", 0.0);
    trainer.earlier = train.value("earlier", "");
    trainer.command = train.value("command", "");
    // A guard that the run did not have before begins here.
    if (trainer.guard_ && train.contains("guard")) {
      const Json& g = train.at("guard");
      // JSON has null for what is not finite.
      const auto observed = [&g](const char* key) {
        return g.at(key).is_null() ? std::numeric_limits<double>::quiet_NaN()
                                   : g.at(key).get<double>();
      };
      trainer.guard_->restore(
          {g.at("weight"), observed("radius"), observed("residual"), g.at("seen")});
      trainer.pool_.set_jacobian_penalty(trainer.guard_->weight());
    }
    return trainer;
  });
}

void Trainer::save_network(const Path& file) const {
  const NamedTensors averages = optimiser_.averages();
  NamedTensors weights;
  for (const auto& [name, tensor] : averages.empty() ? optimiser_.parameters() : averages) {
    weights.emplace(kModel + name, tensor);
  }
  const Json made{{"command", earlier + command},
                  {"version", build_info().version},
                  {"steps", steps()},
                  {"boards", boards()},
                  {"seconds", seconds}};
  io::save_safetensors(
      file, weights,
      {{"format", kFormat}, {"net", to_json(options_.net).dump()}, {"made", made.dump()}});
}

std::unique_ptr<Network> load_network(const Path& checkpoint, Device device) {
  return reading(checkpoint, [&] {
    const io::Safetensors file = open(checkpoint);
    Philox unused(0);
    auto net = make_network(net_options(file), unused);
    const NamedTensors average = without_prefix(file.tensors, kAverage);
    assign_all_tensors(net->parameters(),
                       average.empty() ? without_prefix(file.tensors, kModel) : average);
    net->move_to(device);
    return net;
  });
}

}  // namespace stillpoint::sudoku
