"""A ranker: an ONNX model of standard operators over declared inputs, one score for each candidate.

Loaded, held against its declaration and timed; run by ONNX Runtime on a CPU, outside the GIL. Nothing of it is executed
but its graph: no pickles, no libraries of custom operators, no files but those in its own folder.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import Message
from onnx.external_data_helper import uses_external_data

from engine.errors import InvalidArgument
from engine.files import file_sha256
from engine.ranking import Pipeline, RankInput, name_of, width_of
from engine.types import Float32Array

MODEL_NAME = "model.onnx"
_FIELD = "pipeline.rank.model"
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_LEAST_OPSET = 7
_VERSION_DIGITS = 16
_TIMED = (1, 512)
_ROUNDS = 3
_LONGEST_TIMING_S = 300.0
"""Of all rounds of one number of candidates: a model that takes longer is of no use, or hangs."""
_FATAL = 4


@dataclass(frozen=True, slots=True)
class RankProfile:
    """A call takes ``call_s`` and ``candidate_s`` for each candidate, measured when the model was loaded."""

    call_s: float
    candidate_s: float

    def seconds(self, n: int) -> float:
        return self.call_s + n * self.candidate_s


class RankRun:
    """One run of a model, which any thread may end: it then stops before its next operator, or round of a loop."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.options.log_severity_level = _FATAL  # whatever fails is raised
        self.is_ended = False

    def end(self) -> None:
        self.is_ended = True
        self.options.terminate = True


class Ranker:
    """See the module. ``score`` may be called from one thread at a time.

    Args:
        path: the model's file; external data are read from its folder alone.
        pipeline: with the inputs that the model is to have: one float32 [n, F] of all columns, or one [n, width] of
            each by its name.

    Raises:
        InvalidArgument: it cannot be loaded, is not safe to, or does not fit its declaration.
    """

    def __init__(self, path: Path, pipeline: Pipeline) -> None:
        _check_model(path)
        self.version = pipeline.ranker_version
        self.inputs = pipeline.rank.inputs
        self.columns = sum(map(width_of, self.inputs))
        self._session = _open_session(path)
        self._names = _graph_inputs(self._session, self.inputs)
        self._output = _graph_output(self._session)
        self.runs_ended = 0
        self.profile = self._take_profile()

    @property
    def reads_one_array(self) -> bool:
        """Whether all columns are one input of the graph."""
        return len(self._names) == 1

    def new_run(self) -> RankRun:
        return RankRun()

    def score(self, columns: Float32Array, run: RankRun | None = None) -> Float32Array:
        """Scores float32 [n] of candidates float32 [n, F]; raises where the run is ended before they are there."""
        feed: dict[str, Float32Array] = {}
        if self.reads_one_array:
            feed[self._names[0]] = columns
        else:
            ends = np.cumsum([width_of(one) for one in self.inputs])[:-1]
            parts = np.split(columns, ends, axis=1)
            feed = {name: np.ascontiguousarray(part) for name, part in zip(self._names, parts, strict=True)}
        scores: Float32Array = self._session.run([self._output], feed, (run or RankRun()).options)[0]
        return scores.reshape(len(columns))

    def _take_profile(self) -> RankProfile:
        """Of the quickest of some rounds each; the first one shows whether the model gives a score a candidate."""
        seconds = [_least_seconds(self, n) for n in _TIMED]
        candidate_s = max(seconds[1] - seconds[0], 0.0) / (_TIMED[1] - _TIMED[0])
        return RankProfile(seconds[0], candidate_s)


def model_files(model: str) -> dict[str, Path]:
    """The files of a model by the names that copies of them have: the graph as ``model.onnx``, and its external data.

    Raises:
        InvalidArgument: there is no model, or it names files outside its folder.
    """
    given = Path(model).expanduser()
    path = given / MODEL_NAME if given.is_dir() else given
    return {MODEL_NAME: path} | {name: path.parent / name for name in _external(_graph(path))}


def hashes_of(files: Mapping[str, Path]) -> dict[str, str]:
    """sha256 by name.

    Raises:
        InvalidArgument: one cannot be read.
    """
    try:
        return {name: file_sha256(path) for name, path in sorted(files.items())}
    except OSError as error:
        raise InvalidArgument(_FIELD, f"{error.filename} cannot be read: {error.strerror}") from error


