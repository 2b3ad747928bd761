"""attention_topk_sample in PyTorch: the peers of bench/compare.py attention_topk_sample, which describes
the protocol (as message_sum_torch.py does). Each form draws 20 of 4,096 keys for as many queries and gives
the log of the probability of every draw given those before it. What is drawn differs from form to form, so
the verification takes each form's own draws and computes their log-probabilities again in float64.
"""
import os

import numpy
import torch

from peer import serve

TOKENS, WIDTH, COUNT = 4096, 64, 20


def scores_of(q, k):
    return q @ k.transpose(1, 2) * WIDTH ** -0.5


def log_prob_of(p, index):
    picked = p.gather(-1, index)
    return picked.log() - torch.log1p(picked - picked.cumsum(-1))


def softmax_multinomial(q, k):
    p = scores_of(q, k).softmax(-1)
    index = torch.multinomial(p.detach()[0], COUNT).unsqueeze(0)
    return index, log_prob_of(p, index)


def softmax_gumbel_topk(q, k):
    scores = scores_of(q, k)
    noise = -torch.empty_like(scores).exponential_().log_()
    index = (scores.detach() + noise).topk(COUNT).indices
    return index, log_prob_of(scores.softmax(-1), index)


def softmax_topk(q, k):
    p = scores_of(q, k).softmax(-1)
    index = p.detach().topk(COUNT).indices
    return index, log_prob_of(p, index)


FORMS = {form.__name__: form for form in (softmax_multinomial, softmax_gumbel_topk, softmax_topk)}


class Problem:
    def __init__(self):
        torch.manual_seed(1)
        self.inputs = [torch.randn(1, TOKENS, WIDTH) for _ in range(2)]
        self.g = torch.randn(1, TOKENS, COUNT)
        self.leaves = [t.clone().requires_grad_() for t in self.inputs]

    def write(self, folder):
        for name, t in zip('qkg', [*self.inputs, self.g]):
            t.numpy().tofile(os.path.join(folder, name + '.bin'))

    def forward(self, form):
        with torch.no_grad():
            return form(*self.inputs)

    def gradient(self, form):
        return torch.autograd.grad(form(*self.leaves)[1], self.leaves, self.g)

    def exact(self, index):
        leaves = [t.double().requires_grad_() for t in self.inputs]
        log_prob = log_prob_of(scores_of(*leaves).softmax(-1), index)
        return [log_prob.detach(), *torch.autograd.grad(log_prob, leaves, self.g.double())]

    def worst(self, index, results):
        if index.min() < 0 or any(len(set(row)) < COUNT for row in index[0].tolist()):
            return float('nan')  # not COUNT different keys
        # torch.max keeps NaN, the built-in max may drop it.
        return torch.stack([(x.double() - w).abs().max() for x, w in zip(results, self.exact(index))]).max().item()

    def differences(self, folder):
        def ours(name, like):
            return torch.from_numpy(numpy.fromfile(os.path.join(folder, name + '.bin'), numpy.float32)).view(like.shape)
        shapes = {'out': self.g, 'dq': self.inputs[0], 'dk': self.inputs[1]}
        for form, prefix in {'plackett_luce': 'draw_', 'top': 'top_'}.items():
            yield form, self.worst(ours(prefix + 'indices', self.g).long(),
                                   [ours(prefix + name, like) for name, like in shapes.items()])
        for name, form in FORMS.items():
            index, log_prob = form(*self.leaves)
            yield name, self.worst(index, [log_prob.detach(), *torch.autograd.grad(log_prob, self.leaves, self.g)])


if __name__ == '__main__':
    serve(Problem(), FORMS)
