"""A straightforward network in NumPy, with the names of `fastmlp.compat.dlfs`: the baseline of compat.py."""
from __future__ import annotations

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_grad(x):
    return sigmoid(x) * (1 - sigmoid(x))


def relu(x):
    return np.maximum(0, x)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy_error(y, t):
    if t.size == y.size:
        t = t.argmax(axis=1)
    return -np.sum(np.log(y[np.arange(len(y)), t] + 1e-7)) / len(y)


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return (dout @ self.W.T).reshape(self.shape)


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class Sigmoid:
    def forward(self, x):
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout):
        return dout * (1 - self.out) * self.out


class Dropout:
    def __init__(self, ratio=0.5):
        self.ratio = ratio

    def forward(self, x):
        self.mask = np.random.rand(*x.shape) > self.ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class BatchNormalization:
    def __init__(self, gamma, beta):
        self.gamma, self.beta = gamma, beta
        self.mean, self.var = np.zeros_like(gamma), np.zeros_like(gamma)

    def forward(self, x):
        mean, var = x.mean(axis=0), x.var(axis=0)
        self.std = np.sqrt(var + 1e-6)
        self.x_hat = (x - mean) / self.std
        self.mean, self.var = 0.9 * self.mean + 0.1 * mean, 0.9 * self.var + 0.1 * var
        return self.gamma * self.x_hat + self.beta

    def backward(self, dout):
        self.dbeta, self.dgamma = dout.sum(axis=0), (dout * self.x_hat).sum(axis=0)
        d = dout * self.gamma
        return (d - d.mean(axis=0) - self.x_hat * (d * self.x_hat).mean(axis=0)) / self.std


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.y, self.t = softmax(x), t
        return cross_entropy_error(self.y, t)

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(dx)), self.t] -= 1
        return dx / len(dx)


class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum:
    def __init__(self, lr=0.01):
        self.lr, self.v = lr, {}

    def update(self, params, grads):
        for key in params:
            self.v[key] = 0.9 * self.v.get(key, 0) - self.lr * grads[key]
            params[key] += self.v[key]


class Nesterov(Momentum):
    def update(self, params, grads):
        for key in params:
            v = self.v.get(key, np.zeros_like(params[key]))
            params[key] += 0.9 * 0.9 * v - 1.9 * self.lr * grads[key]
            self.v[key] = 0.9 * v - self.lr * grads[key]


class AdaGrad:
    def __init__(self, lr=0.01):
        self.lr, self.h = lr, {}

    def update(self, params, grads):
        for key in params:
            self.h[key] = self.h.get(key, 0) + grads[key]**2
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class RMSprop(AdaGrad):
    def update(self, params, grads):
        for key in params:
            self.h[key] = 0.99 * self.h.get(key, 0) + 0.01 * grads[key]**2
            params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-7)


class Adam:
    def __init__(self, lr=0.001):
        self.lr, self.t, self.m, self.v = lr, 0, {}, {}

    def update(self, params, grads):
        self.t += 1
        rate = self.lr * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        for key, grad in grads.items():
            self.m[key] = 0.9 * self.m.get(key, 0) + 0.1 * grad
            self.v[key] = 0.999 * self.v.get(key, 0) + 0.001 * grad**2
            params[key] -= rate * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)


class MultiLayerNet:
    def __init__(self, inputs, hidden, outputs):
        sizes = [inputs, *hidden, outputs]
        self.params, self.layers = {}, {}
        for i, (n, m) in enumerate(zip(sizes, sizes[1:]), start=1):
            self.params[f"W{i}"] = np.sqrt(2 / n) * np.random.randn(n, m)
            self.params[f"b{i}"] = np.zeros(m)
            self.layers[f"Affine{i}"] = Affine(self.params[f"W{i}"], self.params[f"b{i}"])
            if i < len(sizes) - 1:
                self.layers[f"Relu{i}"] = Relu()
        self.last_layer = SoftmaxWithLoss()

    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.last_layer.forward(x, t)

    def gradient(self, x, t):
        self.loss(x, t)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        grads = {}
        for name, layer in self.layers.items():
            if name.startswith("Affine"):
                grads[f"W{name[6:]}"], grads[f"b{name[6:]}"] = layer.dW, layer.db
        return grads
