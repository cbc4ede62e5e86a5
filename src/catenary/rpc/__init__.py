"""The application behind the server: calls over gRPC or HTTP, or no application at all."""
