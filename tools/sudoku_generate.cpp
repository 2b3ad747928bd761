// sudoku generate
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/puzzle_text.h"
#include "tools/sudoku.h"
#include "tools/support/console.h"
#include "tools/support/options.h"
#include "tools/support/output.h"

namespace stillpoint::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct GenerateCommand {
  CommonOptions common;
  sudoku::PuzzleKind kind = sudoku::PuzzleKind::minimal;
  sudoku::Geometry geometry;
  int64_t count = 1000;
  std::string output;
};

std::string lines_of(const std::vector<sudoku::GeneratedPuzzle>& puzzles) {
  std::string lines;
  for (const auto& puzzle : puzzles) {
    lines += to_string(puzzle.givens) + ',' + to_string(puzzle.solution) + '\n';
  }
  return lines;
}

// What was made, for people on stderr or for programs on stdout.
void report(const GenerateCommand& c, int64_t made, double seconds) {
  if (c.common.json) {
    const nlohmann::ordered_json json{{"puzzles", made},    {"wanted", c.count},
                                      {"output", c.output}, {"seed", c.common.seed},
                                      {"seconds", seconds}, {"interrupted", made < c.count}};
    write_out(json.dump() + '\n');
    return;
  }
  fmt::print(stderr, "{} of {} puzzles in {}{}{}\n", made, c.count, duration(seconds),
             c.output.empty() ? "" : ", in ", c.output);
}

int run_generate(const GenerateCommand& c) {
  check<OptionError>(c.common.device == Device::cpu,
                     "--device {}: puzzles are made on the CPU; wanted cpu", name(c.common.device));
  c.common.apply();
  std::optional<io::AtomicFile> file;
  if (!c.output.empty()) file.emplace(output_file("--output", c.output));
  // Enough for all cores, and soon done even of boards that take long.
  const int64_t chunk = c.geometry.box > 3 ? 16 : 512;
  const auto options = evaluation_puzzles(c.kind, c.geometry, c.common.seed);
  note_interrupts();
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Progress progress;
  int64_t made = 0;
  while (made < c.count && !interrupted()) {
    const int64_t size = std::min(chunk, c.count - made);
    const std::string lines = lines_of(sudoku::generate(options, made, size));
    if (file) {
      file->write(lines.data(), lines.size());
    } else {
      write_out(lines);
    }
    made += size;
    progress.show([&] { return amount_done(made, c.count, "puzzles", elapsed()); });
  }
  progress.finish();
  if (file) file->commit();
  report(c, made, elapsed());
  return made < c.count ? 130 : 0;
}

}  // namespace

CLI::Option* add_kind(CLI::App& app, sudoku::PuzzleKind& kind) {
  return add_choice(app, "--kind", kind,
                    {{"minimal", sudoku::PuzzleKind::minimal},
                     {"ordinary", sudoku::PuzzleKind::ordinary},
                     {"hard", sudoku::PuzzleKind::hard}},
                    "Generated puzzles: minimal (no given to spare), ordinary (0 to 30 givens put\n"
                    "back) or hard (climbed to from minimal ones, by the guesses that a search\n"
                    "needs; 9x9) [minimal]")
      ->type_name("KIND");
}

sudoku::GeneratorOptions evaluation_puzzles(sudoku::PuzzleKind kind, sudoku::Geometry geometry,
                                            uint64_t seed) {
  return {.geometry = geometry,
          .seed = seed,
          .use = sudoku::PuzzleUse::evaluation,
          .hard_share = kind == sudoku::PuzzleKind::hard ? 1.0 : 0.0,
          .minimal_share = kind == sudoku::PuzzleKind::minimal ? 1.0 : 0.0};
}

std::function<int()> add_generate(CLI::App& app) {
  const auto c = std::make_shared<GenerateCommand>();
  app.description(
      "Makes puzzles with one solution, one a line: the puzzle, a comma, the solution. They are "
      "for\n"
      "evaluation: the same that `sudoku eval` makes for the same seed, from draws that training,\n"
      "whatever its seed, never uses. (4x4 boards are so few that some come up in both.)\n"
      "Puzzle number n depends on the seed and n alone.\n\n"
      "  sudoku generate --kind ordinary --count 10000 --seed 7 --output ordinary.csv\n"
      "  sudoku generate --count 5 --box 2\n\n"
      "A file gets its name once it is complete; Ctrl-C keeps the whole lines made so far.");
  add_kind(app, c->kind);
  add_number(app, "--count", c->count, "How many puzzles");
  app.add_option("--box", c->geometry.box, "Box size: 2 is 4x4, 3 is 9x9, 4 is 16x16")
      ->transform(digits_only(sudoku::kMinBox, sudoku::kMaxBox))
      ->capture_default_str();
  auto* output = app.add_option("--output", c->output,
                                "File to write; without it the puzzles go to the standard output");
  c->common.add_to(app, "Seed of the puzzles", "Print one JSON object at the end; wants --output");
  app.get_option("--json")->needs(output);
  return [c] { return run_generate(*c); };
}

}  // namespace stillpoint::tools
