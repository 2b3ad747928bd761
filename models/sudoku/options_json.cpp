#include "models/sudoku/options_json.h"

#include <fmt/format.h>

#include <initializer_list>

#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

using Json = nlohmann::ordered_json;

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
  o.tying = json.value("tied", false) ? nn::Tying::tied : nn::Tying::none;
  o.repeats = json.value("repeats", int64_t{1});
  o.discount = json.value("discount", 1.0);
  o.spread_penalty = json.value("spread_penalty", 0.0);
  o.estimator = named(json.value("estimator", Json("score")), "estimator",
                      {Estimator::score, Estimator::straight_through});
  o.credit =
      named(json.value("credit", Json("downstream")), "credit", {Credit::downstream, Credit::all});
  check_elements(file, "norm.weight", o.width, fmt::format("a width of {}", o.width));
  if (o.layers > 0) {
    const int64_t last = o.tying == nn::Tying::tied ? 0 : o.layers - 1;
    check_elements(file, fmt::format("blocks.{}.out.bias", last), o.width,
                   fmt::format("{} layers", o.layers));
  }
  return o;
}

EquilibriumOptions equilibrium_options(const Json& json) {
  EquilibriumOptions o{
      .solver = named(json.at("solver"), "solver",
                      {SolverKind::anderson, SolverKind::broyden, SolverKind::damped}),
      .adjoint = named(json.at("adjoint"), "adjoint",
                       {AdjointKind::exact, AdjointKind::phantom, AdjointKind::one_step,
                        AdjointKind::neumann, AdjointKind::unrolled_phantom})};
  json.at("tolerance").get_to(o.tolerance);
  json.at("iterations").get_to(o.iterations);
  json.at("adjoint_iterations").get_to(o.adjoint_iterations);
  json.at("jacobian_penalty").get_to(o.jacobian_penalty);
  using enum AdjointSolverKind;
  o.adjoint_solver = named(json.value("adjoint_solver", Json("same")), "adjoint solver",
                           {same, anderson, broyden, damped, gmres});
  // Runs that do not say were made when there was no choice.
  o.loss_at = named(json.value("loss_at", Json("iterate")), "place of the loss",
                    {Output::image, Output::iterate});
  o.adjoint_tolerance = json.value("adjoint_tolerance", o.adjoint_tolerance);
  o.corrections = json.value("corrections", o.corrections);
  o.start_deviation = json.value("start_deviation", o.start_deviation);
  o.path_deviation = json.value("path_deviation", o.path_deviation);
  o.spectral_clip = json.value("spectral_clip", o.spectral_clip);
  o.radius_limit = json.value("radius_limit", o.radius_limit);
  return o;
}

}  // namespace

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
                       {"layers", l.layers},         {"tied", l.tying == nn::Tying::tied},
                       {"repeats", l.repeats},       {"heads", l.heads},
                       {"law", name(l.law)},         {"baseline", name(l.baseline)},
                       {"draws", l.draws},           {"entropy", l.entropy},
                       {"discount", l.discount},     {"estimator", name(l.estimator)},
                       {"credit", name(l.credit)},   {"spread_penalty", l.spread_penalty}};
  }
  return json;
}

Json to_json(const EquilibriumOptions& o) {
  return {{"solver", name(o.solver)},
          {"adjoint", name(o.adjoint)},
          {"adjoint_solver", name(o.adjoint_solver)},
          {"loss_at", name(o.loss_at)},
          {"tolerance", o.tolerance},
          {"adjoint_tolerance", o.adjoint_tolerance},
          {"iterations", o.iterations},
          {"adjoint_iterations", o.adjoint_iterations},
          {"jacobian_penalty", o.jacobian_penalty},
          {"corrections", o.corrections},
          {"start_deviation", o.start_deviation},
          {"path_deviation", o.path_deviation},
          {"spectral_clip", o.spectral_clip},
          {"radius_limit", o.radius_limit}};
}

Json to_json(const TrainOptions& o) {
  const auto& e = o.carry.equilibrium;
  return {{"seed", o.seed},
          {"optimiser", name(o.optimiser)},
          {"learning_rate", o.learning_rate},
          {"warmup", o.warmup},
          {"warm_from", o.warm_from},
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
          {"hard_share", o.carry.puzzles.hard_share},
          {"minimal_share", o.carry.puzzles.minimal_share},
          {"most_extra", o.carry.puzzles.most_extra}};
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

TrainOptions train_options(const Json& json, const NetworkOptions& net) {
  TrainOptions o{.net = net};
  json.at("seed").get_to(o.seed);
  o.optimiser = named(json.value("optimiser", Json("adamw")), "optimiser",
                      {Optimiser::adamw, Optimiser::muon});
  json.at("learning_rate").get_to(o.learning_rate);
  json.at("warmup").get_to(o.warmup);
  o.warm_from = json.value("warm_from", int64_t{0});
  json.at("weight_decay").get_to(o.weight_decay);
  json.at("clip_norm").get_to(o.clip_norm);
  json.at("average_decay").get_to(o.average_decay);
  json.at("boards").get_to(o.carry.boards);
  json.at("slice").get_to(o.carry.slice);
  json.at("window").get_to(o.carry.window);
  json.at("segments").get_to(o.carry.segments);
  json.at("leave").get_to(o.carry.leave);
  // Older checkpoints do not have what is read with a default.
  const Json e = json.value("equilibrium", Json());
  if (!e.is_null()) o.carry.equilibrium = equilibrium_options(e);
  o.net.precision =
      named(json.value("precision", Json("f32")), "precision", {Precision::f32, Precision::bf16});
  o.carry.puzzles.geometry = net.geometry;
  json.at("puzzle_seed").get_to(o.carry.puzzles.seed);
  o.carry.puzzles.hard_share = json.value("hard_share", 0.0);
  json.at("minimal_share").get_to(o.carry.puzzles.minimal_share);
  json.at("most_extra").get_to(o.carry.puzzles.most_extra);
  return o;
}

}  // namespace stillpoint::sudoku
