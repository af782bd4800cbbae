"""What runs in a worker: one attempt at a time, reported in bytes."""
