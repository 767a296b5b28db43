"""The privacy boundary: raw sums come in, released snapshots go out."""
