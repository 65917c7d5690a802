"""The same bounds in PyTorch: a rendering that shares no code with refbound, and published packages."""
