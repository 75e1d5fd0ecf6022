"""A run's state between its tasks, and the checks that let it continue."""
