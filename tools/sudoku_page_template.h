// The text of sudoku_page.html, put into the program by the build.
#pragma once

namespace stillpoint::tools {

extern const char* const kSudokuPage;

}  // namespace stillpoint::tools
