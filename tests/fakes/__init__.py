"""Small stand-ins for heads, people, data sets and speech, in one place."""
