"""Whole jobs a user starts: one module each, a typed config in, a record out."""
