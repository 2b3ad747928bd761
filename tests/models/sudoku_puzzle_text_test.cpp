#include "models/sudoku/puzzle_text.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "models/sudoku/generator.h"

namespace stillpoint::sudoku {
namespace {

const std::string kPuzzle4 = "1...3...........", kSolved4 = "1234341221434321";

struct Failure {
  std::string text;
  Uniqueness uniqueness;
  int64_t line, column;
  std::string reason;  // part of the message
};

std::ostream& operator<<(std::ostream& out, const Failure& f) { return out << f.reason; }

class PuzzleTextFailure : public testing::TestWithParam<Failure> {};

TEST_P(PuzzleTextFailure, SaysLineColumnAndReason) {
  const Failure& f = GetParam();
  std::istringstream in(f.text);
  try {
    read_puzzles(in, f.uniqueness);
    FAIL() << "accepted: " << f.text;
  } catch (const PuzzleError& error) {
    EXPECT_EQ(error.line(), f.line);
    EXPECT_EQ(error.column(), f.column);
    EXPECT_NE(std::string(error.what()).find(f.reason), std::string::npos) << error.what();
    const std::string position =
        "line " + std::to_string(f.line) + ", column " + std::to_string(f.column);
    EXPECT_NE(std::string(error.what()).find(position), std::string::npos) << error.what();
  }
}

constexpr auto kFree = Uniqueness::unchecked;
constexpr auto kOne = Uniqueness::required;
INSTANTIATE_TEST_SUITE_P(
    All, PuzzleTextFailure,
    testing::Values(
        Failure{std::string(80, '.'), kFree, 1, 1, "80 characters"},
        Failure{"# first\n\n" + std::string(82, '.'), kFree, 3, 1, "82 characters"},
        Failure{kPuzzle4 + "\n1...3......x....", kFree, 2, 12, "'x'"},
        Failure{"1...3......5....", kFree, 1, 12, "'5'"},
        Failure{std::string("1...3....\0......", 16), kFree, 1, 10, "byte 0x00"},
        Failure{"1..1............", kFree, 1, 4, "already in this row, at row 1, column 1"},
        Failure{"1.......1.......", kFree, 1, 9, "already in this column, at row 1, column 1"},
        Failure{"1....1..........", kFree, 1, 6, "already in this box, at row 1, column 1"},
        Failure{kPuzzle4 + ",123434122143432", kFree, 1, 18, "15 characters"},
        Failure{kPuzzle4 + "," + kSolved4 + ",easy", kFree, 1, 18, "21 characters"},
        Failure{kPuzzle4 + ",12343412214343.1", kFree, 1, 32, "blank at row 4, column 3"},
        Failure{kPuzzle4 + ",1234341221434322", kFree, 1, 33, "already in this column"},
        Failure{"2..............." + std::string(",") + kSolved4, kFree, 1, 18, "the puzzle '2'"},
        Failure{kPuzzle4 + "," + kSolved4, kOne, 1, 1, "more than one solution"},
        Failure{"\n123...4.........", kOne, 2, 1, "no solution"}));

TEST(PuzzleText, ReadsEverySpellingOfABlank) {
  const Board dots = parse_puzzle("1...3...........").givens;
  EXPECT_EQ(dots, parse_puzzle("1000300000000000").givens);
  EXPECT_EQ(dots, parse_puzzle("1.003...0..0....").givens);
  EXPECT_EQ(dots.givens(), 2);
}

TEST(PuzzleText, ReadsFilesOfEitherLineEnd) {
  for (const std::string end : {"\n", "\r\n"}) {
    std::istringstream in("# two puzzles" + end + kPuzzle4 + end + end + kPuzzle4 + "," + kSolved4);
    const auto puzzles = read_puzzles(in);
    ASSERT_EQ(puzzles.size(), 2u);
    EXPECT_FALSE(puzzles[0].solution);
    ASSERT_TRUE(puzzles[1].solution);
    EXPECT_EQ(to_string(*puzzles[1].solution), kSolved4);
  }
}

TEST(PuzzleText, WritesWhatItReads) {
  for (const int box : {2, 3, 4}) {
    const auto made = generate({.geometry = {box}, .seed = 11}, 0);
    const std::string text = to_string(made.givens) + "," + to_string(made.solution);
    const Puzzle read = parse_puzzle(text, Uniqueness::required);
    EXPECT_EQ(read.givens, made.givens);
    EXPECT_EQ(read.solution, made.solution);
  }
}

TEST(PuzzleText, LowerCaseLettersAreValuesOf16x16) {
  std::string text(256, '.');
  text[0] = 'g';
  text[255] = 'G';
  text[17] = '0';
  const Board board = parse_puzzle(text).givens;
  EXPECT_EQ(board[0], 16);
  EXPECT_EQ(board[255], 16);
  EXPECT_EQ(board.givens(), 2);
}

TEST(PuzzleText, FillsTheSolutionWhenUniquenessIsRequired) {
  const auto made = generate({.seed = 12}, 0);
  EXPECT_FALSE(parse_puzzle(to_string(made.givens)).solution);
  EXPECT_EQ(parse_puzzle(to_string(made.givens), Uniqueness::required).solution, made.solution);
}

TEST(PuzzleText, NamesTheFileThatIsNotThere) {
  try {
    read_puzzles(std::filesystem::path("no/such/puzzles.csv"));
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("no/such/puzzles.csv"), std::string::npos);
  }
}

TEST(PuzzleText, NamesTheFileAndTheLineThatIsWrong) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("stillpoint_puzzles_" + std::to_string(getpid()) + ".csv");
  std::ofstream(file) << kPuzzle4 << "\n1..1............\n";
  try {
    read_puzzles(file);
    ADD_FAILURE();
  } catch (const PuzzleError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with(file.string() + ": line 2, column 4: "))
        << error.what();
    EXPECT_EQ(error.line(), 2);
  }
  std::filesystem::remove(file);
}

TEST(PuzzleText, RefusesAFolder) {
  EXPECT_THROW(read_puzzles(std::filesystem::temp_directory_path()), IoError);
}

TEST(PuzzleReader, ReadsOneAtATime) {
  std::istringstream in("# first\n" + kPuzzle4 + "\n\n" + kSolved4 + "\nnonsense");
  PuzzleReader reader(in, "own.csv");
  EXPECT_EQ(to_string(reader.next()->givens), kPuzzle4);
  EXPECT_EQ(reader.line(), 2);
  EXPECT_EQ(to_string(reader.next()->givens), kSolved4);
  EXPECT_EQ(reader.line(), 4);
  EXPECT_THROW(reader.next(), PuzzleError);
  EXPECT_FALSE(reader.next().has_value());
}

}  // namespace
}  // namespace stillpoint::sudoku
