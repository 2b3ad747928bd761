"""attention_topk_sample in PyTorch: the peers of bench/compare.py attention_topk_sample, which describes
the protocol (as message_sum_torch.py does). Each form chooses 20 of 4,096 keys for as many queries, by the law
behind the @, and gives the log of the probability of every choice given those before it; PyTorch has none for
k_subset. What is drawn differs from form to form, so the verification takes each form's own draws and
computes their log-probabilities again in float64; the largest scores it compares with those of float64.
"""
import os

import numpy
import torch
import torch.nn.functional as F

from peer import DEVICE, serve

TOKENS, WIDTH, COUNT = 4096, 64, 20
TILE = 128  # queries, whose scores stay in the cache
OURS = {'plackett_luce': 'draw_', 'top': 'top_', 'with_replacement': 'replaced_', 'k_subset': 'set_'}


def scores_of(q, k):
    return q @ k.transpose(1, 2) * WIDTH ** -0.5


def log_prob_in_order(p, index):
    picked = p.gather(-1, index)
    return picked.log() - torch.log1p(picked - picked.cumsum(-1))


def log_prob_replaced(p, index):
    return p.gather(-1, index).log()


def softmax_multinomial(q, k):
    p = scores_of(q, k).softmax(-1)
    index = torch.multinomial(p.detach()[0], COUNT).unsqueeze(0)
    return index, log_prob_in_order(p, index)


def softmax_gumbel_topk(q, k):
    scores = scores_of(q, k)
    noise = -torch.empty_like(scores).exponential_().log_()
    index = (scores.detach() + noise).topk(COUNT).indices
    return index, log_prob_in_order(scores.softmax(-1), index)


def softmax_topk(q, k):
    p = scores_of(q, k).softmax(-1)
    index = p.detach().topk(COUNT).indices
    return index, log_prob_in_order(p, index)


def scores_topk(q, k):
    """Without the softmax, of which only what is picked and the sum are needed."""
    scores = scores_of(q, k)
    picked, index = scores.topk(COUNT)
    log_p = picked - scores.logsumexp(-1, keepdim=True)
    p = log_p.exp()
    return index, log_p - torch.log1p(p - p.cumsum(-1))


def softmax_multinomial_replaced(q, k):
    p = scores_of(q, k).softmax(-1)
    index = torch.multinomial(p.detach()[0], COUNT, replacement=True).unsqueeze(0)
    return index, log_prob_replaced(p, index)


WHOLE = {'softmax_multinomial@plackett_luce': softmax_multinomial,
         'softmax_gumbel_topk@plackett_luce': softmax_gumbel_topk,
         'softmax_topk@top': softmax_topk,
         'scores_topk@top': scores_topk,
         'softmax_multinomial@with_replacement': softmax_multinomial_replaced}
# What computes, and how many queries at a time.
FORMS = {name: (form, TOKENS) for name, form in WHOLE.items()} | {
    name.replace('@', f'/{TILE}_queries@'): (form, TILE) for name, form in WHOLE.items()}


# ---- float64 -------------------------------------------------------------------------------------

def log_sum_over_sets(w):
    """log of the sum over all sets of COUNT keys of their product: a coefficient of prod_j (1 + w_j x)."""
    polynomials = torch.stack([torch.ones_like(w), w], -1)
    while polynomials.shape[2] > 1:
        a, b = polynomials[:, :, ::2], polynomials[:, :, 1::2]
        size = a.shape[-1]
        polynomials = sum(F.pad(a[..., i:i + 1] * b, (i, size - 1 - i)) for i in range(size))[..., :COUNT + 1]
    return polynomials[:, :, 0, COUNT].log()


def log_prob_of_set(p, index):
    return (TOKENS * p.gather(-1, index)).log().sum(-1) - log_sum_over_sets(TOKENS * p)


LOG_PROB = {'plackett_luce': log_prob_in_order, 'top': log_prob_in_order,
            'with_replacement': log_prob_replaced, 'k_subset': log_prob_of_set}


class Problem:
    def __init__(self):
        torch.manual_seed(1)
        self.q, self.k = (torch.randn(1, TOKENS, WIDTH).to(DEVICE) for _ in range(2))
        self.g, self.s = torch.randn(1, TOKENS, COUNT).to(DEVICE), torch.randn(1, TOKENS).to(DEVICE)  # of draws; of sets

    def write(self, folder):
        for name in 'qkgs':
            getattr(self, name).cpu().numpy().tofile(os.path.join(folder, name + '.bin'))

    def forward(self, form):
        compute, rows = form
        with torch.no_grad():
            return [torch.cat(parts, 1) for parts in zip(*(compute(q, self.k) for q in self.q.split(rows, 1)))]

    def gradient(self, form):
        return self.all(*form, self.q, self.k, self.g)

    @staticmethod
    def all(compute, rows, q, k, g):
        """The choices, their log-probabilities, dq and dk, from so many queries at a time."""
        k = k.detach().requires_grad_()
        tiles, dk = [], 0
        for q_tile, g_tile in zip(q.split(rows, 1), g.split(rows, 1)):
            q_tile = q_tile.detach().requires_grad_()
            index, log_prob = compute(q_tile, k)
            dq, dk_of_tile = torch.autograd.grad(log_prob, (q_tile, k), g_tile)
            tiles.append((index, log_prob.detach(), dq))
            dk = dk + dk_of_tile
        return [*(torch.cat(parts, 1) for parts in zip(*tiles)), dk]

    def worst(self, law, index, log_prob, dq, dk):
        if index.min() < 0 or law != 'with_replacement' and any(len(set(row)) < COUNT for row in index[0].tolist()):
            return float('nan')  # not COUNT different keys
        q, k = self.q.double(), self.k.double()
        if law == 'top':
            scores = scores_of(q, k)
            # In order; a tie within the rounding of float32 may be broken either way.
            if (scores.gather(-1, index) - scores.topk(COUNT).values).abs().max() > 1e-5:
                return float('nan')
        chosen = iter(index.split(TILE, 1))
        def exact(q, k):
            at = next(chosen)
            return at, LOG_PROB[law](scores_of(q, k).softmax(-1), at)
        wanted = self.all(exact, TILE, q, k, (self.s if law == 'k_subset' else self.g).double())[1:]
        # torch.max keeps NaN, the built-in max may drop it.
        return torch.stack([(x.double() - w).abs().max() for x, w in zip((log_prob, dq, dk), wanted)]).max().item()

    def differences(self, folder):
        def ours(name, like):
            return torch.from_numpy(numpy.fromfile(os.path.join(folder, name + '.bin'), numpy.float32)).view(like.shape).to(DEVICE)
        shapes = {'dq': self.q, 'dk': self.k}
        for law, prefix in OURS.items():
            log_prob = ours(prefix + 'out', self.s if law == 'k_subset' else self.g)
            yield law, self.worst(law, ours(prefix + 'indices', self.g).long(), log_prob,
                                  *(ours(prefix + name, like) for name, like in shapes.items()))
        for name, form in FORMS.items():
            yield name, self.worst(name.partition('@')[2], *self.gradient(form))


if __name__ == '__main__':
    serve(Problem(), FORMS)
