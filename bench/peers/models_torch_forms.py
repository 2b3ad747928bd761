"""The two models as PyTorch takes them best, and SymbolNet as its equations read. A form computes the
loss of training and the answer of inference from a dictionary of weights with the names of our
checkpoints."""
import dataclasses
import typing

import torch
import torch.nn.functional as F

from message_sum_torch import EAGER as MESSAGE_SUMS
from peer import DEVICE


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
    """States as [boards 9 9 9, channels]: sums over factors are sums over axes, and the columns of the update
    that read factors are applied once per factor. A box is a sum over two axes that are not neighbours, which
    PyTorch does slowly, both ways; here it goes over a third of a row first, which rows need too. What is
    changed in place is never a view: those are copied in the backward."""

    def prepare(self, w, givens):
        given = givens.view(-1, 9, 9, 1)
        kinds = torch.where(given == 0, 2, torch.where(given == torch.arange(1, 10, device=given.device), 0, 1)).flatten()
        clue = F.embedding(kinds, w['clue.table']).view(-1, 3, 3, 3, 3, 9, w['clue.table'].shape[-1])
        factors = list(zip(w['factor.weight'].chunk(3), w['factor.bias'].chunk(3), w['collect.weight'].chunk(3, 1)))
        return (w, clue, factors), w['initial'].expand(len(kinds), -1)

    def step(self, prepared, h):
        w, clue, factors = prepared
        c = h.shape[-1]
        m = F.relu(F.linear(h, w['message.weight'], w['message.bias']))
        by_column = m.view(-1, 9, 9, 9, c)
        thirds = m.view(-1, 3, 3, 3, 3, 9, c).sum(4)  # [boards, band, row, stack, digit, c]
        sums = [torch.cat([thirds.sum(3).flatten(1, 2), by_column.sum(1)], 1), thirds.sum(2), by_column.sum(3)]
        lines, boxes, cells = (F.linear(F.relu(F.linear(s, f, b)), v) for s, (f, b, v) in zip(sums, factors))
        rows, columns = (part.unflatten(1, (3, 3)) for part in lines.split(9, 1))
        thirds = rows.unsqueeze(3) + boxes.unsqueeze(2)
        rules = thirds.unsqueeze(4) + cells.view(-1, 3, 3, 3, 3, 1, 2 * c)
        rules.add_(columns[:, None, None]).add_(clue)
        u = torch.addmm(rules.view(-1, 2 * c), torch.cat([h, m], -1), w['own.weight'].t()).relu_()
        y = torch.addmm(h, u, w['update.weight'].t()).add_(w['update.bias'])
        return F.rms_norm(y, (c,), eps=1e-5)

    def readout(self, w, h):
        return F.linear(h, w['readout.weight'], w['readout.bias']).view(-1, 81, 9)


class PlainSymbolNet(SymbolNet):
    """As the equations read: what a candidate's update reads in one row, and one product for it."""

    def prepare(self, w, givens):
        prepared, h = super().prepare(w, givens)
        weight = torch.cat([w['own.weight'], w['collect.weight']], 1)
        return (*prepared, weight), h

    def step(self, prepared, h):
        w, clue, factors, weight = prepared
        c = h.shape[-1]
        m = F.relu(F.linear(h, w['message.weight'], w['message.bias'])).view(-1, 9, 9, 9, c)

        def factor(kind, sums):
            f, b, _ = factors[kind]
            return F.relu(F.linear(sums, f, b))
        lines = factor(0, m.sum(2, keepdim=True)) + factor(0, m.sum(1, keepdim=True))
        boxes = factor(1, m.view(-1, 3, 3, 3, 3, 9, c).sum((2, 4), keepdim=True))
        boxes = boxes.expand(-1, 3, 3, 3, 3, 9, c).reshape(m.shape)
        cells = factor(2, m.sum(3, keepdim=True)).expand_as(m)
        read = torch.cat([h.view_as(m), m, lines, boxes, cells], -1)
        u = F.relu(F.linear(read, weight) + clue.view(*m.shape[:-1], -1))
        y = h + F.linear(u, w['update.weight'], w['update.bias']).view_as(h)
        return F.rms_norm(y, (c,), eps=1e-5)


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


# Network, boards that go through together, compiled; the first, in float64, is the reference. Others were
# slower: edges in one piece on 8 boards or compiled (three times), `recompute` on all boards.
FORMS = {
    'refine': [('loop_in_place', 8, False), ('loop_in_place', 0, False), ('select', 0, False),
               ('recompute', 8, False), ('loop', 8, True), ('loop', 0, True)],
    'symbol': [('views', 8, False), ('views', 0, False), ('plain', 0, False), ('views', 8, True),
               ('views', 0, True)],
}
if DEVICE == 'cuda':  # whose caches hold no few boards
    FORMS = {'refine': [('loop_in_place', 0, False), ('select', 0, False), ('recompute', 0, False), ('loop', 0, True)],
             'symbol': [('views', 0, False), ('plain', 0, False), ('views', 0, True)]}


def forms_of(model):
    """By name, as compile:loop/8_boards."""
    def net(how):
        if model == 'refine':
            return RefineNet(how)
        return PlainSymbolNet() if how == 'plain' else SymbolNet()
    return {'compile:' * compiled + how + f'/{boards}_boards' * (boards > 0): Form(net(how), boards, compiled)
            for how, boards, compiled in FORMS[model]}
