"""What turns sound into coefficient curves over time: encoders, blinks, expression, sessions, streaming."""
