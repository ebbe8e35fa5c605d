"""Export to ONNX and quantization to int8, each behind a gate."""
