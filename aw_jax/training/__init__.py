"""One train loop for every stage: objectives, optimiser, checkpoints, data, metrics."""
