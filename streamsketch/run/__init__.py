"""What `streamsketch run` starts: the pipeline file, its processes, and their statuses."""
