"""Floods, bursts and broken parts, beside a client that behaves well: `python -m tests.flood`."""
