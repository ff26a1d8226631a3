"""Making models small and running them: `models` (central, heavy) on `runtimes` (light, on the device too)."""
