"""Between the domain's dataclasses and the wire's messages; one module a service."""
