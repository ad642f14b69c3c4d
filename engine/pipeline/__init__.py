"""What happens to a request between the wire and the lanes."""
