# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite's reference interpreter, `ai-edge-litert`, if it is installed (`pip install nonzero[reference]`)."""

import importlib.util
from pathlib import Path

import numpy as np

__all__ = ["has_interpreter", "run_int8"]


def has_interpreter() -> bool:
    """Whether the interpreter is installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None


def run_int8(path: Path, inputs: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Outputs of a file of integers, as the floats that they stand for: float64 ``[n, outputs]``.

    Parameters
    ----------
    path : Path
        A ``.tflite`` file with one input and one output of int8.
    inputs : uint8 or float array, shape ``[n, ...]``
        Images with channels first; bytes mean 0 to 1.
    scale : float
        What the file's inputs are, over these.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    step, zero = taken["quantization"]
    floats = (inputs / 255 if inputs.dtype == np.uint8 else inputs.astype(np.float64)) * scale
    if floats.ndim == 4:
        floats = floats.transpose(0, 2, 3, 1)
    integers = np.clip(np.rint(floats / step) + zero, -128, 127).astype(np.int8)
    outputs = []
    for one in integers:
        interpreter.set_tensor(taken["index"], one.reshape(taken["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(given["index"])[0].astype(np.float64))
    step, zero = given["quantization"]
    floats_out: np.ndarray = (np.stack(outputs) - zero) * step
    return floats_out
