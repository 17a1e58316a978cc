"""The table of operations: what is missing is named, and a code that is not in it computes nothing."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp.activations import Activation
from fastmlp.kernels import _generate, ops
from fastmlp.optimizers import Settings

pytestmark = pytest.mark.any_isa

TABLES = {"activation": ops.ACTIVATIONS, "loss": ops.LOSSES, "rule": ops.RULES}
VARIANTS = list(itertools.product(kernels.available_isas(), ["float32", "float64"]))


@pytest.fixture(params=VARIANTS, ids="-".join)
def module(request):
    return kernels.load(*request.param)


def test_names_are_names_and_differ():
    for table in TABLES.values():
        names = [entry.name for entry in table]
        assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
        assert list(ops.codes(table).values()) == list(range(len(names)))


def unknown(kind):
    return [-2, len(TABLES[kind]), 1000]


def test_unknown_activations_raise(module):
    x, square = np.full(5, 0.5, module.DTYPE), np.full((5, 5), 0.5, module.DTYPE)
    y, out = np.full(5, 7, module.DTYPE), np.full((5, 5), 7, module.DTYPE)
    functions = len(ops.ACTIVATIONS) + len(ops.FUNCTIONS)
    for code in (-1, functions, functions + 1):         # the first beyond is the stored derivative's
        with pytest.raises(ValueError, match=rf"^function {code}: .*0 \(identity\), 1 \(relu\)"):
            module.map_forward(y, x, code, 0.0)
        with pytest.raises(ValueError, match=f"^function {code}"):
            module.array_map(x, code, 0.0, None)
    for code in unknown("activation"):
        with pytest.raises(ValueError, match=f"^activation {code}"):
            module.map_derivative(y, x, x, code, 0.0)
        with pytest.raises(ValueError, match=f"^activation {code}"):
            module.dense_forward(out, square, square, x, code, 0.0)
        scratch = np.empty(module.dense_backward_scratch(5, 5, 5), module.DTYPE)
        with pytest.raises(ValueError, match=f"^activation {code}"):
            module.dense_backward(out, out.copy(), y, square, square, square, square, code, 0.0, scratch)
    assert (y == 7).all() and (out == 7).all()


def test_unknown_losses_raise(module):
    z, d = np.ones((3, 4), module.DTYPE), np.full((3, 4), 7, module.DTYPE)
    for code in (-1, *unknown("loss")):
        with pytest.raises(ValueError, match=rf"^loss {code}: .*0 \(cross_entropy\)"):
            module.loss_of_rows(d, z, z.copy(), None, None, code, 0.0, None)
    assert (d == 7).all()


def test_unknown_rules_raise(module):
    param, grad = np.full(5, 7, module.DTYPE), np.ones(5, module.DTYPE)
    for code in unknown("rule"):
        settings = Settings()._replace(rule=code)
        with pytest.raises(ValueError, match=rf"^rule {code}: .*1 \(sgd\)"):
            module.update_arrays(param, grad, None, None, (0.1, 1.0, 0.0), settings, False)
        with pytest.raises(ValueError, match=f"^rule {code}"):
            module.UpdateRule(settings, 0.0)
    assert (param == 7).all()


def test_what_is_missing_is_named():
    class Known:
        name = "known"

    class Forgotten:
        name = "forgotten"

    assert ops.assign([ops.Activation("known")], [Known]) == {"known": Known} and Known.code == 0
    with pytest.raises(ImportError, match="has 'forgotten', for which there is no class"):
        ops.assign([ops.Activation("known"), ops.Activation("forgotten")], [Known])
    with pytest.raises(ImportError, match="has no 'forgotten', for which there is a class"):
        ops.assign([ops.Activation("known")], [Known, Forgotten])


class Table:
    """ops.py with one more entry of each kind."""
    ACTIVATIONS = (*ops.ACTIVATIONS, ops.Activation("new_activation"))
    FUNCTIONS = ops.FUNCTIONS
    LOSSES = (*ops.LOSSES, ops.Loss("new_loss", "value"))
    RULES = (*ops.RULES, ops.Rule("new_rule", slots=1, registers=True))


def test_an_entry_calls_its_formulas_everywhere():
    """So that without them the text does not compile."""
    text = _generate.dispatch(Table)
    for call, times in (("new_activation(alpha, ", 2), ("new_activation_backward(alpha, ", 2),
                        ("map_as(ACT_NEW_ACTIVATION, ", 1), ("map_backward_as(ACT_NEW_ACTIVATION, ", 1),
                        ("with_slope_as(ACT_NEW_ACTIVATION, ", 1),
                        ("new_loss_loss(z, t, parameter, gradient)", 1),
                        ("loss_rows_as(LOSS_NEW_LOSS, ", 1), ("new_rule_step(o, g, a)", 1),
                        ("update_rule(RULE_NEW_RULE, ", 1), ("update_tile_rule(RULE_NEW_RULE, ", 1)):
        assert text.count(call) == times, call
    for line in text.splitlines():
        assert "else:" not in line
    with pytest.raises(ValueError, match="two: the register tile has room for one slot"):
        class TwoSlots(Table):
            RULES = (*ops.RULES, ops.Rule("two", slots=2, registers=True))
        _generate.dispatch(TwoSlots)


def test_no_activation_without_an_entry():
    assert all(cls.code == ops.codes(ops.ACTIVATIONS)[cls.name] for cls in Activation.__subclasses__())
