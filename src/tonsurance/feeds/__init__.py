"""What is read from outside beside the chain."""
