"""Processes that perform jobs, and nothing that knows flows."""
