"""The floor: the agent's imports and one loaded model, nothing else. `bare_python.py FORMAT MODEL`; prints `ready`."""

from __future__ import annotations

import signal
import sys

import google.protobuf.timestamp_pb2
import grpc
import numpy as np

# Referred to, so that nobody takes them for forgotten.
IMPORTED = (google, grpc)


def main() -> None:
    """Load, predict once, wait to be ended."""
    model_format, path = sys.argv[1:]
    zeros = np.zeros((1, 1, 8, 8), np.float32)
    if model_format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: zeros})
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], zeros)
        interpreter.invoke()
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
