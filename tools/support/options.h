// Command-line values that mean what they look like.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace stillpoint::tools {

// Decimal digits alone, from least to most: no sign, space, base or exponent. "010" is ten.
CLI::Validator digits_only(uint64_t least, uint64_t most);

// A finite number of at least `least`, or above it, and up to `most`.
enum class Least : uint8_t { included, excluded };
CLI::Validator number(double least, Least bound,
                      double most = std::numeric_limits<double>::infinity());

// An option for a whole number of at least `least`, with its default in the help.
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& name, T& value, const std::string& help,
                        uint64_t least = 1) {
  return app.add_option(name, value, help)
      ->transform(digits_only(least, static_cast<uint64_t>(std::numeric_limits<T>::max())))
      ->capture_default_str();
}

// One of these words, nothing else.
CLI::Validator one_of(std::vector<std::string> words);

// An option that takes the name of one of the values.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value,
                        const std::map<std::string, T>& choices, const std::string& help) {
  std::vector<std::string> words;
  for (const auto& [word, meaning] : choices) words.push_back(word);
  const auto set = [&value, choices](const std::string& word) { value = choices.at(word); };
  return app.add_option_function<std::string>(name, set, help)->check(one_of(std::move(words)));
}

}  // namespace stillpoint::tools
