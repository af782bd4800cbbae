"""Ready-made tasks and the blocks that build with them: branching, resources, mapping whole functions."""
