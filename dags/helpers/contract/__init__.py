"""The contract between the parts of the project; it imports only the standard library."""
