#include "models/sudoku/trainer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>

#include "engine/error.h"
#include "engine/io/safetensors.h"
#include "engine/parameters.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/puzzle_text.h"

namespace stillpoint::sudoku {
namespace {

namespace fs = std::filesystem;

TrainOptions options4() {
  return {.net = {.geometry = {2}, .channels = 8},
          .carry = {.puzzles = {.geometry = {2}, .minimal_share = 0.7}, .boards = 10, .slice = 5},
          .learning_rate = 1e-2,
          .warmup = 10};
}

TrainOptions learned_options4() {
  TrainOptions options = options4();
  options.net.model = Model::learned_graph;
  options.net.learned = {.neighbours = 4, .width = 8, .layers = 2, .heads = 2, .draws = 2};
  options.carry.segments = 1;
  return options;
}

class TrainerFile : public testing::Test {
 protected:
  ~TrainerFile() override { fs::remove(path_); }
  void damage(size_t keep) const {
    std::ifstream in(path_, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    bytes.resize(keep);
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  // Saves the checkpoint again with another text in its metadata.
  void forge(const std::string& key, const std::string& from, const std::string& to) const {
    auto file = io::load_safetensors(path_);
    std::string& text = file.metadata.at(key);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    text.replace(at, from.size(), to);
    io::save_safetensors(path_, file.tensors, file.metadata);
  }
  const fs::path path_ =
      fs::temp_directory_path() / ("stillpoint_trainer_" + std::to_string(getpid()));
};

class TrainerFileOfOptimiser : public TrainerFile, public testing::WithParamInterface<Optimiser> {};
INSTANTIATE_TEST_SUITE_P(Each, TrainerFileOfOptimiser,
                         testing::Values(Optimiser::adamw, Optimiser::muon),
                         [](const auto& each) { return name(each.param); });

TEST_P(TrainerFileOfOptimiser, ResumedRunMakesTheSameStepsBitForBit) {
  TrainOptions options = options4();
  options.optimiser = GetParam();
  Trainer whole(options);
  for (int k = 0; k < 7; ++k) whole.step(k / 12.0);
  whole.seconds = 1.5;
  whole.cpu_seconds = 1.25;
  whole.save(path_);
  Trainer resumed = Trainer::load(path_);
  EXPECT_EQ(resumed.steps(), 7);
  EXPECT_EQ(resumed.seconds, 1.5);
  EXPECT_EQ(resumed.cpu_seconds, 1.25);
  for (int k = 7; k < 12; ++k) {
    const TrainReport a = whole.step(k / 12.0), b = resumed.step(k / 12.0);
    EXPECT_EQ(a.carry.loss, b.carry.loss);
    EXPECT_EQ(a.carry.solved, b.carry.solved);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
    EXPECT_EQ(a.learning_rate, b.learning_rate);
  }
  const NamedTensors state = resumed.optimiser().state();
  for (const auto& [name, tensor] : whole.optimiser().state()) {
    if (tensor.dtype() != DType::f32) continue;
    EXPECT_EQ(tensor.to_vector<float>(), state.at(name).to_vector<float>()) << name;
  }
}

TEST_F(TrainerFile, MuonTakesTheMatricesBetweenHiddenLayers) {
  TrainOptions options = options4();
  options.optimiser = Optimiser::muon;
  const Trainer trainer(options);
  std::set<std::string> adamw;  // has second moments
  for (const auto& [name, unused] : trainer.optimiser().state())
    if (const std::string second = "optim.second."; name.starts_with(second))
      adamw.insert(name.substr(second.size()));
  EXPECT_EQ(adamw, (std::set<std::string>{"clue.table", "factor.bias", "initial", "message.bias",
                                          "readout.bias", "readout.weight", "update.bias"}));
  trainer.save(path_);
  forge("train", R"("optimiser":"muon")", R"("optimiser":"sgd")");
  EXPECT_THROW(Trainer::load(path_), FormatError);
}

TEST_F(TrainerFile, RunsInBf16ResumeBitForBit) {
  TrainOptions options = options4();
  options.net.precision = Precision::bf16;
  Trainer whole(options), f32(options4());
  for (int k = 0; k < 3; ++k) {
    EXPECT_NE(whole.step(0).gradient_norm, f32.step(0).gradient_norm);
  }
  whole.save(path_);
  Trainer resumed = Trainer::load(path_);
  EXPECT_EQ(resumed.options().net.precision, Precision::bf16);
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(whole.step(0).gradient_norm, resumed.step(0).gradient_norm);
  }
  EXPECT_EQ(load_network(path_)->options.precision, Precision::f32);
}

TEST_F(TrainerFile, RunsGoOnInAnotherPrecision) {
  TrainOptions options = options4();
  Trainer f32(options);
  for (int k = 0; k < 3; ++k) f32.step(0);
  f32.save(path_);
  Trainer bf16 =
      Trainer::load(path_, Device::cpu, [](TrainOptions& o) { o.net.precision = Precision::bf16; });
  EXPECT_EQ(bf16.options().net.precision, Precision::bf16);
  const double a = f32.step(0).gradient_norm, b = bf16.step(0).gradient_norm;
  EXPECT_NE(a, b);
  EXPECT_NEAR(a, b, 0.02 * a);
  bf16.save(path_);
  EXPECT_EQ(Trainer::load(path_).options().net.precision, Precision::bf16);
  // Runs that were saved before there was a choice are in f32.
  forge("train", "\"precision\":\"bf16\",", "");
  EXPECT_EQ(Trainer::load(path_).options().net.precision, Precision::f32);
}

TEST_F(TrainerFile, RunsGoOnWithOtherPuzzlesRatesAndSegments) {
  TrainOptions options = options4();
  options.net.geometry = options.carry.puzzles.geometry = {3};
  options.warmup = 2;
  Trainer before(options);
  for (int k = 0; k < 3; ++k) before.step(0);
  before.earlier = "first; ";
  before.command = "second";
  before.save(path_);
  Trainer after = Trainer::load(path_, Device::cpu, [](TrainOptions& o) {
    o.carry.puzzles.hard_share = 0.5;
    o.carry.puzzles.minimal_share = 0.25;
    o.carry.segments = 7;
    o.learning_rate = 0.5;
  });
  EXPECT_EQ(after.earlier, "first; ");
  EXPECT_EQ(after.command, "second");
  EXPECT_EQ(after.options().carry.segments, 7);
  EXPECT_EQ(after.options().carry.puzzles.hard_share, 0.5);
  EXPECT_EQ(after.options().carry.puzzles.minimal_share, 0.25);
  // The learning rate rises anew.
  EXPECT_EQ(after.step(0).learning_rate, 0.25);
  after.save(path_);
  Trainer resumed = Trainer::load(path_);
  for (int k = 0; k < 3; ++k) {
    const TrainReport a = after.step(0), b = resumed.step(0);
    EXPECT_EQ(a.learning_rate, 0.5);
    EXPECT_EQ(b.learning_rate, 0.5);
    EXPECT_EQ(a.carry.loss, b.carry.loss);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  }
  const auto two = [](TrainOptions& o) { o.carry.puzzles.minimal_share = 2; };
  EXPECT_THROW(Trainer::load(path_, Device::cpu, two), FormatError);
  // Runs that were saved before there were hard puzzles.
  before.save(path_);
  forge("train", "\"hard_share\":0.0,", "");
  forge("train", "\"warm_from\":0,", "");
  EXPECT_EQ(Trainer::load(path_).options().carry.puzzles.hard_share, 0);
}

TEST(Trainer, Bf16IsForSymbolNetInWindows) {
  TrainOptions options = options4();
  options.net.precision = Precision::bf16;
  options.net.model = Model::refine;
  EXPECT_THROW(Trainer{options}, OptionError);
  options = options4();
  options.net.precision = Precision::bf16;
  options.carry.equilibrium = EquilibriumOptions{};
  EXPECT_THROW(Trainer{options}, OptionError);
}

TEST_F(TrainerFile, TheNetworkOfACheckpointHasTheAveragedWeights) {
  Trainer trainer(options4());
  for (int k = 0; k < 5; ++k) trainer.step(0);
  trainer.save(path_);
  const auto net = load_network(path_);
  EXPECT_EQ(net->options.geometry.box, 2);
  const NamedTensors averages = trainer.optimiser().averages();
  const NamedTensors weights = trainer.optimiser().parameters();
  for (const auto& [name, tensor] : net->parameters()) {
    EXPECT_EQ(tensor.to_vector<float>(), averages.at(name).to_vector<float>()) << name;
  }
  EXPECT_NE(net->parameters().at("initial").to_vector<float>(),
            weights.at("initial").to_vector<float>());
}

TEST_F(TrainerFile, ANetworkAloneIsTheOneOfTheCheckpoint) {
  Trainer trainer(options4());
  for (int k = 0; k < 3; ++k) trainer.step(0);
  trainer.save(path_);
  const auto whole = load_network(path_);
  const auto size = fs::file_size(path_);
  trainer.earlier = "how it began; ";
  trainer.command = "how it was made";
  trainer.save_network(path_);
  EXPECT_LT(fs::file_size(path_), size / 3);
  const auto file = io::load_safetensors(path_);
  EXPECT_NE(file.metadata.at("made").find("how it began; how it was made"), std::string::npos);
  const auto alone = load_network(path_);
  for (const auto& [name, tensor] : alone->parameters()) {
    EXPECT_EQ(tensor.to_vector<float>(), whole->parameters().at(name).to_vector<float>()) << name;
  }
  EXPECT_THROW(Trainer::load(path_), FormatError);  // nothing to go on from
}

TEST_F(TrainerFile, RunsOfRefineNetAreSavedToo) {
  TrainOptions options = options4();
  options.net.model = Model::refine;
  options.carry = carry_options(Regime::unroll);
  options.carry.puzzles.geometry = {2};
  options.carry.boards = 4;
  Trainer whole(options);
  EXPECT_EQ(whole.step(0).carry.replaced, 4);  // every board leaves after its one window
  whole.save(path_);
  Trainer resumed = Trainer::load(path_);
  EXPECT_EQ(resumed.net().options.model, Model::refine);
  EXPECT_EQ(whole.step(0.1).carry.loss, resumed.step(0.1).carry.loss);
}

TEST_F(TrainerFile, RunsOfGraphLearnersResumeBitForBit) {
  Trainer whole(learned_options4());
  for (int k = 0; k < 3; ++k) whole.step(0);
  whole.save(path_);
  Trainer resumed = Trainer::load(path_);
  const LearnedGraphOptions& l = resumed.net().options.learned;
  EXPECT_EQ(l.neighbours, 4);
  EXPECT_EQ(l.layers, 2);
  EXPECT_EQ(l.draws, 2);
  for (int k = 0; k < 3; ++k) {
    const TrainReport a = whole.step(0.1), b = resumed.step(0.1);
    EXPECT_EQ(a.carry.loss, b.carry.loss);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  }
}

TEST_F(TrainerFile, ForgedGraphLearnersAreRefused) {
  const Trainer trainer(learned_options4());
  for (const auto& [from, to] : {std::pair{"\"layers\":2", "\"layers\":2000000000"},
                                 {"\"layers\":2", "\"layers\":-9223372036854775808"},
                                 {"\"layers\":2", "\"layers\":1"},
                                 {"\"draws\":2", "\"draws\":4611686018427387904"},
                                 {"\"width\":8", "\"width\":100"},
                                 {"\"law\":\"k-subset", "\"law\":\"k-superset"},
                                 {"\"neighbours\":4", "\"neighbours\":16"},
                                 {"\"heads\":2", "\"heads\":3"},
                                 {"\"tied\":false", "\"tied\":\"yes\""},
                                 {"\"repeats\":1", "\"repeats\":0"},
                                 {"\"repeats\":1", "\"repeats\":2000000000"},
                                 {"\"box\":2", "\"box\":0"}}) {
    trainer.save(path_);
    forge("net", from, to);
    EXPECT_THROW((void)load_network(path_), FormatError) << to;
  }
}

TEST_F(TrainerFile, FilesFromBeforeTyingAreRead) {
  TrainOptions options = learned_options4();
  options.net.learned.spread_penalty = 0;
  Trainer trainer(options);
  trainer.step(0);
  trainer.save(path_);
  forge("net", "\"tied\":false,\"repeats\":1,", "");  // as older files have it
  const auto net = load_network(path_);
  EXPECT_EQ(net->options.learned.tying, nn::Tying::none);
  EXPECT_EQ(net->options.learned.repeats, 1);
  forge("net", ",\"spread_penalty\":0.0", "");
  EXPECT_EQ(load_network(path_)->options.learned.spread_penalty, 0);
  Trainer resumed = Trainer::load(path_);
  EXPECT_EQ(resumed.step(0.5).carry.loss, trainer.step(0.5).carry.loss);
}

TEST_F(TrainerFile, TiedLayersAreSaved) {
  TrainOptions options = learned_options4();
  options.net.learned.tying = nn::Tying::tied;
  options.net.learned.repeats = 3;
  options.net.learned.spread_penalty = 0.25;
  Trainer(options).save(path_);
  const auto net = load_network(path_);
  EXPECT_EQ(net->options.learned.layers, 2);
  EXPECT_EQ(net->options.learned.tying, nn::Tying::tied);
  EXPECT_EQ(net->options.learned.repeats, 3);
  EXPECT_EQ(net->options.learned.spread_penalty, 0.25);
  EXPECT_FALSE(net->parameters().contains("blocks.1.out.bias"));
  forge("net", "\"layers\":2", "\"layers\":2000000000");  // no tensor says how many
  EXPECT_THROW((void)load_network(path_), FormatError);
}

TEST_F(TrainerFile, WiringIsSaved) {
  TrainOptions options = options4();
  options.net.model = Model::refine;
  options.net.wiring = Wiring::random;
  Trainer(options).save(path_);
  EXPECT_EQ(load_network(path_)->options.wiring, Wiring::random);
  forge("net", ",\"wiring\":\"random\"", "");  // as older files have it
  EXPECT_EQ(load_network(path_)->options.wiring, Wiring::rules);
}

TEST(Trainer, StopsWhereNumbersAreNoNumbersAnyMore) {
  TrainOptions options = options4();
  options.learning_rate = 1e38;
  options.clip_norm = 1e38;
  options.warmup = 0;
  Trainer trainer(options);
  EXPECT_THROW(
      {
        for (int k = 0; k < 10; ++k) trainer.step(0);
      },
      Error);
}

TEST_F(TrainerFile, DamagedCheckpointsAreRefusedByName) {
  Trainer trainer(options4());
  trainer.step(0);
  const auto refused = [&] {
    for (const auto load : {+[](const fs::path& p) { load_network(p); },
                            +[](const fs::path& p) { Trainer::load(p); }}) {
      try {
        load(path_);
        ADD_FAILURE() << "accepted";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos)
            << error.what();
      }
    }
  };
  refused();  // there is none
  trainer.save(path_);
  const size_t size = fs::file_size(path_);
  for (const size_t keep : {size - 1, size / 2, size_t{100}, size_t{0}}) {
    trainer.save(path_);
    damage(keep);
    refused();
  }
  for (const auto& [from, to] : {std::pair{"\"channels\":8", "\"channels\":4"},
                                 {"\"channels\":8", "\"channels\":8000000000"},
                                 {"\"box\":2", "\"box\":900"},
                                 {"\"box\":2", "\"box\":\"2\""},
                                 {"{", "["}}) {
    trainer.save(path_);
    forge("net", from, to);
    refused();
  }
  trainer.save(path_);
  forge("format", "stillpoint", "pointstill");
  refused();
}

TEST_F(TrainerFile, ForgedPoolsAreRefused) {
  Trainer trainer(options4());
  trainer.step(0);
  for (const auto& [key, from, to] : {std::tuple{"net", "\"box\":2", "\"box\":3"},
                                      {"train", "\"boards\":10", "\"boards\":-10"},
                                      {"train", "\"boards\":10", "\"boards\":11"},
                                      {"train", "\"boards\":10", "\"boards\":1000000000000000"},
                                      {"train", "\"most_extra\":30", "\"most_extra\":2147483647"},
                                      {"pool", "\"fresh\":[", "\"fresh\":[7,"},
                                      {"train", "\"minimal_share\":0.7", "\"minimal_share\":7"},
                                      {"train", "\"window\":16", "\"windows\":16"},
                                      {"train", "\"warm_from\":0", "\"warm_from\":2"},
                                      {"train", "\"warm_from\":0", "\"warm_from\":-1"},
                                      {"pool", "\"next_puzzle\":", "\"next_puzzle\":-"},
                                      {"pool", "\"puzzles\":[", "\"puzzles\":[-1"}}) {
    trainer.save(path_);
    forge(key, from, to);
    EXPECT_THROW(Trainer::load(path_), FormatError) << to;
  }
  trainer.save(path_);
  auto file = io::load_safetensors(path_);
  file.tensors.erase("pool.states");
  io::save_safetensors(path_, file.tensors, file.metadata);
  EXPECT_THROW(Trainer::load(path_), FormatError);
}

TEST(Trainer, LearnsToSolve4x4Puzzles) {
  Trainer trainer(
      {.net = {.geometry = {2}, .channels = 16},
       .carry = {.puzzles = {.geometry = {2}, .minimal_share = 0.7}, .boards = 16, .slice = 16},
       .learning_rate = 1e-2,
       .warmup = 10});
  for (int k = 0; k < 150; ++k) trainer.step(k / 150.0);
  std::set<std::string> seen;  // so few 4x4 puzzles are there that some come again
  for (const auto& made : generate(trainer.options().carry.puzzles, 0, trainer.boards())) {
    seen.insert(to_string(made.givens));
  }
  std::vector<Puzzle> unseen;
  for (const auto& made : generate({.geometry = {2}, .use = PuzzleUse::evaluation}, 0, 300)) {
    if (!seen.contains(to_string(made.givens))) unseen.push_back({made.givens, made.solution});
  }
  ASSERT_GE(unseen.size(), 150u);
  const optim::AveragedParameters averaged(trainer.optimiser());
  const auto report = evaluate(trainer.net(), unseen, {.iterations = {2, 32}});
  EXPECT_GE(report.results[1].boards.value, 0.9);
  EXPECT_GT(report.results[1].boards.value, report.results[0].boards.value);
}

TEST(Trainer, RefusesOptionsThatDoNotFit) {
  TrainOptions sizes = options4();
  sizes.net.geometry = {3};
  EXPECT_THROW(Trainer{sizes}, OptionError);
  TrainOptions warmup = options4();
  warmup.warmup = -1;
  EXPECT_THROW(Trainer{warmup}, OptionError);
  TrainOptions channels = options4();
  channels.net.channels = 0;
  EXPECT_THROW(Trainer{channels}, OptionError);
  for (const double rate : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    TrainOptions o = options4();
    o.learning_rate = rate;
    EXPECT_THROW(Trainer{o}, OptionError);
  }
}

}  // namespace
}  // namespace stillpoint::sudoku
