"""What artifacts claim, and whether one claims less than another: for pipelines, which measure nothing themselves."""
