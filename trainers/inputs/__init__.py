"""What the commands are given: options on the command line, settings of studies, published errors beside ours."""
