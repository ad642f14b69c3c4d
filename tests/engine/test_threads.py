from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import threads


def _in_a_new_process(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_every_pool_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    code = (
        "import json, os; from engine import threads; from pathlib import Path; "
        "os.environ.pop('NUMBA_CACHE_DIR', None); "
        f"threads.configure(1, Path({str(tmp_path)!r})); "
        "import numba, sys, torch; "
        "print(json.dumps([torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, numba.config.CACHE_DIR, "
        "os.environ['OMP_WAIT_POLICY'], os.environ['RAYON_NUM_THREADS'], sys.getswitchinterval()]))"
    )
    kept = str(threads.kernel_cache(tmp_path))
    assert _in_a_new_process(code) == [1, 1, kept, "PASSIVE", "1", threads.SWITCH_INTERVAL_S]


def test_kernels_that_changed_have_a_cache_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location("kernels", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    before = threads.kernel_cache(tmp_path)
    assert before == threads.kernel_cache(tmp_path)
    (package / "callee.py").write_text("changed = True")
    assert threads.kernel_cache(tmp_path) != before


def test_a_cache_for_kernels_that_the_environment_names_is_kept(tmp_path: Path) -> None:
    code = (
        "import json, os; from engine import threads; from pathlib import Path; "
        "os.environ['NUMBA_CACHE_DIR'] = 'chosen'; threads.configure(1, Path('other')); "
        "print(json.dumps(os.environ['NUMBA_CACHE_DIR']))"
    )
    assert _in_a_new_process(code) == "chosen"


def test_torch_loaded_before_is_sized_all_the_same_and_the_lateness_is_logged() -> None:
    code = (
        "import json, logging, torch; from engine import threads; from pathlib import Path; told = []; "
        "logging.getLogger('engine.threads').addFilter(lambda record: told.append(record.getMessage())); "
        "torch.set_num_threads(2); threads.configure(1, Path('.')); "
        "print(json.dumps([torch.get_num_threads(), *told]))"
    )
    assert _in_a_new_process(code) == [1, "thread pools are sized too late for torch, loaded before"]


def test_threads_loads_no_library_with_a_pool() -> None:
    code = (
        "import json, sys; from engine import threads; "
        "print(json.dumps(sorted({'torch', 'faiss', 'numba', 'onnxruntime', 'numpy'} & set(sys.modules))))"
    )
    assert _in_a_new_process(code) == []


@pytest.mark.parametrize(
    ("content", "cpus"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("garbage\n", None), (None, None)]
)
def test_a_quota_of_the_control_group_is_read(content: str | None, cpus: float | None, tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    if content is not None:
        path.write_text(content)
    assert threads._cgroup_cpus(path) == cpus


def test_unless_told_all_available_threads_are_used() -> None:
    code = (
        "import json; from engine import threads; from pathlib import Path; "
        "print(json.dumps([threads.configure(None, Path('.')), threads.available_threads()]))"
    )
    asked, available = _in_a_new_process(code)
    assert asked == available >= 1
