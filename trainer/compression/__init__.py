"""From a trained network to the files that ship: pruning, ONNX export, quantization."""
