"""bench/training_curves.py: what it draws, and what it says of files that it cannot draw."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(sys.argv.pop(1)) / "training_curves.py"


class TrainingCurves(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.output = self.folder / "runs.svg"

    def write(self, name, lines):
        (self.folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return self.folder / name

    def draw(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, "--output", self.output, *arguments], capture_output=True,
                              text=True, timeout=60)

    def test_draws_equilibria_beside_an_unrolled_run(self):
        validations = [{"step": n, "seconds": n / 7, "validation": [{"iterations": 8, "accuracy": 0},
                                                                    {"iterations": 64, "accuracy": n / 100}]}
                       for n in (50, 100)]
        solves = [{"step": 50, "seconds": 7, "loss": 1, "residual": 0.1},
                  {"step": 50, "seconds": 7, "radii": [0.9, 1.1]},
                  {"step": 100, "seconds": 14, "loss": 1, "residual": None},  # not finite
                  {"step": 100, "seconds": 14, "radii": [None, 1.1]}]
        equilibrium = self.write("a.jsonl", [{"run": {}}, *validations, *solves])
        unrolled = self.write("b.jsonl", [{"run": {}}, *validations])
        for against in "step", "seconds":
            done = self.draw("--title", "Two runs", "--against", against, f"{equilibrium}=solved", f"{unrolled}=unrolled")
            self.assertEqual(done.returncode, 0, done.stderr)
            drawn = self.output.read_text()
            for text in "Two runs", "solved", "spectral radius", "relative residual", against:
                self.assertIn(text, drawn)
            self.assertEqual(drawn.count("unrolled") + 2, drawn.count("solved"))  # one key, and one panel against three
        self.assertEqual(self.draw(f"{unrolled}=alone").returncode, 0)

    def test_draws_boards_right_against_steps_and_processor_time(self):
        lines = [{"step": n, "cpu_seconds": n / 9, "validation": [{"accuracy": n / 100}]} for n in (50, 100)]
        seeds = [self.write(f"{seed}.jsonl", lines) for seed in "abc"]
        done = self.draw("--accuracy", f"{seeds[0]}=one", f"{seeds[1]}=one", f"{seeds[2]}=other")
        self.assertEqual(done.returncode, 0, done.stderr)
        drawn = self.output.read_text()
        self.assertIn("seconds of processor time", drawn)
        self.assertNotIn("spectral radius", drawn)
        self.assertGreater(drawn.count(">one<"), 0)
        self.assertEqual(drawn.count(">one<"), drawn.count(">other<"))  # two seeds as named as one run is
        self.assertEqual(self.draw("--accuracy", "--against", "step", f"{seeds[0]}=one").returncode, 2)

    def test_says_which_file_is_wrong(self):
        for text in "", "[]", "{}", '{"step": 1, "validation": []}', "x":
            file = self.folder / "bad.jsonl"
            file.write_text(text)
            done = self.draw(f"{file}=bad")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{file}: wanted the metrics.jsonl of a `sudoku train`", done.stderr)
            self.assertFalse(self.output.exists())
        self.assertEqual(self.draw(f"{self.folder}/absent=absent").returncode, 1)


if __name__ == "__main__":
    unittest.main()
