"""The tasks that expressions become, at the names they have always had."""
