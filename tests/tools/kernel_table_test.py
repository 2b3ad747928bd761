"""tools/kernel_table.py against figures of NVIDIA's occupancy calculator and a report as ptxas writes it."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, sys.argv[1])
import kernel_table

REPORT = """ptxas info    : Compiling entry function '_Z1kPf' for 'sm_90'
ptxas info    : Function properties for _Z1kPf
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 1.000 ms
"""


class KernelTableTest(unittest.TestCase):
    def test_occupancy(self):
        for architecture, threads, registers, shared, wanted in [
                ("sm_80", 256, 32, 0, 1.0),
                ("sm_80", 256, 40, 0, 0.75),
                ("sm_80", 256, 42, 0, 0.625),
                ("sm_80", 256, 255, 0, 0.125),
                ("sm_90", 1024, 33, 0, 0.5),
                ("sm_90", 1024, 64, 0, 0.5),
                ("sm_90", 32, 16, 0, 0.5),  # 32 blocks at most
                ("sm_90", 256, 32, 48 * 1024, 0.5),
                ("sm_80", 256, 32, 48 * 1024, 0.375),
                ("sm_75", 256, 64, 0, 1.0),
                ("sm_90", 100, 32, 0, 1.0),  # whole warps
                ("sm_75", 256, 16, 80 * 1024, 0.0)]:
            self.assertEqual(kernel_table.occupancy(architecture, threads, registers, shared), wanted,
                             (architecture, threads, registers, shared))

    def test_report(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "op.cu.o.ptxas")
            report.write_text(REPORT)
            self.assertEqual(list(kernel_table.kernels([report])), [("op", "_Z1kPf", "sm_90", 40, 1024, 16, 12)])
            compiled = pathlib.Path(folder, "op.cu.o")
            compiled.write_bytes(b"\0.entry _Z1kPf(\n.param .u64 p\n)\n.maxntid 32, 4, 1\n{\0.entry _Z1m()\n{")
            self.assertEqual(kernel_table.launch_bounds([compiled]), {"_Z1kPf": 128})

    def test_names(self):
        self.assertEqual(kernel_table.short("void stillpoint::kernels::cuda::(anonymous namespace)::f<float, 4>(float*)"),
                         "f<float, 4>")
        self.assertEqual(kernel_table.short("g(long)"), "g")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
