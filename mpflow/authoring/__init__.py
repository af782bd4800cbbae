"""What a user's script builds: tasks, the edges between them, and the graph that holds both. Runs nothing."""
