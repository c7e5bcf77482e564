"""Where a .tflite runs: the job contract, the local worker, the software GPU, and what there is."""
