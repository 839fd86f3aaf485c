# SPDX-License-Identifier: Apache-2.0
"""Writes TensorFlow Lite files, node by node, with the bindings of the library that reads them."""

from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import tflite

TYPES = {"float32": tflite.TensorType.FLOAT32, "float16": tflite.TensorType.FLOAT16, "int8": tflite.TensorType.INT8,
         "int32": tflite.TensorType.INT32}

Options = dict[str, int]


@dataclass
class LiteModel:
    """A graph to be written. Tensors are numbered in the order in which they are added; buffer 0 is empty."""

    builder: flatbuffers.Builder = field(default_factory=lambda: flatbuffers.Builder(1024))
    tensors: list = field(default_factory=list)
    buffers: list = field(default_factory=lambda: [b""])
    nodes: list = field(default_factory=list)
    kinds: list = field(default_factory=list)

    def tensor(self, shape, data=None, dtype="float32", scales=(), zero_points=(), axis=0):
        """Adds an activation, or a constant if it has data; returns its number."""
        builder, quantization = self.builder, None
        if len(scales):
            vectors = (builder.CreateNumpyVector(np.asarray(scales, np.float32)),
                       builder.CreateNumpyVector(np.asarray(zero_points, np.int64)))
            tflite.QuantizationParametersStart(builder)
            tflite.QuantizationParametersAddScale(builder, vectors[0])
            tflite.QuantizationParametersAddZeroPoint(builder, vectors[1])
            tflite.QuantizationParametersAddQuantizedDimension(builder, axis)
            quantization = tflite.QuantizationParametersEnd(builder)
        name = builder.CreateString(f"t{len(self.tensors)}")
        axes = builder.CreateNumpyVector(np.asarray(shape, np.int32))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, axes)
        tflite.TensorAddType(builder, TYPES[dtype])
        tflite.TensorAddBuffer(builder, 0 if data is None else len(self.buffers))
        tflite.TensorAddName(builder, name)
        if quantization is not None:
            tflite.TensorAddQuantization(builder, quantization)
        self.tensors.append(tflite.TensorEnd(builder))
        if data is not None:
            self.buffers.append(np.ascontiguousarray(data).astype(dtype).tobytes())
        return len(self.tensors) - 1

    def node(self, kind, inputs, outputs, options="", **values):
        """Adds an operator, with options of the table of this name."""
        builder = self.builder
        taken, given = (builder.CreateNumpyVector(np.asarray(one, np.int32)) for one in (inputs, outputs))
        table = None
        if options:
            getattr(tflite, f"{options}Start")(builder)
            for name, value in values.items():
                getattr(tflite, f"{options}Add{name}")(builder, value)
            table = getattr(tflite, f"{options}End")(builder)
        if kind not in self.kinds:
            self.kinds.append(kind)
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, self.kinds.index(kind))
        tflite.OperatorAddInputs(builder, taken)
        tflite.OperatorAddOutputs(builder, given)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, options))
            tflite.OperatorAddBuiltinOptions(builder, table)
        self.nodes.append(tflite.OperatorEnd(builder))

    def finish(self, inputs, outputs):
        """The bytes of the file."""
        builder = self.builder
        ends = [builder.CreateNumpyVector(np.asarray(one, np.int32)) for one in (inputs, outputs)]
        tensors, nodes = self._vector(self.tensors), self._vector(self.nodes)
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, tensors)
        tflite.SubGraphAddInputs(builder, ends[0])
        tflite.SubGraphAddOutputs(builder, ends[1])
        tflite.SubGraphAddOperators(builder, nodes)
        graphs = self._vector([tflite.SubGraphEnd(builder)])
        codes = self._vector([self._code(kind) for kind in self.kinds])
        buffers = self._vector([self._buffer(content) for content in self.buffers])
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        tflite.ModelAddOperatorCodes(builder, codes)
        tflite.ModelAddSubgraphs(builder, graphs)
        tflite.ModelAddBuffers(builder, buffers)
        builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _vector(self, offsets):
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _code(self, kind):
        number = getattr(tflite.BuiltinOperator, kind)
        tflite.OperatorCodeStart(self.builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(self.builder, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(self.builder, number)
        return tflite.OperatorCodeEnd(self.builder)

    def _buffer(self, content):
        data = self.builder.CreateByteVector(content) if content else None
        tflite.BufferStart(self.builder)
        if data is not None:
            tflite.BufferAddData(self.builder, data)
        return tflite.BufferEnd(self.builder)


def lite_file(first, second):
    """The bytes of a file of two linear layers with a ReLU between."""
    model = LiteModel()
    given, hidden, out = (model.tensor((1, size)) for size in (first.shape[1], len(first), len(second)))
    for weight, taken, made, relu in ((first, given, hidden, 1), (second, hidden, out, 0)):
        model.node("FULLY_CONNECTED", [taken, model.tensor(weight.shape, weight)], [made], "FullyConnectedOptions",
                   FusedActivationFunction=relu)
    return model.finish([given], [out])
