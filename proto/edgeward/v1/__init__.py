"""Generated gRPC and protobuf stubs; `make proto` writes them."""
