"""Networks by name, their pretrained weights, and the model folder."""
