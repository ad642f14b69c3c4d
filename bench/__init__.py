"""Benchmarks: one module for each question, `python -m bench.NAME`; `python -m bench` runs them all in quick form."""
