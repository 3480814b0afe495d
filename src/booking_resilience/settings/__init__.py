"""Pipelines, breakers and monitors from a TOML file, a mapping or the environment, and reloaded while in use."""

from booking_resilience.settings.settings import Settings

__all__ = ["Settings"]
