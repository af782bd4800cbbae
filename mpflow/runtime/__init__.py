"""The imperative shell: the only place where the pure engine meets the outside."""
