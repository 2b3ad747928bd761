"""stillpoint info: everything a bug report needs, readable by people and by programs."""
import json
import os
import subprocess
import sys
import unittest

PROGRAM, VERSION = sys.argv[1:3]


def run(*arguments, **environment):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env={**os.environ, **environment})


class StillpointTest(unittest.TestCase):
    def test_json(self):
        worst = json.loads(run("info", "--json").stdout)["instruction_sets"][-1]
        done = run("info", "--json", OMP_NUM_THREADS="3", STILLPOINT_ISA=worst)
        self.assertEqual(done.returncode, 0, done.stderr)
        info = json.loads(done.stdout)
        self.assertEqual(info["version"], VERSION)
        self.assertEqual(info["threads"], 3)
        self.assertEqual(info["instruction_set"], worst)
        self.assertIn("CUDA=", info["options"])
        self.assertIn("RACE_CHECK=", info["options"])
        if "CUDA=ON" in info["options"]:
            self.assertIn("nvcc", info["compiler"])
            self.assertRegex(info["options"], r"CUDA_ARCHITECTURES=\d")
        self.assertIn("highway", info["libraries"])
        for key in ("cuda_device", "processor", "processors", "instruction_sets", "system", "compiler", "build_type"):
            self.assertTrue(info[key], key)

    def test_text_says_the_same(self):
        info = json.loads(run("info", "--json").stdout)
        text = run("info").stdout
        for line, key in zip(text.splitlines(), info, strict=True):
            self.assertTrue(line.startswith(key.replace("_", " ")), line)
        self.assertIn(info["compiler"], text)
        self.assertIn("fmt " + info["libraries"]["fmt"], text)

    def test_an_unknown_instruction_set_is_named(self):
        best = json.loads(run("info", "--json", STILLPOINT_ISA="").stdout)["instruction_set"]
        info = json.loads(run("info", "--json", STILLPOINT_ISA="avx-typo").stdout)
        self.assertEqual(info["instruction_set"], best + " (STILLPOINT_ISA=avx-typo is not available)")

    def test_version_and_usage(self):
        self.assertEqual(run("--version").stdout.strip(), VERSION)
        self.assertEqual(run("--help").returncode, 0)
        for wrong in ([], ["nonsense"], ["info", "--nonsense"]):
            done = run(*wrong)
            self.assertNotEqual(done.returncode, 0)
            self.assertTrue(done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
