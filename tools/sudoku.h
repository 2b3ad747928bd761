// The subcommands of the program `sudoku`, and the options that they share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/graph_learner.h"

namespace stillpoint::tools {

// Adds a subcommand; the returned function runs it once the command line is parsed.
std::function<int()> add_generate(CLI::App& app);
std::function<int()> add_train(CLI::App& app);
std::function<int()> add_eval(CLI::App& app);
std::function<int()> add_solve(CLI::App& app);

// --kind minimal|ordinary of generated puzzles.
CLI::Option* add_kind(CLI::App& app, sudoku::PuzzleKind& kind);
// --solver anderson|broyden|damped.
CLI::Option* add_solver(CLI::App& app, sudoku::SolverKind& solver, const std::string& help);
sudoku::GeneratorOptions evaluation_puzzles(sudoku::PuzzleKind kind, sudoku::Geometry geometry,
                                            uint64_t seed);

struct CommonOptions {
  uint64_t seed = 1;
  int threads = 0;
  Device device = Device::cpu;
  bool json = false;

  void add_to(CLI::App& app, const char* seed_help, const char* json_help);
  void apply() const;  // sets the threads; throws OptionError if the device is not in this build
};

// [{"iterations": 64, "accuracy": 0.98, "low": 0.97, "high": 0.99, "cells": 0.999}, ...]
nlohmann::ordered_json to_json(const sudoku::EvaluateReport& report);

// Of a network that chooses its graph; nothing for others.
std::optional<sudoku::GraphQuality> graph_quality_of(const sudoku::Network& net,
                                                     const std::vector<sudoku::Puzzle>& puzzles);
nlohmann::ordered_json to_json(const sudoku::GraphQuality& quality);

}  // namespace stillpoint::tools
