"""Attacks on synthetic tables, on rows that were used beside rows that were set aside."""
