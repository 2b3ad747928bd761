"""A training step at fixed points in PyTorch: the peer of bench/compare.py equilibrium_MODEL.

Speaks the protocol of bench/peers/equilibrium_stillpoint.cpp. The solvers are those of engine/implicit/ (Damped,
Anderson, Exact): per-sample residuals, best iterates, a history per sample; rows leave once half of them are done.
"""
import os
import sys

import torch
import torch.nn.functional as F

import models_torch
from peer import load_safetensors, seconds

MEMORY, RIDGE = 5, 1e-6
FORWARD_BEGIN = 0.01
CAP = 30
FORMS = ('views', 'views/8_boards', 'compile:views/8_boards', 'loop_in_place', 'loop_in_place/8_boards',
         'recompute/8_boards')


class Damped:
    def step(self, z, fz, g, residual):
        return fz

    def keep(self, rows):
        pass


class Anderson:
    """History in a ring whose place is the same for all rows; `valid` says who has a difference there."""

    def __init__(self, z, begin):
        rows, n = z.shape
        self.dg, self.moves = z.new_zeros(rows, MEMORY, n), z.new_zeros(rows, MEMORY, n)
        self.gram = z.new_zeros(rows, MEMORY, MEMORY, dtype=torch.float64)
        self.valid = torch.zeros(rows, MEMORY, dtype=torch.bool)
        self.begin, self.before, self.near = begin, None, torch.ones(rows, 1, dtype=torch.bool)
        self.at = 0

    def step(self, z, fz, g, residual):
        if self.before is not None:
            z_before, g_before = self.before
            dg, moves, at = self.dg[:, self.at], self.moves[:, self.at], self.at
            torch.sub(g, g_before, out=dg)
            torch.sub(z, z_before, out=moves).add_(dg)
            self.valid[:, at] = True
            self.at = (at + 1) % MEMORY
        self.before = z, g
        self.valid &= (residual <= self.begin).unsqueeze(1)
        if not self.valid.any():
            return fz
        products = torch.bmm(self.dg, torch.stack([dg, g], 2)).double()
        self.gram[:, at] = self.gram[:, :, at] = products[..., 0]
        inverse = torch.where(self.valid, self.gram.diagonal(dim1=1, dim2=2).rsqrt(), 0).nan_to_num(posinf=0)
        scaled = self.gram * inverse.unsqueeze(1) * inverse.unsqueeze(2)
        scaled.diagonal(dim1=1, dim2=2).add_(torch.where(inverse > 0, RIDGE, 1.0))
        gamma = torch.linalg.solve(scaled, products[..., 1] * inverse) * inverse
        return torch.baddbmm(fz.unsqueeze(1), gamma.to(z.dtype).unsqueeze(1), self.moves, alpha=-1).squeeze(1)

    def keep(self, rows):
        self.dg, self.moves, self.gram, self.valid = (t[rows] for t in (self.dg, self.moves, self.gram, self.valid))
        self.before = self.before and tuple(t[rows] for t in self.before)


@torch.no_grad()
def solve(apply, z, stepper, tolerance, share):
    """The best iterates; evaluations of every row and whether it converged. apply(z, rows) maps those rows."""
    batch = len(z)
    rows, running = torch.arange(batch), torch.ones(batch, dtype=torch.bool)
    counts, least, best = torch.zeros(batch), torch.full((batch,), torch.inf), None
    found = torch.empty_like(z)
    for k in range(1, CAP + 1):
        fz = apply(z, rows)
        g = fz - z
        length = torch.linalg.vector_norm(g, dim=1)
        residual = length / torch.linalg.vector_norm(fz, dim=1)
        counts[rows[running]] = k
        converged = residual <= tolerance
        better = running & ((length < least) | converged)
        if best is None or better.all():
            best = z
        elif better.any():
            best = torch.where(better.unsqueeze(1), z, best)
        least = torch.where(better, length, least)
        running = running & ~converged
        left = int(running.sum())
        if left == 0 or k == CAP:
            break
        z = stepper.step(z, fz, g, residual)
        if left <= share * len(rows) and left < len(rows):
            found[rows[~running]] = best[~running]
            kept = running.nonzero().flatten()
            rows, z, best, least, running = rows[kept], z[kept], best[kept], least[kept], running[kept]
            stepper.keep(kept)
    found[rows] = best
    return found, counts, float(left)


