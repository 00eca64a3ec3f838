"""A trained model as one ONNX graph: writing it, its weights in int8, and reading it."""
