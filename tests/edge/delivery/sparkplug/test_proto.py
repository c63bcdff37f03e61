"""The .proto file that is shipped describes the messages that are sent."""

from __future__ import annotations

import re
from importlib import resources

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from edge.delivery.sparkplug import payload

TYPES = {
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}
LINE = re.compile(
    r"message (?P<message>\w+) \{|oneof (?P<oneof>\w+) \{|(?P<end>\})"
    r"|(?:(?P<label>optional|repeated) )?(?P<type>\w+) (?P<name>\w+) = (?P<number>\d+);"
)
Fields = set[tuple[str, int, str, str]]


def shipped() -> tuple[str, dict[str, Fields]]:
    """The package, and of each message name, number, label or oneof, and type of its fields."""
    text = resources.files("edge.delivery.sparkplug").joinpath("sparkplug_b.proto").read_text("utf-8")
    text = re.sub(r"//.*", "", text)
    package = re.search(r"package ([\w.]+);", text)
    assert package is not None
    found: dict[str, Fields] = {}
    message = oneof = ""
    for line in LINE.finditer(text[package.end() :]):
        if line["message"]:
            message = line["message"]
            found[message] = set()
        elif line["oneof"]:
            oneof = line["oneof"]
        elif line["end"]:
            oneof = ""
        else:
            label = f"oneof {oneof}" if oneof else line["label"]
            found[message].add((line["name"], int(line["number"]), label, line["type"]))
    return package[1], found


def described(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[str, int, str, str]:
    if field.HasField("oneof_index"):
        label = f"oneof {message.oneof_decl[field.oneof_index].name}"
    else:
        label = "repeated" if field.label == FieldDescriptorProto.LABEL_REPEATED else "optional"
    kind = field.type_name.rpartition(".")[2] if field.type_name else TYPES[field.type]
    return field.name, field.number, label, kind


def test_shipped_proto_is_the_descriptor_at_run_time() -> None:
    """Messages, names, numbers, labels and types."""
    file = FileDescriptorProto()
    payload._PAYLOAD.DESCRIPTOR.file.CopyToProto(file)
    at_run_time = {
        message.name: {described(message, field) for field in message.field} for message in file.message_type
    }
    assert shipped() == (file.package, at_run_time)
