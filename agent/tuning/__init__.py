"""Making rankers: training data, training, export to GGUF, quantization."""
