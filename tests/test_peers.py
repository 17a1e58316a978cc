"""The same numbers as PyTorch and scikit-learn give, where they have the same thing (extra `peers`)."""
from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastmlp import SGD, AdaGrad, Adam, AdamW, RMSprop, schedules
from fastmlp.backends import numpy as specification

# Optimizers -----------------------------------------------------------------------------------------------

PAIRS = [
    (SGD(0.05), "SGD", {"lr": 0.05}),
    (SGD(0.05, momentum=0.9), "SGD", {"lr": 0.05, "momentum": 0.9}),
    (SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1), "SGD",
     {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (AdaGrad(), "Adagrad", {}),
    (AdaGrad(0.1, weight_decay=0.1), "Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
    (RMSprop(), "RMSprop", {}),
    (RMSprop(0.1, rho=0.9, weight_decay=0.1), "RMSprop", {"lr": 0.1, "alpha": 0.9, "weight_decay": 0.1}),
    (Adam(), "Adam", {}),
    (Adam(0.1, beta1=0.8, beta2=0.99, eps=1e-6, weight_decay=0.1), "Adam",
     {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    (AdamW(), "AdamW", {}),
    (AdamW(0.1, weight_decay=0.3), "AdamW", {"lr": 0.1, "weight_decay": 0.3}),
]


@pytest.mark.parametrize("optimizer, name, options", PAIRS, ids=[repr(pair[0]) for pair in PAIRS])
def test_optimizer(optimizer, name, options, rng):
    torch = pytest.importorskip("torch")
    param = rng.standard_normal(50)
    theirs = torch.tensor(param.copy(), requires_grad=True)
    peer = getattr(torch.optim, name)([theirs], **options)
    slots = {slot: np.zeros(50) for slot in optimizer.slots}
    for rates in optimizer.rates(0, 30):
        grad = rng.standard_normal(50)
        specification.apply(optimizer, param, grad, slots, rates)
        theirs.grad = torch.tensor(grad)
        peer.step()
    assert_allclose(param, theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_clipping(rng):
    torch = pytest.importorskip("torch")
    gradients = [rng.standard_normal((5, 3)), rng.standard_normal(3)]
    theirs = [torch.zeros(g.shape, dtype=torch.float64) for g in gradients]
    for tensor, g in zip(theirs, gradients, strict=True):
        tensor.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    scale = math.prod(specification.norm_scale(0.5, gradients))
    for tensor, g in zip(theirs, gradients, strict=True):
        assert_allclose(scale * g, tensor.grad.numpy(), rtol=1e-5)        # they divide by the norm + 1e-6


# Schedules ------------------------------------------------------------------------------------------------

SCHEDULES = [
    (schedules.Step(0.3, every=7), "StepLR", {"step_size": 7}),
    (schedules.Step(0.3, every=[5, 20]), "MultiStepLR", {"milestones": [5, 20]}),
    (schedules.Exponential(0.3, 0.95), "ExponentialLR", {"gamma": 0.95}),
    (schedules.Cosine(0.3, 60, low=0.1), "CosineAnnealingLR", {"T_max": 60, "eta_min": 0.1}),
    (schedules.Cosine(0.3, 10, restarts=True, growth=2), "CosineAnnealingWarmRestarts",
     {"T_0": 10, "T_mult": 2}),
    (schedules.OneCycle(0.3, 60), "OneCycleLR", {"max_lr": 0.3, "total_steps": 60}),
    (schedules.OneCycle(0.3, 60, warm_up=0.5, start_divisor=10, end_divisor=100), "OneCycleLR",
     {"max_lr": 0.3, "total_steps": 60, "pct_start": 0.5, "div_factor": 10, "final_div_factor": 100}),
]


@pytest.mark.parametrize("schedule, name, options", SCHEDULES, ids=[repr(three[0]) for three in SCHEDULES])
def test_schedule(schedule, name, options):
    torch = pytest.importorskip("torch")
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = getattr(torch.optim.lr_scheduler, name)(peer, **options)
    rates = []
    for _ in range(60):
        rates.append(peer.param_groups[0]["lr"])
        peer.step()
        if len(rates) < 60:
            scheduler.step()
    assert_allclose(schedule.values(0, 60), rates, rtol=1e-9)


def test_reduce_on_plateau(rng):
    torch = pytest.importorskip("torch")
    settings = {"factor": 0.5, "patience": 3, "cooldown": 2}
    schedule = schedules.ReduceOnPlateau(1.0, min_delta=0.01, low=1e-3, **settings)
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        peer, threshold=0.01, threshold_mode="abs", min_lr=1e-3, eps=0, **settings)
    for loss in 1 / np.arange(1, 200) + 0.02 * rng.standard_normal(199):
        schedule.observe(float(loss))
        scheduler.step(float(loss))
        assert schedule(0) == pytest.approx(peer.param_groups[0]["lr"])
