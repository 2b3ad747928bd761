// sudoku solve
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "models/sudoku/puzzle_text.h"
#include "models/sudoku/think.h"
#include "models/sudoku/trainer.h"
#include "tools/sudoku.h"
#include "tools/sudoku_page.h"
#include "tools/sudoku_view.h"
#include "tools/support/console.h"
#include "tools/support/options.h"
#include "tools/support/output.h"

namespace stillpoint::tools {
namespace {

namespace fs = std::filesystem;

constexpr int kInterrupted = 130, kNotValid = 3;

struct SolveCommand {
  CommonOptions common;
  std::string checkpoint, puzzle, puzzles, html;
  sudoku::ThinkOptions think;
  int64_t batch = 0;  // 0: the device's default
  bool watch = false;
  double delay = 0.08;
};

// In the tree the program is build/PRESET/bin/sudoku; installed it is bin/sudoku.
fs::path find_checkpoint(const std::string& given) {
  if (!given.empty()) return given;
  const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path tree = bin / "../../../models/checkpoints/symbol.safetensors";
  const fs::path installed = bin / "../share/stillpoint/symbol.safetensors";
  for (const fs::path& file : {tree, installed}) {
    if (fs::exists(file)) return file.lexically_normal();
  }
  throw IoError(fmt::format(
      "no checkpoint: neither {} nor {} is there; name one with --checkpoint, as `sudoku train` "
      "saves it",
      tree.lexically_normal().string(), installed.lexically_normal().string()));
}

void check_size(const sudoku::Network& net, const sudoku::Board& board, const std::string& where) {
  const int given = board.geometry.side(), wanted = net.options.geometry.side();
  check<ShapeError>(given == wanted,
                    "{}: a board of {}x{}; the network of the checkpoint solves {}x{}", where,
                    given, given, wanted, wanted);
}

std::string to_json(const sudoku::Board& givens, const sudoku::Thought& thought) {
  const nlohmann::ordered_json json{
      {"puzzle", to_string(givens)},   {"answer", to_string(thought.answer.board)},
      {"valid", thought.answer.valid}, {"iterations", thought.iterations},
      {"try", thought.attempt + 1},    {"certainty", thought.answer.certainty}};
  return json.dump() + '\n';
}

int solve_one(const SolveCommand& c, const sudoku::Network& net) {
  const std::vector<sudoku::Board> givens = {sudoku::parse_puzzle(c.puzzle).givens};
  check_size(net, givens[0], "puzzle");
  sudoku::ThinkOptions options = c.think;
  std::optional<Watch> watch;
  Recorder recorder;
  if (c.watch || !c.html.empty()) options.linger = 8;  // to see it settle
  if (c.watch) watch.emplace(givens[0], options);
  options.observe = [&](const sudoku::ThinkStep& step) {
    if (!c.html.empty()) recorder.add(step);
    if (watch) watch->show(step.answer, step.attempt, step.iteration);
    if (watch && watch->on_terminal()) {
      std::this_thread::sleep_for(std::chrono::duration<double>(c.delay));
    }
    return !interrupted();
  };
  const sudoku::Thought thought = think(net, givens, options)[0];
  if (interrupted()) return kInterrupted;
  const bool valid = thought.answer.valid;
  if (watch && watch->on_terminal()) {
    watch->show(thought.answer, thought.attempt, thought.iterations);
  } else {
    write_out(c.common.json ? to_json(givens[0], thought) : draw(thought.answer.board));
  }
  watch.reset();
  if (!c.html.empty()) {
    write_page(output_file("--html", c.html), givens[0], thought, recorder.frames(thought));
  }
  fmt::print(stderr, "{} after {} iterations{}, certainty {:.1f} %\n",
             valid ? "solved" : "not solved: the answer is no valid solution", thought.iterations,
             c.think.restarts.tries > 1 ? fmt::format(" of try {}", thought.attempt + 1) : "",
             100 * thought.answer.certainty);
  return valid ? 0 : kNotValid;
}

int solve_many(const SolveCommand& c, const sudoku::Network& net, std::istream& in,
               const std::string& source) {
  sudoku::PuzzleReader reader(in, source);
  sudoku::ThinkOptions options = c.think;
  options.observe = [](const sudoku::ThinkStep&) { return !interrupted(); };
  Progress progress;
  int64_t done = 0, valid = 0;
  for (bool more = true; more;) {
    std::vector<sudoku::Board> givens;
    while (static_cast<int64_t>(givens.size()) < c.batch) {
      const auto puzzle = reader.next();
      more = puzzle.has_value();
      if (!more) break;
      check_size(net, puzzle->givens, fmt::format("{}: line {}", source, reader.line()));
      givens.push_back(puzzle->givens);
    }
    options.first_number = done;
    const std::vector<sudoku::Thought> thoughts = think(net, givens, options);
    if (interrupted()) break;
    std::string text;
    for (size_t b = 0; b < givens.size(); ++b) {
      const sudoku::Answer& answer = thoughts[b].answer;
      text += c.common.json ? to_json(givens[b], thoughts[b])
                            : to_string(givens[b]) + ',' + to_string(answer.board) + '\n';
      valid += answer.valid;
    }
    write_out(text);
    done += static_cast<int64_t>(givens.size());
    progress.show([&] { return fmt::format("{} puzzles, {} solved", done, valid); });
  }
  progress.finish();
  check<FormatError>(done > 0 || interrupted(), "{}: holds no puzzle", source);
  fmt::print(stderr, "{} of {} answers are valid solutions\n", valid, done);
  if (interrupted()) return kInterrupted;
  return valid == done ? 0 : kNotValid;
}

int run_solve(SolveCommand& c) {
  c.common.apply();
  c.think.restarts.seed = c.common.seed;
  c.batch = c.batch > 0 ? c.batch : sudoku::default_batch(c.common.device);
  const bool stream = c.puzzle.empty() || c.puzzle == "-";
  check<OptionError>(!stream || (!c.watch && c.html.empty()),
                     "{}: wanted with one puzzle on the command line, not with many",
                     c.watch ? "--watch" : "--html");
  if (!c.html.empty()) output_file("--html", c.html);  // refuses now rather than after the work
  const auto net = sudoku::load_network(find_checkpoint(c.checkpoint), c.common.device);
  note_interrupts();
  if (!stream) return solve_one(c, *net);
  if (c.puzzle == "-") return solve_many(c, *net, std::cin, "standard input");
  std::ifstream in = sudoku::open_puzzles(c.puzzles);
  return solve_many(c, *net, in, c.puzzles);
}

}  // namespace

std::function<int()> add_solve(CLI::App& app) {
  const auto c = std::make_shared<SolveCommand>();
  app.description(
      "Solves puzzles with a trained network, and says of every answer whether it is a valid\n"
      "solution. A board is done as soon as its answer is valid. Solutions in the input are not\n"
      "looked at.\n\n"
      "  sudoku solve "
      "4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......\n"
      "  sudoku solve --watch "
      "4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......\n"
      "  sudoku generate --count 100 | sudoku solve -\n\n"
      "Many puzzles are answered by lines `puzzle,answer` as they come. Exit status: 0 if every\n"
      "answer is a valid solution, 3 if some are not, 130 after Ctrl-C, 1 for any other error.");
  auto* input = app.add_option_group("Puzzles", "One of:");
  input->add_option("PUZZLE", c->puzzle,
                    "81 characters, '.' or '0' blank; or '-': many, from the standard input");
  input->add_option("--puzzles", c->puzzles, "File of puzzles, one a line");
  input->require_option(1);
  app.add_option("--checkpoint", c->checkpoint,
                 "What `sudoku train` saved; without it the network that comes with the program");
  add_number(app, "--iterations", c->think.iterations, "Refinements per try, at most");
  add_number(app, "--restarts", c->think.restarts.tries,
             "Tries per puzzle, all but the first from noisy starts, until one is valid; if\n"
             "none is, the most certain answer counts");
  add_number(app, "--batch", c->batch, "Puzzles refined together [32; on CUDA 1024]")
      ->default_str("");
  auto* watch =
      app.add_flag("--watch", c->watch,
                   "Draw the board after every iteration: givens bold, other digits from\n"
                   "red (a guess) to green (certain). Not on a terminal: after 1, 2, 4, ...");
  app.add_option("--delay", c->delay, "Seconds between the drawings of --watch")
      ->check(number(0, Least::included, 60))
      ->capture_default_str()
      ->needs(watch);
  app.add_option("--html", c->html,
                 "Write a page that shows the board after every iteration, with a slider");
  c->common.add_to(app, "Seed of the noise of --restarts", "Print one JSON object per puzzle");
  app.get_option("--json")->excludes(watch);
  return [c] { return run_solve(*c); };
}

}  // namespace stillpoint::tools
