"""A .tflite graph computed as an arithmetic profile says: the prediction is of the artefact itself."""
