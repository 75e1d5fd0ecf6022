"""AWS on this machine: moto's server, extended by a Glue that really runs its jobs."""
