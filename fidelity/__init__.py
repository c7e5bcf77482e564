"""fidelity: proof that a PyTorch vision transformer still computes the same thing on a phone's GPU.

Five jobs, five verbs: prove the rewrites, predict the arithmetic, compare the artefact with
PyTorch on every device, locate the first wrong number, gate the release. README.md says which of
them exist today.
"""

__version__ = "0.1.0"
