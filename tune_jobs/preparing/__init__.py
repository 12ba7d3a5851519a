"""From settings to a new run's folder."""
