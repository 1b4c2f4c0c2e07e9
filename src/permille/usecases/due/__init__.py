"""Due work: what is due by an instant is done, and one failure stops nobody else."""
