#!/usr/bin/env python3
"""How the time of our models grows with boards, steps and width: a table and slopes.

  python3 bench/growth.py [--models refine symbol] [--threads 1] [--rounds 3]

Builds the release preset. Sizes are timed in turn, round after round; times are CPU time with one
thread, wall clock with more, medians of the rounds. A slope is that of the logarithm of the time over
the logarithm of the size, fitted to the upper half of the sizes: 1 is linear, 2 quadratic. A product
costs the square of the width; `per unit` says what a board, a step or a squared channel takes.
"""
import argparse
import math
import statistics
import tempfile

from contender import Contender, build, environment, load

SIZES = {
    'boards': (1, 4, 16, 64, 256, 1024, 4096),
    'steps': (4, 8, 16, 32, 64, 128, 256),
    'channels': (16, 32, 48, 64, 96, 128, 192),
}
# What stays as it is while one of them grows; small, so that the largest takes seconds.
USUAL = {
    'refine': {'boards': 8, 'steps': 4, 'channels': 96},
    'symbol': {'boards': 8, 'steps': 4, 'channels': 32},
}


def slope(sizes, times):
    """Of the least-squares line through the logarithms."""
    x, y = ([math.log(v) for v in values] for values in (sizes, times))
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def measure(program, model, kind, what, threads, rounds):
    sizes = SIZES[what]
    times = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        contenders = {}
        for size in sizes:
            at = USUAL[model] | {what: size}
            problem = f'{folder} {model} {kind} {at["channels"]} {at["boards"]} {at["steps"]}'
            contenders[size] = Contender([program], problem, environment(threads))
            contenders[size].time('stillpoint', kind, 1)  # the first call takes memory from the system
        for _ in range(rounds):
            for size, contender in contenders.items():
                times[size].append(contender.time('stillpoint', kind, 1))
        for contender in contenders.values():
            contender.close()
    return [statistics.median(times[size]) for size in sizes]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=list(USUAL), default=list(USUAL))
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=3)
    options = parser.parse_args()
    program = build('peer_models')
    print(f'{options.threads} thread(s); ms, medians of {options.rounds} rounds; load average {load()}')
    for model in options.models:
        for what, sizes in SIZES.items():
            fixed = ', '.join(f'{n} {name}' for name, n in USUAL[model].items() if name != what)
            print(f'\n{model}, {fixed}\n{what:20}' + ''.join(f'{size:>10}' for size in sizes) + f'{"slope":>8}')
            for kind in ('train', 'infer'):
                times = measure(program, model, kind, what, options.threads, options.rounds)
                half = len(sizes) // 2
                print(f'{kind:20}' + ''.join(f'{1e3 * t:10.2f}' for t in times) +
                      f'{slope(sizes[half:], times[half:]):8.2f}')
                units = [size * size if what == 'channels' else size for size in sizes]
                print(f'{"  us per unit":20}' + ''.join(f'{1e6 * t / u:10.2f}' for t, u in zip(times, units)),
                      flush=True)
    print(f'load average {load()}')


if __name__ == '__main__':
    main()
