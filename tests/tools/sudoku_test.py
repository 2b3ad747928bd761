"""The program `sudoku` as a user runs it: exit status, output, files. Usage: sudoku_test.py PROGRAM"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)


def sudoku(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120)


class Sudoku(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.run_folder = self.folder / "run"
        self.checkpoint = self.run_folder / "checkpoint.safetensors"
        # A small network on 4x4 boards.
        self.anywhere = ["train", "--box", 2, "--channels", 8, "--boards", 6, "--validate", 4]
        self.small = [*self.anywhere, "--output", self.run_folder]

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def works(self, *arguments):
        result = sudoku(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fails(self, wanted, *arguments):
        result = sudoku(*arguments)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(wanted, result.stderr)
        self.assertEqual(result.stdout, "")

    def test_help_teaches(self):
        for command in "generate", "train", "eval":
            text = self.works(command, "--help")
            self.assertIn(f"sudoku {command} --", text)  # an example
            for option in "--seed", "--threads", "--device", "--json":
                self.assertIn(option, text)

    def test_trains_and_evaluates(self):
        summary = json.loads(self.works(*self.small, "--steps", 20, "--json"))
        self.assertEqual(summary["steps"], 20)
        self.assertEqual([r["iterations"] for r in summary["validation"]], [8, 16, 32, 64])
        lines = [json.loads(line) for line in (self.run_folder / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line.get("step") for line in lines], [None, 10, 20, 20])
        self.assertEqual(lines[0]["run"]["channels"], 8)
        self.assertGreater(lines[1]["loss"], 0)

        report = json.loads(self.works("eval", "--checkpoint", self.checkpoint, "--count", 5, "--iterations", "2,4",
                                       "--json"))
        self.assertEqual(report["puzzles"], 5)
        self.assertEqual([r["iterations"] for r in report["results"]], [2, 4])
        for r in report["results"]:
            self.assertTrue(0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1)
            self.assertTrue(0 <= r["cells"] <= 1)

        own = self.file("own.csv", "1234341221434.21\n")
        self.assertIn("1 puzzles", self.works("eval", "--checkpoint", self.checkpoint, "--puzzles", own))

    def test_generates_the_puzzles_that_eval_uses(self):
        made = self.works("generate", "--box", 2, "--count", 30, "--seed", 7)
        lines = made.splitlines()
        self.assertEqual(len(lines), 30)
        for line in lines:
            puzzle, solution = line.split(",")
            self.assertEqual(len(puzzle), 16)
            self.assertTrue(all(p in (".", s) for p, s in zip(puzzle, solution)), line)
        self.assertEqual(self.works("generate", "--box", 2, "--count", 12, "--seed", 7, "--threads", 3),
                         "".join(line + "\n" for line in lines[:12]))
        self.assertNotEqual(self.works("generate", "--box", 2, "--count", 30, "--seed", 8), made)
        ordinary = self.works("generate", "--box", 2, "--count", 30, "--seed", 7, "--kind", "ordinary")
        self.assertLess(ordinary.count("."), made.count("."))

        file = self.folder / "made.csv"
        summary = json.loads(self.works("generate", "--box", 2, "--count", "030", "--seed", 7, "--output", file,
                                        "--json"))
        self.assertEqual((summary["puzzles"], summary["interrupted"]), (30, False))
        self.assertEqual(file.read_text(), made)
        self.works(*self.small, "--steps", 1)
        evaluate = ["eval", "--checkpoint", self.checkpoint, "--iterations", "2,4", "--restarts", 3, "--seed", 7, "--json"]
        self.assertEqual(self.works(*evaluate, "--count", 30), self.works(*evaluate, "--puzzles", file))

    def test_ctrl_c_keeps_the_whole_lines(self):
        file = self.folder / "made.csv"
        run = subprocess.Popen([PROGRAM, "generate", "--count", str(10**12), "--output", file, "--json"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn("a second", run.stderr.readline())
        self.assertFalse(file.exists())
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130, err)
        summary = json.loads(out)
        self.assertTrue(summary["interrupted"])
        text = file.read_text()
        self.assertEqual((text.count("\n"), text[-1]), (summary["puzzles"], "\n"))
        self.assertEqual({len(line) for line in text.splitlines()}, {163})
        self.assertEqual(list(self.folder.iterdir()), [file])

    def test_numbers_mean_what_they_look_like(self):
        for option in "--seed", "--count", "--threads":
            for wrong in "-1", "+5", "1e3", "0x10", "3.0", "three", "99999999999999999999":
                self.fails(f"{option}: '{wrong}'; wanted a whole number", "generate", f"{option}={wrong}")
        self.assertEqual(self.works("generate", "--box", 2, "--count", "010").count("\n"), 10)
        self.fails("'5'; wanted", "generate", "--box", 5)
        self.fails("'0'; wanted a whole number from 1", "generate", "--count", 0)

    def test_generate_says_what_is_wrong(self):
        self.fails("'hard'; wanted minimal or ordinary", "generate", "--kind", "hard")
        self.fails("--output", "generate", "--json")
        self.fails("made on the CPU", "generate", "--device", "cuda")
        self.fails("not a file", "generate", "--output", self.folder)
        self.fails("not a file", "generate", "--output", "/dev/null")
        self.fails("No such file", "generate", "--output", self.folder / "none" / "made.csv")
        with open("/dev/full", "w") as full:
            result = subprocess.run([PROGRAM, "generate", "--count", "3"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)

    def test_steps_give_the_same_network_at_any_number_of_threads(self):
        files = []
        for threads in 1, 3:
            output = self.folder / str(threads)
            self.works(*self.anywhere, "--steps", 10, "--threads", threads, "--output", output)
            report = self.works("eval", "--checkpoint", output / "checkpoint.safetensors", "--count", 50, "--json")
            data = (output / "checkpoint.safetensors").read_bytes()
            header = 8 + int.from_bytes(data[:8], "little")
            files.append((report, data[header:]))  # the header holds the seconds that it took
        self.assertEqual(files[0], files[1])

    def test_ctrl_c_saves_and_stops_and_the_run_goes_on(self):
        run = subprocess.Popen([PROGRAM, *map(str, self.small), "--steps", "1000000", "--json"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        metrics = self.run_folder / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (metrics.exists() and "loss" in metrics.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130, err)
        summary = json.loads(out)
        self.assertTrue(summary["interrupted"])
        again = ["train", "--resume", "--output", self.run_folder, "--json"]
        resumed = json.loads(self.works(*again, "--steps", summary["steps"] + 10))
        self.assertEqual(resumed["steps"], summary["steps"] + 10)
        steps = [line["step"] for line in map(json.loads, metrics.read_text().splitlines()) if "loss" in line]
        self.assertEqual(steps, list(range(10, 10 * len(steps) + 1, 10)))
        self.fails("--channels", *again, "--steps", 3, "--channels", 4)

    def test_says_what_is_wrong(self):
        self.fails("subcommand")
        self.fails("--checkpoint", "eval")
        self.fails("none.safetensors", "eval", "--checkpoint", self.folder / "none.safetensors")
        self.fails("--output", "train", "--steps", 3)
        self.fails("--minutes", *self.small)
        self.fails("--minutes", *self.small, "--steps", 3, "--minutes", 1)
        self.fails("--steps", *self.small, "--steps", -3)
        self.fails("--minutes", *self.small, "--minutes", 0)
        self.fails("'tpu'; wanted cpu or cuda", *self.small, "--steps", 3, "--device", "tpu")
        self.fails("--colour", *self.small, "--steps", 3, "--colour")
        self.fails(str(self.run_folder), "train", "--output", self.run_folder, "--resume", "--steps", 3)
        blocked = self.file("file", "") / "run"
        self.fails(str(blocked), *self.anywhere, "--steps", 3, "--output", blocked)

    def test_says_what_is_wrong_with_files(self):
        self.works(*self.small, "--steps", 1)
        before = self.checkpoint.read_bytes()
        self.fails("--resume", *self.small, "--steps", 3)  # would overwrite the run
        self.assertEqual(self.checkpoint.read_bytes(), before)
        evaluate = ["eval", "--checkpoint", self.checkpoint]
        self.fails("line 2, column 4", *evaluate, "--puzzles", self.file("a.csv", "1234341221434.21\n1..1............\n"))
        self.fails("more than one solution", *evaluate, "--puzzles", self.file("b.csv", "." * 16))
        self.fails("no puzzle", *evaluate, "--puzzles", self.file("c.csv", "\n"))
        self.fails("box size 3", *evaluate, "--puzzles",
                   self.file("d.csv", "..58.26..2...5...3.7.....4..1.3.5.6.68.7.1.59...........7.2.3..5...1...4...9.3..."))
        self.fails("d.csv: line 1, ", *evaluate, "--puzzles", self.file("d.csv", "1.\n"))
        self.fails("it is a folder", *evaluate, "--puzzles", self.folder)
        self.fails("--count", *evaluate, "--puzzles", self.file("e.csv", "1234341221434321"), "--count", 5)
        self.fails("--kind", *evaluate, "--puzzles", self.folder / "e.csv", "--kind", "minimal")
        self.fails("4 iterations", *evaluate, "--iterations", "8,4")
        self.fails("'-4'; wanted", *evaluate, "--iterations", "2,-4")
        self.fails("1048576", *evaluate, "--restarts", 2000000)
        for name, data in ("truncated", before[:3000]), ("empty", b""), ("text", b"1...3...........\n"):
            damaged = self.folder / name
            damaged.write_bytes(data)
            self.fails(str(damaged), "eval", "--checkpoint", damaged)


if __name__ == "__main__":
    unittest.main(verbosity=2)
