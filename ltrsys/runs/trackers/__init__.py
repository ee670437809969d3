"""Dashboards that a run's metrics are shown on."""
