"""The pure part: what things mean and what happens next, decided without a clock, a process, a thread or a file."""
