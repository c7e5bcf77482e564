"""Faults planted on purpose, to prove that what looks for them finds them: in a graph, an output, a model."""
