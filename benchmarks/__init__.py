"""How fast mpflow is, beside a hand-written loop over the standard library's process pool. Run as `python -m benchmarks`."""
