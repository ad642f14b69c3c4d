"""gRPC only: the server's life, one thin servicer per service, errors to statuses."""
