"""Sound in, features out: loading any audio file, Whisper or log-mel features, speech activity."""
