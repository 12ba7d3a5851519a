"""How good the rules' labels are."""
