"""Pruning, export to ONNX (checked against torch) and quantization to int8 (checked against fp32)."""
