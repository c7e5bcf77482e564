"""The operations themselves, one family a file: arrays and a rule in, an array out.

Operands are float32 arrays of the values that the device holds. Each kernel gives what it passes
through (sums, squares, powers) to an Observer, so that a number which overflows inside an
operation is seen there.
"""
