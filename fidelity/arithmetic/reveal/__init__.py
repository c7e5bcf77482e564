"""Find a device's arithmetic profile by experiment, from nothing.

The algorithms see a device through one small protocol (`experiment.Laboratory`): small graphs and
their numbers in, numbers out. So they are tested on emulated devices whose arithmetic is known,
and run on real ones unchanged (fidelity/devices/probes.py).
"""
