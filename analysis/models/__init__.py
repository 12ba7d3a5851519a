"""A trial's model as people use it: exported, described, labelling texts."""
