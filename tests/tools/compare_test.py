"""bench/compare.py and bench/growth.py without what they time: when they stop, what they call best."""
import contextlib
import io
import sys
import unittest

sys.path.insert(0, sys.argv.pop(1))
import compare
import compare_models
import contender
import growth

# Answers as bench/peers do: title, forms, then a line for a line; `verify` with what it was told.
SERVANT = """
import sys
print("title of " + sys.stdin.readline().strip())
print("one two", flush=True)
for line in sys.stdin:
    if line.startswith("die"):
        sys.exit("no such form")
    print({answer!r} if line.startswith("verify") else 0.25, flush=True)
"""


class Compare(unittest.TestCase):
    def servant(self, answer="one=1e-6"):
        made = contender.Contender([sys.executable, "-c", SERVANT.format(answer=answer)], "a problem")
        self.addCleanup(made.close)
        return made

    def verify(self, answer):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            contender.verify(self.servant(), self.servant(answer), "folder")
        return printed.getvalue()

    def test_a_contender_answers(self):
        servant = self.servant()
        self.assertEqual(servant.title, "title of a problem")
        self.assertEqual(servant.forms, ["one", "two"])
        self.assertEqual(servant.time("one", "train", 1), 0.25)

    def test_what_a_dying_contender_said_is_shown(self):
        with self.assertRaisesRegex(SystemExit, "no such form"):
            self.servant().ask("die")

    def test_results_that_differ_end_the_run(self):
        self.assertIn("within 2.0e-04", self.verify("one=1e-6 compile:two=2e-4"))
        for answer in "one=1e-6 two=2e-3", "one=nan two=0":
            with self.assertRaisesRegex(SystemExit, "differs from float64"):
                self.verify(answer)

    def test_forms_are_compared_with_the_one_of_ours_that_they_name(self):
        times = {}
        for form, seconds in {"one": 1, "two": 2, "plain": 3, "plain@two": 10, "plain/8_boards@two": 8}.items():
            times[form, "forward"] = times[form, "gradient"] = [seconds]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            compare.table(times, ["one", "two"])
        lines = printed.getvalue().splitlines()
        self.assertRegex(printed.getvalue(), r"two +2000.000 +1.0 +2000.000 +1.0\n")
        self.assertIn("best eager form, forward: plain, 3.0 times one", lines)
        self.assertIn("best eager form, forward: plain@two, 5.0 times two", lines)
        self.assertIn("best eager form, tiled by hand, gradient: plain/8_boards@two, 4.0 times two", lines)

    def test_ratios_are_taken_within_a_round(self):
        times = {"ours": [1, 2, 4], "plain": [3, 6, 20], "tiled/8_boards": [2, 4, 12], "compile:plain": [9, 18, 36],
                 "compile:plain/8_boards": [4, 10, 12]}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            compare_models.table(times, "ours")
        lines = printed.getvalue().splitlines()
        self.assertIn("2000.0 (1000.0 to 4000.0)", lines[1])
        self.assertIn("best eager form: plain, 3.00 (3.00 to 5.00) times ours", lines)
        self.assertIn("best eager form, a few boards at a time: tiled/8_boards, 2.00 (2.00 to 3.00) times ours", lines)
        self.assertIn("best compiled form: compile:plain/8_boards, 4.00 (3.00 to 5.00) times ours", lines)

    def test_slopes_are_exponents(self):
        sizes = (4, 8, 16, 64)
        for exponent in 0, 1, 2:
            self.assertAlmostEqual(growth.slope(sizes, [3 * s**exponent for s in sizes]), exponent)


if __name__ == "__main__":
    unittest.main()
