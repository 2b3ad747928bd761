"""kill -9 at random moments of training and saving. Usage: sudoku_kill_test.py PROGRAM

A run that is killed again and again and resumed each time ends with the bits of the run that nobody touched; on the way
every checkpoint can be read, and the metrics are those of one run.
"""
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = sys.argv.pop(1)
KILLS = 50
SMALL = ["--box", "2", "--channels", "8", "--boards", "6", "--validate", "2", "--threads", "1", "--save-every", "0.02"]


def state(checkpoint):
    """Tensors as bytes, and the metadata but for the time that the run took."""
    data = checkpoint.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header["__metadata__"]["train"] = json.loads(header["__metadata__"]["train"]) | {"seconds": None, "cpu_seconds": None}
    return header, data[begin:]


class Kill(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, output, steps, resume):
        options = ["--resume", *SMALL[-6:]] if resume else SMALL
        return subprocess.Popen([PROGRAM, "train", "--output", output, "--steps", str(steps), *options],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, run):
        error = run.communicate(timeout=300)[1]
        self.assertEqual(run.returncode, 0, error)

    def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(self):
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        whole, killed = self.folder / "whole", self.folder / "killed"
        begin = time.monotonic()
        self.finish(self.start(whole, 300, False))
        per_step = (time.monotonic() - begin) / 300
        # Enough to outlive the kills, even if the machine was half as fast when it was measured.
        steps = 300 + int(KILLS * 0.3 / per_step)
        subprocess.run(["rm", "-r", whole], check=True)
        self.finish(self.start(whole, steps, False))

        checkpoint = killed / "checkpoint.safetensors"
        kills = resumed = 0
        while kills < KILLS:
            there = checkpoint.exists()
            run = self.start(killed, steps, there)
            resumed += there
            try:
                run.wait(timeout=chance.uniform(0.01, 0.25))
                self.finish(run)  # an error, or the end of the run
                self.fail(f"seed {seed}: the run ended after {kills} kills")
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                run.communicate()
                kills += 1
            if checkpoint.exists():
                state(checkpoint)
        self.assertGreater(resumed, KILLS // 2)
        self.finish(self.start(killed, steps, checkpoint.exists()))
        self.assertEqual(state(killed / "checkpoint.safetensors"), state(whole / "checkpoint.safetensors"), f"seed {seed}")

        losses = []
        for output in whole, killed:
            lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
            self.assertEqual(sum("run" in line for line in lines), 1)
            losses.append([(line["step"], line["loss"]) for line in lines if "loss" in line])
        self.assertEqual(losses[0], losses[1], f"seed {seed}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
