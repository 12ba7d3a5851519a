"""Readers of tables of notes, whatever their format."""
