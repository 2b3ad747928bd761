#include "tools/support/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>

namespace stillpoint::tools {
namespace {

volatile std::sig_atomic_t noted = 0;

void note(int signal) {
  noted = 1;
  std::signal(signal, SIG_DFL);
}

bool on_terminal() {
  static const bool yes = isatty(STDERR_FILENO) != 0;
  return yes;
}

}  // namespace

void note_interrupts() {
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
}

bool interrupted() { return noted != 0; }

void Progress::show(const std::function<std::string()>& text) {
  using namespace std::chrono_literals;
  const auto now = std::chrono::steady_clock::now();
  if (last_.time_since_epoch().count() != 0 && now - last_ < (on_terminal() ? 200ms : 10s)) return;
  last_ = now;
  const std::string line = text();
  if (on_terminal()) {
    fmt::print(stderr, "\r{:<{}}", line, std::max(width_, line.size()));
    width_ = line.size();
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

void Progress::finish() {
  if (width_ > 0) fmt::print(stderr, "\n");
  width_ = 0;
}

std::string duration(double seconds) {
  const auto s = std::llround(std::max(0.0, seconds));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string amount_done(int64_t done, int64_t total, const char* things, double seconds) {
  const double rate = static_cast<double>(done) / seconds;
  return fmt::format("{} of {} {}, {:.3g} a second, {} left", done, total, things, rate,
                     duration(static_cast<double>(total - done) / rate));
}

int run_main(const char* program, const std::function<int()>& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return 1;
  }
}

}  // namespace stillpoint::tools
