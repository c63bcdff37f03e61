"""ONNX files as protobuf messages, as far as wrapping a network needs them: a node has no `onnx` package.

The descriptor is built when this module is imported, from the field numbers of `onnx.proto`, in a pool of its own, so
that it cannot clash with the `onnx` package of a trainer. Fields that are not described here pass through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError

from edge.errors import BundleError

FLOAT: Final = 1
UINT8: Final = 2
INT64: Final = 7
"""TensorProto.DataType."""
MIN_OPSET: Final = 9
"""Scan and broadcasting in their present form."""
MIN_IR: Final = 4
"""From here on a weight need not be an input, too."""
MAX_DEPTH: Final = 20
"""Of subgraphs in subgraphs."""

_KINDS: Final = {"int64": 3, "int32": 5, "float": 2, "string": 9, "bytes": 12}
"""Type names, and their numbers in a descriptor; any other name is a message."""
_MESSAGES: Final = {
    "Model": "1 ir_version int64, 2 producer_name string, 7 graph Graph, 8* opset_import Opset",
    "Opset": "1 domain string, 2 version int64",
    "Graph": "1* node Node, 2 name string, 5* initializer Tensor, 11* input Value, 12* output Value, "
    "13* value_info Value",
    "Node": "1* input string, 2* output string, 3 name string, 4 op_type string, 5* attribute Attribute, "
    "7 domain string",
    "Attribute": "1 name string, 2 f float, 3 i int64, 4 s bytes, 5 t Tensor, 6 g Graph, 7* floats float, "
    "8* ints int64, 10* tensors Tensor, 11* graphs Graph, 20 type int32",
    "Tensor": "1* dims int64, 2 data_type int32, 8 name string, 9 raw_data bytes, 14 data_location int32",
    "Value": "1 name string, 2 type Type",
    "Type": "1 tensor_type TensorType",
    "TensorType": "1 elem_type int32, 2 shape Shape",
    "Shape": "1* dim Dimension",
    "Dimension": "1 dim_value int64, 2 dim_param string",
}
"""`NUMBER[*] NAME TYPE`; * is a repeated field."""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="defectd_onnx.proto", package="defectd.onnx", syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for text in fields.split(", "):
            number, name, kind = text.split()
            field = described.field.add(name=name, number=int(number.rstrip("*")), label=3 if "*" in number else 1)
            field.type = _KINDS.get(kind, 11)
            if kind not in _KINDS:
                field.type_name = f".defectd.onnx.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"defectd.onnx.{name}")) for name in _MESSAGES
    }


_CLASS: Final = _classes()


def parse(content: bytes, origin: str) -> Any:
    """The model in a file.  Raises BundleError where it is not one file that onnxruntime can run with today's nodes."""
    model = _CLASS["Model"]()
    try:
        model.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{origin}: not an ONNX file: {str(error)[:200]}") from error
    if not model.graph.node or not model.graph.output:
        raise BundleError(f"{origin}: not an ONNX file: it has no nodes or no outputs")
    opset = opset_of(model)
    if opset < MIN_OPSET:
        raise BundleError(f"{origin}: opset {opset} is too old. Export the network with opset 13 or later")
    if any(tensor.data_location == 1 for tensor in _tensors(model.graph)):
        raise BundleError(
            f"{origin}: its weights are in another file. Save it as one file: "
            "onnx.save(onnx.load(FILE), OUT, save_as_external_data=False)"
        )
    return model


def opset_of(model: Any) -> int:
    """The version of the standard operators."""
    return max((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def written(model: Any) -> bytes:
    """The file of a model.  Raises BundleError."""
    model.ir_version = max(int(model.ir_version), MIN_IR)
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise BundleError(f"the network cannot be written: {error}") from error


def own_inputs(graph: Any) -> list[Any]:
    """The inputs that are no weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def shape_of(value: Any) -> tuple[int | str, ...]:
    """The dimensions; those without a number by their name, or empty."""
    dims = value.type.tensor_type.shape.dim
    return tuple(int(dim.dim_value) if dim.dim_value else str(dim.dim_param) for dim in dims)


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give tensors other names, in subgraphs as well."""
    for one in _graphs(graph):
        for node in one.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for named in (*one.initializer, *one.input, *one.output, *one.value_info):
            named.name = names.get(named.name, named.name)


def tensor_names(graph: Any) -> set[str]:
    """The names of all tensors, in subgraphs as well."""
    found: set[str] = set()
    for one in _graphs(graph):
        found.update(name for node in one.node for name in (*node.input, *node.output))
        found.update(named.name for named in (*one.initializer, *one.input, *one.output))
    return found


def producer(graph: Any, name: str, *kinds: str) -> Any | None:
    """The node that makes a tensor; None if there is none.  kinds: of operators, where only these are meant."""
    made = next((one for one in graph.node if name in one.output), None)
    return made if made is not None and (not kinds or made.op_type in kinds) else None


# ---- new parts ---------------------------------------------------------------------------------------------


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """A node.  attributes: whole numbers, lists of them, or a graph."""
    made = _CLASS["Node"](op_type=kind, input=inputs, output=outputs, name=f"defectd_{outputs[0]}")
    for name, value in attributes.items():
        if isinstance(value, int):
            made.attribute.add(name=name, i=value, type=2)
        elif isinstance(value, list):
            made.attribute.add(name=name, ints=value, type=7)
        else:
            made.attribute.add(name=name, g=value, type=5)
    return made


def weight(name: str, values: npt.ArrayLike, kind: int) -> Any:
    """A constant tensor.  kind: FLOAT or INT64."""
    array = np.asarray(values, "<f4" if kind == FLOAT else "<i8")
    return _CLASS["Tensor"](name=name, dims=array.shape, data_type=kind, raw_data=array.tobytes())


def value(name: str, kind: int, shape: Sequence[int | str]) -> Any:
    """The description of an input or an output."""
    made = _CLASS["Value"](name=name)
    made.type.tensor_type.elem_type = kind
    made.type.tensor_type.shape.SetInParent()
    for size in shape:
        dim = made.type.tensor_type.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = size
    return made


def graph(
    name: str, nodes: Iterable[Any], inputs: Iterable[Any], outputs: Iterable[Any], weights: Iterable[Any]
) -> Any:
    """A graph of these parts."""
    return _CLASS["Graph"](name=name, node=nodes, input=inputs, output=outputs, initializer=weights)


def _graphs(top: Any, depth: int = 0) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise BundleError("the network has too many subgraphs in subgraphs")
    yield top
    for one in top.node:
        for attribute in one.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner, depth + 1)


def _tensors(top: Any) -> Iterator[Any]:
    for one in _graphs(top):
        yield from one.initializer
        for each in one.node:
            for attribute in each.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
