"""Our models whole against the same in PyTorch: the part of bench/compare.py that does it."""
import dataclasses
import os
import statistics
import tempfile

from contender import PEER_PYTHON, ROOT, Contender, build, device, environment, load, verify


@dataclasses.dataclass
class Task:
    model: str
    kind: str
    channels: int
    steps: int

    def problem(self, folder, boards):
        return f'{folder} {self.model} {self.kind} {self.channels} {boards} {self.steps}'


TASKS = {
    'refine_train': Task('refine', 'train', 96, 16),
    'refine_infer': Task('refine', 'infer', 96, 32),
    'symbol_train': Task('symbol', 'train', 32, 4),
    'symbol_infer': Task('symbol', 'infer', 32, 16),
}
PLAIN, AS_IT_COMES = 'plain', 'plain, glibc as it is'
PEER = [PEER_PYTHON, ROOT / 'bench/peers/models_torch.py']


def spread(values, unit=1.0, digits=2):
    """Median and range."""
    low, middle, high = (f'{unit * f(values):.{digits}f}' for f in (min, statistics.median, max))
    return f'{middle} ({low} to {high})'


def table(times, ours):
    """Of the times of every form, a list each with one entry a round. Ratios are taken within a round."""
    print(f'{"":28}{"ms":>28}{"times ours":>26}')
    ratios = {form: [t / o for t, o in zip(ts, times[ours])] for form, ts in times.items()}
    for form, ts in times.items():
        print(f'{form:28}{spread(ts, 1e3, 1):>28}{spread(ratios[form]):>26}')
    groups = {'best eager form': lambda f: '/' not in f and ':' not in f,
              'best eager form, a few boards at a time': lambda f: '/' in f and ':' not in f,
              'best compiled form': lambda f: f.startswith('compile:')}
    for group, belongs in groups.items():
        forms = [f for f in times if f not in (ours, AS_IT_COMES) and belongs(f)]
        if not forms:
            continue
        best = min(forms, key=lambda form: statistics.median(times[form]))
        print(f'{group}: {best}, {spread(ratios[best])} times ours')


def time_task(program, name, boards, threads, rounds):
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as folder:
        problem = task.problem(folder, boards)
        ours = Contender([program], problem, environment(threads))
        peer = Contender(PEER, problem, environment(threads))
        plain = PLAIN in peer.forms and device() == 'cpu'
        untuned = Contender(PEER, problem, environment(threads, {})) if plain else None
        where = 'a GPU' if device() == 'cuda' else f'{threads} thread(s)'
        print(f'\n{name}: {boards} boards, {task.channels} channels, {task.steps} steps, {where}')
        verify(ours, peer, folder)
        times, floors, parts = {}, [], ''
        for _ in range(rounds):
            if device() == 'cpu':
                *seconds, parts = ours.ask('floor').split(maxsplit=2)
                floors.append([float(s) for s in seconds])
            for contender in (ours, peer):
                for form in contender.forms:
                    times.setdefault(form, []).append(contender.time(form, task.kind, 1))
            if untuned:
                times.setdefault(AS_IT_COMES, []).append(untuned.time(PLAIN, task.kind, 1))
        for contender in (ours, peer, untuned):
            if contender:
                contender.close()
    table(times, ours.forms[0])
    if not floors:
        return times
    own = times[ours.forms[0]]
    for what, at in (('multiply-adds in registers', 0), ("oneDNN's rate", 1)):
        seconds = [floor[at] for floor in floors]
        print(f'floor with products at {what}: {spread(seconds, 1e3, 1)} ms; '
              f'ours is {spread([t / s for t, s in zip(own, seconds)])} times that')
    print(f'  {parts} in the last round')
    return times


def peak_memory(program, problem, form):
    """MiB that one step adds to a fresh process, with glibc as it is: freed memory goes back."""
    contender = Contender(program, problem, environment(1, {}))
    found = float(contender.ask(f'memory {form}'))
    contender.close()
    return found


def memory_table(program, name, boards, forms):
    sizes = (boards, 2 * boards)
    print(f'\n{name}: MiB that a step adds at its peak, one thread, glibc as it is')
    print(f'{"boards":28}' + ''.join(f'{size:>16}{"times ours":>14}' for size in sizes))
    ours = {}
    for form in forms:
        row = f'{form:28}'
        for size in sizes:
            # Code is compiled for one number of boards; another would take minutes.
            if size != boards and form.startswith('compile:'):
                continue
            with tempfile.TemporaryDirectory() as folder:
                problem = TASKS[name].problem(folder, size)
                own = peak_memory([program], problem, forms[0])  # leaves the problem in the folder
                ours.setdefault(size, own)
                found = own if form == forms[0] else peak_memory(PEER, problem, form)
            row += f'{found:16.1f}{found / ours[size]:14.1f}'
        print(row, flush=True)


def run(tasks, all_threads, boards, rounds):
    program = build('peer_models')
    with tempfile.TemporaryDirectory() as folder:
        problem = TASKS[tasks[0]].problem(folder, 1)
        titles = []
        for command in ([program], PEER):
            contender = Contender(command, problem)
            titles.append(contender.title)
            contender.close()
    print(f'{"; ".join(titles)}; {os.cpu_count()} cores; '
          f'glibc keeps freed memory (MALLOC_ settings of contender.py)\nmedians and ranges of {rounds} rounds; '
          f'load average {load()}', flush=True)
    forms = {}
    for name in tasks:
        ours = {}
        for threads in all_threads:
            times = time_task(program, name, boards, threads, rounds)
            forms[name] = [form for form in times if form != AS_IT_COMES]
            ours[threads] = statistics.median(times[forms[name][0]])
        if 1 in ours and 2 in ours:
            print(f'{name}: two threads are {ours[1] / ours[2]:.2f} times as fast as one', flush=True)
    for name in tasks:
        if TASKS[name].kind == 'train':
            memory_table(program, name, boards, forms[name])
    print(f'load average {load()}')
