from __future__ import annotations

import json
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from engine.cli import probes
from engine.errors import ConfigError
from engine.index.costs import Costs, read_costs
from tests.engine.cli.conftest import Run
from tests.engine.store.stores import commit_one, make_store, upsert, vectors_of

WORKING = {
    "numba": {"layer": "omp"},
    "torch": {"cuda": None, "available": False},
    "faiss": {"gpus": 0, "options": "OPTIMIZE AVX2 "},
}


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where every library works, and no GPU."""
    monkeypatch.setattr(probes, "_try", lambda library: WORKING[library])
    monkeypatch.setattr(probes.shutil, "which", lambda _: None)
    monkeypatch.setattr(probes, "_version", lambda distribution: "1.0")
    monkeypatch.setenv("COLUMNS", "200")


def _findings(run: Run, tmp_path: Path) -> tuple[int, dict[str, Any]]:
    result = run("doctor", "--json", "--data-dir", tmp_path / "new", "--listen", "127.0.0.1:0")
    told = json.loads(result.stdout)
    return result.exit_code, {one["name"]: one for one in told["findings"]} | {"ready": told["ready"]}


def test_a_machine_that_has_everything_is_ready(run: Run, tmp_path: Path) -> None:
    status, found = _findings(run, tmp_path)

    assert (status, found["ready"]) == (0, True)
    assert found["torch"]["found"].startswith("CUDA none: a CPU build")
    assert found["texts are encoded on"]["found"] == "the CPU, whatever device is"
    assert "nvidia-smi is not there" in found["devices"]["found"]
    assert "will be made" in found["data folder"]["found"]


def test_a_required_library_that_is_missing_is_told_with_what_brings_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_version", lambda one: "" if one.startswith("faiss") else "1.0")

    status, found = _findings(run, tmp_path)

    assert (status, found["ready"]) == (1, False)
    assert found["faiss-cpu"]["state"] == "missing"
    assert found["faiss-cpu"]["remedy"] == "pip install 'ebr-engine[cpu]'"


def test_an_optional_library_that_is_missing_is_no_fault(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_version", lambda one: "" if one == "cupy-cuda13x" else "1.0")

    status, found = _findings(run, tmp_path)

    assert status == 0
    assert found["cupy-cuda13x"]["state"] == "note"
    assert found["cupy-cuda13x"]["remedy"] == "pip install 'ebr-engine[gpu]'"


@pytest.mark.parametrize("told", [{"layer": "workqueue"}, {"error": "does not work: no LLVM"}])
def test_a_threading_layer_that_cannot_be_used_is_a_fault(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    monkeypatch.setattr(probes, "_try", lambda library: told if library == "numba" else WORKING[library])

    status, found = _findings(run, tmp_path)

    assert status == 1
    assert found["numba threads"]["state"] == "missing"


def test_a_data_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")

    assert probes.probe_data_dir(tmp_path / "file" / "below").state == "missing"


def test_a_port_in_use_is_noted() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]

        assert probes.probe_port(f"127.0.0.1:{port}").state == "note"

    assert probes.probe_port(f"127.0.0.1:{port}").state == "ok"
    assert probes.probe_port("nonsense").state == "note"


def test_the_devices_of_the_driver_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "NVIDIA H200, 143771 MiB, 580.1, 9.0\n"
    done = probes.subprocess.CompletedProcess([], 0, stdout=lines, stderr="")
    monkeypatch.setattr(probes.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(probes.subprocess, "run", lambda *_, **__: done)

    assert next(iter(probes.probe_gpu())).found == "NVIDIA H200, 143771 MiB, 580.1, 9.0"


def test_the_table_ends_with_the_verdict(run: Run, tmp_path: Path) -> None:
    shown = run("doctor", "--data-dir", tmp_path, "--listen", "127.0.0.1:0").stdout

    assert shown.rstrip().endswith("ready to serve")


def test_costs_are_measured_shown_and_written_for_a_server(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.cli.costs.threads.configure", lambda *_: 1)
    path = tmp_path / "costs.json"
    result = run(
        "doctor", "--json", "--data-dir", tmp_path, "--listen", "127.0.0.1:0", "--costs", 16, "--costs-to", path
    )
    assert result.exit_code == 0
    shown = [one for one in json.loads(result.stdout)["findings"] if one["area"] == "cost"]
    assert shown[0]["name"] == "1 of 1M x 16"
    costs = read_costs(path)
    assert costs.scan_seconds(1_000_000, 1_000_000, 16) > costs.scan_seconds(1000, 1000, 16) > 0
    coarse = 1000 * costs.coarse_seconds(1_000_000, 1_000_000, 16, 100)
    assert f"coarse {coarse:.2f} ms" in json.dumps(shown[0])


def test_writing_costs_needs_a_dimension(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "--data-dir", tmp_path, "--costs-to", tmp_path / "costs.json")
    assert result.exit_code == 2
    assert "--costs DIMENSION" in result.output


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "cannot read"), ("{}", "are an object of"), ("[]", "are an object of"), ("negative", "no positive number")],
)
def test_a_costs_file_that_is_no_use_is_refused_with_the_reason(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "costs.json"
    if content == "negative":
        content = json.dumps({field.name: -1.0 for field in fields(Costs)})
    path.write_text(content)
    with pytest.raises(ConfigError, match=why):
        read_costs(path)


@pytest.fixture
def two_collections(tmp_path: Path) -> Path:
    """A data directory with books, three rows that have lists, and a collection that cannot be read."""
    store = make_store(tmp_path / "collections" / "books")
    commit_one(store, upsert("a", vectors=vectors_of(1, n_rows=3)))
    store.close()
    image = {"nlist": 4, "code_bytes": 2, "dimension": 4, "sequence": 1}
    (tmp_path / "collections" / "books" / "versions" / "v1" / "ivfpq-1.json").write_text(json.dumps(image), "utf-8")
    (tmp_path / "collections" / "broken").mkdir()
    return tmp_path


def test_what_collections_take_of_a_gpu_is_foreseen(run: Run, two_collections: Path) -> None:
    how = ["--data-dir", two_collections, "--listen", "127.0.0.1:0", "--device-memory-bytes", 1 << 21]
    (books, broken) = json.loads(run("doctor", "--json", *how).stdout)["forecast"]
    assert (books["collection"], books["n_rows"], books["rows_bytes"]) == ("books", 3, 65_536 * 16)
    assert books["placement"] == "lists"
    assert books["fits_until"] == 0
    assert books["lists_fit_until"] > 65_536
    assert "has no store.sqlite" in broken["error"]
    shown = run("doctor", *how).stdout
    assert "lists alone fit, the CPU rescores" in shown
    assert "2.0 MiB for rows and lists: device_memory_bytes" in shown


def test_without_a_gpu_or_a_number_nothing_is_foreseen(run: Run, two_collections: Path) -> None:
    told = json.loads(run("doctor", "--json", "--data-dir", two_collections, "--listen", "127.0.0.1:0").stdout)
    assert told["forecast"] == []
    assert not [one for one in told["findings"] if one["area"] == "forecast"]


def test_the_memory_that_a_gpu_has_free_is_what_is_reckoned_with(
    run: Run, two_collections: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "free_gpu_bytes", lambda: 10 << 30)
    told = json.loads(run("doctor", "--json", "--data-dir", two_collections, "--listen", "127.0.0.1:0").stdout)
    assert told["forecast"][0]["placement"] == "device"
    (memory,) = (one for one in told["findings"] if one["name"] == "GPU memory")
    assert memory["found"] == "8.00 GiB for rows and lists: 80% of what the GPU has free"


@pytest.mark.parametrize(("shown", "free"), [("1000\n2000\n", 1000 << 20), ("", None), ("[N/A]\n", None)])
def test_free_memory_is_that_of_the_first_device(shown: str, free: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    done = probes.subprocess.CompletedProcess([], 0, stdout=shown, stderr="")
    monkeypatch.setattr(probes.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(probes.subprocess, "run", lambda *_, **__: done)
    assert probes.free_gpu_bytes() == free
