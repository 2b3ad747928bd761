// A training run: network, optimiser and pool in one piece that can be saved and taken
// up again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/optim/muon.h"
#include "models/sudoku/carry.h"
#include "models/sudoku/guard.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

// Of the matrices between hidden layers; the other parameters always take AdamW's steps.
enum class Optimiser : uint8_t { adamw, muon };
const char* name(Optimiser optimiser);

struct TrainOptions {
  NetworkOptions net = {};
  CarryOptions carry = {};  // its puzzles have the geometry of the net
  uint64_t seed = 1;        // of the weights; carry.puzzles has its own
  Optimiser optimiser = Optimiser::adamw;
  double learning_rate = 2e-3;  // at its highest
  int64_t warmup = 100;         // steps in which it rises to that
  int64_t warm_from = 0;        // after this step
  double weight_decay = 0.01;
  double clip_norm = 1;          // largest norm of the whole gradient
  double average_decay = 0.999;  // of the averaged weights, which evaluation uses
};

// How much the gradient varies that comes through draws: of everything but the refiner of a
// GraphLearner, from one slice of the boards to the next, all coordinates together.
struct DrawsGradient {
  double variance = 0;         // of one slice's estimate of the whole gradient
  double signal_to_noise = 0;  // length of the gradient, less what noise adds, over that deviation
};

// Whether a step is to tell, which copies the gradient of every slice to the host.
enum class MeasureDraws : uint8_t { no, yes };

struct TrainReport {
  CarryReport carry;
  // If asked for, of GraphLearner with slices of one size, two or more.
  std::optional<DrawsGradient> draws;
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  std::optional<Guard::State> guard = {};  // behind the step, if there is one
};

class Trainer {
 public:
  explicit Trainer(const TrainOptions& options, Device device = Device::cpu);

  // One step. `progress`, from 0 to 1, says how much of the run lies behind: the learning rate
  // falls to zero with it on half a cosine, and in the warm-up it is scaled down besides. Throws
  // Error if loss or gradient are not finite any more; the run is then lost since it was last
  // saved.
  TrainReport step(double progress, MeasureDraws measure = MeasureDraws::no);

  const TrainOptions& options() const { return options_; }
  const Network& net() const { return *net_; }
  const optim::Muon& optimiser() const { return optimiser_; }  // see optim::AveragedParameters
  int64_t steps() const { return optimiser_.steps(); }
  int64_t boards() const { return pool_.state().next_puzzle; }  // drawn so far

  // A saved run makes, bit for bit, the steps that it would have made. `change` may have it go on
  // with other options: another precision, learning rate or number of segments, other puzzles (the
  // boards in the pool then begin at the network's start, and the rate rises anew), in the regime
  // equilibrium another way to the fixed points and their gradients. Throws IoError, and
  // FormatError also for options that contradict each other.
  using Change = std::function<void(TrainOptions&)>;
  void save(const std::filesystem::path& checkpoint) const;
  static Trainer load(const std::filesystem::path& checkpoint, Device device = Device::cpu,
                      const Change& change = {});
  // For the caller to keep: the time the run took so far, the processor time of its steps alone,
  // the commands of its earlier parts and that of the present one.
  double seconds = 0, cpu_seconds = 0;
  std::string earlier, command;

  // Takes the weights of another run, whose checkpoint or network this is, before the first step;
  // everything else is new, with `fresh_refiner` also what GraphLearner refines with. Throws
  // IoError, FormatError for a network of another model or size.
  void start_from(const std::filesystem::path& file, bool fresh_refiner = false);

  // The averaged weights alone: all that solving needs, in a small file, with the commands.
  void save_network(const std::filesystem::path& file) const;

 private:
  // With the boards of a saved pool, or new ones.
  Trainer(const TrainOptions& options, Device device, std::optional<CarryPool::State> pool);
  void watch();
  void clip_matrices() const;

  TrainOptions options_;
  std::unique_ptr<Network> net_;
  optim::Muon optimiser_;
  CarryPool pool_;
  std::optional<Guard> guard_;
};

// The network of a checkpoint, in float32, with the averaged weights if there are any, or of a file
// that save_network wrote. Throws IoError, FormatError.
std::unique_ptr<Network> load_network(const std::filesystem::path& checkpoint,
                                      Device device = Device::cpu);

}  // namespace stillpoint::sudoku