def ranker_version(inputs: Sequence[RankInput], hashes: Mapping[str, str]) -> str:
    """Equal where model and declared inputs are, wherever the files lie."""
    declared = [{"kind": type(one).__name__, **asdict(one)} for one in inputs]
    told = json.dumps([declared, sorted(hashes.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:_VERSION_DIGITS]


def verify_ranker(folder: Path, pipeline: Pipeline) -> None:
    """Raises InvalidArgument where the files in the folder are not those of the pipeline."""
    for name, digest in hashes_of({name: folder / name for name in pipeline.files}).items():
        if digest != pipeline.files[name]:
            raise InvalidArgument(_FIELD, f"{folder / name} has sha256 {digest}, not {pipeline.files[name]}")


def _graph(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except OSError as error:
        raise InvalidArgument(_FIELD, f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:
        raise InvalidArgument(_FIELD, f"{path} is no ONNX model: {error}") from error


def _external(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside the model that have some of its data."""
    names = set()
    for tensor in _tensors(model):
        if uses_external_data(tensor):
            name = next((one.value for one in tensor.external_data if one.key == "location"), "")
            if not name or name != Path(name).name or name in (".", ".."):
                raise InvalidArgument(_FIELD, f"reads {name!r}, which is no file beside it")
            names.add(name)
    return sorted(names)


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, in attributes, subgraphs and functions too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in (value,) if isinstance(value, Message) else value:
            if isinstance(one, onnx.TensorProto):
                yield one
            else:
                yield from _tensors(one)


def _check_model(path: Path) -> None:
    model = _graph(path)
    for name in _external(model):
        if (path.parent / name).is_symlink():
            raise InvalidArgument(_FIELD, f"reads {name!r}, a link to what may lie outside its folder")
    own = {function.domain for function in model.functions}
    for one in model.opset_import:
        if one.domain not in _DOMAINS | own:
            raise InvalidArgument(_FIELD, f"has operators of {one.domain!r}: only those of ONNX itself are run")
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    if opset and not _LEAST_OPSET <= opset <= newest:
        raise InvalidArgument(_FIELD, f"is of opset {opset}, known are {_LEAST_OPSET} to {newest}")


def _open_session(path: Path) -> Any:
    """One thread, asleep between calls: searches need the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidArgument(_FIELD, f"{path.name} cannot be loaded: {error}") from error


def _graph_inputs(session: Any, inputs: Sequence[RankInput]) -> list[str]:
    """Names of the graph's inputs in the order of those declared, or of the one that has all their columns."""
    given = {one.name: one for one in session.get_inputs()}
    columns = sum(map(width_of, inputs))
    wanted = {name_of(one): width_of(one) for one in inputs}
    if len(given) == 1 and not given.keys() <= wanted.keys():
        wanted = {next(iter(given)): columns}
    if given.keys() != wanted.keys():
        raise InvalidArgument(
            _FIELD,
            f"has inputs {', '.join(given)}; declared are {', '.join(wanted)}: it has to have these, or one for all",
        )
    for name, width in wanted.items():
        _check_array(given[name], (None, width), f"its input {name!r}")
    return list(wanted)


def _graph_output(session: Any) -> str:
    outputs = session.get_outputs()
    if len(outputs) != 1:
        raise InvalidArgument(_FIELD, f"has {len(outputs)} outputs: one is wanted, float32 [n]")
    shape = (None, 1) if len(outputs[0].shape) == 2 else (None,)
    _check_array(outputs[0], shape, f"its output {outputs[0].name!r}")
    name: str = outputs[0].name
    return name


def _check_array(array: Any, shape: tuple[int | None, ...], what: str) -> None:
    """Hold what a graph says of an input or output against float32 of a shape, whose first dimension is free."""
    told = "n" if len(shape) == 1 else f"n, {shape[1]}"
    if array.type != "tensor(float)":
        raise InvalidArgument(_FIELD, f"{what} is a {array.type}, not a tensor of float32 [{told}]")
    found = array.shape
    is_free = bool(found) and not isinstance(found[0], int)
    fits = len(found) == len(shape) and all(
        want is None or not isinstance(have, int) or have == want for have, want in zip(found, shape, strict=True)
    )
    if not (is_free and fits):
        raise InvalidArgument(_FIELD, f"{what} is of shape {list(found)}, not [{told}] with any number of n")


def _least_seconds(ranker: Ranker, n: int) -> float:
    candidates, run = np.zeros((n, ranker.columns), np.float32), ranker.new_run()
    patience = threading.Timer(_LONGEST_TIMING_S, run.end)
    patience.daemon = True
    patience.start()
    try:
        ranker.score(candidates, run)
        return min(_seconds_of(ranker, candidates, run) for _ in range(_ROUNDS))
    except Exception as error:
        told = f" within {_LONGEST_TIMING_S:g} seconds" if run.is_ended else f": {error}"
        raise InvalidArgument(_FIELD, f"does not score {n} candidates of zeros{told}") from error
    finally:
        patience.cancel()


def _seconds_of(ranker: Ranker, candidates: Float32Array, run: RankRun) -> float:
    began = time.perf_counter()
    ranker.score(candidates, run)
    return time.perf_counter() - began
