"""Handwritten digits, learned by devices together."""
