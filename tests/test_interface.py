"""Both backends against `fastmlp.backends.interface`: the same names, the same arguments."""
from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, backends, functional
from fastmlp._core.network import Samples
from fastmlp.backends import interface

NAMES = backends.NAMES
METHODS = [name for name, value in vars(interface.Engine).items()
           if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_"))]


def module(name):
    with fastmlp.use_backend(name):
        return backends.active()


def arguments(function):
    """Names of the arguments after self, and which of them may be left out."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return [(p.name, p.kind) for p in parameters], {p.name for p in parameters if p.default is not p.empty}


def made(name):
    with fastmlp.use_backend(name):
        return MLP([3, 4, 2], seed=0).core.engine


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", [m for m in METHODS if m != "__init__"])
def test_methods_of_an_engine(method, name):
    expected, optional = arguments(getattr(interface.Engine, method))
    found, may_be_left_out = arguments(getattr(made(name), method))
    assert [n for n, _ in found] == [n for n, _ in expected]
    assert optional <= may_be_left_out


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_made_alike(name):
    assert arguments(module(name).Engine.__init__) == arguments(interface.Engine.__init__)


@pytest.mark.parametrize("name", NAMES)
def test_a_run(name, rng):
    engine = made(name)
    assert isinstance(engine, interface.Engine)
    samples = Samples(rng.standard_normal((6, 3)).astype("f4"), np.zeros(6, np.intp), batch_size=3)
    optimizer = SGD(0.1)
    run = engine.begin(samples, optimizer)
    assert isinstance(run, interface.Run)
    for method in ("steps", "write_back"):
        assert [n for n, _ in arguments(getattr(run, method))[0]] == [
            n for n, _ in arguments(getattr(interface.Run, method))[0]]
    loss, weight = run.steps(0, 2, (0.0, 0.0), 1)
    run.write_back()
    assert weight == 6 and loss > 0 and engine.global_step == 2


@pytest.mark.parametrize("name", NAMES)
def test_array_functions(name):
    backend = module(name)
    assert isinstance(backend.COMPILED, bool)
    for function in functional.__all__:
        expected = list(inspect.signature(getattr(functional, function)).parameters)
        found = list(inspect.signature(getattr(backend, function)).parameters)
        assert found == expected, function
    expected = [n for n, _ in arguments(interface.Backend.loss_and_gradient)[0]]
    assert list(inspect.signature(backend.loss_and_gradient).parameters) == expected
