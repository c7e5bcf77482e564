"""A bare .tflite, judged without its source model: LiteRT's reference kernels and our emulation are the truth."""
