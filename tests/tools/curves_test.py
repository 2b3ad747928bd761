"""bench/curves.py: what it draws, and what it says of files that it cannot draw."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(sys.argv.pop(1)) / "curves.py"


class Curves(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.output = self.folder / "curves.svg"

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return self.folder / name

    def curves(self, *arguments):
        return subprocess.run([sys.executable, SCRIPT, "--output", self.output, *arguments], capture_output=True,
                              text=True, timeout=60)

    def test_draws_a_line_for_each_file(self):
        results = [{"iterations": n, "accuracy": 0.5, "low": 0.4, "high": 0.6, "cells": 0.9} for n in (8, 16, 32)]
        file = self.write("a.json", json.dumps({"puzzles": 10, "results": results}))
        done = self.curves("--title", "One network's boards", f"{file}=easy ones", f"{file}=hard ones")
        self.assertEqual(done.returncode, 0, done.stderr)
        drawn = self.output.read_text()
        for text in "easy ones", "hard ones", "One network's boards", "iterations":
            self.assertIn(text.replace("'", "&#39;"), drawn.replace("'", "&#39;"))

    def test_says_which_file_is_wrong(self):
        for text in "", "{}", "[]", '{"results": [{"iterations": 8}]}':
            file = self.write("bad.json", text)
            done = self.curves(f"{file}=bad")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{file}: wanted the output of `sudoku eval --json`", done.stderr)
            self.assertFalse(self.output.exists())
        done = self.curves(f"{self.folder}/absent.json=absent")
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
