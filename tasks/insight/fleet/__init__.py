"""What workers, workgroups and schedulers are doing. Reads only."""
