"""A device whose arithmetic is known: the kernels under given rules, behind the laboratory's protocol.

It is what reveal is tested on, and what a hypothesis predicts: one definition for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fidelity.arithmetic.float16 import Conversion, rounded
from fidelity.arithmetic.kernels import elementwise, functions, products, reductions, softmax
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.experiment import Experiment, Refusal, Result, Single
from fidelity.arithmetic.rules import BINARY, POWER, UNARY, Elementwise, Function, Product, Reduction, Rule, Softmax


@dataclass(frozen=True)
class Arithmetic:
    """Conversions where numbers enter and leave, and rules: what of a profile decides bits."""

    inputs: Conversion | None = None
    weights: Conversion | None = None
    outputs: Conversion | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def with_rule(self, kind: str, rule: Rule) -> Arithmetic:
        """The same with another rule for `kind`."""
        return replace(self, rules={**self.rules, kind: rule})


def arithmetic_of(profile: Profile) -> Arithmetic:
    """What decides bits in `profile`."""
    return Arithmetic(profile.inputs, profile.weights, profile.outputs, profile.rules)


@dataclass(frozen=True)
class SyntheticLaboratory:
    """Answers as the device with this arithmetic would."""

    arithmetic: Arithmetic

    def run(self, experiments: Sequence[Experiment]) -> list[Result]:
        """One result for each; a kind without a rule is refused."""
        return [self._one(experiment) for experiment in experiments]

    def _one(self, experiment: Experiment) -> Result:
        try:
            return predict(self.arithmetic, experiment)
        except KeyError as missing:
            return Refusal(f"no rule for {missing.args[0]}")


def predict(arithmetic: Arithmetic, experiment: Experiment) -> Single:
    """The experiment's output under `arithmetic`. Raises KeyError where a kind has no rule."""
    runtime = [rounded(x, arithmetic.inputs) for x in experiment.runtime]
    constant = [rounded(x, arithmetic.weights) for x in experiment.constant]
    return rounded(_computed(experiment, runtime, constant, arithmetic), arithmetic.outputs)


def _computed(experiment: Experiment, runtime: list[Single], constant: list[Single], arithmetic: Arithmetic) -> Single:
    kind, operands = experiment.kind, [*runtime, *constant]
    if kind == "RESHAPE":
        return operands[0]
    rule = arithmetic.rules[kind]
    if isinstance(rule, Elementwise) and kind in BINARY:
        return elementwise.binary(kind, operands[0], operands[1], rule)
    if isinstance(rule, Function):
        return _function(kind, operands, rule)
    if isinstance(rule, Product):
        return _product(kind, operands, rule)
    if isinstance(rule, Reduction):
        return _reduced(experiment, operands, rule, arithmetic)
    if isinstance(rule, Softmax):
        return softmax.softmax(operands[0], rule)
    raise KeyError(kind)


def _function(kind: str, operands: list[Single], rule: Function) -> Single:
    if kind == POWER:
        return functions.power(operands[0], operands[1], rule)
    if kind not in UNARY:
        raise KeyError(kind)
    return functions.unary(kind, operands[0], rule)


def _product(kind: str, operands: list[Single], rule: Product) -> Single:
    if kind == "BATCH_MATMUL":
        return products.batch_matmul(operands[0], operands[1], rule)
    bias = operands[2] if len(operands) > 2 else None
    prepared = products.weights(operands[1], rule)
    if kind == "FULLY_CONNECTED":
        return products.fully_connected(operands[0], prepared, bias, rule)
    size = operands[1].shape[1:3]
    return products.conv_2d(operands[0], prepared, size, products.Window(strides=size), bias, rule)


def _reduced(experiment: Experiment, operands: list[Single], rule: Reduction, arithmetic: Arithmetic) -> Single:
    before, after = experiment.before, experiment.after
    if experiment.axis is None:
        raise KeyError(experiment.kind)
    x = operands[0]
    if before is not None:
        how = Elementwise() if before in rule.absorbs else _elementwise(before, arithmetic)
        x = elementwise.binary(before, operands[0], operands[1], how)
    y = reductions.reduce(experiment.kind, x, (experiment.axis,), rule, absorbed=after is not None)
    if after is None:
        return y
    return elementwise.binary(after, y, operands[-1], _elementwise(after, arithmetic))


def _elementwise(kind: str, arithmetic: Arithmetic) -> Elementwise:
    rule = arithmetic.rules[kind]
    if not isinstance(rule, Elementwise):
        raise KeyError(kind)
    return rule


def bits(x: Single) -> list[int]:
    """The float16 bits of numbers that are float16 values."""
    with np.errstate(all="ignore"):
        return [int(value) for value in x.reshape(-1).astype(np.float16).view(np.uint16)]
