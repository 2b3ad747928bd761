"""The rules of the tree that a compiler does not enforce: layers, what kernels may not do, complete op columns."""
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(sys.argv[1])
LAYERS = ("kernels", "engine", "models", "tools")  # each may include itself and those before it
SOURCES = {".h", ".cpp", ".cu", ".cuh", ".inc"}
EMULATION = "kernels/emulation"  # stands in for the CUDA driver: allocates, reports, and has tests of its own

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)
# Kernels work on memory they are given and report failures in a Status.
FORBIDDEN_HEADERS = {"iostream", "fstream", "sstream", "cstdio", "stdio.h", "filesystem", "exception", "stdexcept",
                     "fmt/format.h", "memory", "vector", "string"}
# Where names and lists are asked for by the engine, not by kernels.
HEADERS_ALLOWED = {"kernels/common/simd.h": {"string", "vector"}}
FORBIDDEN_WORDS = re.compile(r"\b(throw|try|catch|new|malloc|calloc|realloc|aligned_alloc|cudaMalloc\w*|printf|Tensor)\b")


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCES:
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def without_comments(text):
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def upward_includes(name, text):
    layer = LAYERS.index(name.split("/")[0])
    above = LAYERS[layer + 1:] + ("tests", "bench")
    return [i for i in INCLUDE.findall(text) if i.split("/")[0] in above or ".." in i.split("/")]


def without_emulation(text):
    """Drops what only the emulated build compiles: it stands in for a library of the toolkit."""
    return re.sub(r"^#ifdef STILLPOINT_CUDA_EMULATED\n.*?^#(else|endif)", "", text, flags=re.S | re.M)


def kernel_offences(name, text):
    text = without_emulation(text)
    allowed = HEADERS_ALLOWED.get(name, set())
    headers = [i for i in INCLUDE.findall(text) if i in FORBIDDEN_HEADERS - allowed]
    return headers + FORBIDDEN_WORDS.findall(INCLUDE.sub("", without_comments(text)))


def exported(text, headers):
    """The functions and members that an op's file defines and a header declares: a member within its own class."""
    found = []
    for owner, name in re.findall(r"^(?:Tensor|std::\w+<[^\n]*>|\w+) (?:(\w+)::)?(\w+)\(", text, re.M):
        scope = headers
        if owner:
            body = re.search(rf"^(?:class|struct) {owner}\b[^;{{]*\{{(.*?)^\}};", headers, re.S | re.M)
            scope = body.group(1) if body else ""
        if re.search(rf"\b{name}\(", scope):
            found.append(name)
    return found


def ops():
    return re.findall(r"^stillpoint_op\((\w+)\)", (ROOT / "kernels/CMakeLists.txt").read_text(), re.M)


class TreeTest(unittest.TestCase):
    def test_lower_layers_never_include_upper_ones(self):
        for name, text in sources(*LAYERS):
            self.assertEqual(upward_includes(name, text), [], name)

    def test_kernels_only_compute(self):
        for name, text in sources("kernels"):
            if not name.startswith(EMULATION):
                self.assertEqual(kernel_offences(name, text), [], name)

    def test_only_the_emulation_and_one_file_know_the_emulation(self):
        for name, text in sources("engine", "models", "tools"):
            inside = [i for i in INCLUDE.findall(text) if i.startswith(EMULATION)]
            self.assertTrue(not inside or name.startswith("engine/cuda/"), f"{name} includes {inside}")

    def test_only_the_cuda_folder_of_the_engine_reaches_the_toolkit(self):
        for name, text in sources("engine", "models", "tools"):
            toolkit = [i for i in INCLUDE.findall(text) if re.match(r"cu(da|blas|sparse)", i)]
            self.assertTrue(not toolkit or name.startswith("engine/cuda/") or name == "engine/build_info.cpp",
                            f"{name} includes {toolkit}")

    def test_every_op_is_declared_and_tested(self):
        declared = "".join(without_comments(text) for name, text in sources("engine") if name.endswith(".h"))
        self.assertTrue(ops())
        for op in ops():
            defined = exported((ROOT / f"engine/ops/{op}.cpp").read_text(), declared)
            self.assertTrue(defined, f"engine/ops/{op}.cpp defines nothing that a header of engine/ declares")
            test = (ROOT / f"tests/ops/{op}_test.cpp").read_text()
            self.assertRegex(test, r"\bTEST", f"tests/ops/{op}_test.cpp has no test")

    def test_no_folder_of_kernels_is_left_unregistered(self):
        folders = {p.parent.name for p in (ROOT / "kernels").glob("*/*.cu")} - {"emulation", "common"}
        self.assertEqual(folders, set(ops()))

    def test_the_rules_notice_offences(self):
        self.assertEqual(upward_includes("kernels/a/a.h", '#include "engine/tensor.h"'), ["engine/tensor.h"])
        self.assertEqual(upward_includes("engine/a.h", '#  include <models/x.h>\n'), ["models/x.h"])
        self.assertEqual(upward_includes("models/a.h", '#include "engine/tensor.h"'), [])
        self.assertEqual(upward_includes("kernels/a/a.h", '#include "../../engine/tensor.h"'), ["../../engine/tensor.h"])
        self.assertEqual(upward_includes("engine/a.h", '#include "engine/../models/x.h"'), ["engine/../models/x.h"])
        self.assertEqual(kernel_offences("kernels/a/a.h", "#include <iostream>\n"), ["iostream"])
        self.assertEqual(kernel_offences("kernels/a/a.h", "float* p = new float[2];"), ["new"])
        self.assertEqual(kernel_offences("kernels/a/a.h", "#ifdef STILLPOINT_CUDA_EMULATED\n#include <vector>\n#else\nnew\n#endif"),
                         ["new"])
        self.assertEqual(kernel_offences("kernels/a/a.h", '// a new throw\nf("try");'), [])
        headers = "class A final : public B {\n  Tensor step(int);\n};\nstruct C {\n  int other();\n};\nTensor f(int);\n"
        self.assertEqual(exported("Tensor f(int a) {\n", headers), ["f"])
        self.assertEqual(exported("Tensor g(int a) {\n", headers), [])
        self.assertEqual(exported("Tensor A::step(int a) {\n", headers), ["step"])
        self.assertEqual(exported("Tensor C::step(int a) {\n", headers), [])
        self.assertEqual(exported("Tensor D::step(int a) {\n", headers), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
