#include "tools/support/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <utility>

namespace stillpoint::tools {

CLI::Validator digits_only(uint64_t least, uint64_t most) {
  const auto check = [least, most](std::string& text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
      return fmt::format("'{}'; wanted a whole number from {} to {}", text, least, most);
    }
    text = fmt::format("{}", value);  // CLI11 would take leading zeros for base 8
    return std::string();
  };
  return {check, ""};
}

CLI::Validator number(double least, Least bound, double most) {
  const auto check = [=](const std::string& text) {
    double value = NAN;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool above = bound == Least::included ? value >= least : value > least;
    if (error == std::errc{} && end == text.data() + text.size() && std::isfinite(value) && above &&
        value <= most)
      return std::string();
    return fmt::format("'{}'; wanted a number {} {}{}", text,
                       bound == Least::included ? "of at least" : "above", least,
                       std::isfinite(most) ? fmt::format(" and up to {}", most) : "");
  };
  return {check, ""};
}

CLI::Validator one_of(std::vector<std::string> words) {
  const auto check = [words = std::move(words)](const std::string& text) {
    if (std::find(words.begin(), words.end(), text) != words.end()) return std::string();
    return fmt::format("'{}'; wanted {}", text, fmt::join(words, " or "));
  };
  return {check, ""};
}

}  // namespace stillpoint::tools
