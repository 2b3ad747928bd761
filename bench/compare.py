#!/usr/bin/env python3
"""Times one of our ops against its peers, interleaved, and prints the ratios.

  python3 bench/compare.py message_sum [--rounds 15] [--calls 5]

Builds the release preset and, on the first call, installs the peers into build/peers. Each contender
is a process that answers requests on its standard input (bench/peers/); in every round each of them
runs in turn, so that what else the machine does falls on all alike. One thread each; times are the
processes' CPU time, medians of the rounds. glibc is told to keep freed memory, which is worth a factor
of two to PyTorch. Results are compared with float64 first; a difference beyond 1e-3 ends the run.
Leave the machine alone while it runs: the load average is printed before and after.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEEP_MEMORY = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '20000000000',
               'MALLOC_TOP_PAD_': '268435456'}
ENVIRONMENT = os.environ | KEEP_MEMORY | {'OMP_NUM_THREADS': '1'}
TOLERANCE = 1e-3


class Contender:
    def __init__(self, command, folder):
        self.errors = tempfile.TemporaryFile(mode='w+')  # shown if the process dies
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=ENVIRONMENT)
        self.title = self.ask(folder)
        self.forms = self.process.stdout.readline().split()

    def ask(self, request):
        try:
            self.process.stdin.write(request + '\n')
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            self.errors.seek(0)
            sys.exit(f'{self.errors.read()}{self.process.args[0]} ended while asked for: {request}')
        return answer.strip()

    def time(self, form, kind, calls):
        return float(self.ask(f'{form} {kind} {calls}'))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def load():
    return ' '.join(f'{x:.2f}' for x in os.getloadavg())


def verify(ours, peer, folder):
    ours.ask('verify')
    for pair in peer.ask(f'verify {folder}').split():
        name, difference = pair.rsplit('=', 1)
        if not float(difference) < TOLERANCE:
            sys.exit(f'{name} differs from float64 by {difference}')
    print(f'results of all agree with float64 within {TOLERANCE}')


def table(times, ours):
    kinds = ('forward', 'gradient')
    medians = {key: statistics.median(values) for key, values in times.items()}
    print(f'\n{"":26}{"forward ms":>12}{"ratio":>8}{"forward + backward ms":>24}{"ratio":>8}')
    for form in dict.fromkeys(form for form, _ in times):
        row = f'{form:26}'
        for kind, width in zip(kinds, (12, 24)):
            row += f'{1e3 * medians[form, kind]:{width}.3f}{medians[form, kind] / medians[ours, kind]:8.1f}'
        print(row)
    groups = {'best eager form': lambda f: '/' not in f and ':' not in f,
              'best eager form, tiled by hand': lambda f: '/' in f,
              'best compiled form': lambda f: f.startswith('compile:')}
    for group, belongs in groups.items():
        for kind in kinds:
            forms = [f for f, k in times if k == kind and f != ours and belongs(f)]
            best = min(forms, key=lambda form: medians[form, kind])
            ratio = medians[best, kind] / medians[ours, kind]
            print(f'{group}, {kind}: {best}, {ratio:.1f} times ours')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('op', choices=['message_sum'])
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--calls', type=int, default=5)
    options = parser.parse_args()

    program = f'peer_{options.op}'
    if not (ROOT / 'build/release/build.ninja').exists():
        subprocess.run(['cmake', '--preset', 'release'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['cmake', '--build', 'build/release', '--target', program], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([ROOT / 'bench/peers/setup.sh'], check=True)
    with tempfile.TemporaryDirectory() as folder:
        peer = Contender([ROOT / 'build/peers/bin/python', ROOT / f'bench/peers/{options.op}_torch.py'],
                         folder)
        ours = Contender([ROOT / f'build/release/bin/{program}'], folder)
        print(f'{ours.title}; {peer.title}; one thread; load average {load()}')
        verify(ours, peer, folder)
        times = {}
        for _ in range(options.rounds):
            for contender in (ours, peer):
                for form in contender.forms:
                    for kind in ('forward', 'gradient'):
                        times.setdefault((form, kind), []).append(
                            contender.time(form, kind, options.calls))
        ours.close()
        peer.close()
        table(times, ours.forms[0])
        print(f'load average {load()}')


if __name__ == '__main__':
    main()
