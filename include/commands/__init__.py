"""The commands for a laptop: run the pipeline once, or under a scheduler, without AWS."""
