"""Counts the floating-point operations of a generation from shapes alone; no model is needed."""
