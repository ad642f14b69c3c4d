from __future__ import annotations

from pathlib import Path

import pytest

from checks import proto_lint, protoc, stubs

pytestmark = pytest.mark.skipif(
    not protoc.PYTHON.exists(), reason="the protobuf compiler's environment is missing: `make test` makes it"
)

GOOD = """\
// What it is for.
syntax = "proto3";
package shop.v1;
// A service.
service ShopService {
  // Buys.
  rpc BuyBook(BuyBookRequest) returns (BuyBookResponse);
}
enum BookKind {
  BOOK_KIND_UNSPECIFIED = 0;
  BOOK_KIND_NOVEL = 1;
}
message BuyBookRequest {
  repeated string titles = 1;
  map<string, string> note = 2;
}
message BuyBookResponse {}
"""


def _lint(folder: Path, text: str) -> list[str]:
    (folder / "shop" / "v1").mkdir(parents=True)
    (folder / "shop" / "v1" / "shop.proto").write_text(text)
    return proto_lint.lint(folder)


def test_a_proto_that_keeps_the_conventions_passes(tmp_path: Path) -> None:
    assert _lint(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("good", "bad", "finding"),
    [
        ("package shop.v1", "package store.v1", "package store.v1: must mirror its folder, shop.v1"),
        ("// What it is for.\n", "", "file: say in a comment above `syntax` what it is for"),
        ("ShopService {", "Shop {", "service Shop: names of services end with Service"),
        ("// A service.\n", "", "service ShopService: say in a comment"),
        ("  // Buys.\n", "", "rpc ShopService.BuyBook: say in a comment"),
        ("rpc BuyBook", "rpc Buy", "rpc ShopService.Buy: takes BuyRequest and returns BuyResponse"),
        ("string titles", "string bookTitles", "field BuyBookRequest.bookTitles: names of fields are lower_snake_case"),
        ("string titles", "string title", "field BuyBookRequest.title: a repeated field has a plural name"),
        ("BOOK_KIND_NOVEL", "NOVEL", "enum BookKind.NOVEL: values begin with BOOK_KIND_"),
        ("BOOK_KIND_UNSPECIFIED", "BOOK_KIND_ANY", "enum BookKind: its first value is BOOK_KIND_UNSPECIFIED = 0"),
        ("message BuyBookResponse {}", "message BuyBookResponse {}\nmessage odd {}", "message odd: names of messages"),
    ],
)
def test_each_broken_convention_is_found_and_named(tmp_path: Path, good: str, bad: str, finding: str) -> None:
    findings = _lint(tmp_path, GOOD.replace(good, bad))
    assert len(findings) == 1
    assert finding in findings[0]


def test_a_proto_that_does_not_compile_fails_with_the_compiler_s_words(tmp_path: Path) -> None:
    with pytest.raises(protoc.ProtocFailed, match=r"shop\.proto:\d+"):
        _lint(tmp_path, GOOD.replace("message BuyBookResponse {}", ""))


def test_our_protos_keep_the_conventions() -> None:
    assert proto_lint.lint(protoc.ROOT / "proto") == []


def test_the_exceptions_to_the_conventions_are_all_in_use() -> None:
    text = "\n".join(path.read_text() for path in (protoc.ROOT / "proto").rglob("*.proto"))
    for path in (*proto_lint.SINGULAR_REPEATED, *proto_lint.SHARED_MESSAGES):
        assert path.rpartition(".")[2] in text


def test_the_committed_stubs_are_what_the_protos_generate() -> None:
    assert stubs.find_drift() == []


def test_a_changed_a_missing_and_a_left_over_stub_are_each_found(tmp_path: Path) -> None:
    for path in stubs.STUBS.glob("*_pb2*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "common_pb2.py").write_text("# by hand\n")
    (tmp_path / "admin_pb2.py").unlink()
    (tmp_path / "old_pb2.py").write_text("")
    assert stubs.find_drift(stubs=tmp_path) == [
        "admin_pb2.py: missing",
        "common_pb2.py: differs from what proto/ generates",
        "old_pb2.py: no proto generates it",
    ]
