"""What leaves the system: PDF documents and webhooks."""
