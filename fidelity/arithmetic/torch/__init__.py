"""A torch module computed as an arithmetic profile says, before there is an artefact.

So that a rewrite and its original can be held against each other in a device's arithmetic. What a
delegate takes together in a graph (additions inside a sum, a LayerNorm as one operation) is a
property of the graph: the emulator of .tflite files knows it, here every operation stands alone.
"""
