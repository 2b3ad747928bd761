"""What the PyTorch sides of bench/compare.py share: clock, peak memory, our files."""
import json
import statistics
import time

import torch


def seconds(call, calls, threads):
    """The median of some calls: processor time with one thread, which other programs do not disturb; wall
    clock with more."""
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
    """MiB that the process has at the peak of a call more than before it."""
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # the peak starts again from what is held now
    before = status('VmRSS')
    call()
    return status('VmHWM') - before


def load_safetensors(path):
    types = {'F32': torch.float32, 'I32': torch.int32}
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        data = bytearray(file.read())
    header.pop('__metadata__', None)
    return {name: torch.frombuffer(data[slice(*entry['data_offsets'])], dtype=types[entry['dtype']])
            .view(entry['shape']) for name, entry in header.items()}
