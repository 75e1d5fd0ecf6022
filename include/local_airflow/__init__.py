"""The commands of a laptop user: one run of the pipeline, or all of it under a scheduler, without AWS."""
