// Checkpoints of networks and their training. Tensors: "model.NAME" are the weights, "optim.NAME"
// the optimiser's state, averaged weights among it, "pool.states" the carried states. Metadata:
// "format", and as JSON texts "net", "train" and "pool". Files of the network alone have the
// model's tensors and "format", "net" and "made".
#include <fmt/format.h>

#include <initializer_list>
#include <iterator>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/build_info.h"
#include "engine/io/safetensors.h"
#include "engine/parameters.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {
namespace {

using Json = nlohmann::ordered_json;
using Path = std::filesystem::path;

constexpr const char* kFormat = "stillpoint.sudoku.1";
constexpr const char* kModel = "model.";
constexpr const char* kAverage = "optim.average.";

const std::string& text(const io::Safetensors& file, const char* key) {
  const auto at = file.metadata.find(key);
  check<FormatError>(at != file.metadata.end(), "no \"{}\" in the metadata", key);
  return at->second;
}

Json to_json(const NetworkOptions& o) {
  Json json{{"model", name(o.model)}, {"box", o.geometry.box}, {"channels", o.channels}};
  if (o.model == Model::refine) json["wiring"] = name(o.wiring);
  if (o.model == Model::learned_graph) {
    const LearnedGraphOptions& l = o.learned;
    json["learned"] = {{"neighbours", l.neighbours}, {"width", l.width},
                       {"layers", l.layers},         {"heads", l.heads},
                       {"law", name(l.law)},         {"baseline", name(l.baseline)},
                       {"draws", l.draws},           {"entropy", l.entropy},
                       {"discount", l.discount},     {"estimator", name(l.estimator)},
                       {"credit", name(l.credit)}};
  }
  return json;
}

Json to_json(const EquilibriumOptions& o) {
  return {{"solver", name(o.solver)},
          {"adjoint", name(o.adjoint)},
          {"tolerance", o.tolerance},
          {"iterations", o.iterations},
          {"adjoint_iterations", o.adjoint_iterations},
          {"jacobian_penalty", o.jacobian_penalty}};
}

Json to_json(const TrainOptions& o) {
  const auto& e = o.carry.equilibrium;
  return {{"seed", o.seed},
          {"optimiser", name(o.optimiser)},
          {"learning_rate", o.learning_rate},
          {"warmup", o.warmup},
          {"weight_decay", o.weight_decay},
          {"clip_norm", o.clip_norm},
          {"average_decay", o.average_decay},
          {"boards", o.carry.boards},
          {"slice", o.carry.slice},
          {"window", o.carry.window},
          {"segments", o.carry.segments},
          {"leave", o.carry.leave},
          {"equilibrium", e ? to_json(*e) : Json()},
          {"precision", name(o.net.precision)},
          {"puzzle_seed", o.carry.puzzles.seed},
          {"minimal_share", o.carry.puzzles.minimal_share},
          {"most_extra", o.carry.puzzles.most_extra}};
}

Json to_json(const CarryPool::State& s) {
  return {{"puzzles", s.puzzles},
          {"ages", s.ages},
          {"fresh", s.fresh},
          {"next_puzzle", s.next_puzzle},
          {"random", {s.random.seed, s.random.stream, s.random.counter, s.random.used}}};
}

// The one of these values whose name is given.
template <class T>
T named(const Json& given, const char* what, std::initializer_list<T> values) {
  std::string wanted;
  for (const T value : values) {
    if (given.get<std::string>() == name(value)) return value;
    wanted += fmt::format("{}{}", wanted.empty() ? "" : ", ", name(value));
  }
  throw FormatError(fmt::format("{} {}; wanted one of {}", what, given.get<std::string>(), wanted));
}

// Numbers are believed only where tensors of the file bear them out: a forged one must cost no
// memory.
void check_elements(const io::Safetensors& file, const std::string& tensor, int64_t elements,
                    const std::string& what) {
  const auto at = file.tensors.find(kModel + tensor);
  check<FormatError>(at != file.tensors.end() && at->second.numel() == elements,
                     "{}; wanted what {}{} has the elements for", what, kModel, tensor);
}

LearnedGraphOptions learned_options(const io::Safetensors& file, const Json& json) {
  LearnedGraphOptions o;
  json.at("neighbours").get_to(o.neighbours);
  json.at("width").get_to(o.width);
  json.at("layers").get_to(o.layers);
  json.at("heads").get_to(o.heads);
  o.law =
      named(json.at("law"), "law",
            {Law::plackett_luce, Law::ordered_plackett_luce, Law::with_replacement, Law::k_subset});
  o.baseline = named(json.at("baseline"), "baseline",
                     {Baseline::none, Baseline::others_in_batch, Baseline::others_of_board});
  json.at("draws").get_to(o.draws);
  json.at("entropy").get_to(o.entropy);
  // Older files lack these.
  o.discount = json.value("discount", 1.0);
  o.estimator = named(json.value("estimator", Json("score")), "estimator",
                      {Estimator::score, Estimator::straight_through});
  o.credit =
      named(json.value("credit", Json("downstream")), "credit", {Credit::downstream, Credit::all});
  check_elements(file, "norm.weight", o.width, fmt::format("a width of {}", o.width));
  if (o.layers > 0)
    check_elements(file, fmt::format("blocks.{}.out.bias", o.layers - 1), o.width,
                   fmt::format("{} layers", o.layers));
  return o;
}

NetworkOptions net_options(const io::Safetensors& file) {
  const Json json = Json::parse(text(file, "net"));
  NetworkOptions o{.model = named(json.at("model"), "model",
                                  {Model::symbol, Model::refine, Model::learned_graph}),
                   .geometry = {json.at("box").get<int>()},
                   .channels = json.at("channels").get<int64_t>()};
  const bool learned = o.model == Model::learned_graph;
  check_elements(file, learned ? "refiner.initial" : "initial", o.channels,
                 fmt::format("{} channels", o.channels));
  if (json.contains("wiring"))
    o.wiring =
        named(json.at("wiring"), "wiring", {Wiring::rules, Wiring::random, Wiring::complete});
  if (learned) o.learned = learned_options(file, json.at("learned"));
  return o;
}

EquilibriumOptions equilibrium_options(const Json& json) {
  EquilibriumOptions o{
      .solver = named(json.at("solver"), "solver",
                      {SolverKind::anderson, SolverKind::broyden, SolverKind::damped}),
      .adjoint = named(
          json.at("adjoint"), "adjoint",
          {AdjointKind::exact, AdjointKind::phantom, AdjointKind::one_step, AdjointKind::neumann})};
  json.at("tolerance").get_to(o.tolerance);
  json.at("iterations").get_to(o.iterations);
  json.at("adjoint_iterations").get_to(o.adjoint_iterations);
  json.at("jacobian_penalty").get_to(o.jacobian_penalty);
  return o;
}

TrainOptions train_options(const Json& json, const NetworkOptions& net) {
  TrainOptions o{.net = net};
  json.at("seed").get_to(o.seed);
  o.optimiser = named(json.value("optimiser", Json("adamw")), "optimiser",
                      {Optimiser::adamw, Optimiser::muon});
  json.at("learning_rate").get_to(o.learning_rate);
  json.at("warmup").get_to(o.warmup);
  json.at("weight_decay").get_to(o.weight_decay);
  json.at("clip_norm").get_to(o.clip_norm);
  json.at("average_decay").get_to(o.average_decay);
  json.at("boards").get_to(o.carry.boards);
  json.at("slice").get_to(o.carry.slice);
  json.at("window").get_to(o.carry.window);
  json.at("segments").get_to(o.carry.segments);
  json.at("leave").get_to(o.carry.leave);
  // Older checkpoints do not have it.
  const Json e = json.value("equilibrium", Json());
  if (!e.is_null()) o.carry.equilibrium = equilibrium_options(e);
  o.net.precision =
      named(json.value("precision", Json("f32")), "precision", {Precision::f32, Precision::bf16});
  o.carry.puzzles.geometry = net.geometry;
  json.at("puzzle_seed").get_to(o.carry.puzzles.seed);
  json.at("minimal_share").get_to(o.carry.puzzles.minimal_share);
  json.at("most_extra").get_to(o.carry.puzzles.most_extra);
  return o;
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
  io::save_safetensors(checkpoint, all,
                       {{"format", kFormat},
                        {"net", to_json(options_.net).dump()},
                        {"train", train.dump()},
                        {"pool", to_json(pool_.state()).dump()}});
}

Trainer Trainer::load(const Path& checkpoint, Device device, std::optional<Precision> precision) {
  return reading(checkpoint, [&] {
    const io::Safetensors file = open(checkpoint);
    const Json train = Json::parse(text(file, "train"));
    TrainOptions options = train_options(train, net_options(file));
    options.net.precision = precision.value_or(options.net.precision);
    CarryPool::State pool = pool_state(file, options.carry.boards, device);
    Trainer trainer(options, device);
    assign_tensors(trainer.net_->parameters(), without_prefix(file.tensors, kModel));
    trainer.optimiser_.load_state(file.tensors);
    check<FormatError>(trainer.steps() == 0 || pool.states.defined(),
                       "{} steps, but no carried states", trainer.steps());
    trainer.pool_.restore(std::move(pool), *trainer.net_);
    train.at("seconds").get_to(trainer.seconds);
    return trainer;
  });
}

void Trainer::save_network(const Path& file, const std::string& command) const {
  const NamedTensors averages = optimiser_.averages();
  NamedTensors weights;
  for (const auto& [name, tensor] : averages.empty() ? optimiser_.parameters() : averages) {
    weights.emplace(kModel + name, tensor);
  }
  const Json made{{"command", command},
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
    assign_tensors(net->parameters(),
                   average.empty() ? without_prefix(file.tensors, kModel) : average);
    net->move_to(device);
    return net;
  });
}

}  // namespace stillpoint::sudoku
