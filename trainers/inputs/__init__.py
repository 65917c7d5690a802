"""What the commands are given: their options (arguments), the settings of studies and of the paper (presets), others' errors (published)."""
