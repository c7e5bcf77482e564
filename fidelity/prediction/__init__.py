"""What a device's arithmetic will do to an artefact, before any device is there.

The emulated device gives the expected outputs; on the way, every number that an operation passes
through is held against the largest that its format has. So an overflow inside a LayerNorm has a name
before anything is deployed, and a device's error has something to be measured by.
"""
