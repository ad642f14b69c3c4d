"""Runs every check and says in a line whether it holds and, if not, what to do: `python -m checks [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from checks.protoc import ROOT

TYPED = ("engine", "kernels", "bench", "checks", "tools", "tests")
# import-linter has a command of its own but no `python -m`; the command need not be on the PATH.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint()"


@dataclass(frozen=True, slots=True)
class Check:
    """``arguments`` are given to this Python; ``fix`` is told when it fails."""

    name: str
    arguments: tuple[str, ...]
    fix: str


CHECKS = (
    Check(
        "lint",
        ("-m", "ruff", "check", "--quiet", "--output-format=concise", "."),
        "`make format` fixes what can be fixed by machine",
    ),
    Check("format", ("-m", "ruff", "format", "--check", "--output-format=concise", "."), "run `make format`"),
    Check("types", ("-m", "mypy", "--no-error-summary", *TYPED), "annotate, or narrow the type, at the lines above"),
    Check(
        "imports",
        ("-c", LINT_IMPORTS, "--no-logo"),
        "move the code to the layer it belongs to; the contracts stand in pyproject.toml",
    ),
    Check("proto", ("-m", "checks.proto_lint"), "change the .proto, then run `make stubs`"),
    Check("stubs", ("-m", "checks.stubs"), "run `make stubs` and commit engine/v1"),
)


def run_check(check: Check) -> bool:
    """Print the check's own findings if it fails, and its line either way."""
    started = time.monotonic()
    if sys.stdout.isatty():
        print(f"{check.name:8} ...", end="\r", flush=True)
    done = subprocess.run(
        [sys.executable, *check.arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout.strip())
    verdict = f"FAILED: {check.fix}" if done.returncode else "ok"
    print(f"{check.name:8} {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    return done.returncode == 0


def main() -> int:
    wanted = sys.argv[1:] or [check.name for check in CHECKS]
    unknown = set(wanted) - {check.name for check in CHECKS}
    if unknown:
        print(f"no check named {', '.join(sorted(unknown))}; there are {', '.join(check.name for check in CHECKS)}")
        return 2
    passed = [run_check(check) for check in CHECKS if check.name in wanted]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
