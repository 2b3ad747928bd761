"""message_sum as PyTorch users write it: the peers of bench/compare.py message_sum.

Speaks the protocol of bench/compare.py on stdin and stdout:
  DIR             makes the inputs, writes them to DIR/{a,c,g,neighbours}.bin; answers with a title line
                  and the names of the forms
  FORM KIND CALLS runs FORM (KIND: forward or gradient) CALLS times; answers with the median seconds
  verify DIR      compares DIR/{out,da,dc}.bin and every form with float64; answers with the largest
                  differences
"""
import os

import numpy
import torch
import torch.nn.functional as F

from peer import DEVICE, serve

BOARDS, CELLS, CHANNELS = 64, 81, 96


def sudoku_neighbours():
    def box(i):
        return i // 27, i % 9 // 3
    return torch.tensor([[j for j in range(CELLS) if j != i and
                          (i // 9 == j // 9 or i % 9 == j % 9 or box(i) == box(j))]
                         for i in range(CELLS)], device=DEVICE)


NEIGHBOURS = sudoku_neighbours()
DEGREE = NEIGHBOURS.shape[1]
FLAT = NEIGHBOURS.reshape(-1)
COLUMNS = [NEIGHBOURS[:, k].contiguous() for k in range(DEGREE)]


# ---- eager forms; all are differentiable ---------------------------------------------------------

def broadcast(a, c):
    return F.relu(a.unsqueeze(2) + c[:, NEIGHBOURS]).sum(2)


def select(a, c):
    return F.relu(a.unsqueeze(2) + c.index_select(1, FLAT).view(-1, CELLS, DEGREE, CHANNELS)).sum(2)


def select_in_place(a, c):
    edges = c.index_select(1, FLAT).view(-1, CELLS, DEGREE, CHANNELS)
    return edges.add_(a.unsqueeze(2)).relu_().sum(2)


def loop(a, c):
    """One neighbour of every cell at a time: never 20 times the memory."""
    out = 0
    for column in COLUMNS:
        out = out + F.relu(a + c.index_select(1, column))
    return out


def loop_in_place(a, c):
    out = torch.zeros_like(a)
    for column in COLUMNS:
        out.add_(c.index_select(1, column).add_(a).relu_())
    return out


def by_boards(form, boards):
    """Tiled by hand: a few boards at a time, so that the edges stay in this machine's cache."""
    def chunked(a, c):
        return torch.cat([form(x, y) for x, y in zip(a.split(boards), c.split(boards))])
    return chunked


class Recompute(torch.autograd.Function):
    """Written by hand: keeps a and c only, forms the messages again in the backward."""

    @staticmethod
    def forward(ctx, a, c):
        ctx.save_for_backward(a, c)
        return loop_in_place(a, c)

    @staticmethod
    def backward(ctx, g):
        a, c = ctx.saved_tensors
        da, dc = torch.zeros_like(a), torch.zeros_like(c)
        for column in COLUMNS:  # the pattern is symmetric: who listens to me is whom I listen to
            da.add_(c.index_select(1, column).add_(a) > 0)
            dc.add_(g.index_select(1, column).mul_(a.index_select(1, column).add_(c) > 0))
        return da.mul_(g), dc


EAGER = {
    'broadcast': broadcast,
    'select': select,
    'select_in_place': select_in_place,
    'loop': loop,
    'loop_in_place': loop_in_place,
    'select/4_boards': by_boards(select, 4),
    'select_in_place/4_boards': by_boards(select_in_place, 4),
    'loop/8_boards': by_boards(loop, 8),
    'loop_in_place/8_boards': by_boards(loop_in_place, 8),
    'recompute': Recompute.apply,
}
COMPILED = {f'compile:{name}': torch.compile(EAGER[name]) for name in ('broadcast', 'select', 'loop')}
FORMS = EAGER | COMPILED


class Problem:
    def __init__(self):
        torch.manual_seed(1)
        self.a, self.c, self.g = ((torch.rand(BOARDS, CELLS, CHANNELS) * 2 - 1).to(DEVICE) for _ in range(3))
        self.leaves = [t.clone().requires_grad_() for t in (self.a, self.c)]

    def write(self, folder):
        for name in 'acg':
            getattr(self, name).cpu().numpy().tofile(os.path.join(folder, name + '.bin'))
        NEIGHBOURS.to(torch.int32).cpu().numpy().tofile(os.path.join(folder, 'neighbours.bin'))

    def forward(self, form):
        with torch.no_grad():
            return form(self.a, self.c)

    def gradient(self, form):
        return torch.autograd.grad(form(*self.leaves), self.leaves, self.g)

    def reference(self):
        leaves = [t.double().requires_grad_() for t in (self.a, self.c)]
        out = broadcast(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, self.g.double())]

    def differences(self, folder):
        wanted = self.reference()
        def worst(results):
            # torch.max keeps NaN, the built-in max may drop it.
            return torch.stack([(x.double() - w).abs().max() for x, w in zip(results, wanted)]).max().item()
        shape = self.a.shape
        ours = [torch.from_numpy(numpy.fromfile(os.path.join(folder, n + '.bin'), numpy.float32))
                .view(shape).to(DEVICE) for n in ('out', 'da', 'dc')]
        yield 'stillpoint', worst(ours)
        for name, form in FORMS.items():
            yield name, worst([self.forward(form), *self.gradient(form)])


if __name__ == '__main__':
    serve(Problem(), FORMS)
