"""What a user's script builds; runs nothing."""
