"""The sketching process: a stream is read into sums, saved with positions, and released."""
