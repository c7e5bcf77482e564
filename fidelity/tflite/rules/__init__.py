"""The rules of the static audit, one file a family. `fidelity.tflite.audit` lists them all."""
