"""The processes that bench/compare.py and bench/growth.py time. A contender gets its problem on the first
line of its standard input, answers with a title and a line of the names of its forms, and then answers
one line to each line that asks (bench/peers/).
"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEEP_MEMORY = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '20000000000',
               'MALLOC_TOP_PAD_': '268435456'}
TOLERANCE = 1e-3
PEER_PYTHON = ROOT / 'build/peers/bin/python'


def device():
    """Where all contenders compute, theirs to read from the environment: cpu or cuda."""
    return os.environ.get('STILLPOINT_DEVICE', 'cpu')


def environment(threads=1, malloc=KEEP_MEMORY):
    # Compiled code knows its number of threads, and is kept between runs.
    return os.environ | malloc | {
        'OMP_NUM_THREADS': str(threads),
        'TORCHINDUCTOR_CACHE_DIR': str(ROOT / f'build/peers/compiled/{threads}_threads')}


class Contender:
    def __init__(self, command, problem, env=None):
        self.errors = tempfile.TemporaryFile(mode='w+')  # shown if the process dies
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=env or environment())
        self.title = self.ask(problem)
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
        self.process.stdout.close()
        self.errors.close()


def load():
    return ' '.join(f'{x:.2f}' for x in os.getloadavg())


def verify(ours, peer, folder):
    ours.ask('verify')
    worst = 0
    for pair in peer.ask(f'verify {folder}').split():
        name, difference = pair.rsplit('=', 1)
        if not float(difference) < TOLERANCE:
            sys.exit(f'{name} differs from float64 by {difference}')
        worst = max(worst, float(difference))
    print(f'results of all agree with float64 within {worst:.1e} (allowed: {TOLERANCE})')


def build(program):
    preset = 'cuda' if device() == 'cuda' else 'release'
    if not (ROOT / f'build/{preset}/build.ninja').exists():
        subprocess.run(['cmake', '--preset', preset], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['cmake', '--build', f'build/{preset}', '--target', program], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    return ROOT / f'build/{preset}/bin/{program}'
