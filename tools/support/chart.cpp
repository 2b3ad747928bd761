#include "tools/support/chart.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

namespace stillpoint::tools {
namespace {

// Distinguishable in any kind of colour vision: Okabe and Ito, "Color universal design", 2008.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73",
                                    "#CC79A7", "#E69F00", "#56B4E9"};

constexpr int kWidth = 520, kHeight = 400;  // of one chart

const char* scale(Scale s) {
  return s == Scale::linear ? "unset logscale {0}\n"
         : s == Scale::log2 ? "set logscale {0} 2\n"
                            : "set logscale {0} 10\n";
}

std::string fields_script(const std::vector<std::vector<double>>& fields) {
  std::string s = "$fields << EOD\n";
  for (const auto& row : fields) s += fmt::format("{}\n", fmt::join(row, " "));
  return s + fmt::format(
                 "EOD\nset size square\nunset colorbox\nset palette defined (0 'white', 1 '{}')\n"
                 "set cbrange [0:1]\nset xrange [0.5:{}.5]\nset yrange [{}.5:0.5]\n"
                 "plot $fields matrix using ($1+1):($2+1):3 with image pixels notitle\n"
                 "set size nosquare\nset autoscale x\n",
                 kColours[0], fields.front().size(), fields.size());
}

std::string script(const std::vector<Chart>& charts) {
  std::string s = fmt::format(
      "set terminal svg size {},{} dynamic font 'sans-serif,14' background rgb 'white'\n"
      "set grid lc rgb '#dddddd' lt 1\nset border 3 lc rgb '#666666'\nset tics nomirror\n"
      "set multiplot layout 1,{}\n",
      kWidth * static_cast<int>(charts.size()), kHeight, charts.size());
  for (const Chart& chart : charts) {
    s += fmt::format("set xlabel '{}'\nset ylabel '{}'\n", chart.x_title, chart.y_title);
    s += fmt::format(fmt::runtime(scale(chart.x_scale)), "x");
    s += fmt::format(fmt::runtime(scale(chart.y_scale)), "y");
    if (!chart.fields.empty()) {
      s += "set format y '%g'\n" + fields_script(chart.fields);
      continue;
    }
    s += chart.shares ? "set yrange [0:100]\nset format y '%g %%'\nset key bottom right\n"
                      : "set yrange [*:*]\nset format y '%g'\nset key top right\n";
    std::string plots;
    for (size_t k = 0; k < chart.lines.size(); ++k) {
      if (chart.lines[k].points.empty()) continue;
      s += fmt::format("$line{} << EOD\n", k);
      const double unit = chart.shares ? 100 : 1;
      bool interval = false;
      for (const Point& p : chart.lines[k].points) {
        interval |= p.low < p.high;
        s += fmt::format("{} {} {} {}\n", p.x, unit * p.y, unit * p.low, unit * p.high);
      }
      s += "EOD\n";
      const char* colour = kColours[k % std::size(kColours)];
      const std::string& title = chart.lines[k].title;
      plots += fmt::format("{}$line{} using 1:2 with {} pt 7 ps 0.4 lw 2 lc rgb '{}' {}",
                           plots.empty() ? "plot " : ", ", k,
                           chart.lines[k].points.size() < 20 ? "linespoints" : "lines", colour,
                           title.empty() ? "notitle" : fmt::format("title '{}'", title));
      if (interval) {
        plots += fmt::format(
            ", $line{} using 1:2:3:4 with yerrorbars pt 7 ps 0.4 lc rgb '{}' notitle", k, colour);
      }
    }
    // A chart without data keeps its place.
    s += plots.empty() ? "set xrange [1:2]\nset yrange [1:2]\nplot 0 notitle\n" : plots + "\n";
    s += "set autoscale x\n";
  }
  return s + "unset multiplot\n";
}

// What gnuplot prints for a script.
std::string run_gnuplot(const std::string& script) {
  std::array<char, 64> name{};
  const std::string pattern =
      (std::filesystem::temp_directory_path() / "stillpoint_XXXXXX").string();
  check<IoError>(pattern.size() < name.size(),
                 "the folder for temporary files has too long a name");
  std::memcpy(name.data(), pattern.c_str(), pattern.size());
  const int descriptor = mkstemp(name.data());
  check<IoError>(descriptor >= 0, "cannot make a temporary file {}: {}", pattern,
                 std::strerror(errno));
  const auto written = ::write(descriptor, script.data(), script.size());
  ::close(descriptor);
  std::string svg;
  int status = -1;
  if (std::FILE* out = popen(fmt::format("gnuplot '{}' 2>/dev/null", name.data()).c_str(), "r")) {
    std::array<char, 4096> part{};
    for (size_t n = 0; (n = std::fread(part.data(), 1, part.size(), out)) > 0;)
      svg.append(part.data(), n);
    status = pclose(out);
  }
  ::unlink(name.data());
  check<IoError>(written == static_cast<ssize_t>(script.size()), "cannot write {}", name.data());
  check<Error>(WIFEXITED(status) && WEXITSTATUS(status) != 127,
               "charts are drawn by gnuplot, which is not installed (Debian: gnuplot-nox)");
  check<Error>(WEXITSTATUS(status) == 0, "gnuplot failed with status {}", WEXITSTATUS(status));
  return svg;
}

}  // namespace

void check_plotter() { run_gnuplot("exit\n"); }

void draw_svg(const std::filesystem::path& file, const std::vector<Chart>& charts) {
  const std::string svg = run_gnuplot(script(charts));
  io::AtomicFile out(file);
  out.write(svg.data(), svg.size());
  out.commit();
}

}  // namespace stillpoint::tools
