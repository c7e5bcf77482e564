"""A prediction with its outputs at hand, and what it expects of one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fidelity.comparison.comparison import Comparison
from fidelity.comparison.comparison import Outputs as AnyOutputs
from fidelity.comparison.expectation import Expectation, expected_outputs
from fidelity.prediction.expected import Outputs
from fidelity.prediction.prediction import Prediction


@dataclass(frozen=True)
class Predicted:
    """A prediction that was held against truth, and its expected outputs by input and output name."""

    prediction: Prediction
    outputs: Outputs

    def of(self, actual: AnyOutputs, truth: AnyOutputs, asked: Iterable[str]) -> Expectation:
        """What is expected of a run that gave `actual`."""
        expected, first = self.prediction.expected, self.prediction.expected.first_overflow
        nothing = Comparison(asked=(), photographs=(), outputs=(), sets=(), failures=())
        return Expectation(
            profile=expected.profile,
            outputs=expected_outputs(actual, self.outputs, truth, asked),
            comparison=self.prediction.comparison or nothing,
            overflow=None if first is None else first.told(),
            lacking=expected.lacks,
        )
