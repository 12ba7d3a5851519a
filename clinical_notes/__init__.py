"""From a table of clinical notes to labelled, split, tokenised examples."""
