"""A run on disk: its folder (checkpoint), one file of it when it is finished (record); and in words (words)."""
