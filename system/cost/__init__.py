"""Energy, latency and area of an inference, from SPICE tables and a component table."""
