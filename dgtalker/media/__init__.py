"""Sound and pictures in files, in and out, through ffmpeg and libsndfile."""
