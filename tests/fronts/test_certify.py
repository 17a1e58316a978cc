"""certify: differences, side effects and speed-up of code whose differences are known."""
import math
import time

import numpy as np
import pytest

from fastmlp import certify

X = np.array([1.0, -2.0, 4.0])


def of(report, name):
    return next(output for output in report.outputs if output.name == name)


def test_equal_functions():
    report = certify(np.exp, np.exp, X, seconds=0)
    assert report.matches and report.largest_absolute == report.largest_relative == report.largest_ulp == 0
    assert math.isnan(report.speed_up)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_ulps_are_counted(dtype, steps):
    x = X.astype(dtype)

    def near(x):
        for _ in range(steps):
            x = np.nextafter(x, np.array(np.inf, x.dtype))
        return x
    report = certify(lambda x: x.copy(), near, x, seconds=0)
    assert report.largest_ulp == steps
    assert report.largest_absolute == steps * np.spacing(x[2])
    assert 0 < report.largest_relative <= steps * np.finfo(dtype).eps


def test_ulps_across_zero():
    smallest = np.float64(5e-324)
    report = certify(lambda x: -x, lambda x: x, np.array([smallest, 0.0]), seconds=0)
    assert report.largest_ulp == 2
    assert report.largest_relative == 2


def test_nan_and_infinity():
    assert certify(lambda x: x * np.nan, lambda x: x * np.nan, X, seconds=0).largest_absolute == 0
    report = certify(lambda x: x + 0, lambda x: x * np.nan, X, seconds=0)
    assert report.largest_absolute == report.largest_relative == report.largest_ulp == math.inf
    far = certify(lambda x: x * np.inf, lambda x: -x * np.inf, X, seconds=0)
    assert far.largest_absolute == math.inf and far.largest_ulp > 2**62
    assert far.largest_relative == math.inf


def test_dtype_and_shape_changes_are_told():
    report = certify(lambda x: x + 0, lambda x: x.astype(np.float32), X, seconds=0)
    assert not report.matches and report.largest_ulp == 0
    assert "float32 (3,)" in str(report)
    report = certify(lambda x: x + 0, lambda x: x[:, None] + 0, X, seconds=0)
    assert not report.matches and math.isnan(report.largest_absolute)
    assert math.isnan(report.largest_relative) and math.isnan(report.largest_ulp)
    assert of(report, "result").ours == "float64 (3, 1)"


def test_results_in_tuples_and_dicts():
    report = certify(lambda x: (x + 0, {"a": 2}), lambda x: (x + 0, {"a": 3}), X, seconds=0)
    assert [output.name for output in report.outputs] == ["result[0]", "result[1]['a']"]
    assert of(report, "result[1]['a']").absolute == 1
    report = certify(lambda x: (x + 0, 1), lambda x: (x + 0,), X, seconds=0)
    assert of(report, "result[1]").ours == "missing" and not report.matches
    assert math.isnan(report.largest_ulp)


def test_changes_in_place():
    def in_place(x, y):
        x *= 2
        return y + 0

    def apart(x, y):
        return y + 0
    x, y = X.copy(), X.copy()
    report = certify(in_place, apart, x, y, seconds=0.01)
    assert report.changed == {"inputs[0]": (True, False)} and not report.matches
    assert of(report, "inputs[0]").absolute == 4
    assert "inputs[0] is changed in place by theirs" in str(report)
    assert "by both" in str(certify(in_place, in_place, x, y, seconds=0))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, X)


def test_shared_memory():
    report = certify(lambda x: x[:2], lambda x: x[:2].copy(), X, seconds=0)
    assert of(report, "result").shares == (("inputs[0]",), ()) and not report.matches
    assert "shares memory" in str(report)


class Scale:
    """y = w x; `wrong` is added to dw."""

    def __init__(self, w, wrong=0.0):
        self.w, self.wrong_by, self.dw = w, wrong, None

    def forward(self, x):
        self.x = x
        return self.w * x

    def backward(self, dout):
        self.dw = (dout * self.x).sum() + self.wrong_by
        dout *= self.w
        return dout


def test_layers():
    w = np.array([3.0])
    mine = Scale(w)
    report = certify(mine, Scale(w, 0.5), X, dout=np.ones(3), seconds=0.01)
    assert of(report, "forward").absolute == of(report, "backward").absolute == 0
    assert of(report, "dw").absolute == 0.5
    assert report.changed == {"dout": (True, True)}
    assert report.their_seconds > 0 and report.our_seconds > 0 and "x" in str(report).splitlines()[-1]
    assert mine.dw is None      # a copy was run


def test_layer_gets_a_gradient_of_its_output():
    report = certify(Scale(2.0), Scale(2.0), X.astype(np.float32), seconds=0)
    assert of(report, "backward").theirs == "float32 (3,)"
    assert "dout" in report.changed


def test_loss_layers_get_no_gradient():
    class Loss:
        def forward(self, x, t):
            self.difference = x - t
            return (self.difference**2).mean()

        def backward(self, dout=1):
            return dout * self.difference
    assert certify(Loss(), Loss(), X, X + 1, seconds=0).matches


def test_random_functions_see_the_same_state():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    assert certify(lambda x: x * np.random.rand(3), lambda x: x * np.random.rand(3), X).largest_absolute == 0
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_speed_up():
    report = certify(lambda x: time.sleep(0.004), lambda x: time.sleep(0.001), X, seconds=0.05)
    assert report.speed_up > 1.5
    assert f"{report.speed_up:.2f}x" in str(report)


