"""What the commands keep on disk: the folder of a run (checkpoint), and a finished run as one file (record)."""
