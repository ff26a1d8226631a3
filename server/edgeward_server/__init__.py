"""The server process: gRPC servicers, access, composition root, operator CLI."""
