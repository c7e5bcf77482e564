"""How a device computes: formats, rounding and the order of sums, emulated bit for bit.

Nothing here runs a device. Numbers travel as float32 arrays that hold values of the emulated
format, so that one set of kernels serves float16 and float32 accumulators alike.
"""
