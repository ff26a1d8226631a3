"""From a trained torch module to files that small devices run, each measured on held-out data.

Heavy (torch, onnx, litert-torch), so only a job's own process imports it:
`python -m edgeward_compression.models.compress`.
"""
