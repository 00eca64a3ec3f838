"""The folder of an artifact: what its files are called."""

FORMAT = 2
MEMBERS, BASE, CARD = "population.safetensors", "base.safetensors", "README.md"
FOLDS = "folds.safetensors"  # the models of a cross-validation, where they are kept
ADAPTERS = "adapters.json"  # what the package `adapters` put into the model, where it did
IDS = "@ids"  # suffix of the tensor with the ids of the embedding rows that the members hold
GRAPH, GRAPH_DATA = "model.onnx", "model.onnx.data"  # of an export as ONNX; the second one where the weights are large
