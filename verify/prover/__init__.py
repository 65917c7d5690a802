"""The exact prover of certificates. It shares no code with refbound, and imports nothing of it."""
