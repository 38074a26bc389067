"""HTTP and WebSocket edge: parse, call one service, render."""
