"""Service Quality Management: KPIs from service records, with evidence, alerts and a monthly review."""

__version__ = "0.1.0"
