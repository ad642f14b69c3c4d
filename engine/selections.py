"""What makes a choice of hits fit a schema. Pure."""

from __future__ import annotations

from engine.errors import InvalidArgument, LimitExceeded, UnknownAttribute
from engine.limits import Limits
from engine.selection import GroupBy
from engine.types import AttributeSpec, AttributeType, Schema

_GROUPED = (AttributeType.KEYWORD, AttributeType.INT, AttributeType.BOOL)


def check_group(group: GroupBy, schema: Schema, limits: Limits, field: str) -> None:
    """
    Raises:
        InvalidArgument: the first thing that is wrong with it.
        UnknownAttribute: the schema lacks the attribute.
    """
    _filterable(group.attribute, _GROUPED, schema, field)
    if group.per_group < 1:
        raise InvalidArgument(f"{field}.per_group", f"{group.per_group} is not at least 1")
    if group.per_group > limits.k:
        raise LimitExceeded(f"{field}.per_group", value=group.per_group, limit=limits.k, unit="hits")


def _filterable(name: str, wanted: tuple[AttributeType, ...], schema: Schema, field: str) -> AttributeSpec:
    spec = schema.attribute(name)
    if spec is None:
        raise UnknownAttribute(name)
    if spec.type not in wanted:
        kinds = " or ".join(kind.value for kind in wanted)
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is a {spec.type.value}, not a {kinds}")
    if not spec.filterable or spec.volatile:
        raise InvalidArgument(f"{field}.attribute", f"{name!r} is not filterable")
    return spec
