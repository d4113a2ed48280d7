"""From collected trajectories to packed training records: TFDS, seqio, ArrayRecord."""
