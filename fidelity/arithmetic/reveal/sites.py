"""Where sums happen: how given terms are put into an operation of a given shape, and its sums read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fidelity.arithmetic.reveal.experiment import Experiment, NotTold, Single
from fidelity.arithmetic.rules import PRODUCTS


class Shape(NamedTuple):
    """Results in rows and columns, and terms of each."""

    rows: int
    columns: int
    terms: int


@dataclass(frozen=True)
class Site:
    """A kind of operation that sums: a product, or a sum over the last axis or another."""

    kind: str
    last_axis: bool = True

    @property
    def is_product(self) -> bool:
        return self.kind in PRODUCTS

    @property
    def name(self) -> str:
        """As evidence names it."""
        if self.is_product:
            return self.kind
        return f"{self.kind} over the {'last axis' if self.last_axis else 'axis before the last'}"

    def experiments(self, shape: Shape, terms: Single) -> list[Experiment]:
        """Experiments of `shape` that add each row of `terms` [sums, shape.terms], as many as it takes."""
        width = max(shape.rows, shape.columns)
        filled = np.zeros((-(-terms.shape[0] // width) * width, shape.terms), np.float32)
        filled[: terms.shape[0]] = terms
        return [self._one(shape, block) for block in filled.reshape(-1, width, shape.terms)]

    def _one(self, shape: Shape, block: Single) -> Experiment:
        if not self.is_product:
            x = block[: shape.rows] if self.last_axis else block[: shape.rows].T
            return Experiment(
                self.kind, (np.ascontiguousarray(x)[np.newaxis, np.newaxis],), axis=3 if self.last_axis else 2
            )
        ones = np.ones((max(shape.rows, shape.columns), shape.terms), np.float32)
        by_row = shape.rows >= shape.columns
        x, w = (block, ones) if by_row else (ones, block)
        return self.product(x[: shape.rows], w[: shape.columns])

    def product(self, x: Single, w: Single, bias: Single | None = None) -> Experiment:
        """x [rows, terms] times w [columns, terms], transposed, plus bias [columns]."""
        if self.kind == "BATCH_MATMUL":
            return Experiment(self.kind, (x[np.newaxis], np.ascontiguousarray(w.T)[np.newaxis]))
        more = () if bias is None else (bias,)
        if self.kind == "FULLY_CONNECTED":
            return Experiment(self.kind, (x,), (w, *more))
        more = more or (np.zeros(w.shape[0], np.float32),)  # delegates refuse a convolution without a bias
        size = (2, 2) if x.shape[1] % 8 == 0 else (1, x.shape[1])  # never 1 x 1, which is no convolution to some
        return Experiment(self.kind, (_image(x, size),), (w.reshape(w.shape[0], *size, -1), *more))

    def factors(self, experiment: Experiment) -> tuple[Single, Single]:
        """x and w of what `product` made."""
        x, w = experiment.runtime[0], (*experiment.constant, *experiment.runtime)[0]
        if self.kind == "BATCH_MATMUL":
            return x[0], experiment.runtime[1][0].T
        if self.kind == "FULLY_CONNECTED":
            return x, w
        size = w.shape[1:3]
        windows = x.reshape(size[0], -1, size[1], x.shape[3]).transpose(1, 0, 2, 3)
        return windows.reshape(windows.shape[0], -1), w.reshape(w.shape[0], -1)

    def merged(self, asked: Sequence[tuple[Experiment, Single]]) -> list[tuple[Experiment, Single]]:
        """Sums of one number of terms as one experiment: what an order gives does not depend on how many there are."""
        if self.is_product:
            return list(asked)
        kinds = dict.fromkeys(experiment.before for experiment, _ in asked)
        return [self._merged([pair for pair in asked if pair[0].before == kind]) for kind in kinds]

    def _merged(self, plain: Sequence[tuple[Experiment, Single]]) -> tuple[Experiment, Single]:
        side = 2 if self.last_axis else 3
        first = plain[0][0]
        runtime = tuple(
            np.concatenate([one.runtime[place] for one, _ in plain], axis=side) for place in range(len(first.runtime))
        )
        whole = Experiment(self.kind, runtime, axis=first.axis, before=first.before)
        return whole, np.concatenate([numbers for _, numbers in plain], axis=side)

    def values(self, shape: Shape, results: Sequence[Single], count: int) -> Single:
        """The first `count` sums out of what `experiments` gave. Raises NotTold for results of another shape."""
        expected = shape.rows * (shape.columns if self.is_product else 1)
        if any(result.size != expected for result in results):
            raise NotTold(f"{self.kind} of {shape}: results of {[list(result.shape) for result in results]}")
        if not self.is_product:
            return np.concatenate([result.reshape(-1) for result in results])[:count]
        grids = [result.reshape(shape.rows, shape.columns) for result in results]
        by_row = shape.rows >= shape.columns
        return np.concatenate([grid[:, 0] if by_row else grid[0] for grid in grids])[:count]


def _image(x: Single, size: tuple[int, int]) -> Single:
    """Windows of `size` side by side, one a row of x: [1, size, rows * size, channels]."""
    windows = x.reshape(x.shape[0], *size, -1).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(windows.reshape(1, size[0], x.shape[0] * size[1], -1))
