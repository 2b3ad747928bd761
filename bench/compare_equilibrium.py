"""Training steps at fixed points against the same in PyTorch: the part of bench/compare.py that does it."""
import statistics
import sys
import tempfile

from compare_models import spread
from contender import PEER_PYTHON, ROOT, TOLERANCE, Contender, build, load

CHANNELS = {'equilibrium_symbol': 32, 'equilibrium_refine': 96}
PEER = [PEER_PYTHON, ROOT / 'bench/peers/equilibrium_torch.py']
# Solves that end within the caps, and solves that make every evaluation they may.
TOLERANCES = [1e-3, 1e-9]


def verify(ours, peer, folder):
    """Gradients and loss against float64, and what every form's solves did."""
    ours.ask('verify')
    print('  float64 and forms: mean evaluations of f and J^T a board, share unconverged, largest difference')
    for found in peer.ask(f'verify {folder}').split():
        name, difference, counts = found.rsplit('=', 2)
        forward, failed, adjoint, adjoint_failed = (float(c) for c in counts.split(','))
        print(f'  {name:28}{forward:8.2f} + {adjoint:.2f}{failed:10.2f} + {adjoint_failed:.2f}{difference:>12}')
        if not float(difference) < TOLERANCE:
            sys.exit(f'{name} differs from float64 by {difference}')


def time_task(program, name, solver, tolerance, boards, rounds):
    with tempfile.TemporaryDirectory() as folder:
        problem = f'{folder} {name.removeprefix("equilibrium_")} {CHANNELS[name]} {boards} {solver} {tolerance}'
        ours, peer = Contender([program], problem), Contender(PEER, problem)
        print(f'\n{name}, {solver}, tolerance {tolerance:g}, caps 30 + 30: {boards} boards, {CHANNELS[name]} channels, '
              f'one thread; {ours.title}; {peer.title}; load average {load()}', flush=True)
        verify(ours, peer, folder)
        times = {}
        for _ in range(rounds):
            for contender in (ours, peer):
                for form in contender.forms:
                    times.setdefault(form, []).append(contender.time(form, 'train', 1))
        ours.close()
        peer.close()
    own = times['stillpoint']
    for form, ts in times.items():
        ratios = [t / o for t, o in zip(ts, own)]
        print(f'{form:28}{spread(ts, 1e3, 1):>28} ms{spread(ratios):>26} times ours')
    best = min(peer.forms, key=lambda form: statistics.median(times[form]))
    print(f'best of PyTorch: {best}, {spread([t / o for t, o in zip(times[best], own)])} times ours; ours is '
          f'{spread([o / u for o, u in zip(own, times["unrolled_16"])])} times 16 refinements unrolled', flush=True)


def run(name, boards, rounds):
    program = build('peer_equilibrium')
    for solver in ('anderson', 'damped'):
        for tolerance in TOLERANCES:
            time_task(program, name, solver, tolerance, boards, rounds)
    print(f'load average {load()}')
