"""The cases of the reference outputs (the files are in golden/), and how other implementations are known to differ."""
