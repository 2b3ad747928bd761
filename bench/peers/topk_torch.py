"""topk in PyTorch: the peers of bench/compare.py topk, which describes the protocol (as message_sum_torch.py
does). The 20 largest of each of 4,096 rows of as many numbers, in order. No two numbers of a row are equal, so
that all forms pick the same.
"""
import os

import numpy
import torch

from peer import DEVICE, serve

ROWS, NUMBERS, COUNT = 4096, 4096, 20


def topk(x):
    return x.topk(COUNT).values


def sort(x):
    return x.sort(descending=True).values[:, :COUNT]


FORMS = {'torch.topk': topk, 'torch.sort': sort}


class Problem:
    def __init__(self):
        torch.manual_seed(1)
        self.x = (torch.rand(ROWS, NUMBERS).argsort() / NUMBERS).to(DEVICE)
        self.g = torch.randn(ROWS, COUNT).to(DEVICE)
        self.leaf = self.x.clone().requires_grad_()

    def write(self, folder):
        for name in 'xg':
            getattr(self, name).cpu().numpy().tofile(os.path.join(folder, name + '.bin'))

    def forward(self, form):
        with torch.no_grad():
            return form(self.x)

    def gradient(self, form):
        return torch.autograd.grad(form(self.leaf), self.leaf, self.g)

    def differences(self, folder):
        leaf = self.x.double().requires_grad_()
        out = topk(leaf)
        wanted = [out.detach(), *torch.autograd.grad(out, leaf, self.g.double())]
        def worst(results):
            # torch.max keeps NaN, the built-in max may drop it.
            return torch.stack([(x.double() - w).abs().max() for x, w in zip(results, wanted)]).max().item()
        ours = [torch.from_numpy(numpy.fromfile(os.path.join(folder, name + '.bin'), numpy.float32)).view(w.shape).to(DEVICE)
                for name, w in zip(('out', 'dx'), wanted)]
        yield 'topk', worst(ours)
        for name, form in FORMS.items():
            yield name, worst([self.forward(form), *self.gradient(form)])


if __name__ == '__main__':
    serve(Problem(), FORMS)
