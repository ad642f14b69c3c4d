"""The engine behind the class interfaces of other projects' benchmarks, none of which needs to be installed here."""
