"""AWS on this machine: moto's server, with a Glue that really runs its jobs."""
