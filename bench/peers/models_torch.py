"""RefineNet and SymbolNet in PyTorch: the peers of bench/compare.py MODEL_TASK.

Speaks the protocol of bench/compare.py on stdin and stdout; OMP_NUM_THREADS is the number of threads:
  DIR MODEL TASK CHANNELS BOARDS STEPS  reads weights and boards from DIR/problem.safetensors, which our
                                        side has written; answers with a title and the names of the forms
  FORM TASK CALLS  runs FORM (TASK: train or infer) CALLS times; answers with the median seconds
  verify DIR       compares DIR/result.safetensors and every form with float64; answers with differences
  memory FORM      answers with the MiB that one step adds to the process at its peak
"""
import ctypes
import gc
import os
import sys

import torch

from models_torch_forms import forms_of
from peer import DEVICE, load_safetensors, peak_memory, seconds, title

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2


class Problem:
    def __init__(self, folder, model, task, channels, boards, steps):
        self.tensors = load_safetensors(os.path.join(folder, 'problem.safetensors'))
        self.givens, self.digits = self.tensors.pop('givens').long() + 1, self.tensors.pop('digits').long()
        self.steps, self.task = int(steps), task
        self.forms = forms_of(model)

    def fresh(self, dtype=torch.float32):
        """Parameters as they were at first, and their optimiser."""
        weights = {name: t.to(dtype).clone().requires_grad_() for name, t in self.tensors.items()}
        optimiser = torch.optim.AdamW(weights.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        return weights, optimiser

    def train(self, form, weights, optimiser):
        """One training step. Returns its loss; the gradients stay until the next."""
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        slice_ = form.slice or len(self.givens)
        for givens, digits in zip(self.givens.split(slice_), self.digits.split(slice_)):
            loss = form.loss(weights, givens, digits, self.steps) * (len(givens) / len(self.givens))
            loss.backward()
            total += loss.item()
        optimiser.step()
        return total

    def infer(self, form, weights):
        with torch.no_grad():
            slice_ = form.slice or len(self.givens)
            return torch.cat([form.answer(weights, givens, self.steps) for givens in self.givens.split(slice_)])

    def call(self, form):
        weights, optimiser = self.fresh()
        if self.task == 'infer':
            return lambda: self.infer(form, weights)
        return lambda: self.train(form, weights, optimiser)

    def result(self, form, dtype=torch.float32):
        """What is compared: logits; or the loss, the norm of the gradient, each gradient, and the loss after
        a step of the optimiser."""
        weights, optimiser = self.fresh(dtype)
        if self.task == 'infer':
            return {'logits': self.infer(form, weights)}
        found = {'loss': torch.tensor(self.train(form, weights, optimiser), device=DEVICE)}
        gradients = {name: t.grad.clone() for name, t in weights.items()}
        found['norm'] = torch.stack([g.double().norm() for g in gradients.values()]).norm()
        found |= {'gradient.' + name: g for name, g in gradients.items()}
        found['next_loss'] = torch.tensor(self.train(form, weights, optimiser), device=DEVICE)
        return found

    def differences(self, folder):
        wanted = self.result(next(iter(self.forms.values())), torch.float64)
        # A gradient may be nothing but rounding: one number added to all logits does not change the loss.
        least = 0.01 * wanted.get('norm', torch.tensor(0.0, device=DEVICE))

        def worst(found):
            each = [(found[name].double().view(w.shape) - w).norm() / torch.maximum(w.norm(), least)
                    for name, w in wanted.items()]
            return torch.stack(each).max().item()  # torch.max keeps NaN, the built-in max may drop it
        yield 'stillpoint', worst(load_safetensors(os.path.join(folder, 'result.safetensors')))
        for name, form in self.forms.items():
            yield name, worst(self.result(form))

    def memory(self, form):
        if form.compiled:  # the compiler's own memory is not the step's
            self.call(form)()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        return peak_memory(lambda: self.call(form)())


def main():
    threads = int(os.environ['OMP_NUM_THREADS'])
    torch.set_num_threads(threads)
    problem = None
    calls = {}
    for line in sys.stdin:
        words = line.split()
        if problem is None:
            problem = Problem(*words)
            print(title())
            print(' '.join(problem.forms))
        elif words[0] == 'verify':
            print(' '.join(f'{name}={value:.2e}' for name, value in problem.differences(words[1])))
        elif words[0] == 'memory':
            print(problem.memory(problem.forms[words[1]]))
        else:
            if words[0] not in calls:
                calls[words[0]] = problem.call(problem.forms[words[0]])
                for _ in range(2):  # what is compiled may be compiled again in its second call
                    calls[words[0]]()
            print(seconds(calls[words[0]], int(words[2]), threads))
        sys.stdout.flush()


if __name__ == '__main__':
    main()
