"""attention in PyTorch: the peers of bench/compare.py attention, which describes the protocol (as
message_sum_torch.py does). Heads lie side by side in a token's row, as a linear layer leaves them.
"""
import os

import numpy
import torch
import torch.nn.functional as F

from peer import DEVICE, serve

TOKENS, HEADS, WIDTH = 1024, 8, 64


def split(x):
    return x.view(1, TOKENS, HEADS, WIDTH).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).reshape(1, TOKENS, HEADS * WIDTH)


def scaled_dot_product_attention(q, k, v):
    return join(F.scaled_dot_product_attention(split(q), split(k), split(v)))


def softmax_of_products(q, k, v):
    scores = split(q) @ split(k).transpose(2, 3) * WIDTH ** -0.5
    return join(scores.softmax(-1) @ split(v))


FORMS = {'scaled_dot_product_attention': scaled_dot_product_attention,
         'softmax_of_products': softmax_of_products}


class Problem:
    def __init__(self):
        torch.manual_seed(1)
        self.inputs = [torch.randn(1, TOKENS, HEADS * WIDTH).to(DEVICE) for _ in range(3)]
        self.g = torch.randn(1, TOKENS, HEADS * WIDTH).to(DEVICE)
        self.leaves = [t.clone().requires_grad_() for t in self.inputs]

    def write(self, folder):
        for name, t in zip('qkvg', [*self.inputs, self.g]):
            t.cpu().numpy().tofile(os.path.join(folder, name + '.bin'))

    def forward(self, form):
        with torch.no_grad():
            return form(*self.inputs)

    def gradient(self, form):
        return torch.autograd.grad(form(*self.leaves), self.leaves, self.g)

    def differences(self, folder):
        leaves = [t.double().requires_grad_() for t in self.inputs]
        out = softmax_of_products(*leaves)
        wanted = [out.detach(), *torch.autograd.grad(out, leaves, self.g.double())]
        def worst(results):
            # torch.max keeps NaN, the built-in max may drop it.
            return torch.stack([(x.double() - w).abs().max() for x, w in zip(results, wanted)]).max().item()
        ours = [torch.from_numpy(numpy.fromfile(os.path.join(folder, n + '.bin'), numpy.float32))
                .view(self.g.shape).to(DEVICE) for n in ('out', 'dq', 'dk', 'dv')]
        yield 'stillpoint', worst(ours)
        for name, form in FORMS.items():
            yield name, worst([self.forward(form), *self.gradient(form)])


if __name__ == '__main__':
    serve(Problem(), FORMS)
