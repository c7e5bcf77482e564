"""From a wrong output to the first wrong operator, whose fault it is, and what cures it."""

from __future__ import annotations

from dataclasses import replace

from fidelity.localisation.asked import Answer, Good, Where
from fidelity.localisation.on_device import Arrays
from fidelity.localisation.reference import Reference
from fidelity.localisation.search import Search
from fidelity.tflite.structure import Graph


def locate(
    graph: Graph,
    inputs: Arrays,
    where: Where,
    good: Good,
    reference: Reference | None = None,
    name: str = "input",
    *,
    look: bool = False,
) -> Answer:
    """Why the device's outputs are what they are, on one set of inputs, which is called `name` in the answer.

    Without a `reference` the graph itself in float32 is the truth, so that nothing is said of the conversion. With
    `look` every operator is traced, even where nothing is wrong. Raises BadInput for an operation that the emulator
    lacks, EnvironmentMissing where the device is lost.
    """
    search = Search(graph, inputs, where, good, reference, name)
    found = search.answer()
    if look and found.located.trace is None and found.located.kind != "fallback":
        return replace(found, located=search.with_trace(found.located))
    return found
