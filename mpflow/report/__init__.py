"""What is told of a run to whoever watches: progress while it goes on, and its failures as people read them."""
