"""What both ends of the wire share: the stubs (`v1`), the agreed formats (`protocol`), durable files (`durable`)."""
