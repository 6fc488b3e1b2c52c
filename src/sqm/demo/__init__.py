"""The synthetic demo: what an invented telecom field-service company would export."""

from sqm.demo.export import write_demo_data

__all__ = ["write_demo_data"]
