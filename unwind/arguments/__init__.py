"""Values of arguments and variables, read from recovered registers and captured memory."""
