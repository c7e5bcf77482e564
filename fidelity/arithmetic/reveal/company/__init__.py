"""Rules of operations in company: what a device computes as one, and how, told by small graphs of several operations.

A single operation shows nothing of this: constants taken into weights, a LayerNorm spread over seven
operators, a conversion that changes with the reader. Sums inside such kernels never show their
bits in float16; they do when the device is asked for float32 precision, where it runs the same kernels.
"""
