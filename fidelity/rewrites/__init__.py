"""Changes to the PyTorch model that keep the function and suit the GPU delegate, with their proofs.

One file a rewrite. Each finds the modules it is for by what they are, says why it does not apply
to any other, and declares where every weight of the new module comes from.
"""
