"""Holds proto/ to the conventions of the wire API: `python -m checks.proto_lint`.

Every finding is a line `file: thing: what is wrong`. Compatibility with earlier releases is not looked at.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from checks.protoc import ROOT, ProtocFailed, run_protoc

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")

SINGULAR_REPEATED = {
    "Filter.must": "a clause, named as in every filter language with must, should and must_not",
    "Filter.should": "the same",
    "Filter.must_not": "the same",
    "KeywordInput.vocabulary": "the name of a set of words",
    "QueryInput.missing": "what is missing may be several numbers; Feature.missing is the same",
    "SearchBatchRequest.params": "a plural already",
}
SHARED_MESSAGES = {
    "IngestService.UpsertStream": ("Upsert", "each message of the stream is an Upsert, acknowledged as one"),
}
# Field numbers of descriptor.proto, of which a comment's path in the source is made.
_SYNTAX, _SERVICES, _METHODS = 12, 6, 2


def lint(proto: Path) -> list[str]:
    """Every finding in the .proto files below ``proto``, in the order of the files."""
    findings = []
    for file in _compile(proto):
        findings += [f"{file.name}: {finding}" for finding in _lint_file(file)]
    return findings


def _compile(proto: Path) -> list[FileDescriptorProto]:
    """The files of ``proto`` alone, without their imports, with comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors"
        run_protoc(proto, [f"--descriptor_set_out={out}", "--include_source_info"])
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def _lint_file(file: FileDescriptorProto) -> Iterator[str]:
    yield from _lint_place(file)
    for message in file.message_type:
        yield from _lint_message(message, message.name)
    for enum in file.enum_type:
        yield from _lint_enum(enum)
    yield from _lint_services(file)


def _lint_place(file: FileDescriptorProto) -> Iterator[str]:
    if file.syntax != "proto3":
        yield 'syntax: write `syntax = "proto3";`'
    folder = str(Path(file.name).parent)
    if file.package.replace(".", "/") != folder:
        yield f"package {file.package}: must mirror its folder, {folder.replace('/', '.')}"
    if not any(list(place.path) == [_SYNTAX] and place.leading_comments for place in file.source_code_info.location):
        yield "file: say in a comment above `syntax` what it is for"


def _lint_message(message: DescriptorProto, path: str) -> Iterator[str]:
    if not PASCAL.fullmatch(message.name):
        yield f"message {path}: names of messages are PascalCase"
    for field in message.field:
        yield from _lint_field(field, f"{path}.{field.name}", message)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _lint_message(nested, f"{path}.{nested.name}")
    for enum in message.enum_type:
        yield from _lint_enum(enum)


def _lint_field(field: FieldDescriptorProto, path: str, message: DescriptorProto) -> Iterator[str]:
    if not SNAKE.fullmatch(field.name):
        yield f"field {path}: names of fields are lower_snake_case"
    is_list = field.label == FieldDescriptorProto.LABEL_REPEATED and not _is_map(field, message)
    if is_list and not field.name.endswith("s") and path not in SINGULAR_REPEATED:
        yield f"field {path}: a repeated field has a plural name"


def _is_map(field: FieldDescriptorProto, message: DescriptorProto) -> bool:
    entry = field.type_name.rpartition(".")[2]
    return any(nested.name == entry and nested.options.map_entry for nested in message.nested_type)


def _lint_enum(enum: EnumDescriptorProto) -> Iterator[str]:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    for value in enum.value:
        if not value.name.startswith(prefix):
            yield f"enum {enum.name}.{value.name}: values begin with {prefix}"
    if enum.value[0].number != 0 or enum.value[0].name != f"{prefix}UNSPECIFIED":
        yield f"enum {enum.name}: its first value is {prefix}UNSPECIFIED = 0"


def _lint_services(file: FileDescriptorProto) -> Iterator[str]:
    commented = {tuple(p.path) for p in file.source_code_info.location if p.leading_comments.strip()}
    for index, service in enumerate(file.service):
        if not service.name.endswith("Service"):
            yield f"service {service.name}: names of services end with Service"
        if (_SERVICES, index) not in commented:
            yield f"service {service.name}: say in a comment above it what it is for"
        for number, method in enumerate(service.method):
            yield from _lint_method(method, f"{service.name}.{method.name}", file.package)
            if (_SERVICES, index, _METHODS, number) not in commented:
                yield f"rpc {service.name}.{method.name}: say in a comment above it what it does"


def _lint_method(method: MethodDescriptorProto, path: str, package: str) -> Iterator[str]:
    if not PASCAL.fullmatch(method.name):
        yield f"rpc {path}: names of rpcs are PascalCase, beginning with a verb"
    stem, _ = SHARED_MESSAGES.get(path, (method.name, ""))
    expected = f".{package}.{stem}Request", f".{package}.{stem}Response"
    if (method.input_type, method.output_type) != expected:
        yield f"rpc {path}: takes {stem}Request and returns {stem}Response"


def main() -> int:
    try:
        findings = lint(ROOT / "proto")
    except ProtocFailed as error:
        findings = [str(error)]
    for finding in findings:
        print(f"proto: {finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
