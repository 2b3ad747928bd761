"""What the PyTorch sides of bench/compare.py share: clock, peak memory, our files."""
import json
import os
import statistics
import sys
import time

import torch

DEVICE = os.environ.get('STILLPOINT_DEVICE', 'cpu')


def seconds(call, calls, threads):
    """The median of some calls: processor time with one thread, which other programs do not disturb; wall
    clock with more, and on a GPU, where all calls are on their way before the first has ended."""
    if DEVICE == 'cuda':
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / calls
    clock = time.process_time if threads == 1 else time.perf_counter
    times = []
    for _ in range(calls):
        begin = clock()
        call()
        times.append(clock() - begin)
    return statistics.median(times)


def status(key):
    """A figure of /proc/self/status in MiB."""
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ':')) / 1024


def peak_memory(call):
    """MiB that the process, or on a GPU the allocator, has at the peak of a call more than before it."""
    if DEVICE == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # the peak starts again from what is held now
    before = status('VmRSS')
    call()
    return status('VmHWM') - before


def title():
    return f'PyTorch {torch.__version__}' + (f', {torch.cuda.get_device_name()}' if DEVICE == 'cuda' else '')


def load_safetensors(path):
    types = {'F32': torch.float32, 'I32': torch.int32}
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        data = bytearray(file.read())
    header.pop('__metadata__', None)
    return {name: torch.frombuffer(data[slice(*entry['data_offsets'])], dtype=types[entry['dtype']])
            .view(entry['shape']).to(DEVICE) for name, entry in header.items()}

def serve(problem, forms):
    """Answers bench/compare.py on the standard input, with one thread: FOLDER writes the problem, `verify FOLDER`
    compares what lies there and every form with float64, `FORM forward|gradient CALLS` takes the time."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        words = line.split()
        if words[0] == 'verify':
            print(' '.join(f'{name}={value:.2e}' for name, value in problem.differences(words[1])))
        elif len(words) == 1:
            problem.write(words[0])
            print(title())
            print(' '.join(forms))
        else:
            form, kind, calls = forms[words[0]], words[1], int(words[2])
            print(seconds(lambda: getattr(problem, kind)(form), calls, 1))
        sys.stdout.flush()
