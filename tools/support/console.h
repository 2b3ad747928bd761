// What the programs share: progress on stderr, Ctrl-C, and how main ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace stillpoint::tools {

// From now on the first Ctrl-C (or SIGTERM) is only noted, so that the program can save and stop;
// the second one ends it.
void note_interrupts();
bool interrupted();

// One line on stderr that is rewritten in place on a terminal; elsewhere a new line now and then.
class Progress {
 public:
  ~Progress() { finish(); }
  // Shows the text unless the last one is too fresh: 0.2 s on a terminal, 10 s elsewhere.
  void show(const std::function<std::string()>& text);
  void finish();  // ends a rewritten line
 private:
  std::chrono::steady_clock::time_point last_{};
  size_t width_ = 0;  // of the line now on the terminal
};

std::string duration(double seconds);  // "4:07" or "1:02:09"

// "640 of 10000 puzzles, 213 a second, 0:44 left".
std::string amount_done(int64_t done, int64_t total, const char* things, double seconds);

// Runs a program: exceptions become one line on stderr and exit status 1.
int run_main(const char* program, const std::function<int()>& body);

}  // namespace stillpoint::tools
