"""What happens, for telemetry systems: each module has an extra of its own, and only listens."""
