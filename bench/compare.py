#!/usr/bin/env python3
"""Times one of our ops, or our models whole, against its peers, interleaved, and prints the ratios.

  python3 bench/compare.py OP [--rounds 15] [--calls 5]     message_sum, attention, attention_topk_sample or topk
  python3 bench/compare.py models [--rounds 5]     every task of compare_models.py; or one by its name:
  python3 bench/compare.py refine_train [--threads 1]
  python3 bench/compare.py equilibrium_symbol [--boards 16]     or equilibrium_refine: steps at fixed points
  python3 bench/compare.py refine_train --device cuda [--boards 1024]     on a GPU; not for fixed points

Builds the release preset (for a GPU the preset cuda) and, on the first call, installs the peers into build/peers. Each contender
is a process that answers requests on its standard input (bench/peers/); in every round each of them
runs in turn, so that what else the machine does falls on all alike. Times are the processes' CPU time
with one thread, wall clock with more and on a GPU, medians of the rounds. glibc is told to keep freed memory, which
is worth a factor of two to PyTorch. Results are compared with float64 first; a difference beyond 1e-3
ends the run. Leave the machine alone while it runs: the load average is printed before and after.
"""
import argparse
import itertools
import os
import statistics
import subprocess
import tempfile

import compare_equilibrium
import compare_models
from contender import PEER_PYTHON, ROOT, Contender, build, device, load, verify

OPS = ['message_sum', 'attention', 'attention_topk_sample', 'topk']


def table(times, ours):
    def rival(form):
        """The form of ours that answers it: NAME@OURS says so, all others have the first one."""
        return form if form in ours else form.partition('@')[2] or ours[0]
    kinds = ('forward', 'gradient')
    medians = {key: statistics.median(values) for key, values in times.items()}
    width = max(30, 2 + max(len(form) for form, _ in times))
    print(f'\n{"":{width}}{"forward ms":>12}{"ratio":>8}{"forward + backward ms":>24}{"ratio":>8}')
    for form in dict.fromkeys(form for form, _ in times):
        row = f'{form:{width}}'
        for kind, column in zip(kinds, (12, 24)):
            row += f'{1e3 * medians[form, kind]:{column}.3f}{medians[form, kind] / medians[rival(form), kind]:8.1f}'
        print(row)
    groups = {'best eager form': lambda f: '/' not in f and ':' not in f,
              'best eager form, tiled by hand': lambda f: '/' in f,
              'best compiled form': lambda f: f.startswith('compile:')}
    for mine, (group, belongs), kind in itertools.product(ours, groups.items(), kinds):
        forms = [f for f, k in times if k == kind and f not in ours and rival(f) == mine and belongs(f)]
        if not forms:
            continue
        best = min(forms, key=lambda form: medians[form, kind])
        ratio = medians[best, kind] / medians[mine, kind]
        print(f'{group}, {kind}: {best}, {ratio:.1f} times {mine}')


def compare_op(op, rounds, calls):
    program = build(f'peer_{op}')
    with tempfile.TemporaryDirectory() as folder:
        peer = Contender([PEER_PYTHON, ROOT / f'bench/peers/{op}_torch.py'], folder)
        ours = Contender([program], folder)
        print(f'{ours.title}; {peer.title}; {"one thread" if device() == "cpu" else "a GPU"}; load average {load()}')
        verify(ours, peer, folder)
        times = {}
        for _ in range(rounds):
            for contender in (ours, peer):
                for form in contender.forms:
                    for kind in ('forward', 'gradient'):
                        times.setdefault((form, kind), []).append(contender.time(form, kind, calls))
        ours.close()
        peer.close()
        table(times, ours.forms)
        print(f'load average {load()}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=[*OPS, 'models', *compare_models.TASKS, *compare_equilibrium.CHANNELS])
    parser.add_argument('--rounds', type=int, help='15 for an op, 5 for models')
    parser.add_argument('--calls', type=int, default=5, help='of an op in a round')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='of models')
    parser.add_argument('--boards', type=int, default=64, help='of models')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    options = parser.parse_args()
    if options.device == 'cuda' and options.what in compare_equilibrium.CHANNELS:
        parser.error(f'{options.what} runs on the CPU alone')
    os.environ['STILLPOINT_DEVICE'] = options.device
    subprocess.run([ROOT / 'bench/peers/setup.sh'], check=True)
    if options.what in OPS:
        compare_op(options.what, options.rounds or 15, options.calls)
    elif options.what in compare_equilibrium.CHANNELS:
        compare_equilibrium.run(options.what, options.boards, options.rounds or 5)
    else:
        tasks = list(compare_models.TASKS) if options.what == 'models' else [options.what]
        compare_models.run(tasks, options.threads if options.device == 'cpu' else [1], options.boards, options.rounds or 5)


if __name__ == '__main__':
    main()
