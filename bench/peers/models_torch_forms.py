"""The two models as PyTorch takes them best. A form computes the loss of training and the answer of
inference from a dictionary of weights with the names of our checkpoints."""
import dataclasses
import typing

import torch
import torch.nn.functional as F

from message_sum_torch import EAGER as MESSAGE_SUMS


class RefineNet:
    """The first layer of a message split into a part of the receiver and one of the sender, its second layer
    joined with the gates, the input's part of the gates computed once; products that add to what is there.
    One product for all that reads a state was slower: every use of a part of it copies."""

    def __init__(self, message_sum):
        self.message_sum = MESSAGE_SUMS[message_sum]

    def prepare(self, w, givens):
        """What all steps share, and the state before the first."""
        n = len(w['initial'])
        x = F.embedding(givens, w['given.table']).flatten(0, 1)
        bias = w['state.bias']
        inputs = (x[:, :2 * n] + bias[:2 * n], x[:, 2 * n:].contiguous(), bias[2 * n:])
        return (w, *inputs), w['initial'].expand(*givens.shape, -1)

    def step(self, prepared, h):
        w, x_gates, x_new, bias_new = prepared
        n = h.shape[-1]
        s = self.message_sum(F.linear(h, w['receiver.weight'], w['receiver.bias']),
                             F.linear(h, w['sender.weight'])).flatten(0, 1)
        of_sum, of_state = w['message.weight'], w['state.weight']
        flat = h.flatten(0, 1)
        gates = torch.addmm(x_gates, s, of_sum[:2 * n].t()).addmm_(flat, of_state[:2 * n].t()).sigmoid_()
        r, z = gates.chunk(2, -1)
        new = torch.addcmul(torch.addmm(x_new, s, of_sum[2 * n:].t()), r, F.linear(flat, of_state[2 * n:], bias_new))
        return torch.lerp(new.tanh_(), flat, z).view(h.shape)

    def readout(self, w, h):
        return F.linear(h, w['readout.weight'], w['readout.bias'])


class SymbolNet:
    """Candidates as [boards, row, column, digit, channels]: sums over factors are sums over axes, and the
    columns of the update that read factors are applied once per factor."""

    def prepare(self, w, givens):
        given = givens.view(-1, 9, 9, 1)
        kinds = torch.where(given == 0, 2, torch.where(given == torch.arange(1, 10), 0, 1))
        factors = list(zip(w['factor.weight'].chunk(3), w['factor.bias'].chunk(3), w['collect.weight'].chunk(3, 1)))
        return (w, F.embedding(kinds, w['clue.table']), factors), w['initial'].expand(*kinds.shape, -1)

    def step(self, prepared, h):
        w, clue, factors = prepared
        boards, c = h.shape[0], h.shape[-1]
        m = F.relu(F.linear(h, w['message.weight'], w['message.bias']))
        sums = [torch.cat([m.sum(2), m.sum(1)], 1), m.view(boards, 3, 3, 3, 3, 9, c).sum((2, 4)), m.sum(3)]
        lines, boxes, cells = (F.linear(F.relu(F.linear(s, f, b)), v) for s, (f, b, v) in zip(sums, factors))
        u = F.linear(torch.cat([h, m], -1), w['own.weight'])
        u.add_(clue).add_(lines[:, :9].unsqueeze(2)).add_(lines[:, 9:].unsqueeze(1)).add_(cells.unsqueeze(3))
        u.view(boards, 3, 3, 3, 3, 9, 2 * c).add_(boxes[:, :, None, :, None])
        y = h + F.linear(u.relu_(), w['update.weight'], w['update.bias'])
        return F.rms_norm(y, (c,), eps=1e-5)

    def readout(self, w, h):
        return F.linear(h, w['readout.weight'], w['readout.bias']).flatten(-2).flatten(1, 2)


@dataclasses.dataclass
class Form:
    net: typing.Any
    slice: int = 0          # boards that go through together; 0: all
    compiled: bool = False  # each refinement, by torch.compile

    def __post_init__(self):
        self.step = torch.compile(self.net.step, dynamic=False) if self.compiled else self.net.step

    def loss(self, w, givens, digits, steps):
        """Mean over refinements, boards and cells: digits [boards, cells] from 0, givens from 1, 0 is blank."""
        prepared, h = self.net.prepare(w, givens)
        total = 0
        for _ in range(steps):
            h = self.step(prepared, h)
            total = total + F.cross_entropy(self.net.readout(w, h).flatten(0, 1), digits.flatten())
        return total / steps

    def answer(self, w, givens, steps):
        """Logits [boards, cells, digits] after the last refinement."""
        prepared, h = self.net.prepare(w, givens)
        for _ in range(steps):
            h = self.step(prepared, h)
        return self.net.readout(w, h)


def forms_of(model):
    """By name; the first is plain enough for the reference."""
    if model == 'symbol':
        nets = {'views': SymbolNet()}
    else:
        nets = {how: RefineNet(how) for how in ('select', 'loop_in_place')}
    forms = {}
    for name, net in nets.items():
        forms |= {name: Form(net), f'{name}/8_boards': Form(net, 8)}
    compilable = {'views': nets['views']} if model == 'symbol' else {how: RefineNet(how) for how in ('select', 'loop')}
    for name, net in compilable.items():
        forms[f'compile:{name}/8_boards'] = Form(net, 8, compiled=True)
    forms[f'compile:{next(iter(compilable))}'] = Form(next(iter(compilable.values())), compiled=True)
    return forms
