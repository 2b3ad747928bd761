"""The program `sudoku` as a user runs it: exit status, output, files. Usage: sudoku_test.py PROGRAM"""
import json
import math
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

PROGRAM = sys.argv.pop(1)


def sudoku(*arguments, env=None):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=env)


class Program(unittest.TestCase):
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

    def works(self, *arguments, env=None):
        result = sudoku(*arguments, env=env)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fails(self, wanted, *arguments, env=None):
        result = sudoku(*arguments, env=env)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(wanted, result.stderr)
        self.assertEqual(result.stdout, "")


    @staticmethod
    def metadata(path):
        """Of a safetensors file: after eight bytes of its length, a JSON header."""
        data = path.read_bytes()
        return json.loads(data[8:8 + int.from_bytes(data[:8], "little")])["__metadata__"]

    def forge(self, path, key, change):
        """Changes one JSON text in the metadata of a safetensors file."""
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        value = json.loads(header["__metadata__"][key])
        change(value)
        header["__metadata__"][key] = json.dumps(value)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])

    def made(self, run_folder):
        """The commands that made a run's network."""
        return json.loads(self.metadata(run_folder / "network.safetensors")["made"])["command"]


class Sudoku(Program):
    def test_help_teaches(self):
        for command in "generate", "train", "eval", "solve":
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

        network = self.run_folder / "network.safetensors"  # the averaged weights alone
        small = json.loads(self.works("eval", "--checkpoint", network, "--count", 5, "--iterations", "2,4", "--json"))
        self.assertEqual(small, report)
        self.assertIn(b"sudoku train --model symbol --regime carry --box 2 --channels 8", network.read_bytes())

        own = self.file("own.csv", "1234341221434.21\n")
        self.assertIn("1 puzzles", self.works("eval", "--checkpoint", self.checkpoint, "--puzzles", own))

    def test_draws_charts(self):
        chart = self.folder / "run.svg"
        self.works(*self.small, "--steps", 20, "--plot", chart)
        text = chart.read_text()
        for words in "iterations", "boards right", "loss", "minutes", "64 iterations":
            self.assertIn(words, text)
        xml.etree.ElementTree.fromstring(text)
        evaluate = ["eval", "--checkpoint", self.checkpoint, "--count", 5]
        self.works(*evaluate, "--plot", chart)
        self.assertNotIn("loss", chart.read_text())
        xml.etree.ElementTree.fromstring(chart.read_text())
        for few in (["train", "--box", 2, "--output", self.folder / "short", "--steps", 1, "--validate", 0],
                    [*evaluate, "--iterations", 64]):  # a chart without data, and with one point
            self.works(*few, "--plot", chart)
            xml.etree.ElementTree.fromstring(chart.read_text())
        self.fails("none", *evaluate, "--plot", self.folder / "none" / "a.svg")
        self.fails("not a file", *evaluate, "--plot", "/dev/null")
        without = subprocess.run([PROGRAM, *map(str, evaluate), "--plot", chart], capture_output=True, text=True,
                                 env={"PATH": str(self.folder)})
        self.assertNotEqual(without.returncode, 0)
        self.assertIn("gnuplot-nox", without.stderr)

    def test_trains_both_models_in_both_regimes(self):
        for model in "symbol", "refine":
            for regime in "carry", "unroll":
                output = self.folder / f"{model}-{regime}"
                self.works(*self.anywhere, "--model", model, "--regime", regime, "--steps", 3, "--output", output)
                report = json.loads(self.works("eval", "--checkpoint", output / "checkpoint.safetensors", "--count", 2,
                                               "--json"))
                self.assertEqual(report["puzzles"], 2)
        self.fails("--segments", *self.small, "--regime", "unroll", "--segments", 3, "--steps", 3)
        self.fails("lstm", *self.small, "--model", "lstm", "--steps", 3)

    def test_trains_in_bf16(self):
        run = lambda: json.loads((self.run_folder / "metrics.jsonl").read_text().splitlines()[0])["run"]
        without = {"env": {**os.environ, "STILLPOINT_ISA": "SSE4"}}
        self.fails("AMX-BF16", *self.small, "--precision", "bf16", "--steps", 3, **without)
        self.fails("--model symbol", *self.small, "--precision", "bf16", "--model", "refine", "--steps", 3)
        self.fails("--regime", *self.small, "--precision", "bf16", "--regime", "equilibrium", "--steps", 3)
        self.fails("fp8", *self.small, "--precision", "fp8", "--steps", 3)
        self.assertFalse(self.checkpoint.exists())
        if "amx_bf16" not in pathlib.Path("/proc/cpuinfo").read_text():
            self.skipTest("no AMX-BF16")
        self.works(*self.small, "--precision", "bf16", "--steps", 3)
        self.assertEqual(run()["precision"], "bf16")
        self.assertIn(b" --precision bf16 ", (self.run_folder / "network.safetensors").read_bytes())
        again = ["train", "--resume", "--output", self.run_folder, "--validate", 0]
        self.works(*again, "--steps", 4)
        self.assertIn(b'"precision":"bf16"', self.checkpoint.read_bytes().replace(b"\\", b""))
        self.fails("AMX-BF16", *again, "--steps", 5, **without)
        self.works(*again, "--steps", 5, "--precision", "f32", **without)
        self.assertIn(b'"precision":"f32"', self.checkpoint.read_bytes().replace(b"\\", b""))

    def test_goes_on_with_other_puzzles(self):
        output, again = self.folder / "raised", ["train", "--resume", "--validate", 0]
        again += ["--output", output]
        self.works("train", "--channels", 8, "--boards", 2, "--steps", 2, "--validate", 0, "--output", output)
        first = self.made(output)
        self.assertRegex(first, "^sudoku train --model symbol .* --seed 1 --steps 2$")
        self.works(*again, "--steps", 3)
        self.assertEqual(self.made(output), f"{first} (to step 2); sudoku train --resume --steps 3")
        changes = "--segments 7 --hard-share 0.5 --minimal-share 0.25 --learning-rate 0.001"
        self.works(*again, "--steps", 4, *changes.split())
        parts = f"{first} (to step 2); sudoku train --resume --steps 3 (to step 3); sudoku train --resume {changes} --steps 4"
        self.assertEqual(self.made(output), parts)
        self.works(*again, "--steps", 4)  # nothing is left to do, and nothing to be told
        self.assertEqual(self.made(output), parts)
        self.works(*again, "--steps", 4, *changes.split())
        self.assertEqual(self.made(output), parts)
        def forget(train):
            train["earlier"] = train["command"] = ""
        self.forge(output / "checkpoint.safetensors", "train", forget)
        self.works(*again, "--steps", 5)
        self.assertEqual(self.made(output), "a part not recorded (to step 4); sudoku train --resume --steps 5")
        self.fails("hard puzzles of box size 2", *self.small, "--hard-share", 0.5, "--steps", 3)

    def test_trains_equilibria(self):
        train = [*self.anywhere, "--regime", "equilibrium", "--steps", 10]
        for model, solver, adjoint in (("symbol", "anderson", "exact"), ("refine", "broyden", "phantom"),
                                       ("refine", "damped", "neumann"), ("symbol", "anderson", "one-step"),
                                       ("symbol", "damped", "unrolled-phantom")):
            output = self.folder / f"{model}-{solver}-{adjoint}"
            self.works(*train, "--model", model, "--solver", solver, "--adjoint", adjoint, "--iterations", 12,
                       "--tolerance", 0.01, "--jacobian-penalty", 0.5, "--output", output)
            run, step, validation, radii = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
            self.assertEqual((run["run"]["solver"], run["run"]["adjoint"], run["run"]["iterations"]), (solver, adjoint, 12))
            self.assertTrue(1 < step["iterations"] <= 12)
            self.assertTrue(0 <= step["unconverged"] <= 1)
            self.assertGreater(step["residual"], 0)
            self.assertEqual(step["adjoint_iterations"] > 1, adjoint == "exact")
            self.assertTrue(0 <= step["adjoint_unconverged"] <= 1)
            self.assertGreater(step["jacobian_penalty"], 0)
            self.assertEqual(len(radii["radii"]), 4)
            self.assertTrue(0 < step["cpu_seconds"] <= radii["cpu_seconds"])
            self.assertGreater(step["bytes"], 0)
            self.assertTrue(all(r > 0 for r in radii["radii"]))
            for r in validation["validation"]:
                self.assertTrue(0 < r["evaluations"] <= r["iterations"])
            made = (output / "network.safetensors").read_bytes()
            terms = b"" if adjoint == "one-step" else b" --adjoint-iterations %d" % (30 if adjoint == "exact" else 5)
            self.assertIn(f"--solver {solver} --adjoint {adjoint} --tolerance 0.01 --iterations 12".encode() + terms +
                          b" --jacobian-penalty 0.5 --minimal-share", made)
        self.works("train", "--resume", "--output", output, "--steps", 20)
        self.assertEqual(json.loads((output / "metrics.jsonl").read_text().splitlines()[4])["step"], 20)

    def test_says_which_options_are_of_equilibria(self):
        for option in (["--solver", "damped"], ["--adjoint", "exact"], ["--tolerance", 0.1], ["--iterations", 3],
                       ["--adjoint-iterations", 3], ["--jacobian-penalty", 1], ["--adjoint-solver", "gmres"],
                       ["--adjoint-tolerance", 0.1], ["--corrections", 1], ["--start-deviation", 1],
                       ["--path-deviation", 1], ["--spectral-clip", 1], ["--radius-limit", 1], ["--loss-at", "image"]):
            self.fails(f"{option[0]}: wanted with --regime equilibrium only", *self.small, "--steps", 3, *option)
        equilibrium = [*self.small, "--steps", 3, "--regime", "equilibrium"]
        self.fails("--window 4: wanted with --regime carry and unroll only", *equilibrium, "--window", 4)
        self.fails("--segments 4: wanted with --regime carry only", *equilibrium, "--segments", 4)
        self.fails("--adjoint-iterations 4: one-step", *equilibrium, "--adjoint", "one-step", "--adjoint-iterations", 4)
        self.fails("--loss-at iterate: wanted with another --adjoint", *equilibrium, "--loss-at", "iterate")
        self.fails("--adjoint-solver: wanted with --adjoint exact only", *equilibrium, "--adjoint-solver", "gmres")
        self.fails("--adjoint-tolerance: wanted with --adjoint exact only", *equilibrium, "--adjoint-tolerance", 0.1)
        self.fails("tolerance", *equilibrium, "--tolerance", 1)
        self.fails("tolerance", *equilibrium, "--tolerance", "nan")
        self.fails("Jacobian penalty of nan", *equilibrium, "--jacobian-penalty", "nan")
        self.fails("Jacobian penalty of -1 and a limit", *equilibrium, "--jacobian-penalty", -1, "--radius-limit", 0.9)
        self.fails("30 corrections", *equilibrium, "--corrections", 30)
        self.fails("noise on the path with 3 iterations", *equilibrium, "--path-deviation", 0.1, "--iterations", 3)
        self.fails("spectral clip of -1", *equilibrium, "--spectral-clip", -1)
        self.fails("'lu'; wanted", *equilibrium, "--adjoint-solver", "lu")
        self.fails("'newton'; wanted", *equilibrium, "--solver", "newton")
        self.assertFalse(self.checkpoint.exists())

    def test_goes_on_with_other_solves(self):
        train = ["train", "--output", self.run_folder, "--validate", 4, "--steps", 40]
        self.works(*self.anywhere, "--output", self.run_folder, "--regime", "equilibrium", "--steps", 40, "--until", 20,
                   "--learning-rate", 0.01)
        lines = lambda: list(map(json.loads, (self.run_folder / "metrics.jsonl").read_text().splitlines()))
        self.assertEqual(lines()[-1]["step"], 20)
        before = len(lines())
        self.works(*train, "--resume", "--save-steps", 5, "--jacobian-penalty", 0.5, "--adjoint", "phantom", "--spectral-clip",
                   2, "--radius-limit", 0.01, "--corrections", 1, "--start-deviation", 0.1, "--path-deviation", 0.2,
                   "--learning-rate", 0.001)
        run, *after = lines()[before:]
        self.assertEqual((run["run"]["adjoint"], run["run"]["adjoint_iterations"], run["run"]["jacobian_penalty"],
                          run["run"]["learning_rate"]), ("phantom", 5, 0.5, 0.001))
        steps = [line for line in after if "loss" in line]
        self.assertEqual([(line["step"], line["adjoint_iterations"]) for line in steps], [(30, 0), (40, 0)])
        self.assertLess(steps[0]["learning_rate"], 0.001)
        self.assertGreater(steps[1]["guard_weight"], steps[0]["guard_weight"])
        self.assertEqual([line["step"] for line in after if "radii" in line], [25, 30, 35, 40])
        self.assertRegex(self.made(self.run_folder),
                         "^sudoku train --model symbol .* --steps 40 --until 20 \\(to step 20\\); sudoku train --resume --adjoint phantom "
                         "--jacobian-penalty 0.5 --corrections 1 --start-deviation 0.1 --path-deviation 0.2 --spectral-clip 2 "
                         "--radius-limit 0.01 --learning-rate 0.001 --steps 40$")
        self.fails("iterations", *train, "--resume", "--iterations", 1)  # no room for the correction
        first = lines()[0]["run"]
        self.assertEqual((first["adjoint"], first["adjoint_iterations"], first["corrections"], first["loss_at"]),
                         ("unrolled-phantom", 5, 1, "image"))
        again = ["train", "--resume", "--output", self.run_folder, "--validate", 0, "--steps", 40]
        for adjoint, given, wanted in (("exact", [], 30), ("neumann", [], 5), ("exact", ["--adjoint-iterations", 12], 12),
                                       ("phantom", [], 12)):
            self.works(*again, "--adjoint", adjoint, *given)
            self.assertEqual(lines()[-1]["run"]["adjoint_iterations"], wanted)
        self.works(*again, "--loss-at", "iterate")
        self.assertEqual(lines()[-1]["run"]["loss_at"], "iterate")
        self.works(*again, "--adjoint", "unrolled-phantom", "--adjoint-iterations", 2)
        self.assertEqual((lines()[-1]["run"]["loss_at"], lines()[-1]["run"]["adjoint_iterations"]), ("image", 2))
        short = self.folder / "short"  # no room for the correction that goes with unrolled-phantom
        self.works(*self.anywhere, "--output", short, "--regime", "equilibrium", "--iterations", 1, "--steps", 2)
        self.assertIn(b"--adjoint-iterations 5 --corrections 0 ", (short / "network.safetensors").read_bytes())
        exact = self.folder / "exact"
        self.works(*self.anywhere, "--output", exact, "--regime", "equilibrium", "--adjoint", "exact", "--steps", 3)
        self.assertIn(b"--adjoint exact --tolerance 0.001 --iterations 30 --adjoint-iterations 30 --minimal-share",
                      (exact / "network.safetensors").read_bytes())
        other = self.folder / "unrolled"
        self.works(*self.anywhere, "--output", other, "--regime", "unroll", "--steps", 3)
        self.fails("--iterations: wanted for a run of --regime equilibrium only", "train", "--resume", "--output", other,
                   "--steps", 5, "--iterations", 9)
        self.fails("--save-every", *self.small, "--steps", 3, "--save-every", 9, "--save-steps", 9)

    def test_evaluates_with_a_solver(self):
        self.works(*self.small, "--steps", 20)
        evaluate = ["eval", "--checkpoint", self.checkpoint, "--count", 8, "--iterations", "2,40"]
        for solver in "anderson", "broyden", "damped":
            two, forty = json.loads(self.works(*evaluate, "--solver", solver, "--json"))["results"]
            self.assertEqual((two["evaluations"], two["unconverged"]), (2, 1))
            self.assertTrue(2 < forty["evaluations"] <= 40)
            self.assertLess(forty["residual"], two["residual"])
        many = json.loads(self.works(*evaluate, "--solver", "damped", "--restarts", 3, "--json"))["results"]
        self.assertEqual(many[0]["evaluations"], 6)
        self.assertLessEqual(many[0]["residual"], two["residual"])
        self.assertIn("not converged", self.works(*evaluate, "--solver", "anderson", "--tolerance", 0.1))
        self.assertNotIn("not converged", self.works(*evaluate))
        self.fails("--solver", *evaluate, "--tolerance", 0.1)
        self.fails("tolerance", *evaluate, "--solver", "anderson", "--tolerance", 1)

    def test_trains_a_learned_graph(self):
        output = self.folder / "learned"
        train = [*self.anywhere, "--model", "learned-graph", "--width", 8, "--draws", 2, "--window", 2, "--output", output]
        self.works(*train, "--neighbours", 5, "--law", "with-replacement", "--steps", 3)
        checkpoint = output / "checkpoint.safetensors"
        report = json.loads(self.works("eval", "--checkpoint", checkpoint, "--count", 4, "--json"))
        graph = report["graph"]
        self.assertAlmostEqual(graph["precision"] * 5, graph["recall"] * 7)
        self.assertTrue(0 <= graph["stability"] <= 1)
        voted = ["eval", "--checkpoint", checkpoint, "--count", 4, "--graphs", 3]
        self.assertEqual(self.works(*voted), self.works(*voted, "--batch", 1))
        self.assertIn("of the neighbours drawn, ", self.works(*voted))
        both = json.loads(self.works(*voted, "--json"))["graph"]
        self.assertTrue(0 < both.pop("drawn_precision") <= 1)
        self.assertEqual(both, graph)
        self.fails("restarts", *voted, "--restarts", 2)
        chart = self.folder / "graph.svg"
        self.assertIn("of the most attended neighbours, ",
                      self.works("eval", "--checkpoint", checkpoint, "--count", 4, "--plot", chart))
        svg = chart.read_text()
        xml.etree.ElementTree.fromstring(svg)
        self.assertIn("neighbours by the rules", svg)
        fields = re.findall(r"<polygon fill = 'rgb\(([ 0-9,]*)\)'", svg)
        self.assertEqual(len(fields), 2 * 16 * 16)
        self.assertEqual(sum(field != "255, 255, 255" for field in fields[256:]), 16 * 7)
        self.assertIn(b"--model learned-graph --neighbours 5 --width 8 --layers 1 --law with-replacement --draws 2 "
                      b"--entropy 0 --spread-penalty 0.0005 --baseline board --credit downstream --discount 0.2",
                      (output / "network.safetensors").read_bytes())
        validations = [line["graph"] for line in map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
                       if "validation" in line]
        self.assertEqual(set(validations[-1]), {"precision", "recall", "stability"})
        self.works("train", "--output", output, "--resume", "--steps", 4, "--validate", 0)
        other = [*self.anywhere, "--output", self.folder / "other", "--steps", 1]
        self.fails("--neighbours", *other, "--neighbours", 5)
        self.fails("--graph", *other, "--graph", "random")
        self.fails("--estimator score only", *other, "--model", "learned-graph", "--estimator", "straight-through",
                   "--credit", "all")
        through = self.folder / "through"
        start = ["train", "--box", 2, "--channels", 8, "--boards", 16, "--validate", 0, "--model", "learned-graph",
                 "--window", 2, "--estimator", "straight-through", "--draws", 1, "--from", checkpoint]
        self.works(*start, "--width", 8, "--steps", 10, "--output", through)
        self.assertIn(b"--estimator straight-through", (through / "network.safetensors").read_bytes())
        self.assertIn(" --from checkpoint.safetensors ", self.made(through))
        afresh = self.folder / "afresh"
        self.works(*start, "--fresh-refiner", "--width", 8, "--steps", 1, "--output", afresh)
        self.assertIn(" --from checkpoint.safetensors --fresh-refiner ", self.made(afresh))
        self.fails("--fresh-refiner requires --from", *other, "--model", "learned-graph", "--fresh-refiner")
        steps = [line for line in map(json.loads, (through / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
        self.assertGreater(steps[-1]["draws_gradient_variance"], 0)
        self.assertGreaterEqual(steps[-1]["draws_signal_to_noise"], 0)
        self.fails("checkpoint.safetensors", *start, "--width", 12, "--steps", 1, "--output", self.folder / "wider")
        self.fails("wanted 0", *start, "--width", 8, "--layers", 0, "--steps", 1, "--output", self.folder / "fewer")
        self.fails("--regime carry", *other, "--model", "learned-graph", "--regime", "carry")
        self.fails("16 neighbours", *other, "--model", "learned-graph", "--neighbours", 16)
        self.works(*other, "--model", "refine", "--graph", "complete")
        self.assertNotIn("graph", json.loads(self.works("eval", "--checkpoint", self.folder / "other" /
                                                        "checkpoint.safetensors", "--count", 2, "--json")))

    def test_says_what_a_learned_graph_wants(self):
        large = ["train", "--channels", 8, "--model", "learned-graph", "--steps", 1, "--output", self.run_folder]
        train = [*large, "--box", 2]
        for option in "--entropy", "--spread-penalty":
            for wrong in "-1", "inf", "nan":
                self.fails(f"{option}: '{wrong}'; wanted a number of at least 0\n", *train, option, wrong)
        for wrong in "0", "1.5", "nan":
            self.fails(f"--discount: '{wrong}'; wanted a number above 0 and up to 1\n", *train, "--discount", wrong)
        for boards in 1, 9, 17:
            self.fails(f"--boards {boards}: ", *train, "--baseline", "batch", "--draws", 1, "--boards", boards)
        self.fails("wanted 2 or more", *train, "--draws", 1)
        self.fails("width 30; wanted a multiple of 4", *train, "--width", 30)
        self.fails("a window of 1; wanted 2 or more", *train, "--window", 1)
        self.fails("256 cells; wanted fewer than 128", *large, "--box", 4)
        self.assertFalse(self.run_folder.exists())
        self.works(*train, "--baseline", "batch", "--draws", 2, "--boards", 9, "--window", 2, "--validate", 0)

    def test_ties_and_repeats_the_layers_of_a_learned_graph(self):
        output, again = self.folder / "tied", ["train", "--resume", "--validate", 0]
        train = [*self.anywhere, "--model", "learned-graph", "--width", 8, "--draws", 2, "--window", 2]
        self.works(*train, "--layers", 3, "--tied", "--repeats", 2, "--steps", 3, "--output", output)
        self.assertIn("--model learned-graph --width 8 --layers 3 --tied --repeats 2 ", self.made(output))
        self.works(*again, "--output", output, "--steps", 4)
        self.fails("--tied", *again, "--output", output, "--steps", 5, "--tied")
        evaluate = ["eval", "--checkpoint", output / "network.safetensors", "--count", 4, "--json"]
        self.assertEqual(self.works(*evaluate), self.works(*evaluate, "--repeats", 2))
        self.assertNotEqual(self.works(*evaluate), self.works(*evaluate, "--repeats", 1))
        self.fails("--repeats", *evaluate, "--repeats", 0)
        self.fails("wanted 1 to 1022", *evaluate, "--repeats", 1023)
        fails = lambda wanted, *options: self.fails(wanted, *train, "--steps", 1, "--output", self.folder / "none", *options)
        fails("--layers 2 or more", "--tied")
        fails("--repeats", "--repeats", 0)
        fails("--layers", "--layers", "two")
        fails("applied 2 times; wanted 1 to 1", "--layers", 0, "--repeats", 2)
        fails("1025 layers; wanted 0 to 1024", "--layers", 1025)
        self.fails("--model learned-graph only", *self.small, "--steps", 1, "--repeats", 2)
        self.works(*self.small, "--steps", 1)
        self.fails("this one is symbol", "eval", "--checkpoint", self.checkpoint, "--count", 4, "--repeats", 2)

    def losses(self, output):
        lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    def test_every_device_trains_alike(self):
        train = ["train", "--box", 2, "--channels", 16, "--boards", 2, "--validate", 1, "--learning-rate", 0.1]
        for model in "symbol", "refine", "learned-graph":
            cpu, cuda = self.folder / f"{model}-cpu", self.folder / f"{model}-cuda"
            run = [*train, "--steps", 10, "--model", model, "--output"]
            if model == "refine":  # more boards than the CPU refines together
                run[run.index("--boards") + 1] = 5
            result = sudoku(*run, cuda, "--device", "cuda")
            if result.returncode != 0:
                self.assertIn("--device cuda: not available", result.stderr)
                self.skipTest("no CUDA device")
            self.works(*run, cpu)
            (wanted,), (got,) = self.losses(cpu), self.losses(cuda)
            self.assertAlmostEqual(wanted, got, delta=2e-3 * wanted)
            self.assertGreater(abs(wanted - math.log(4)), 10 * abs(wanted - got))  # it learns, on both alike
            report = json.loads(self.works("eval", "--checkpoint", cuda / "network.safetensors", "--count", 3, "--device",
                                           "cuda", "--iterations", 4, "--restarts", 2, "--json"))
            self.assertEqual(report["puzzles"], 3)
            solved = sudoku("solve", "--checkpoint", cuda / "network.safetensors", "--device", "cuda", "--iterations", 4,
                            "1234341221434.21")
            self.assertIn(solved.returncode, (0, 3), solved.stderr)

    def test_metrics_are_those_of_one_run(self):
        self.run_folder.mkdir()
        metrics = self.run_folder / "metrics.jsonl"
        metrics.write_text('{"run": "another, killed before it saved"}\n')
        self.works(*self.small, "--steps", 10)
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        self.assertEqual([line["run"]["channels"] for line in lines if "run" in line], [8])
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

    def test_wrong_command_lines_end_with_status_1(self):
        for wrong in ["--colour"], [], ["solve", "1", "--puzzles", "2"], ["generate", "--count", 0]:
            self.assertEqual(sudoku(*wrong).returncode, 1, wrong)

    def test_numbers_mean_what_they_look_like(self):
        for option in "--seed", "--count", "--threads":
            for wrong in "-1", "+5", "1e3", "0x10", "3.0", "three", "99999999999999999999":
                self.fails(f"{option}: '{wrong}'; wanted a whole number", "generate", f"{option}={wrong}")
        self.assertEqual(self.works("generate", "--box", 2, "--count", "010").count("\n"), 10)
        self.fails("'5'; wanted", "generate", "--box", 5)
        self.fails("'0'; wanted a whole number from 1", "generate", "--count", 0)

    def test_generate_says_what_is_wrong(self):
        self.fails("'easy'; wanted hard or minimal or ordinary", "generate", "--kind", "easy")
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
        for option in "--learning-rate", "--save-every", "--minutes":
            for wrong in "nan", "inf", "0", "1e999", "3s":
                self.fails(f"{option}: '{wrong}'; wanted a number above 0\n", *self.small, "--steps", 3, option, wrong)
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


class Solve(Program):
    """With a network that solves 4x4 boards."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        result = sudoku("train", "--box", 2, "--channels", 8, "--boards", 16, "--window", 4, "--segments", 12, "--steps", 150,
                        "--learning-rate", 0.01, "--validate", 0, "--output", folder.name)
        assert result.returncode == 0, result.stderr
        cls.trained = pathlib.Path(folder.name) / "checkpoint.safetensors"
        cls.lines = sudoku("generate", "--box", 2, "--count", 40, "--seed", 3).stdout
        cls.one, cls.solution = cls.lines.splitlines()[0].split(",")

    def solve(self, *arguments, stdin="", status=0):
        result = subprocess.run([PROGRAM, "solve", "--checkpoint", self.trained, *map(str, arguments)],
                                capture_output=True, text=True, timeout=120, input=stdin)
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def test_solves_one(self):
        board = self.solve(self.one).stdout
        self.assertEqual("".join(c for c in board if c.isdigit()), self.solution)
        self.assertEqual(board.count("\n"), 7)
        answer = json.loads(self.solve(self.one, "--json").stdout)
        self.assertEqual((answer["puzzle"], answer["answer"], answer["valid"]), (self.one, self.solution, True))
        self.assertTrue(1 <= answer["iterations"] <= 64)
        self.assertTrue(0 < answer["certainty"] <= 1)

    def test_solves_streams(self):
        answers = self.solve("-", "--batch", 7, stdin="# mine\n\n" + self.lines).stdout
        self.assertEqual(answers, self.lines)
        file = self.file("own.csv", self.lines)
        self.assertEqual(self.solve("--puzzles", file, "--threads", 3).stdout, self.lines)
        objects = [json.loads(line) for line in self.solve("--puzzles", file, "--json").stdout.splitlines()]
        self.assertEqual([f"{o['puzzle']},{o['answer']}\n" for o in objects], self.lines.splitlines(keepends=True))

    def test_says_when_an_answer_is_not_valid(self):
        impossible = "123...4........."
        result = self.solve(impossible, "--restarts", 2, status=3)
        self.assertIn("no valid solution", result.stderr)
        answer = json.loads(self.solve(impossible, "--json", "--iterations", 3, status=3).stdout)
        self.assertEqual((answer["valid"], answer["iterations"]), (False, 3))
        result = self.solve("-", stdin=f"{impossible}\n{self.one}\n", status=3)
        self.assertIn("1 of 2 answers are valid", result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 2)

    def test_the_network_that_comes_with_it_solves_ordinary_puzzles(self):
        puzzles = sudoku("generate", "--kind", "ordinary", "--count", 8, "--seed", 5).stdout
        solved = subprocess.run([PROGRAM, "solve", "-"], capture_output=True, text=True, timeout=120, input=puzzles)
        self.assertEqual(solved.returncode, 0, solved.stderr)

    def test_finds_the_network_that_comes_with_it(self):
        for program, checkpoint in ("tree/build/any/bin/sudoku", "tree/models/checkpoints/symbol.safetensors"), (
                "prefix/bin/sudoku", "prefix/share/stillpoint/symbol.safetensors"):
            program, checkpoint = self.folder / program, self.folder / checkpoint
            program.parent.mkdir(parents=True)
            checkpoint.parent.mkdir(parents=True)
            shutil.copy(PROGRAM, program)
            command = [program, "solve", self.one]
            lost = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(lost.returncode, 1)
            self.assertIn(str(checkpoint), lost.stderr)
            self.assertIn("--checkpoint", lost.stderr)
            shutil.copy(self.trained, checkpoint)
            self.assertEqual(subprocess.run(command, capture_output=True).returncode, 0)

    def test_watches_without_a_terminal(self):
        text = self.solve(self.one, "--watch").stdout
        self.assertNotIn("\x1b", text)
        self.assertIn("iteration   1 of 64", text)
        self.assertIn("iteration   2 of 64", text)
        self.assertNotIn("iteration   3 of 64", text)

    def watch_in_a_terminal(self, *arguments, interrupt=False):
        ours, theirs = pty.openpty()
        run = subprocess.Popen([PROGRAM, "solve", "--checkpoint", self.trained, "--watch", *map(str, arguments)],
                               stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            text += part
            if interrupt and b"iteration   2" in text:
                run.send_signal(signal.SIGINT)
                interrupt = False
        os.close(ours)
        return run.wait(timeout=60), text.decode()

    def test_watches_in_a_terminal(self):
        status, text = self.watch_in_a_terminal(self.one, "--delay", 0.01)
        self.assertEqual(status, 0)
        frames = text.split("\x1b[8A")  # back up over board and status line
        self.assertGreater(len(frames), 3)
        self.assertTrue(text.startswith("\x1b[?25l"))
        self.assertTrue(text.endswith("\x1b[0m\x1b[?25h"))
        for frame in frames:
            self.assertEqual(frame.count("\x1b[38;2;"), self.one.count("."))
            self.assertEqual(frame.count("\x1b[1m"), 16 - self.one.count("."))
        digits = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frames[-1]).split("iteration")[0]
        self.assertEqual("".join(c for c in digits if c.isdigit()), self.solution)

    def test_ctrl_c_gives_the_terminal_back(self):
        status, text = self.watch_in_a_terminal("123...4.........", "--iterations", 10**6, "--delay", 0.01,
                                                interrupt=True)
        self.assertEqual(status, 130)
        self.assertTrue(text.endswith("\x1b[0m\x1b[?25h"))

    def test_writes_a_page(self):
        page = self.folder / "page.html"
        solved = json.loads(self.solve(self.one, "--html", page, "--json").stdout)
        text = page.read_text()
        self.assertNotRegex(text, r"(src|href)=|url\(|@import")  # nothing from elsewhere
        data = json.loads(re.search(r"const data = (.*);", text)[1])
        self.assertEqual((data["box"], data["puzzle"]), (2, self.one))
        frames = data["frames"]
        self.assertGreaterEqual(len(frames), solved["iterations"])
        self.assertTrue(frames[-1]["valid"])
        self.assertEqual(frames[solved["iterations"] - 1]["digits"], self.solution)
        for frame in frames:
            self.assertEqual((len(frame["digits"]), len(frame["certain"])), (16, 16))
            self.assertTrue(all(0 <= p <= 1000 for p in frame["certain"]))
        self.assertEqual(list(self.folder.iterdir()), [page])

    def test_says_what_is_wrong_with_a_puzzle(self):
        solve = ["solve", "--checkpoint", self.trained]
        self.fails("PUZZLE,--puzzles", *solve)
        self.fails("81 (9x9)", *solve, "123")
        self.fails("column 4", *solve, "1..1............")
        self.fails("9x9; the network of the checkpoint solves 4x4", *solve, "." * 81)
        self.fails("--watch: wanted with one puzzle", *solve, "-", "--watch")
        self.fails("--html: wanted with one puzzle", *solve, "--puzzles", self.file("a.csv", self.lines), "--html", "x")
        self.fails("--watch", *solve, self.one, "--delay", 1)
        self.fails("--json", *solve, self.one, "--watch", "--json")
        self.fails("not a file", *solve, self.one, "--html", self.folder)
        self.fails("none.csv", *solve, "--puzzles", self.folder / "none.csv")
        self.fails("holds no puzzle", *solve, "--puzzles", self.file("b.csv", "# none\n"))
        self.fails("c.csv: line 2, column 1: a puzzle of 3", *solve, "--puzzles", self.file("c.csv", f"{self.one}\n123\n"))
        self.fails("d.csv: line 1: a board of 9x9", *solve, "--puzzles", self.file("d.csv", "." * 81))
        self.fails("'0'; wanted", *solve, self.one, "--iterations", 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
