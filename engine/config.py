"""The settings of a server: a TOML file below environment variables (EBR_...) below flags. Unknown names are errors."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from engine.errors import ConfigError, FieldViolation
from engine.limits import MIB, Limits
from engine.threads import available_threads

ENV_PREFIX = "EBR_"
NOT_SETTINGS = frozenset({"EBR_CONFIG", "EBR_DATA", "EBR_TARGET"})
"""Variables with our prefix that other commands read."""

DEFAULT_LISTEN = "127.0.0.1:50051"

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]


class Settings(BaseSettings):
    """What a server is told; see ``load_settings``."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    listen: str = Field(DEFAULT_LISTEN, description="address to serve on, HOST:PORT; loopback unless told otherwise")
    data_dir: Path = Field(Path("ebr-data"), description="folder of everything stored; one server at a time")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where vectors are searched and texts encoded: auto, cpu or cuda"
    )
    device_memory_bytes: Count | None = Field(
        None, description="bytes of a GPU's memory for vectors, lists and features; 4 / 5 of what is free unless given"
    )
    device_lost: Literal["cpu", "fail"] = Field(
        "cpu", description="who searches when a GPU fails while it serves: cpu, or fail (nobody, until a restart)"
    )
    compute_threads: Count = Field(
        default_factory=available_threads,
        description="threads that encode and search; all available CPUs unless given",
    )
    encoder_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="what encoders of new collections compute in: float32 or bfloat16"
    )
    encode_batch_ms: Milliseconds = Field(25.0, description="milliseconds one batch of texts may take to encode")
    encode_batch_texts: Count = Field(64, description="texts encoded as one batch at most")
    encode_queue_seconds: Seconds = Field(
        60.0, description="seconds of encoding that may wait; texts beyond are refused with RESOURCE_EXHAUSTED"
    )
    search_batch_queries: Count = Field(1024, description="queries searched as one batch at most")
    search_queue_queries: Count = Field(
        16_384, description="queries that may wait; those beyond are refused with RESOURCE_EXHAUSTED"
    )
    rank_batch_ms: Milliseconds = Field(5.0, description="milliseconds one batch of candidates may take to rank")
    rank_queue_seconds: Seconds = Field(
        10.0, description="seconds of ranking that may wait; hits beyond stay in the order of the search"
    )
    commit_batch_items: Count = Field(10_000, description="items committed as one group at most")
    commit_queue_items: Count = Field(
        100_000, description="items that may wait to be committed; those beyond are refused with RESOURCE_EXHAUSTED"
    )
    recall_target: Fraction = Field(
        0.95, description="share of the true best k to be found, above 0 up to 1, where a query names none"
    )
    cursor_lease_seconds: Seconds = Field(
        60.0, description="seconds after a page during which the next page of the same moment can be asked for"
    )
    recall_check_share: Share = Field(
        0.001, description="share of live queries that are answered again exactly to measure recall; 0 for none"
    )
    recall_check_cpu_share: Share = Field(
        0.02, description="share of the search lane's time that measuring recall may take"
    )
    log_queries: bool = Field(
        True, description="keep the vectors of a sample of live queries to tune the index with: true or false"
    )
    mask_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        256 * MIB, description="bytes of filter masks kept between batches, of all collections together; 0 for none"
    )
    min_rows_to_train: Count | None = Field(
        None, description="rows from which an index is trained; decided by measurement unless given"
    )
    row_image_changes: Count = Field(
        100_000,
        description="changes of items, and a tenth of them, that a start may have to do again after its image of rows",
    )
    change_log_kept: Annotated[int, Field(ge=0)] = Field(
        1_000_000, description="latest changes of a collection that its change log keeps; more where a start needs them"
    )
    snapshot_dir: Path | None = Field(
        None, description="folder of snapshots; `snapshots` in the data directory unless given"
    )
    snapshots_kept: Count = Field(3, description="snapshots of a collection that are kept, the newest ones")
    compact_dead_share: Fraction = Field(
        0.3, description="share of dead rows from which a collection's rows are written anew without them; 1 for never"
    )
    coarse_codes: Literal["auto", "off"] = Field(
        "auto", description="int8 codes of all rows, for exact search in two passes: auto (where they pay) or off"
    )
    costs_file: Path | None = Field(
        None,
        description="JSON file of what searches cost, from `ebr doctor --costs-to`; measured at start unless given",
    )
    metrics_listen: str | None = Field(
        None, description="address of the Prometheus metrics, HOST:PORT; none unless given"
    )
    drain_seconds: Seconds = Field(30.0, description="seconds that calls under way get to finish when the server stops")
    max_message_bytes: Annotated[int, Field(ge=MIB, le=1024 * MIB)] = Field(
        Limits().message_bytes, description="bytes of one gRPC request at most"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe of what is logged: debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field("text", description="how log lines are written to stderr: text or json")

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None:
            parse_address(address)
        return address

    @property
    def snapshots(self) -> Path:
        """The folder of snapshots."""
        return self.snapshot_dir or self.data_dir / "snapshots"

    @property
    def limits(self) -> Limits:
        """The published limits as these settings have them."""
        return Limits(message_bytes=self.max_message_bytes)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 host stands in brackets.

    Raises:
        ValueError: it is no such address.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def load_settings(
    config_file: Path | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force: ``flags`` over ``environ`` (the process's unless given) over ``config_file``.

    Raises:
        ConfigError: an unknown name or an unusable value; the message names each with where it came from.
    """
    layers = [
        ("the command line", dict(flags or {})),
        ("the environment", _from_environment(os.environ if environ is None else environ)),
        (str(config_file), _from_file(config_file) if config_file else {}),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in reversed(layers):
        _refuse_unknown(values, origin)
        merged |= values
        origins |= dict.fromkeys(values, origin)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _config_error(error, origins) from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """EBR_LISTEN=... as listen; an empty value is as good as none."""
    return {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name not in NOT_SETTINGS and value
    }


def _refuse_unknown(values: Mapping[str, Any], origin: str) -> None:
    known = list(Settings.model_fields)
    unknown = [name for name in values if name not in known]
    if not unknown:
        return
    told = "; ".join(f"{name!r}{_suggestion(name, known)}" for name in unknown)
    raise ConfigError(
        f"unknown setting in {origin}: {told}",
        violations=[FieldViolation(name, f"unknown setting in {origin}") for name in unknown],
    )


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (do you mean {close[0]!r}?)" if close else ""


def _config_error(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    violations = [
        FieldViolation(str(one["loc"][0]), f"{_said(one)}, got {one['input']!r} from {origins[str(one['loc'][0])]}")
        for one in error.errors()
    ]
    return ConfigError("; ".join(f"{one.field}: {one.description}" for one in violations), violations=violations)


def _said(error: ErrorDetails) -> str:
    """Without what pydantic puts before the words of our own validators."""
    return error["msg"].removeprefix("Value error, ")
