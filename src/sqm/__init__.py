"""Service Quality Management: service KPIs with evidence, alerts and a monthly review."""

__version__ = "0.1.0"
