"""TON: reading transactions and contract state, building messages."""