def test_methods_are_run_on_copies():
    w = np.ones(3)

    class Rule:
        calls = 0

        def update(self, params, grads):
            self.calls += 1
            params["w"] -= grads["w"]
    mine, other = Rule(), Rule()
    report = certify(mine.update, other.update, {"w": w}, {"w": X}, seconds=0.01)
    assert report.changed == {"inputs[0]['w']": (True, True)}
    assert mine.calls == other.calls == 0 and (w == 1).all()


def raising(x):
    raise KeyError("W9")


@pytest.mark.parametrize("arguments, keywords, error, message", [
    ((np.exp, Scale(1.0), X), {}, TypeError, "ours: expected a function, as theirs is, got a layer"),
    ((3, np.exp, X), {}, TypeError,
     "theirs: expected a function, or an object with forward and backward, got 3"),
    ((np.exp, Scale, X), {}, TypeError, "ours: expected a function"),
    ((np.exp, np.exp), {}, ValueError, "inputs: expected at least one argument"),
    ((np.exp, np.exp, X), {"dout": X}, ValueError, "dout: expected None for functions"),
    ((np.exp, np.exp, X), {"seconds": -1}, ValueError, "seconds: expected a finite number from 0 up"),
    ((np.exp, raising, X), {}, RuntimeError, "ours: raised KeyError: 'W9'"),
    ((raising, np.exp, X), {}, RuntimeError, "theirs: raised KeyError: 'W9'"),
    ((np.exp, np.exp, (i for i in range(3))), {}, TypeError, "inputs: expected what can be copied"),
])
def test_bad_input(arguments, keywords, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        certify(*arguments, **keywords)
    np.testing.assert_array_equal(X, [1.0, -2.0, 4.0])


@pytest.mark.parametrize("result", ["text", 1j * np.ones(3), [np.ones(2), "text"], {"a": {1, 2}}], ids=str)
def test_what_cannot_be_compared_is_refused(result):
    with pytest.raises(TypeError, match="result.*expected"):
        certify(lambda x: result, lambda x: result, np.ones(3), seconds=0)


def test_tensors_are_compared():
    torch = pytest.importorskip("torch")
    report = certify(torch.relu, lambda x: 2 * torch.relu(x), torch.linspace(-1, 1, 5), seconds=0)
    assert report.largest_absolute == 1
    report = certify(lambda x: x.add_(1), lambda x: x.mul_(5), torch.ones(3), seconds=0)
    assert report.changed


class Inner:
    def __init__(self, factor):
        self.factor, self.dw = factor, None

    def forward(self, x):
        return x * self.factor

    def backward(self, dout):
        self.dw = dout * 2
        return dout * self.factor


class Outer:
    def __init__(self, factor):
        self.layers = {"first": Inner(1.0), "last": Inner(2.0)}
        self.factor, self.parent = factor, self

    def forward(self, x):
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        self.layers["last"].dw = self.layers["last"].dw * self.factor
        return dout


def test_layers_inside_layers_are_compared():
    report = certify(Outer(1.0), Outer(3.0), X, dout=np.ones(3), seconds=0)
    assert of(report, "layers['first'].dw").absolute == 0
    assert of(report, "layers['last'].dw").absolute == 4
    assert certify(Outer(1.0), Outer(1.0), X, seconds=0).largest_absolute == 0


def test_what_holds_itself():
    loop = [np.ones(2)]
    loop.append(loop)
    with pytest.raises(TypeError, match=r"result\[1\]: expected arrays and numbers, got what holds itself"):
        certify(lambda x: loop, lambda x: loop, X, seconds=0)
    twice = np.ones(2)
    assert certify(lambda x: [twice, [twice]], lambda x: [twice, [twice]], X, seconds=0).matches


@pytest.mark.parametrize("a, b, distance", [
    (2**53 + 1, 2**53, 1), (2**62 + 3, 2**62, 3), (-2**63, 2**63 - 1, 2.0**64), (7, 5, 2)])
def test_large_integers(a, b, distance):
    report = certify(lambda x: np.array([a, 1]), lambda x: np.array([b, 1]), X, seconds=0)
    assert report.largest_absolute == distance
    assert report.largest_relative == pytest.approx(distance / max(abs(a), abs(b)), rel=1e-15)
    unsigned = certify(lambda x: np.array([2**64 - 1], np.uint64),
                       lambda x: np.array([2**64 - 2], np.uint64), X, seconds=0)
    assert unsigned.largest_absolute == 1


def test_no_warnings(recwarn):
    for values in (np.array([1, 2]), np.full(3, np.nan), np.array([np.inf, -np.inf]), np.ones(0)):
        report = certify(lambda x, v=values: v, lambda x, v=values: v, X, seconds=0)
        assert report.largest_absolute == report.largest_ulp == 0
        str(report)
    assert not recwarn.list


def test_errors_while_it_is_timed():
    calls = []

    def fails_later(x):
        calls.append(x)
        if len(calls) > 3:
            raise KeyError("W9")
        return x
    with pytest.raises(RuntimeError, match="ours: raised KeyError while it was timed: 'W9'") as caught:
        certify(lambda x: x, fails_later, X, seconds=0.01)
    assert isinstance(caught.value.__cause__, KeyError)
