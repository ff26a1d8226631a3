"""The coordinator's domain: fleet, registry, deployment, aggregation, monitoring. No gRPC, no HTTP."""
