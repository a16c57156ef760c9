"""A .tflite file as a `Graph`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.graph import Graph, Operator, Signature, Tensor

from .flatbuffer import load, text
from .options import DTYPES, KINDS, read_options


def read(model: bytes | str | os.PathLike) -> Graph:
    """Reads the main subgraph of a .tflite file.

    Args:
      model: the bytes of the file, or its path.

    Raises:
      FileError: the file is damaged.
    """
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    parsed = load(content)
    subgraph = parsed.subgraphs[0]
    graph = Graph(
        tensors=[_tensor(parsed, tensor) for tensor in subgraph.tensors],
        operators=[_operator(parsed, operator) for operator in subgraph.operators],
        inputs=_indices(subgraph.inputs),
        outputs=_indices(subgraph.outputs),
        name=text(subgraph.name) or "main",
    )
    graph.signatures = [
        Signature(
            text(one.signatureKey),
            {text(entry.name): int(entry.tensorIndex) for entry in one.inputs or ()},
            {text(entry.name): int(entry.tensorIndex) for entry in one.outputs or ()},
        )
        for one in parsed.signatureDefs or ()
    ]
    return graph


def _indices(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _tensor(parsed: Any, tensor: Any) -> Tensor:
    shape, dtype = _indices(tensor.shape), DTYPES[tensor.type]
    raw = parsed.buffers[tensor.buffer].data
    data = None
    if raw is not None and len(raw):
        data = np.asarray(raw, np.uint8).view(np.dtype(dtype)).reshape(shape)
    quantization = tensor.quantization
    quantised = quantization is not None and quantization.scale is not None
    scale = np.asarray(quantization.scale if quantised else (), np.float32)
    zero_point = np.asarray(quantization.zeroPoint if quantised else (), np.int64)
    axis = int(quantization.quantizedDimension) if quantised else 0
    return Tensor(
        text(tensor.name), shape, dtype, scale, zero_point, axis, data, bool(tensor.isVariable)
    )


def _operator(parsed: Any, operator: Any) -> Operator:
    code = parsed.operatorCodes[operator.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    is_custom = builtin == schema.BuiltinOperator.CUSTOM
    custom = operator.customOptions
    return Operator(
        text(code.customCode) if is_custom else KINDS[builtin],
        _indices(operator.inputs),
        _indices(operator.outputs),
        read_options(operator.builtinOptions),
        _indices(operator.intermediates),
        bytes(bytearray(() if custom is None else custom)) if is_custom else None,
    )
