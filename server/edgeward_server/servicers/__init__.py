"""gRPC servicers: take a message apart, call the domain, put the answer together. One module a service."""
