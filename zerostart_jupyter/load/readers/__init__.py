"""Ways from a file to a tensor's memory, behind one contract; `select` chooses."""