class Problem(models_torch.Problem):
    def __init__(self, folder, model, channels, boards, solver, tolerance):
        super().__init__(folder, model, 'train', channels, boards, 0)
        self.solver, self.tolerance = solver, float(tolerance)
        self.forms = {name: form for name, form in self.forms.items() if name in FORMS}

    def stepper(self, z, begin):
        return Anderson(z, begin) if self.solver == 'anderson' else Damped()

    def slice_gradients(self, form, w, givens, digits, weight):
        net, constant = form.net, {name: t.detach() for name, t in w.items()}
        share = 0 if form.compiled else 0.5
        h0 = net.prepare(constant, givens)[1]
        shape, boards = h0.shape[1:], len(givens)
        cache = {}

        def prepared(rows):
            if len(rows) not in cache:  # rows only ever leave
                cache[len(rows)] = net.prepare(constant, givens[rows])[0]
            return cache[len(rows)]

        def f(z, rows):
            return form.step(prepared(rows), z.view(-1, *shape)).view(len(rows), -1)
        start = h0.reshape(boards, -1)
        z, forward, unconverged = solve(f, start, self.stepper(start, FORWARD_BEGIN), self.tolerance, share)
        z = z.requires_grad_()
        tape = form.step(net.prepare(w, givens)[0], z.view(-1, *shape)).view(boards, -1)
        image = tape.detach().requires_grad_()
        loss = F.cross_entropy(net.readout(w, image.view(-1, *shape)).flatten(0, 1), digits.flatten()) * weight
        loss.backward()  # the readout's gradients, and that of f(z)
        g = image.grad
        # Compiled code forms all gradients or none: there a second tape has z alone.
        tapes = {} if form.compiled else {boards: (z, tape)}

        def transposed(u, rows):
            if len(rows) not in tapes:
                with torch.enable_grad():
                    at = z.detach()[rows].requires_grad_()
                    tapes[len(rows)] = at, form.step(prepared(rows), at.view(-1, *shape)).view(len(rows), -1)
            at, output = tapes[len(rows)]
            return torch.autograd.grad(output, at, u, retain_graph=True)[0].add_(g if len(rows) == boards else g[rows])
        cache.clear()
        u, adjoint, failed = solve(transposed, g, self.stepper(g, torch.inf), self.tolerance, share)
        wanted = list(w.values())
        for t, d in zip(wanted, torch.autograd.grad(tape, wanted, u, allow_unused=True)):
            if d is not None:
                t.grad = d if t.grad is None else t.grad.add_(d)
        return loss.item(), torch.tensor([forward.sum(), unconverged, adjoint.sum(), failed]) / len(self.givens)

    def gradients(self, form, weights):
        total, counts = 0.0, 0
        size = form.slice or len(self.givens)
        for givens, digits in zip(self.givens.split(size), self.digits.split(size)):
            loss, found = self.slice_gradients(form, weights, givens, digits, len(givens) / len(self.givens))
            total, counts = total + loss, counts + found
        return total, counts

    def call(self, form):
        weights, optimiser = self.fresh()

        def step():
            for t, first in zip(weights.values(), self.tensors.values()):  # the same solves in every call
                t.data.copy_(first)
            optimiser.zero_grad(set_to_none=True)
            self.gradients(form, weights)
            optimiser.step()
        return step

    def result(self, form, dtype=torch.float32):
        weights, _ = self.fresh(dtype)
        loss, counts = self.gradients(form, weights)
        found = {'gradient.' + name: t.grad for name, t in weights.items() if t.grad is not None}
        found['loss'] = torch.tensor(loss)
        return found, counts

    def differences(self, folder):
        wanted, counts = self.result(next(iter(self.forms.values())), torch.float64)
        least = 0.01 * torch.stack([t.norm() for name, t in wanted.items() if name != 'loss']).norm()

        def worst(found):
            return torch.stack([(found[name].double().view(t.shape) - t).norm() / torch.maximum(t.norm(), least)
                                for name, t in wanted.items()]).max().item()
        yield 'float64', 0.0, counts
        ours = load_safetensors(os.path.join(folder, 'result.safetensors'))
        yield 'stillpoint', worst(ours), ours['counts']
        for name, form in self.forms.items():
            found, counts = self.result(form)
            yield name, worst(found), counts


def main():
    torch.set_num_threads(1)
    torch._functorch.config.donated_buffer = False  # the tape is used again
    problem, calls = None, {}
    for line in sys.stdin:
        words = line.split()
        if problem is None:
            problem = Problem(*words)
            print('PyTorch', torch.__version__)
            print(' '.join(problem.forms))
        elif words[0] == 'verify':
            print(' '.join(f'{name}={difference:.2e}=' + ','.join(f'{c:.2f}' for c in counts.tolist())
                           for name, difference, counts in problem.differences(words[1])))
        else:
            if words[0] not in calls:
                calls[words[0]] = problem.call(problem.forms[words[0]])
                calls[words[0]]()
            print(seconds(calls[words[0]], int(words[2]), 1))
        sys.stdout.flush()


if __name__ == '__main__':
    main()
