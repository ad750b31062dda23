"""What executes a plan on one rank: arenas, reduction, the step."""
